"""Small backbones on disk, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.backbones import write_tiny_sd15


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd15(tmp_path_factory.mktemp("backbones") / "sd15")
