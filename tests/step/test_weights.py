"""Each verb reads each part from where it counts: as the user names it, else the model's own, else the
backbone's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.config.compose import compose
from fdlab.demo.pipeline import load_artist
from fdlab.errors import UserError
from fdlab.evaluation import rows
from fdlab.evaluation.settings import MethodSettings
from fdlab.models import parts
from fdlab.models.backbone import save_backbone
from fdlab.models.parts import save_part
from fdlab.sampling import drawing
from fdlab.training.initial import load_start
from fdlab.training.settings import FitSettings
from tests.worlds import squares
from tests.worlds.backbones import tiny_backbone

FACE = Path(__file__).resolve().parents[1] / "golden/faces/astronaut-0.png"
OWN = {"tdm": ("unet", "scheduler"), "sdm": ("unet", "fusion", "image_encoder", "scheduler")}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose image encoder lies elsewhere, a TDM, an SDM, and parts of the user's."""
    root = tmp_path_factory.mktemp("weights")
    squares.write_benchmark(root / "bench", subjects=2, prompts=1, images=1, size=64)
    plain = tiny_backbone(0)
    save_part(root / "eye", "image_encoder", plain.image_encoder)
    plain.fusion = plain.image_encoder = None
    save_backbone(root / "backbone", plain)
    for seed, (kind, own) in enumerate(OWN.items(), start=1):
        other = tiny_backbone(seed)
        for part in own:
            value = other.scheduler_config if part == "scheduler" else getattr(other, part)
            save_part(root / kind / part, part, value)
        (root / kind / "training.json").write_text(json.dumps({"kind": kind, "steps": seed}))
    mine = tiny_backbone(3)
    for part in ("fusion", "image_encoder", "unet", "vae"):
        save_part(root / "mine" / part, part, getattr(mine, part))
    return root


def given(disk: Path, *more: str) -> list[str]:
    return [
        f"backbone.path={disk / 'backbone'}", "backbone.base=null",
        f"backbone.own_image_encoder={disk / 'eye'}", f"backbone.tdm={disk / 'tdm'}",
        f"backbone.sdm={disk / 'sdm'}", "backbone.image_size=64",
        "backbone.reference_crop=person", f"paths.cache={disk / 'cache'}", *more,
    ]  # fmt: skip


def train(disk: Path, out: Path, more: list[str]) -> None:
    cfg = compose(["+exp=sdm", *given(disk, f"init={disk / 'sdm'}", f"paths.runs={out}", *more)])
    load_start(FitSettings.read(cfg))


def evaluate(disk: Path, out: Path, more: list[str]) -> None:
    overrides = given(disk, "benchmark=own", f"benchmark.folder={disk / 'bench'}", "sampler.num_steps=2")
    cfg = compose([*overrides, "benchmark.baselines=false", *more], config_name="evaluate")
    rows.standard(MethodSettings.read(cfg), benchmarks.load(disk / "bench"), out, "cpu")[-1].make()


def sample(disk: Path, out: Path, more: list[str]) -> None:
    asked = ["prompt=a woman <|image|>", f"subjects=[{FACE}]", "sampler.num_steps=1", f"out={out}"]
    drawing.draw(compose(given(disk, *asked, *more), config_name="sample"))


def demo(disk: Path, out: Path, more: list[str]) -> None:
    load_artist(device="cpu", overrides=given(disk, *more))


VERBS = [train, evaluate, sample, demo]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Path]]:
    """Part -> the folders that networks were read from."""
    found: dict[str, set[Path]] = {}
    load = parts.load_network

    def watched(part: str, folder: Path, *rest: Any) -> Any:
        found.setdefault(part, set()).add(folder)
        return load(part, folder, *rest)

    monkeypatch.setattr(parts, "load_network", watched)
    return found


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_a_models_own_parts_win_over_the_backbones(
    verb: Callable[..., None], disk: Path, tmp_path: Path, read: dict[str, set[Path]]
) -> None:
    verb(disk, tmp_path, [])
    unets = {disk / "sdm/unet"} | (set() if verb is train else {disk / "tdm/unet"})
    assert read == {
        "unet": unets,
        "fusion": {disk / "sdm/fusion"},
        "image_encoder": {disk / "sdm/image_encoder"},
        "vae": {disk / "backbone/vae"},
        "text_encoder": {disk / "backbone/text_encoder"},
    }


