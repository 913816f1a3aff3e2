"""The benchmark of squares, shared with tests/step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def world() -> ModuleType:
    path = Path(__file__).parent / "world.py"
    spec = importlib.util.spec_from_file_location("squares_world", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules["squares_world"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, world: ModuleType) -> Path:
    world.write_benchmark(tmp_path / "bench")
    return tmp_path / "bench"
