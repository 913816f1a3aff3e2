"""LoRA files in and out, against plain diffusers as a judge of what a file means."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from fdlab.errors import UserError
from fdlab.models import finetuned
from fdlab.models.adapter import LoraSettings, add, layers, merged, updates
from fdlab.models.backbone import Backbone, load_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.weights.lora_files import LoraChoice, Update, read_lora, write_diffusers, write_kohya

Z, T = torch.linspace(-2, 2, 256).reshape(1, 4, 8, 8), torch.tensor(300)
IDS = torch.arange(10, 87)[None]


@pytest.fixture(scope="module")
def plain(sd15_folder: Path) -> Backbone:
    return load_backbone(sd15_folder)


@pytest.fixture(scope="module")
def trained(plain: Backbone) -> Any:
    """A denoiser with an adapter that has learned something."""
    unet = deepcopy(plain.unet)
    add(unet, LoraSettings(rank=3, alpha=1.5, targets=("transformer", "resnet")), seed=1)
    with torch.no_grad():
        for number, layer in enumerate(layers(unet).values()):
            up = layer.lora_B["default"].weight
            up.copy_(torch.randn(up.shape, generator=torch.manual_seed(number)) * 0.3)
    return unet.eval()


def text_updates(encoder: Any) -> dict[str, Update]:
    generator = torch.manual_seed(5)
    return {
        name.removeprefix("text_model."): Update(
            torch.randn(2, module.in_features, generator=generator),
            torch.randn(module.out_features, 2, generator=generator) * 0.2,
            3.0,
        )
        for name, module in encoder.named_modules()
        if name.endswith(("fc1", "fc2"))
    }


def plain_eps(backbone: Backbone, file: Path, weight: float = 1.0) -> torch.Tensor:
    """What plain diffusers predicts with a LoRA file loaded."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    networks = {part: deepcopy(backbone.need(part)) for part in ("vae", "text_encoder", "unet")}
    others = {
        "tokenizer": backbone.tokenizer,
        "scheduler": DDIMScheduler.from_config(backbone.scheduler_config),
    }
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = StableDiffusionPipeline(**networks, **others, **nothing)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="x")
    pipe.set_adapters("x", weight)
    with torch.no_grad():
        return pipe.unet(Z, T, pipe.text_encoder(IDS)[0]).sample


def eps(backbone: Any, unet: Any = None) -> torch.Tensor:
    with torch.no_grad():
        return (unet or backbone.unet)(Z, T, backbone.text_encoder(IDS)[0]).sample


@pytest.mark.filterwarnings("ignore")
def test_plain_diffusers_reads_what_is_written_and_fdlab_merges_it(
    trained: Any, plain: Backbone, sd15_folder: Path, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_diffusers(ours, {"unet": updates(trained)})
    drawn = plain_eps(plain, ours)
    assert (drawn - eps(plain)).abs().max() > 0.01
    torch.testing.assert_close(drawn, eps(plain, trained), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(drawn, eps(plain, merged(trained)), atol=1e-5, rtol=1e-5)
    both = {"unet": updates(trained), "text_encoder": text_updates(plain.text_encoder)}
    write_kohya(theirs, both)
    drawn = plain_eps(plain, theirs, 0.5)
    # Of text encoders today's diffusers reads no names with dots: these two have to agree.
    write_diffusers(ours, both)
    for file in (theirs, ours):
        loras = [{"path": str(file), "weight": 0.5}]
        settings = BackboneSettings.from_mapping({"name": "x", "path": str(sd15_folder), "loras": loras})
        loaded = finetuned.load(settings, None, ("unet", "text_encoder"))
        torch.testing.assert_close(eps(loaded), drawn, atol=1e-5, rtol=1e-5)


def test_old_names_and_headers_mean_the_same(trained: Any, plain: Backbone, tmp_path: Path) -> None:
    unet = plain.unet
    expected = {name: update.delta(_weight(unet, name)) for name, update in updates(trained).items()}
    write_diffusers(tmp_path / "new.safetensors", {"unet": updates(trained)})
    new = load_file(tmp_path / "new.safetensors")
    old, processors = {}, {}
    for name, tensor in new.items():
        side = "down" if ".lora_A." in name else "up"
        layer = name.split(".lora_")[0]
        old[f"{layer}.lora.{side}.weight"] = tensor
        if ".attn" in layer:
            attention, _, inner = layer.replace(".to_out.0", ".to_out").rpartition(".")
            processors[f"{attention}.processor.{inner}_lora.{side}.weight"] = tensor
    half = {n: t * 2 if ".lora_B." in n else t for n, t in new.items()}
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 3, "unet.lora_alpha": 1.5})}
    for state, metadata in ((old, None), (processors, None), (half, header)):
        save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "x.safetensors", metadata)
        found = read_lora(tmp_path / "x.safetensors", {"unet": unet})["unet"]
        assert found and (state is processors or found.keys() == expected.keys())
        for name, update in found.items():
            torch.testing.assert_close(update.delta(_weight(unet, name)), expected[name])


