"""Drawing for a person: their photos in, pictures and what led to them out."""
