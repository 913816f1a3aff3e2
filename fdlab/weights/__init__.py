"""Weights on disk: files, formats, names through the years."""
