"""The benchmarks of squares: of one person a picture, and of several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.worlds import crowd as crowd_world
from tests.worlds import similarities
from tests.worlds import squares as squares_world


@pytest.fixture(scope="session")
def world() -> ModuleType:
    return squares_world


@pytest.fixture(scope="session")
def crowd() -> ModuleType:
    return crowd_world


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run of random similarities: its name, then what `similarities.write` takes."""
    return lambda run, *args, **more: similarities.write(tmp_path / run, *args, **more)


@pytest.fixture
def folder(tmp_path: Path, world: ModuleType) -> Path:
    world.write_benchmark(tmp_path / "bench")
    return tmp_path / "bench"


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory, world: ModuleType) -> Path:
    """The folder of a whole run on the squares: its method draws some people wrong, and some not at all."""
    from omegaconf import OmegaConf

    from fdlab.evaluation import run
    from fdlab.evaluation.rows import Row

    base = tmp_path_factory.mktemp("squares")
    world.write_benchmark(base / "bench", images=3, size=64)
    benchmark = {
        "kind": "folder", "name": "squares", "folder": str(base / "bench"), "max_subjects": 0,
        "max_prompts": 0, "max_images": 0, "batch_size": 8, "baselines": True,
    }  # fmt: skip
    cfg = {"benchmark": benchmark, "trainer": {"accelerator": "cpu"}, "paths": {"cache": str(base / "cache")}}
    rows = [
        Row("real", "real", lambda: world.Painter(size=64), is_real=True),
        Row("snf", "SNF <b>", lambda: world.Painter(wrong=0.25, missing=0.2, scene="beach", size=64)),
    ]
    run.evaluate(OmegaConf.create(cfg), base / "run", rows, world.extractors())
    return base / "run"
