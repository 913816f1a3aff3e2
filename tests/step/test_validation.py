"""Evaluation while training: it measures, chooses and stops, and leaves the training as it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.evaluation import validation as during
from fdlab.evaluation.validation import EvaluateWhileTraining
from fdlab.measure import networks
from fdlab.records.validation_history import History
from fdlab.training.fit import fit
from tests.worlds import squares as squares_world

Configure = Callable[..., Any]
SAMPLER = {"guider": "sdm", "base": "null", "num_steps": 2, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def squares() -> ModuleType:
    return squares_world


@pytest.fixture
def configure(world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path: Path) -> Configure:
    def make(*more: str) -> Any:
        return compose(
            ["+exp=sdm", *world.overrides(tmp_path, backbone_folder, people_folder, *world.RELEASED, *more)]
        )

    return make


@pytest.fixture
def watching(squares: ModuleType, tmp_path: Path) -> Callable[..., EvaluateWhileTraining]:
    squares.write_benchmark(tmp_path / "bench", subjects=2, prompts=2, images=1, size=32)

    def make(
        cfg: Any, every: int = 2, patience: int = 0, monitor: str = "clip_score"
    ) -> EvaluateWhileTraining:
        folder = Path(cfg.paths.runs) / cfg.experiment / cfg.name
        bench = benchmarks.load(tmp_path / "bench")
        return EvaluateWhileTraining(folder, bench, squares.extractors(), SAMPLER, every, monitor, patience)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{f.parent.name}.{k}": t
        for f in sorted(folder.glob("*/*.safetensors"))
        for k, t in load_file(f).items()
    }


def test_training_is_the_same_with_and_without(configure: Configure, watching: Any) -> None:
    plain = fit(configure("trainer.max_steps=5", "name=plain"))
    cfg = configure("trainer.max_steps=5", "name=watched")
    watched = fit(cfg, watchers=[watching(cfg)])
    before, after = weights(plain.model), weights(watched.model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    history = History.read(watched.run_dir / during.FILE)
    assert [step for step, _ in history.rows] == [0, 2, 4, 5]
    values = [value["clip_score"] for _, value in history.rows]
    assert len(set(values)) == 4, "the pictures do not follow the weights"
    assert {"identity_auc", "prompt_accuracy", "frechet_distance"} <= set(history.rows[0][1])
    folders = {path.name for path in (watched.run_dir / during.FOLDER).iterdir()}
    assert folders == {"step-0", "step-2", "step-4", "step-5"}
    # What training starts from is no checkpoint of this run, however good it is.
    best = max(history.rows[1:], key=lambda row: row[1]["clip_score"])
    assert torch.load(watched.run_dir / "checkpoints/best.ckpt", weights_only=True)["step"] == best[0]


def test_it_keeps_the_best_and_stops_when_patience_ends(
    configure: Configure, watching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are given here; two evaluations worse than step 2's end the training."""
    scores = {0: 1.0, 1: 2.0, 2: 5.0, 3: 3.0, 4: 4.0, 5: 9.0}
    monkeypatch.setattr(
        EvaluateWhileTraining, "measure", lambda self, module, *ranks: {"clip_score": scores[module.step]}
    )
    cfg = configure("trainer.max_steps=5", "validation.keep=best")
    watcher = watching(cfg, every=1, patience=2)
    done = fit(cfg, watchers=[watcher])
    assert [step for step, _ in History.read(watcher.path).rows] == [0, 1, 2, 3, 4]
    assert watcher.stop_step == 4
    folder = done.run_dir / "checkpoints"
    assert torch.load(folder / "last.ckpt", weights_only=True)["step"] == 4
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["step"] == 2 == json.loads((done.model / "training.json").read_text())["steps"]
    exported = weights(done.model)
    assert all(torch.equal(exported[name], average) for name, average in best["average"].items())
    # The same command again has nothing to do.
    again = fit(cfg, watchers=[watching(cfg, every=1, patience=2)], stop_at=watcher.stop_step)
    assert again.seconds == 0.0 and [step for step, _ in History.read(watcher.path).rows] == [0, 1, 2, 3, 4]