@pytest.mark.parametrize("part", ["fusion", "image_encoder", "unet", "vae"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_what_the_user_names_wins_over_both(
    verb: Callable[..., None], part: str, disk: Path, tmp_path: Path, read: dict[str, set[Path]]
) -> None:
    verb(disk, tmp_path, [f"backbone.{part}={disk / 'mine' / part}"])
    assert read[part] == {disk / "mine" / part}
    others = [folder for other, folders in read.items() if other != part for folder in folders]
    assert others and all(disk / "mine" not in folder.parents for folder in others)


@pytest.mark.parametrize("kind", ["tdm", "sdm"])
@pytest.mark.parametrize("verb", [evaluate, sample, demo], ids=lambda verb: verb.__name__)
def test_weights_of_the_other_kind_are_refused_before_any_is_read(
    verb: Callable[..., None], kind: str, disk: Path, tmp_path: Path, read: dict[str, set[Path]]
) -> None:
    other = disk / {"tdm": "sdm", "sdm": "tdm"}[kind]
    with pytest.raises(UserError, match=f"{kind}={other}: these are the weights of a {other.name.upper()}"):
        verb(disk, tmp_path, [f"{kind}={other}"])
    assert not read


@pytest.mark.parametrize(
    ("said", "asked"), [("v_prediction", None), ("epsilon", "v_prediction"), ("v_prediction", "epsilon")]
)
def test_a_model_learns_and_exports_what_its_scheduler_says_unless_told(
    said: str, asked: str | None, disk: Path, tmp_path: Path
) -> None:
    from fdlab.training.text_driven import TDM

    backbone = tiny_backbone(0)
    scheduler = {**(backbone.scheduler_config or {}), "prediction_type": said}
    backbone.scheduler_config = scheduler
    save_backbone(tmp_path / "backbone", backbone)
    cfg = compose(["+exp=tdm", *given(disk, f"backbone.path={tmp_path / 'backbone'}", "init=base")])
    module = TDM(load_start(FitSettings.read(cfg)).backbone, 0, prediction_type=asked)
    expected = asked or said
    assert cfg.model.prediction_type is None and module.noise.schedule.prediction_type == expected
    z_BCHW, eps_BCHW = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    target_BCHW = module.noise.schedule.target(z_BCHW, eps_BCHW, torch.tensor([500]))
    assert torch.equal(target_BCHW, eps_BCHW) == (expected == "epsilon")
    module.export(tmp_path / "model")
    written = json.loads((tmp_path / "model/scheduler/scheduler_config.json").read_text())
    assert written["prediction_type"] == expected
    # Who draws with it reads that file, not the backbone's.
    both = (f"tdm={tmp_path / 'model'}", f"sdm={_predicts(disk, tmp_path, expected)}")
    pipeline = load_artist(device="cpu", overrides=given(disk, *both)).pipeline
    assert pipeline.scheduler.config.prediction_type == expected


def _predicts(disk: Path, out: Path, kind: str) -> Path:
    """The SDM with another prediction type."""
    shutil.copytree(disk / "sdm", out / "sdm")
    scheduler = {**(tiny_backbone().scheduler_config or {}), "prediction_type": kind}
    save_part(out / "sdm/scheduler", "scheduler", scheduler)
    return out / "sdm"


def test_what_cannot_be_fused_is_said_before_training(disk: Path, tmp_path: Path) -> None:
    overrides = ["+exp=tdm", *given(disk, "sampler=snf_demo", f"init={disk / 'tdm'}")]
    rows.check_weights(MethodSettings.read(compose(overrides)))
    with pytest.raises(UserError, match="predict different things"):
        rows.check_weights(MethodSettings.read(compose([*overrides, "model.prediction_type=v_prediction"])))
    with pytest.raises(UserError, match="no fusion in"):
        rows.check_weights(MethodSettings.read(compose([*overrides, "sdm=base"])))


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("verb", [sample, demo], ids=lambda verb: verb.__name__)
def test_pictures_are_drawn_in_the_size_asked_for(
    verb: Callable[..., None], size: int, disk: Path, tmp_path: Path
) -> None:
    from PIL import Image

    more = [f"backbone.image_size={size}"]
    if verb is demo:
        pipeline = load_artist(device="cpu", overrides=given(disk, *more)).pipeline
        picture = pipeline("a woman", guider="tdm", num_inference_steps=1, seeds=[0]).images[0]
    else:
        verb(disk, tmp_path, more)
        (path,) = (tmp_path / "images").glob("*.png")
        with Image.open(path) as opened:
            picture = opened.copy()
    assert picture.size == (size, size)


@pytest.mark.parametrize(("experiment", "taught_by"), [("sdm", ("faceres",)), ("tdm", ())])
def test_who_taught_the_encoder_taught_whatever_learns_to_use_it(
    experiment: str, taught_by: tuple[str, ...]
) -> None:
    start = load_start(FitSettings.read(compose([f"+exp={experiment}", "init=base"])))
    assert start.taught_by == taught_by