def _weight(unet: Any, name: str) -> torch.Tensor:
    return unet.get_submodule(name).weight


TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = f"lora_unet_{TO_Q.replace('.', '_')}"
WRONG: list[tuple[dict[str, tuple[int, ...]], str]] = [
    ({f"{KOHYA}.hada_w1_a": (1,)}, "no plain LoRA"),
    ({f"{KOHYA}.lora_down.weight": (2, 8), f"{KOHYA}.dora_scale": (1,)}, "no plain LoRA"),
    ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": ()}, "Stable Diffusion XL"),
    ({"lora_te3_encoder_block_0_layer_0_SelfAttention_k.alpha": ()}, "Stable Diffusion 3's T5"),
    ({"lora_unet_joint_blocks_0_x_block_attn_qkv.alpha": ()}, "query, key and value in one"),
    (
        {f"{KOHYA}.lora_down.weight": (2, 9), f"{KOHYA}.lora_up.weight": (8, 2)},
        r"\(2, 9\) there and \(8, 8\) here",
    ),
    ({f"{KOHYA}.lora_down.weight": (2, 8)}, "has but one of its two matrices"),
    ({"lora_unet_input_blocks_3_1_proj_in.lora_up.weight": (2, 2)}, "a layer that this unet does not have"),
    (
        {
            "lora_unet_input_blocks_1_1_proj_in.lora_down.weight": (2, 9),
            "lora_unet_input_blocks_1_1_proj_in.lora_up.weight": (8, 2),
        },
        r"'down_blocks\.0\.attentions\.0\.proj_in' of the unet is",
    ),
    ({f"unet.{TO_Q}.weight": (8, 8)}, "is of no LoRA"),
    ({"model.diffusion_model.out.2.bias": (4,)}, "is of no LoRA"),
]


@pytest.mark.parametrize(("shapes", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_lora_of_this_network_is_said(
    shapes: dict[str, tuple[int, ...]], said: str, plain: Backbone, tmp_path: Path
) -> None:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=said):
        read_lora(tmp_path / "x.safetensors", {"unet": plain.unet, "text_encoder": plain.text_encoder})


def test_choices_are_checked(plain: Backbone, tmp_path: Path) -> None:
    def new(**settings: Any) -> Any:
        unet = deepcopy(plain.unet)
        add(unet, LoraSettings(**settings), seed=0)
        return unet

    with pytest.raises(UserError, match=r"no layer's name ends so.*Did you mean 'attention'\?"):
        new(rank=2, targets=("atention",))
    for value in ({"weight": 1.0}, 3, {"path": "x", "weight": "much"}, {"path": "x", "strength": 1}):
        with pytest.raises(UserError, match=r"as in backbone\.loras=\[\{path: FILE"):
            BackboneSettings.from_mapping({"name": "x", "path": "x", "loras": [value]})
    with pytest.raises(UserError, match=r"backbone\.loras: 'nowhere' does not exist"):
        BackboneSettings.from_mapping({"name": "x", "path": "x", "loras": ["nowhere"]})
    file = tmp_path / "x.safetensors"
    file.touch()
    # As a composed configuration hands it on.
    composed = OmegaConf.create({"name": "x", "path": "x", "loras": [{"path": str(file), "weight": 0.5}]})
    assert BackboneSettings.from_mapping(composed).loras == (LoraChoice(str(file), 0.5),)
    write_kohya(file, {"unet": updates(new(rank=3, targets=("attn2.to_k",)))})
    # As `sample` hands it on.
    assert LoraChoice.read(OmegaConf.create({"path": str(file), "weight": 0.5})) == LoraChoice(str(file), 0.5)
    with pytest.raises(UserError, match=r"it has rank 3; give model\.lora_rank=3"):
        new(rank=2, targets=("attn2.to_k",), init=str(file))
    with pytest.raises(UserError, match=r"only .* has '.*'; choose model\.lora_targets"):
        new(rank=3, targets=("attn1.to_k",), init=str(file))