@pytest.mark.long
def test_a_resumed_run_has_each_step_once(configure: Configure, watching: Any) -> None:
    cfg = configure("trainer.max_steps=2", "name=x")
    fit(cfg, watchers=[watching(cfg, every=1)])
    path = watching(cfg).path
    first = path.read_text()
    with path.open("a") as stream:
        stream.write(first.splitlines()[-1].replace("2,", "3,", 1) + "\n7,tor")
    cfg = configure("trainer.max_steps=4", "name=x")
    fit(cfg, watchers=[watching(cfg, every=1)])
    assert [step for step, _ in History.read(path).rows] == [0, 1, 2, 3, 4]
    assert path.read_text().startswith(first)


def test_what_cannot_be_monitored_is_said(configure: Configure, watching: Any) -> None:
    cfg = configure("trainer.max_steps=2")
    with pytest.raises(UserError, match="Did you mean 'clip_score'"):
        watching(cfg, monitor="clip_scor")
    with pytest.raises(UserError, match=r"validation\.monitor=cmmd is not among what was measured"):
        watcher = watching(cfg, monitor="cmmd")
        watcher.extractors = networks.Extractors(features=watcher.extractors.features)
        fit(cfg, watchers=[watcher])


def test_one_person_is_told_from_nobody(tmp_path: Path) -> None:
    cfg = compose(["+exp=sdm", "validation.every=1", "validation.max_subjects=1"])
    with pytest.raises(UserError, match=r"validation\.monitor=identity_auc tells people apart; give"):
        during.watch(cfg, tmp_path)


def test_no_face_at_all_is_chance_and_the_training_goes_on(
    configure: Configure, watching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_faces(*_: Any) -> tuple[dict[str, Any], list[Any]]:
        return {"face_detection_rate": {"value": 0.0}}, []

    monkeypatch.setattr(during.scoring, "score", without_faces)
    cfg = configure("trainer.max_steps=1")
    watcher = watching(cfg, monitor="identity_auc")
    assert fit(cfg, watchers=[watcher]).steps == 1
    *_, row = csv.DictReader(watcher.path.read_text().splitlines())
    assert (row["identity_auc"], row["face_detection_rate"]) == ("0.5", "0.0")


def test_history_reads_best_and_patience(tmp_path: Path) -> None:
    rows = [(0, {"fid": 9.0}), (1, {"fid": 5.0}), (2, {"fid": 6.0}), (3, {}), (4, {"fid": 5.0})]
    history = History(tuple(rows))
    assert history.best("fid") == 1 and history.best("clip_score") is None
    assert History().best("fid") is None and History.read(tmp_path / "none.csv") == History()
    assert [history.stop_step("fid", patience) for patience in (0, 1, 2, 3, 4)] == [None, 2, 3, 4, None]


def test_the_configurations_watch(tmp_path: Path) -> None:
    assert during.watch(compose(["+exp=sdm"]), tmp_path) is None
    with pytest.raises(UserError, match="not a benchmark folder"):
        during.watch(compose(["+exp=sdm", "validation.every=5", f"validation.folder={tmp_path}"]), tmp_path)


def test_a_table_keeps_its_columns(tmp_path: Path) -> None:
    from fdlab.engine.callbacks.curves import append

    append(tmp_path / "v.csv", {"step": 1, "seconds": 0.1, "fid": "", "cmmd": 2.0})
    append(tmp_path / "v.csv", {"step": 2, "seconds": 0.1, "fid": 3.0, "cmmd": ""})
    assert History.read(tmp_path / "v.csv").rows == ((1, {"cmmd": 2.0}), (2, {"fid": 3.0}))
    assert (tmp_path / "v.csv").read_text().splitlines()[0].split(",") == ["step", "seconds", "fid", "cmmd"]
