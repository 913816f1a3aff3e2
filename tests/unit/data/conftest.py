"""The tiny world, shared with the tests of training."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def world() -> ModuleType:
    path = Path(__file__).parents[2] / "step" / "tiny_world.py"
    spec = importlib.util.spec_from_file_location("tiny_world", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
