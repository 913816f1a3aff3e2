"""Suffixes of picture files, in the order of preference."""

from __future__ import annotations

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm")
