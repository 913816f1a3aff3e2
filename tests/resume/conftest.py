"""The tiny world and a configuration that trains in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def world() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "tiny_world", Path(__file__).parents[1] / "step" / "tiny_world.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def backbone_folder(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="session")
def people_folder(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_folder(tmp_path_factory.mktemp("data") / "people", 10)
