"""Every Stable Diffusion at its published size, on tensors without numbers: files, parts, a step, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.config.compose import compose
from fdlab.config.instantiate import instantiate
from fdlab.exchange.ldm_configs import configs
from fdlab.exchange.ldm_names import original
from fdlab.exchange.single_file import SingleFile, kind_of
from fdlab.exchange.unpacking import converted, predicts
from fdlab.models.backbone import check_fit
from fdlab.training.footprint import estimate
from fdlab.training.settings import FitSettings
from tests.worlds.published import PARAMETERS, published

LEFT_OUT: dict[str, dict[str, tuple[int, ...]]] = {
    "sd1": {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77)},
    "sd2": {"cond_stage_model.model.text_projection": (1024, 1024), "cond_stage_model.model.logit_scale": ()},
    "sdxl": {"conditioner.embedders.1.model.logit_scale": ()},
    "sd3": {"text_encoders.clip_l.logit_scale": (), "text_encoders.t5xxl.transformer.shared.weight": (9, 9)},
}
"""Of published files, besides: what no network has."""
TENSORS = {"sdxl": 2515}
"""Of published files in all."""


SMALLER = [pytest.param(kind, marks=pytest.mark.long) for kind in ("sd1", "sd2")]
"""Their files are read and written in other tests too."""


@pytest.mark.parametrize("kind", [*SMALLER, "sdxl", "sd3"])
def test_every_tensor_of_a_published_file_has_its_place(kind: str) -> None:
    model = published(kind)
    check_fit(model)
    for part, num in PARAMETERS[kind].items():
        assert sum(p.numel() for p in getattr(model, part).parameters()) == num, part
    shapes = {name: tuple(tensor.shape) for name, tensor in original(model).items()} | LEFT_OUT[kind]
    assert len(shapes) == TENSORS.get(kind, len(shapes))
    file = SingleFile(
        Path("x"), shapes, lambda names: {name: torch.empty(shapes[name], device="meta") for name in names}
    )
    assert kind_of(file) == kind
    said = configs(file, kind_of(file), model.image_size, predicts(file, kind_of(file), model.image_size))
    for part in PARAMETERS[kind]:
        network = getattr(model, part)
        known = network.config.to_dict() if part.startswith("text") else dict(network.config)
        differing = {key for key, value in said[part].items() if plain(known.get(key)) != plain(value)}
        assert differing <= {"_class_name", "architectures", "bos_token_id"}, part
        found = {
            name: tensor.shape for name, tensor in converted(part, file, kind_of(file), said[part]).items()
        }
        own = {name: tensor.shape for name, tensor in network.state_dict().items()}
        if part.startswith("text"):
            found, own = (
                {n.removeprefix("text_model."): s for n, s in each.items()} for each in (found, own)
            )
        assert found == own, part


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_a_step_of_the_sdm_goes_through_and_its_memory_is_told(kind: str) -> None:
    model, cfg = published(kind), compose([f"+exp=sdm_{kind}", "data.root=/somewhere"])
    num = {
        part: sum(tensor.numel() for tensor in network.state_dict().values())
        for part, network in model.networks().items()
    }
    module = instantiate(cfg.model, backbone=model, seed=0)
    assert {name.split(".")[0] for name in module.trainable_parameters()} == set(module.PARTS)
    found = estimate(module, FitSettings.read(cfg), "cuda")
    assert found.weights == pytest.approx(4 * sum(num.values()), rel=1e-3)
    assert found.gradients == found.optimizer / 2 > 4 * PARAMETERS[kind]["unet"]
    # Latents of 128 x 128 alone, of a batch, in the first convolution.
    assert found.activations > 8 * 320 * 128 * 128 * 2 and found.drawing > 0
