"""Compiled loops of the renderer, kept from one process to the next where there is a place to keep them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, to run without Python's lock.

    What numba made is kept beside the package, in the user's home or below FDLAB_CACHE, in the first of them
    that can be written to; else it is made anew in each process.
    """
    if _keeps():
        return njit(cache=True, nogil=True)(function)
    return njit(nogil=True)(function)


@cache
def _keeps() -> bool:
    if _finds_a_place():
        return True
    if "FDLAB_CACHE" in os.environ:
        numba.config.CACHE_DIR = str(Path(os.environ["FDLAB_CACHE"]).expanduser() / "numba")
        if _finds_a_place():
            return True
    logging.getLogger(__name__).warning(
        "the renderer is compiled anew in each process: neither the package nor the home folder can be "
        "written to; FDLAB_CACHE=DIR names a folder that can."
    )
    return False


def _finds_a_place() -> bool:
    """Ask numba, which raises while it decorates."""
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        return False
    return True


def _nothing() -> None:
    """Never called."""
