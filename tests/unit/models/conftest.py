"""One small backbone of each layout, written once; tests that change a folder copy it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from tests.worlds.backbones import tiny_backbone, write_tiny_sd15


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    save_backbone(folder, tiny_backbone())
    return folder


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd15(tmp_path_factory.mktemp("backbones") / "sd15")


@pytest.fixture
def tiny(tiny_folder: Path) -> Backbone:
    return load_backbone(tiny_folder)
