"""Trainings on pictures of several shapes, on references changed at random, on captions encoded once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fdlab.data.layout import write_ids, write_sample
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.training import objective
from fdlab.training.fit import fit

Configure = Callable[..., Any]
SHORT = ("trainer.sample_every=0", "trainer.precision=32", "trainer.checkpoint_every=2")


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Twelve squares and twelve pictures four times as wide as high, each with one person."""
    root = tmp_path / "shapes"
    for index in range(24):
        width = 32 if index % 2 else 128
        image_HW3 = np.random.default_rng(index).integers(0, 256, (32, width, 3), np.uint8)
        segments_HW = np.zeros((32, width), np.uint8)
        segments_HW[8:30, width // 4 : width // 2] = 1
        subjects = (ShownSubject(1, 7, index % 4),)
        write_sample(root, PersonSample(f"{index:07d}", "a woman", image_HW3, segments_HW, subjects))
    write_ids(root, [f"{index:07d}" for index in range(24)])
    return root


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The latents' grids, pass by pass."""
    found: list[tuple[int, ...]] = []
    add_noise = objective.add_noise

    def noted(z0_BCHW: torch.Tensor, *given: Any) -> Any:
        found.append(tuple(z0_BCHW.shape[2:]))
        return add_noise(z0_BCHW, *given)

    monkeypatch.setattr(objective, "add_noise", noted)
    return found


def asked(shapes: Path) -> list[str]:
    more = [f"data.root={shapes}", "data.shapes=buckets", "data.longest=4", "trainer.batch_size=4", *SHORT]
    return [*more, "data.mirror=true", "data.augment.rotate=20", "data.augment.blur=0.05"]


@pytest.mark.long
def test_a_training_of_several_shapes_goes_on_as_if_it_had_never_stopped(
    configure: Configure, shapes: Path, seen: list[tuple[int, ...]]
) -> None:
    more = [*asked(shapes), "data.cache_text=true"]
    whole = fit(configure("sdm", "name=whole", "trainer.max_steps=4", *more))
    assert set(seen) == {(4, 4), (2, 8)}
    for steps in (2, 4):
        parts = fit(configure("sdm", "name=parts", f"trainer.max_steps={steps}", *more))
    assert seen[:4] == seen[4:]
    assert losses(whole.run_dir) == losses(parts.run_dir) and np.isfinite(losses(whole.run_dir)).all()
    for name in ("unet", "image_encoder"):
        (one,), (other,) = (sorted((run.model / name).glob("*.safetensors")) for run in (whole, parts))
        once, again = load_file(one), load_file(other)
        assert all(torch.equal(once[key], again[key]) for key in once)


def test_pictures_may_be_framed_anew_at_each_step(
    configure: Configure, shapes: Path, seen: list[tuple[int, ...]]
) -> None:
    more = ["data.cache_latents=false", "data.crop=random", "trainer.max_steps=4"]
    made = fit(configure("sdm", *asked(shapes), *more))
    assert set(seen) == {(4, 4), (2, 8)} and np.isfinite(losses(made.run_dir)).all()


def test_captions_encoded_once_teach_the_same(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["trainer.max_steps=3", "model.condition_dropout=0.5", *SHORT]
    anew = fit(configure("tdm", "name=anew", *more))

    def never(*_: object) -> None:
        raise AssertionError("a caption is encoded")

    monkeypatch.setattr(objective, "encode_text", never)
    kept = fit(configure("tdm", "name=kept", "data.cache_text=true", *more))
    assert losses(kept.run_dir) == pytest.approx(losses(anew.run_dir), rel=1e-3)
