"""Shared by the tests of layouts."""

from __future__ import annotations

import pytest

from fdlab.layouts import convert


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes need not survive a power cut."""
    monkeypatch.setattr(convert, "flush_all", lambda: None)
