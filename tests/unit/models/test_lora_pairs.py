"""LoRA of Stable Diffusion XL and 3, in and out, with plain diffusers as the judge of what a file means."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fdlab.diffusion.schedulers import make_scheduler
from fdlab.errors import UserError
from fdlab.exchange.ldm_names import unet_state
from fdlab.models import finetuned
from fdlab.models.adapter import layers
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.training.text_driven import TDM
from fdlab.weights.lora_files import DIFFUSERS_FILE, Update, read_lora, write_kohya
from tests.worlds import pairs

MAKE = {"sdxl": pairs.tiny_xl, "sd3": pairs.tiny_sd3}
PROMPT = "a woman in a red sweater"


def plain_pipeline(model: Backbone) -> Any:
    """Plain diffusers' pipeline of copies of a backbone's parts."""
    from diffusers import EulerDiscreteScheduler, StableDiffusion3Pipeline, StableDiffusionXLPipeline

    parts = {part: deepcopy(network) for part, network in model.networks().items()}
    parts |= {"tokenizer": model.tokenizer, "tokenizer_2": model.tokenizer_2}
    if model.unet.config.get("joint_attention_dim"):
        parts["transformer"] = parts.pop("unet")
        scheduler = make_scheduler("euler", model.scheduler_config)
        return StableDiffusion3Pipeline(**parts, scheduler=scheduler, text_encoder_3=None, tokenizer_3=None)
    scheduler = EulerDiscreteScheduler.from_config(model.scheduler_config)
    return StableDiffusionXLPipeline(**parts, scheduler=scheduler, add_watermarker=False)


def picture(pipe: Any, **more: Any) -> np.ndarray:
    z = torch.randn(1, pipe.vae.config.latent_channels, 8, 8, generator=torch.manual_seed(1))
    pipe.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np", "latents": z}
    drawn: np.ndarray = pipe(PROMPT, **asked, **more).images
    return drawn


def ours(model: Backbone, scheduler: Any) -> np.ndarray:
    return picture(FaceDiffuserPipeline.from_backbones(tdm=model, scheduler=scheduler), guider="tdm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sdxl", pytest.param("sd3", marks=pytest.mark.long)])
def test_plain_diffusers_draws_the_same_with_what_was_trained(kind: str, tmp_path: Path) -> None:
    base = MAKE[kind]()
    module = TDM(deepcopy(base), seed=0, lora_rank=2, lora_targets=("transformer",))
    found = layers(module.backbone.unet)
    sides = {"to_q", "add_q_proj", "ff_context.net.2"} if kind == "sd3" else {"to_q", "proj_in"}
    assert all(any(name.endswith(side) for name in found) for side in sides) and "proj_out" not in found
    with torch.no_grad():
        for number, p in enumerate(module.trainable_parameters().values()):
            p += torch.randn(p.shape, generator=torch.manual_seed(number)) * 0.5
    module.export(tmp_path)
    name = "transformer" if kind == "sd3" else "unet"
    assert all(key.startswith(f"{name}.") for key in load_file(tmp_path / DIFFUSERS_FILE))
    pipe = plain_pipeline(base)
    before = picture(pipe)
    pipe.load_lora_weights(str(tmp_path), weight_name=DIFFUSERS_FILE)
    drawn = picture(pipe)
    assert np.abs(drawn - before).max() > 0.01
    merged = deepcopy(base)
    merged.unet = load_backbone(tmp_path, parts=["unet"]).unet
    np.testing.assert_allclose(ours(merged, pipe.scheduler), drawn, atol=1e-3)
    # The file alone, on the backbone, is the same once more.
    save_backbone(tmp_path / "base", base)
    said = {"name": "x", "path": str(tmp_path / "base"), "loras": [str(tmp_path / DIFFUSERS_FILE)]}
    loaded = finetuned.load(BackboneSettings.from_mapping(said), None, ("unet",))
    for key, tensor in loaded.unet.state_dict().items():
        torch.testing.assert_close(tensor, merged.unet.state_dict()[key], rtol=1e-5, atol=1e-5)
    if kind == "sd3":
        with pytest.raises(UserError, match=r"no kohya's names here; use --layout lora"):
            write_kohya(tmp_path / "x.safetensors", read_lora(tmp_path / DIFFUSERS_FILE))


def of_layers(network: nn.Module, ends: tuple[str, ...], seed: int) -> dict[str, Update]:
    """An update of each linear layer whose name ends so."""
    generator = torch.manual_seed(seed)
    return {
        name: Update(
            torch.randn(2, module.in_features, generator=generator),
            torch.randn(module.out_features, 2, generator=generator) * 0.3,
            3.0,
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(ends)
    }


@pytest.mark.filterwarnings("ignore")
def test_files_of_xl_from_elsewhere_mean_what_diffusers_says(tmp_path: Path) -> None:
    base = pairs.tiny_xl()
    updates = {"unet": of_layers(base.unet, ("attn2.to_k", "attn1.to_out.0", "proj_in"), 1)}
    for number, part in enumerate(("text_encoder", "text_encoder_2")):
        # Of other layers' names today's diffusers reads none.
        found = of_layers(getattr(base, part), ("fc1", "fc2"), 2 + number)
        updates[part] = {name.removeprefix("text_model."): update for name, update in found.items()}
    file = tmp_path / "x.safetensors"
    write_kohya(file, updates)
    state = load_file(file)
    assert {name.split("_")[1] for name in state} == {"unet", "te1", "te2"}
    save_file(original(state, base), file)
    assert any("lora_unet_input_blocks_" in name for name in load_file(file))
    pipe = plain_pipeline(base)
    before = picture(pipe)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="x")
    pipe.set_adapters("x", 0.5)
    drawn = picture(pipe)
    assert np.abs(drawn - before).max() > 0.01
    save_backbone(tmp_path / "base", base)
    said = {"name": "x", "path": str(tmp_path / "base"), "loras": [{"path": str(file), "weight": 0.5}]}
    loaded = finetuned.load(BackboneSettings.from_mapping(said), None, finetuned.COMMON)
    np.testing.assert_allclose(ours(loaded, pipe.scheduler), drawn, atol=1e-3)
    for part in ("text_encoder", "text_encoder_2"):
        moved = zip(getattr(loaded, part).parameters(), getattr(base, part).parameters(), strict=True)
        assert any(not torch.equal(new, old) for new, old in moved)


def original(state: Mapping[str, Any], base: Backbone) -> dict[str, Any]:
    """A file's names with those of the UNet's layers as the original layout has them."""
    places = {name: torch.empty(0) for name in base.unet.state_dict() if name.endswith(".weight")}
    olds = [name.removesuffix(".weight").replace(".", "_") for name in places]
    news = [name.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")
            for name in unet_state(places, base.unet.config)]  # fmt: skip
    table = dict(zip(olds, news, strict=True))
    renamed = {}
    for name, tensor in state.items():
        layer, _, end = name.removeprefix("lora_unet_").partition(".")
        renamed[f"lora_unet_{table[layer]}.{end}" if name.startswith("lora_unet_") else name] = tensor
    return renamed
