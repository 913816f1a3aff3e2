"""The tiny world, shared with the tests of training."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.worlds import tiny


@pytest.fixture(scope="session")
def world() -> ModuleType:
    return tiny
