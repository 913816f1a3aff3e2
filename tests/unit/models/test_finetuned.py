"""Which folder a part comes from, which weights are meant, and what is said of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from fdlab.errors import UserError
from fdlab.models import finetuned
from fdlab.models.backbone import save_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.parts import save_part
from tests.worlds.backbones import tiny_backbone


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone without a fusion, and three folders of parts, all different: a model's, and one's own."""
    root = tmp_path_factory.mktemp("disk")
    plain = tiny_backbone(0)
    plain.fusion = None
    save_backbone(root / "backbone", plain)
    for name, seed, kind in (("sdm", 1, "sdm"), ("tdm", 2, "tdm"), ("run/model", 3, "sdm"), ("own", 4, None)):
        other = tiny_backbone(seed)
        for part in ("unet",) if kind == "tdm" else ("unet", "fusion", "image_encoder"):
            save_part(root / name / part, part, getattr(other, part))
        facts = {"steps": 100 * seed, "kind": kind}
        if kind:
            (root / name / "training.json").write_text(json.dumps(facts))
    return root


def settings(disk: Path, **more: object) -> BackboneSettings:
    node = {"name": "tiny", "path": disk / "backbone", "base": None, "tdm": disk / "tdm", "sdm": disk / "sdm"}
    return BackboneSettings.from_mapping({**node, **more})


@pytest.mark.parametrize(("named", "own", "backbones"), list(itertools.product((True, False), repeat=3)))
def test_what_the_user_names_wins_then_the_models_own_then_the_backbones(
    disk: Path, named: bool, own: bool, backbones: bool
) -> None:
    """Every combination of who has an image encoder, against the rule written out."""
    encoder = "image_encoder"
    backbone = settings(
        disk,
        **({encoder: disk / "own" / encoder} if named else {}),
        **({"own_image_encoder": disk / "run/model" / encoder} if backbones else {}),
    )
    parts = {encoder: disk / "sdm" / encoder} if own else {}
    expected = next(
        disk / folder / encoder
        for there, folder in ((named, "own"), (own, "sdm"), (backbones, "run/model"), (True, "backbone"))
        if there
    )
    assert backbone.folder(encoder, parts) == expected


@pytest.mark.parametrize("part", ["unet", "fusion", "image_encoder"])
def test_a_named_part_is_loaded_and_described(disk: Path, part: str) -> None:
    plain, named = settings(disk), settings(disk, **{part: disk / "own" / part})
    before, after = (finetuned.need(backbone, "sdm", "shipped") for backbone in (plain, named))
    loaded = finetuned.load(named, after, finetuned.PARTS["sdm"])
    for name, network in loaded.networks().items():
        seed = 4 if name == part else 1 if name in ("unet", "fusion", "image_encoder") else 0
        expected = getattr(tiny_backbone(seed), name).state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in network.state_dict().items())
    assert before.describe()["sha256"] != after.describe()["sha256"]
    assert before.describe()["parts"] == after.describe()["parts"] == ["fusion", "image_encoder", "unet"]
    # A TDM has neither fusion nor image encoder: naming them changes nothing about it.
    tdm = [finetuned.need(backbone, "tdm", "shipped").describe() for backbone in (plain, named)]
    assert (tdm[0] == tdm[1]) == (part != "unet")


def test_names_folders_and_steps(disk: Path) -> None:
    backbone = settings(disk)
    shipped, run = (
        finetuned.need(backbone, "sdm", "shipped"),
        finetuned.need(backbone, "sdm", str(disk / "run")),
    )
    assert (shipped.name, shipped.steps) == ("shipped", 100)
    assert (run.name, run.folder, run.steps) == (str(disk / "run"), disk / "run/model", 300)
    base = finetuned.need(backbone, "tdm", "base")
    assert (base.name, base.parts, base.steps) == ("base", {"unet": disk / "backbone/unet"}, None)
    assert finetuned.find(settings(disk, sdm=None), "sdm", "shipped") is None
    assert finetuned.need(backbone, "sdm", str(disk / "own")).steps is None


