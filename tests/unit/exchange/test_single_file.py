"""A backbone in one file of the original layout: read by diffusers' conversion, written by fdlab's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fdlab.assets import hub
from fdlab.cli.checkpoint import main
from fdlab.errors import UserError
from fdlab.exchange.ldm_names import original
from fdlab.exchange.unpacking import read_backbone
from fdlab.models.backbone import Backbone, load_backbone
from fdlab.models.parts import save_part
from tests.worlds.backbones import tiny_tokenizer
from tests.worlds.original import tiny_original, write_original


@pytest.fixture(scope="module")
def models() -> dict[str, Backbone]:
    return {"sd1": tiny_original("sd1"), "sd2": tiny_original("sd2", prediction_type="v_prediction")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_part(folder, "tokenizer", tiny_tokenizer(77))
    return folder


def node(file: Path, **more: Any) -> dict[str, Any]:
    return {"name": "x", "path": str(file), "image_size": 64, **more}


def test_a_file_of_another_family_is_named_before_it_is_unpacked(
    models: dict[str, Backbone], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_original(tmp_path / "model.safetensors", models["sd1"])
    with pytest.raises(
        UserError, match=r"model\.safetensors holds Stable Diffusion 1 or 2, which 'sdxl' is not"
    ):
        read_backbone(node(file, own_image_encoder=str(clip)) | {"name": "sdxl"}, tmp_path / "cache")
    assert not capsys.readouterr().err and not list(tmp_path.glob("cache/backbones/[!.]*"))


LANDMARKS = {
    "sd1": {
        "model.diffusion_model.input_blocks.3.0.op.weight": (32, 32, 3, 3),
        "model.diffusion_model.input_blocks.7.1.transformer_blocks.0.attn2.to_k.weight": (64, 64),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (64, 64, 3, 3),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (64, 64, 3, 3),
        "model.diffusion_model.middle_block.1.proj_in.weight": (64, 64, 1, 1),
        "first_stage_model.encoder.mid.attn_1.q.weight": (64, 64, 1, 1),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (64, 64, 3, 3),
        "first_stage_model.encoder.down.3.block.0.nin_shortcut.weight": (64, 32, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77),
        "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias": (64,),
    },
    "sd2": {
        "model.diffusion_model.middle_block.1.proj_in.weight": (128, 128),
        "cond_stage_model.model.positional_embedding": (77, 64),
        "cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight": (192, 64),
        "cond_stage_model.model.ln_final.bias": (64,),
    },
}
"""Names and axes as the published files have them, at this size."""


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_names_are_the_published_ones(kind: str, models: dict[str, Backbone]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in original(models[kind]).items()}
    assert {name: shapes.get(name) for name in LANDMARKS[kind]} == LANDMARKS[kind]


@pytest.mark.parametrize(("kind", "end"), [("sd1", ".ckpt"), ("sd2", ".safetensors")])
def test_a_single_file_is_the_same_backbone(
    kind: str,
    end: str,
    models: dict[str, Backbone],
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = models[kind]
    averaged = {"model_ema.diffusion_modelout2bias": torch.ones(4), "alphas_cumprod": torch.ones(1000)}
    file = write_original(tmp_path / f"model{end}", model, **averaged)
    found = read_backbone(node(file, own_image_encoder=str(clip)), tmp_path / "cache")
    said = capsys.readouterr().err
    assert (
        f"Stable Diffusion {kind[-1]}, read as predicting {model.scheduler_config['prediction_type']}" in said
    )
    loaded = load_backbone(found.path, image_size=64)
    assert loaded.scheduler_config["prediction_type"] == model.scheduler_config["prediction_type"]
    assert loaded.tokenizer.pad_token == ("!" if kind == "sd2" else "<|endoftext|>")
    z, ids = torch.linspace(-2, 2, 256).reshape(1, 4, 8, 8), torch.arange(77)[None]
    with torch.no_grad():
        outputs = [
            (b.text_encoder(ids)[0], b.unet(z, 500, b.text_encoder(ids)[0])[0], b.vae.decode(z)[0])
            for b in (model, loaded)
        ]
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    # The second time nothing is made, and a folder stays what it is.
    again = read_backbone(node(file, own_image_encoder=str(clip)), tmp_path / "cache")
    assert again == found and not capsys.readouterr().err
    assert read_backbone(node(Path(found.path)), tmp_path / "cache").path == found.path
    back = original(loaded)
    assert all(torch.equal(back[name], tensor) for name, tensor in original(model).items())


def test_what_stable_diffusion_2_predicts_is_said_or_follows_from_its_size(
    models: dict[str, Backbone], clip: Path, tmp_path: Path
) -> None:
    state = original(models["sd2"])
    save_file({n: t.contiguous() for n, t in state.items() if n != "v_pred"}, tmp_path / "x.safetensors")

    def predicts(**more: Any) -> str:
        asked = {**node(tmp_path / "x.safetensors", tokenizer=str(clip)), **more}
        return load_backbone(
            read_backbone(asked, tmp_path / "cache").path, parts=["scheduler"]
        ).scheduler_config["prediction_type"]

    assert [predicts(image_size=512), predicts(image_size=768)] == ["epsilon", "v_prediction"]
    assert predicts(prediction_type="v_prediction") == "v_prediction"
    arguments = [
        "import",
        str(tmp_path / "x.safetensors"),
        str(tmp_path / "out"),
        "--tokenizer",
        str(clip),
        "--half",
    ]
    with pytest.raises(UserError, match="give --prediction-type v_prediction"):
        main(arguments)
    assert main([*arguments, "--prediction-type", "epsilon"]) == 0
    half = load_backbone(tmp_path / "out")
    assert half.image_size == 512
    assert torch.equal(half.unet.conv_in.weight, models["sd2"].unet.conv_in.weight.half().float())
    with pytest.raises(UserError, match="only a single file needs it"):
        read_backbone(node(tmp_path / "out", prediction_type="epsilon"), tmp_path / "cache")


FIRST = "model.diffusion_model.input_blocks.0.0.weight"
OTHERS: list[tuple[dict[str, tuple[int, ...]], str]] = [
    ({FIRST: (8, 9, 3, 3)}, "an inpainting model"),
    ({FIRST: (8, 8, 3, 3)}, "InstructPix2Pix"),
    (
        {FIRST: (8, 4, 3, 3), "conditioner.embedders.1.model.ln_final.bias": (1,)},
        r"lacks a text encoder \(conditioner\.embedders\.0\.transformer",
    ),
    (
        {FIRST: (8, 4, 3, 3), "conditioner.embedders.0.model.ln_final.bias": (1,)},
        r"Stable Diffusion XL's refiner \(take its base\), which",
    ),
    ({FIRST: (8, 4, 3, 3), "edm_mean": (4,)}, "Playground"),
    (
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.bias": (1,)},
        "holds no text encoder; take a file that has all parts, as sd3_medium_incl_clips",
    ),
    ({"joint_blocks.0.x_block.attn.qkv.bias": (1,)}, "Stable Diffusion 3's transformer alone"),
    ({"control_model.input_hint_block.0.weight": (1,)}, "a ControlNet"),
    ({"controlnet_down_blocks.0.weight": (1,)}, "a ControlNet"),
    ({"double_blocks.0.img_attn.qkv.weight": (1,)}, "Flux"),
    (
        {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (1,)},
        r"a LoRA; give it as backbone\.loras",
    ),
    ({"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": (1,)}, "a LoRA"),
    ({"first_stage_model.encoder.conv_in.weight": (1,)}, "an autoencoder alone"),
    ({"decoder.conv_in.weight": (1,)}, "an autoencoder alone"),
    ({"unet.conv_in.weight": (1,), "vae.quant_conv.weight": (1,)}, "fdlab checkpoint import"),
    ({"down_blocks.0.resnets.0.conv1.weight": (1,)}, "give the folder that holds all parts"),
    ({FIRST: (8, 4, 3, 3)}, "holds no text encoder"),
    ({"x": (1,)}, f"no tensor '{FIRST}'"),
]


@pytest.mark.parametrize(("shapes", "said"), OTHERS, ids=[said[:20] for _, said in OTHERS])
def test_what_is_no_backbone_is_named(
    shapes: dict[str, tuple[int, ...]], said: str, clip: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, file)
    with pytest.raises(UserError, match=said):
        read_backbone(node(file, tokenizer=str(clip)), tmp_path / "cache")
    assert not list((tmp_path / "cache/backbones").iterdir())


def test_damaged_files_and_a_missing_vocabulary(
    models: dict[str, Backbone], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "cached", lambda _: None)
    file = write_original(tmp_path / "x.safetensors", models["sd1"])
    with pytest.raises(
        UserError, match=r"hf download openai/clip-vit-large-patch14 --include 'vocab\.json'"
    ) as told:
        read_backbone(node(file), tmp_path / "cache")
    assert f"--local-dir {tmp_path / 'tokenizer'}" in str(told.value)
    with pytest.raises(UserError, match=r"backbone\.tokenizer=.*: no vocab\.json"):
        read_backbone(node(file, tokenizer=str(tmp_path)), tmp_path / "cache")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"x\.safetensors' is cut short"):
        read_backbone(node(file, tokenizer=str(clip)), tmp_path / "cache")
    state = original(models["sd1"])
    for name in (
        FIRST,
        "model.diffusion_model.out.2.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ):
        torch.save({n: t for n, t in state.items() if n != name}, tmp_path / "lacks.ckpt")
        with pytest.raises(UserError, match=r"lacks\.ckpt'"):
            read_backbone(node(tmp_path / "lacks.ckpt", tokenizer=str(clip)), tmp_path / "cache")
    torch.save(state | {"model.diffusion_model.out.5.bias": torch.ones(1)}, tmp_path / "more.ckpt")
    with pytest.raises(UserError, match="have a place in diffusers' layout"):
        read_backbone(node(tmp_path / "more.ckpt", tokenizer=str(clip)), tmp_path / "cache")
    ill = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    torch.save(state | {ill: torch.full_like(state[ill], float("nan"))}, tmp_path / "nan.ckpt")
    nan = str(tmp_path / "nan.ckpt")
    for read in (
        lambda: read_backbone(node(tmp_path / "nan.ckpt", tokenizer=str(clip)), tmp_path / "cache"),
        lambda: main(["import", nan, str(tmp_path / "out"), "--tokenizer", str(clip)]),
    ):
        with pytest.raises(UserError, match=rf"^'{nan}': tensor '{ill}' has values that are not finite"):
            read()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/xl.safetensors").touch()
    with pytest.raises(UserError, match=r"x1\.safetensors' does not exist; give .*mean '.*/xl\.safetensors'"):
        read_backbone(node(tmp_path / "models/x1.safetensors"), tmp_path / "cache")
    with pytest.raises(UserError, match=r"^'nowhere' does not exist; give a single file"):
        main(["import", "nowhere", str(tmp_path / "out")])
    torch.save({"format": 1, "kind": "TDM", "step": 3, "parameters": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="a checkpoint of a run of fdlab; give the run's folder"):
        read_backbone(node(tmp_path / "last.ckpt", tokenizer=str(clip)), tmp_path / "cache")
    assert not list((tmp_path / "cache/backbones").iterdir())
