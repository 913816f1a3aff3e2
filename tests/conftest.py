"""Shared by all tests: fast ones first, one thread, and no file outside pytest's own folders."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, so that what fails was changed; `--hypothesis-profile=default` seeks others.
hypothesis.settings.load_profile("ci")

# Before torch or numba are imported: several threads on a few cores cost more than they give at this size.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell lets what it starts in the background ignore SIGINT, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FAST_FIRST = ("unit", "config", "golden", "step", "ddp", "cli", "resume")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by folder, those that run whole commands last."""

    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        place = FAST_FIRST.index(folder) if folder in FAST_FIRST else len(FAST_FIRST)
        return item.get_closest_marker("command") is not None, place

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point runs and caches at pytest's folder; workers share the cache, so that people are rendered once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.setenv("FDLAB_RUNS", str(base / "runs"))
    monkeypatch.setenv("FDLAB_CACHE", str(shared / "cache"))


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the configuration to add files to; everything reads it in place of conf/."""
    from fdlab.config import compose, locate

    folder = tmp_path / "conf"
    shutil.copytree(locate.conf_dir(), folder)
    for module in (locate, compose):
        monkeypatch.setattr(module, "conf_dir", lambda: folder)
    compose._hydra.cache_clear()
    yield folder
    compose._hydra.cache_clear()