@pytest.mark.parametrize("kind", ["tdm", "sdm"])
@pytest.mark.parametrize("folder", ["tdm", "sdm", "run", "run/model", "own", "backbone"])
def test_weights_of_the_wrong_kind_are_refused(disk: Path, kind: str, folder: str) -> None:
    said = {"tdm": "tdm", "sdm": "sdm", "run": "sdm", "run/model": "sdm"}.get(folder)
    backbone, choice = settings(disk), str(disk / folder)
    if said in (None, kind):
        assert finetuned.need(backbone, kind, choice).parts
        assert finetuned.need(backbone, kind, choice, "init").parts
        return
    with pytest.raises(UserError, match=rf"^{kind}={choice}: these are the weights of a {said.upper()},"):
        finetuned.need(backbone, kind, choice)
    if said == "tdm":
        # What was trained on captions alone is where an SDM begins.
        assert finetuned.need(backbone, kind, choice, "init").parts
    else:
        with pytest.raises(UserError, match=rf"^init={choice}: these are the weights of a SDM"):
            finetuned.need(backbone, kind, choice, "init")


def test_what_is_missing_is_said_before_loading(disk: Path, tmp_path: Path) -> None:
    backbone = settings(disk, sdm=None)
    with pytest.raises(UserError, match=r"ships no SDM; give sdm=FOLDER \(a run of \+exp=sdm\)\.$"):
        finetuned.need(backbone, "sdm", "shipped")
    with pytest.raises(UserError, match=r"ships no SDM; give init=FOLDER .*, or init=base\.$"):
        finetuned.need(backbone, "sdm", "shipped", "init")
    with pytest.raises(UserError, match=r", or sdm=base\.$"):
        finetuned.need(settings(disk, sdm=None, fusion=disk / "own/fusion"), "sdm", "shipped")
    with pytest.raises(UserError, match=r"no fusion in .*a subject-augmented model has one"):
        finetuned.check(backbone, {"sdm": finetuned.need(backbone, "sdm", "base")})
    with pytest.raises(UserError, match="does not exist"):
        finetuned.need(backbone, "tdm", str(tmp_path / "nothing"))
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="a run whose training has not ended"):
        finetuned.need(backbone, "tdm", str(tmp_path / "run"))


def test_models_that_predict_different_things_do_not_go_together(disk: Path, tmp_path: Path) -> None:
    scheduler = {**(tiny_backbone().scheduler_config or {}), "prediction_type": "v_prediction"}
    save_part(tmp_path / "v/scheduler", "scheduler", scheduler)
    save_part(tmp_path / "v/unet", "unet", tiny_backbone(5).unet)
    backbone = settings(disk)
    models = {"tdm": finetuned.need(backbone, "tdm", str(tmp_path / "v"))}
    finetuned.check(backbone, models)
    finetuned.check(backbone, models, "v_prediction")
    for more, predicts in (({"sdm": finetuned.need(backbone, "sdm", "shipped")}, None), ({}, "epsilon")):
        with pytest.raises(UserError, match=r"predict different things \(epsilon, v_prediction\)"):
            finetuned.check(backbone, {**models, **more}, predicts)


def test_a_model_of_another_family_is_named(disk: Path, tmp_path: Path) -> None:
    xl = {"_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time"}
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text(json.dumps(xl))
    # By its name, or by what it holds itself.
    for name in ("sd15", "mine"):
        backbone = settings(disk, name=name)
        models = {"tdm": finetuned.need(backbone, "tdm", str(tmp_path))}
        said = rf"tdm={tmp_path} holds Stable Diffusion XL, which '{name}' is not for"
        with pytest.raises(UserError, match=said):
            finetuned.check(backbone, models)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"steps": "many"}', 'steps is "many"; allowed: a whole number or null'),
        ('{"steps": -1}', "steps is -1"),
        ('{"kind": "sdn"}', 'kind is "sdn"; allowed: tdm, sdm'),
        ('{"kind": ["sdm"]}', "allowed: text"),
    ],
)
def test_a_broken_training_json_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        finetuned.facts(tmp_path)
    assert "\n" not in str(caught.value) and "training.json" in str(caught.value)


@pytest.mark.parametrize("size", [128, 64])
def test_an_image_size_is_kept_by_the_unet(disk: Path, size: int) -> None:
    backbone = settings(disk, image_size=size)
    loaded = finetuned.load(backbone, finetuned.need(backbone, "tdm", "shipped"), finetuned.PARTS["tdm"])
    assert loaded.image_size == size and loaded.unet.config.sample_size == size // 8
