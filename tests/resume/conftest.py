"""The tiny world and a configuration that trains in it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.worlds import tiny


@pytest.fixture(scope="session")
def world() -> ModuleType:
    return tiny


@pytest.fixture(scope="session")
def backbone_folder(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="session")
def people_folder(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_folder(tmp_path_factory.mktemp("data") / "people", 10)
