"""The person sample: layouts on disk, captions with markers, transforms, prepared tensors, batches."""
