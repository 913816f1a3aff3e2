"""Ten samples learnt by heart on networks of a few kilobytes, and a diagnosis from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.config.compose import compose
from fdlab.data.layout import write_ids, write_sample
from fdlab.diagnosis import doctor, overfit
from fdlab.diagnosis.findings import BEWARE, FINE, NOT
from fdlab.diagnosis.look import Looked, Shown, Told
from fdlab.diagnosis.overfit import ENOUGH, Tried, finding
from fdlab.engine.finite import Diverged
from fdlab.errors import UserError
from fdlab.layouts.choose import open_folder
from fdlab.training.settings import FitSettings

Configure = Callable[..., Any]
LEARNS = ("model.lr=0.02", "model.masked_loss=0", "model.condition_dropout=0", "model.subject_keep=1")
STEPS = 15


def tried(cfg: Any, folder: Path, steps: int = STEPS) -> Tried:
    settings = FitSettings.read(cfg)
    opened = open_folder(folder)
    return overfit.overfit(settings, opened, opened.ids(), 60, show=False, steps=steps)


def test_what_can_be_learnt_is_and_leaves_nothing(
    configure: Configure, people_folder: Path, tmp_path: Path
) -> None:
    cfg = configure("sdm", *LEARNS)
    before = sorted(people_folder.rglob("*"))
    found = tried(cfg, people_folder)
    assert (found.num, found.steps) == (10, STEPS)
    # Unit noise has a square of one.
    assert found.blind == pytest.approx(1, abs=0.1)
    assert found.after < 0.9 * found.before and found.fell[0] > 0 and found.moved > 0
    assert finding(found).verdict in (FINE, BEWARE)
    assert sorted(people_folder.rglob("*")) == before and not (tmp_path / "runs").exists()


def test_what_cannot_move_learns_nothing(configure: Configure, people_folder: Path) -> None:
    found = tried(configure("sdm", *LEARNS, "model.lr=1e-12"), people_folder, 3)
    assert found.after == pytest.approx(found.before, rel=1e-4)
    few, enough = finding(found), finding(replace(found, steps=ENOUGH))
    assert few.verdict == BEWARE and "3 steps are too few to tell" in few.cure
    assert enough.verdict == NOT and "model.lr" in enough.cure


def test_references_that_are_all_alike_tell_nobody_apart(
    configure: Configure, world: ModuleType, tmp_path: Path
) -> None:
    samples = [world.sample(index, 1) for index in range(10)]
    for one in samples:
        image_HW3 = one.image_HW3.copy()
        image_HW3[one.segments_HW > 0] = 128
        write_sample(tmp_path / "alike", replace(one, image_HW3=image_HW3))
    write_ids(tmp_path / "alike", [one.id for one in samples])
    found = tried(configure("sdm", *LEARNS, "data.background=grey"), tmp_path / "alike", 3)
    # The grey of one on the grey behind it is everybody's.
    assert found.exchanged == pytest.approx(found.after, rel=1e-5)
    assert found.moved < overfit.MOVED
    one = finding(replace(found, after=0.5 * found.before, fell=(0.1, 0.2)))
    assert one.verdict == BEWARE and "all alike" in one.cure


def test_the_loss_is_the_trainings_own(configure: Configure, people_folder: Path) -> None:
    """Against the denoiser called by hand."""
    from fdlab.data.batches import Batches
    from fdlab.engine.draws import Draws
    from fdlab.models.conditioning import condition
    from fdlab.randomness import torch_generator
    from fdlab.training.initial import make_module
    from fdlab.training.objective import add_noise
    from fdlab.training.source import batch_settings, make_source

    settings = FitSettings.read(configure("sdm", *LEARNS))
    start, module = make_module(settings)
    _, source = make_source(settings.data, start.backbone, True, torch.device("cpu"))
    how = replace(batch_settings(settings, start.backbone, True), batch_size=3)
    batch = Batches(source, how, 1)[0]
    error_B, blind_B = overfit.errors(module, batch, seed=5)  # type: ignore[arg-type]
    b, total = start.backbone, np.zeros(3)
    with torch.no_grad():
        given = condition(
            b, batch["input_ids_BL"], batch["subject_token_BL"], batch["references_BN3HW"],
            batch["subject_valid_BN"],
        )  # fmt: skip
        for k in range(overfit.DRAWS):
            noised = add_noise(batch["latent_BCHW"], module.noise, Draws(torch_generator(5, "overfit", k)))
            said = b.unet(noised.z_BCHW, noised.t_B, given.augmented_BLD).sample
            total += ((said - noised.target_BCHW) ** 2).mean((1, 2, 3)).numpy() / overfit.DRAWS
    np.testing.assert_allclose(error_B, total, rtol=1e-4)
    assert blind_B.shape == (3,) and (error_B > 0).all()


def test_the_verdict_is_of_the_numbers() -> None:
    good = Tried(10, 90, 60.0, 1.0, 0.5, 0.3, (0.15, 0.25), 0.4, (0.05, 0.15), 0.3)
    assert finding(good).verdict == FINE and not finding(good).cure and "-40 %" in finding(good).says
    assert finding(replace(good, after=0.49, fell=(0.005, 0.015))).verdict == BEWARE
    assert finding(replace(good, moved=0.0)).verdict == BEWARE
    # Ten are learnt by their captions first.
    assert finding(replace(good, told_apart=(-0.01, 0.02))).verdict == FINE
    assert finding(replace(good, steps=ENOUGH, after=0.5, fell=(-0.01, 0.01))).verdict == NOT
    json.dumps(dict(finding(good).numbers))


def test_a_diagnosis_is_written_whole(
    configure: Configure, people_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor.overfit, "overfit", lambda *a, **k: Tried(2, 100, 1, 1, 1, 1, (0, 0), 1, (0, 0), 0)
    )
    settings = FitSettings.read(configure("sdm"))
    made = doctor.diagnose(settings, tmp_path / "out.json", num=4, seconds=1, workers=1, show=False)
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["looked_at"] == 4 and said["pictures"] == 9 and said["will_learn"] is made.learns is False
    assert [one["name"] for one in said["findings"]] == [
        "readable", "amount", "subjects", "faces", "masks", "references", "nouns", "other photos", "captions",
        "ten by heart",
    ]  # fmt: skip
    assert not list(tmp_path.glob("out.json.*"))

    def diverges(*arguments: Any, **options: Any) -> Tried:
        raise Diverged("the loss is nan")

    monkeypatch.setattr(doctor.overfit, "overfit", diverges)
    made = doctor.diagnose(settings, tmp_path / "out.json", num=4, seconds=1, workers=1, show=False)
    assert made.findings[-1].verdict == NOT and "lower model.lr" in made.findings[-1].cure
    tdm = ["+exp=tdm", "data=folder", "data.root=x"]
    for wrong, match in ((tdm, "model=sdm"), (["+exp=sdm"], "looks at a folder")):
        with pytest.raises(UserError, match=match):
            doctor.diagnose(FitSettings.read(compose(wrong)), tmp_path / "out.json")
    with pytest.raises(UserError, match="a folder is not rendered"):
        FitSettings.read(compose(["data=folder", "data.root=x", "data.kind=people"]))


def test_ten_are_of_as_many_people_as_there_are(people_folder: Path) -> None:
    who = {"a": (1, 2), "b": (2,), "c": (3,), "d": (None,), "e": (4,), "f": ()}
    told = [Told(id, "", ("man",) * len(people), people) for id, people in who.items()]
    shown = [Shown(id, "no face" if id == "e" else "", looks=("0",) * len(who[id])) for id in who]
    looked = Looked(open_folder(people_folder), told, shown)
    # Whom b shows is there already; e cannot be used; f shows nobody.
    assert doctor.teachable(looked) == ["a", "c", "d", "b"]


def test_the_experiment_follows_the_backbone() -> None:
    assert doctor.overrides("x", []) == ["+exp=sdm", "data=folder", "data.root=x"]
    assert doctor.overrides("x", ["backbone=sd21"])[0] == "+exp=sdm_sd15"
    assert doctor.overrides("x", ["exp=tdm"]) == ["data=folder", "exp=tdm", "data.root=x"]
