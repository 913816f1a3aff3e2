"""Samplers as people configure them, and the room's promise to stay pure."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import fdlab.diffusion
from fdlab.diffusion import guiders
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.initial import latents
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.sampler import sample
from fdlab.diffusion.settings import SamplerSettings
from fdlab.diffusion.stages import Stages
from fdlab.errors import UserError

CONF = Path(__file__).parents[3] / "conf" / "sampler"
SHIPPED = sorted(path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("_"))


class Denoiser:
    """A formula of its own for each embedding, which attends to every token alike."""

    def __call__(self, z: Tensor, t: Tensor, ctx: Tensor) -> Tensor:
        return z * ctx.mean((1, 2))[:, None, None, None].cos()

    def attend(self, z: Tensor, t: Tensor, ctx: Tensor) -> tuple[Tensor, Tensor]:
        return self(z, t, ctx), torch.ones(*ctx.shape[:2], *z.shape[-2:])


def build(settings: SamplerSettings, model: guiders.Model) -> guiders.Guider:
    """The guider over one model in place of both."""
    return settings.make_guider(tdm=model, sdm=model, schedule=NoiseSchedule.from_config({}))


def load(name: str) -> dict[str, Any]:
    """A file with its defaults below it and nano's values in it, as Hydra lays them."""
    keys = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    nano = yaml.safe_load((CONF.parent / "backbone/nano.yaml").read_text())
    for key, value in keys.items():
        asked = re.fullmatch(r"\$\{oc\.select:backbone\.(\w+),(.*)\}", str(value))
        keys[key] = nano.get(asked[1], asked[2]) if asked else value
    below: dict[str, Any] = {}
    for parent in keys.pop("defaults", []):
        below |= load(parent) if parent != "_self_" else {}
    return below | keys


def test_the_samplers_that_ship() -> None:
    assert {"snf_demo", "snf_test", "snf_default", *guiders.GUIDERS} - {"snf"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sampler_samples(name: str) -> None:
    mapping = load(name)
    settings = SamplerSettings.from_mapping(mapping)
    assert settings.as_dict() == mapping, "a key is missing in the file, or not read"
    settings = SamplerSettings.from_mapping({**mapping, "num_steps": 6})

    conditioning = Conditioning(torch.zeros(1, 3, 4), torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0))
    model = guiders.Model(Denoiser(), conditioning)
    guider = build(settings, model)
    z = sample(guider, settings.make_scheduler({}), latents([0, 1], (4, 6, 6)), settings.num_steps)
    assert z.shape == (2, 4, 6, 6) and z.isfinite().all()


@pytest.mark.parametrize(
    ("name", "stages"), [("snf_demo", (15, 30)), ("snf_test", (10, 30)), ("snf_default", (10, 40))]
)
def test_presets_are_the_released_stages(name: str, stages: tuple[int, int]) -> None:
    model = guiders.Model(Denoiser(), Conditioning(*[torch.zeros(1, 1, 1)] * 3))
    guider = build(SamplerSettings.from_mapping(load(name)), model)
    assert guider.stages == Stages(*stages)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, "needs the key 'guider'"),
        ({"guider": "snv"}, "Did you mean 'snf'"),
        ({"guider": "snf", "guidence_scale": 5}, "Did you mean 'guidance_scale'"),
        ({"guider": "tdm", "alpha": 0.3}, "unknown key of sampler 'tdm' 'alpha'"),
    ],
)
def test_bad_settings(mapping: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SamplerSettings.from_mapping(mapping)


@pytest.mark.parametrize(
    ("key", "taken", "refused", "said"),
    [
        ("num_steps", (1, 1000), (0, 1.5), "whole number from 1"),
        ("eta", (0, 1), (-0.01, 1.01), r"lie in \[0, 1\]"),
        ("guidance_rescale", (0, 1), (-0.01, 1.01), r"lie in \[0, 1\]"),
        ("guidance_start", (0, 0.5), (-0.01, 1.01), r"lie in \[0, 1\]"),
        ("guidance_end", (0.5, 1), (-0.01, 1.01), r"lie in \[0, 1\]"),
        ("guidance_scale", (0, 100), (-0.01, float("inf")), "a number from 0"),
        ("final_sigma", (0, 3.0), (-0.01, float("nan"), 1e9), r"lie in \[0, 100\]"),
    ],
)
def test_limits(key: str, taken: tuple[float, ...], refused: tuple[float, ...], said: str) -> None:
    for value in taken:
        SamplerSettings.from_mapping({"guider": "tdm", key: value}).check()
    for value in refused:
        with pytest.raises(UserError, match=f"{key} is .*{said}"):
            SamplerSettings.from_mapping({"guider": "tdm", key: value}).check()


def test_the_room_is_pure() -> None:
    """No Lightning, Hydra, wandb or logging, and no room below this one."""
    files = list(Path(fdlab.diffusion.__file__).parent.rglob("*.py"))
    assert len(files) > 15
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert root not in {"lightning", "hydra", "omegaconf", "wandb", "logging"}, (path, name)
                allowed = ("fdlab.diffusion", "fdlab.errors", "fdlab.randomness")
                assert root != "fdlab" or name.startswith(allowed), (path, name)


def test_attention_is_not_asked_of_a_transformer() -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    for guider in ("attention", "snf"):
        asked = SamplerSettings(guider=guider, scheduler="euler", num_steps=10)
        if guider == "snf":
            asked.check(flow)
            continue
        with pytest.raises(UserError, match=r"sampler\.guider=attention looks at a UNet's cross-attention"):
            asked.check(flow)
