"""The script that says at which noise level a person is decided, learnt and lost."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks.jobs import jobs
from fdlab.diffusion.settings import SamplerSettings
from fdlab.evaluation.measuring import references
from fdlab.evaluation.methods import Sampled
from fdlab.measure.faces.face import largest
from fdlab.metrics import identity
from fdlab.pipeline.artist import Artist
from tests.worlds import squares
from tests.worlds.backbones import tiny_backbone


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return importlib.import_module("experiments.noise_levels.run")


@pytest.fixture(scope="module")
def asked(run: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("levels")
    squares.write_benchmark(folder, subjects=3, prompts=2, images=1, size=64)
    settings = SamplerSettings.from_mapping(
        {"guider": "sdm", "scheduler": "ddim", "num_steps": 5, "final_sigma": 0.9}
    )
    artist = Artist({"sdm": tiny_backbone(1)}, settings)
    return run.Asked(benchmarks.load(folder), artist, squares.extractors(), "cpu")


def test_the_chains_last_row_is_the_drawn_pictures(run: ModuleType, asked: Any) -> None:
    table = run.chain(asked)
    sigmas = [row["sigma"] for row in table]
    assert sigmas == sorted(sigmas, reverse=True) and len(table) == asked.artist.num_calls < 5
    assert sigmas[-1] <= 0.9 < sigmas[-2]
    todo, faces = jobs(asked.benchmark), asked.extractors.faces
    images = Sampled(asked.benchmark, asked.artist)(todo)
    found = [largest(some) for some in faces.detect(images)]
    known = references(asked.benchmark, asked.extractors).embedding_SD
    similarity = np.array([
        identity.cosine(faces.embed(image[None], [face]), known)[0] if face else np.zeros(len(known))
        for image, face in zip(images, found, strict=True)
    ])  # fmt: skip
    own = np.array([asked.benchmark.subjects.index(job.subjects[0]) for job in todo])
    seen = np.array([face is not None for face in found])
    assert table[-1]["identity_auc"] == pytest.approx(identity.auc(similarity, own, seen), nan_ok=True)
    assert table[-1]["faces_found"] == seen.mean()


OFF = {"own": 0.1, "other": 0.3, "none": 0.2}


class Knows:
    """A denoiser that knows the noise, and is off by `OFF`, whose place the conditioning says."""

    def __init__(self, unet: Any) -> None:
        pass

    def __enter__(self) -> Knows:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __call__(self, z: Tensor, t: Tensor, ctx: Tensor) -> Tensor:
        eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        return eps + list(OFF.values())[int(ctx[0, 0, 0])]


def test_errors_are_those_of_the_clean_latents_on_faces(
    run: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = {name: torch.full((6, 1, 1), float(place)) for place, name in enumerate(OFF)}
    monkeypatch.setattr(run, "_contexts", lambda *_: marks)
    monkeypatch.setattr(run, "UNetDenoiser", Knows)
    for row in run.error(asked):
        for name, off in OFF.items():
            # An error of the noise is one of sigma times as much of the clean latents.
            assert row[name] == pytest.approx((off * row["sigma"]) ** 2, rel=2e-3)
        assert row["own_saves"] == pytest.approx(0.75, abs=2e-3)
        assert row["own_saves_over_other"] == pytest.approx(1 - 1 / 9, abs=2e-3)


def test_the_conditionings_differ_by_the_reference_alone(run: ModuleType, asked: Any) -> None:
    todo = jobs(asked.benchmark)
    found: dict[str, Tensor] = run._contexts(asked, Sampled(asked.benchmark, asked.artist), todo[:2], todo)
    assert found["own"].shape == found["other"].shape == found["none"].shape
    changed = (found["own"] != found["none"]).any(-1)
    assert changed.sum(1).tolist() == [1, 1]
    assert torch.equal((found["own"] != found["other"]).any(-1), changed)


def test_tables_and_figure_are_written_and_bad_input_is_one_line(
    run: ModuleType, asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(run.Asked, "read", classmethod(lambda cls, overrides: asked))
    assert run.main([str(tmp_path / "out")]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"chain.csv", "error.csv", "noise_levels.png"}
    monkeypatch.undo()
    assert run.main([str(tmp_path), "sampler=tdm"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: sampler 'tdm' draws no given person")
