"""The tiny world and a configuration that trains in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fdlab.config.compose import compose
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


@pytest.fixture
def configure(
    world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Compose an experiment in the tiny world."""

    def make(exp: str, *more: str) -> Any:
        released = world.RELEASED if exp == "sdm" else ()
        folders = (tmp_path, backbone_folder, people_folder)
        return compose([f"+exp={exp}", *world.overrides(*folders, *released, *more)])

    return make
