"""The C library's allocator, told to keep what is freed: a step frees what the next one asks for again."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt (malloc.h)."""
KEPT = 2**31 - 1
"""Bytes that may lie idle before they are handed back."""
LARGEST = 2**30
"""Bytes from which on an allocation is a mapping of its own, unmapped as soon as it is freed."""


def keep_freed() -> bool:
    """Let this process keep freed memory in place of handing it to the kernel and faulting it in again.

    Returns whether it does: with glibc, and unless the environment's MALLOC_ variables say how. No number
    depends on it.
    """
    said = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if said or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
