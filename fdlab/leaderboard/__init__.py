"""Records in; comparable tables, paired comparisons and published numbers out."""
