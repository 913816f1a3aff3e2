"""Shared by the tests of preparation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdlab import files
from fdlab.preparation import faces
from tests.worlds import album


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes need not survive a power cut."""
    monkeypatch.setattr(files, "_flush", lambda path: None)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The album, whose faces are squares."""
    monkeypatch.setattr(faces, "FaceFinder", album.Finder)
    album.fill(tmp_path / "photos")
    return tmp_path / "photos"
