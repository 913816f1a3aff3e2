"""Stable Diffusion XL and 3 in one file: out, back bit for bit, and drawn with by plain diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.cli.checkpoint import main
from fdlab.errors import UserError
from fdlab.exchange.ldm_names import original
from fdlab.exchange.unpacking import read_backbone
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.parts import save_part
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from tests.worlds.original import tiny_original_pair, write_original

KINDS = ("sdxl", "sd3")
PROMPT = "a woman in a red sweater"


@pytest.fixture(scope="module")
def models() -> dict[str, Backbone]:
    return {kind: tiny_original_pair(kind) for kind in KINDS}


LANDMARKS = {
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (256, 144),
        "model.diffusion_model.label_emb.0.2.bias": (256,),
        "model.diffusion_model.input_blocks.2.0.op.weight": (64, 64, 3, 3),
        "model.diffusion_model.input_blocks.3.1.transformer_blocks.1.attn2.to_k.weight": (64, 192),
        "model.diffusion_model.middle_block.1.transformer_blocks.2.ff.net.0.proj.weight": (1024, 128),
        "model.diffusion_model.output_blocks.1.2.conv.weight": (128, 128, 3, 3),
        "first_stage_model.post_quant_conv.weight": (4, 4, 1, 1),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77),
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (64,),
        "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight": (384, 128),
        "conditioner.embedders.1.model.text_projection": (128, 96),
        "conditioner.embedders.1.model.positional_embedding": (77, 128),
    },
    "sd3": {
        "model.diffusion_model.pos_embed": (1, 144, 64),
        "model.diffusion_model.x_embedder.proj.weight": (64, 16, 2, 2),
        "model.diffusion_model.t_embedder.mlp.0.weight": (64, 256),
        "model.diffusion_model.y_embedder.mlp.0.weight": (64, 160),
        "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (192, 64),
        "model.diffusion_model.joint_blocks.0.x_block.attn2.ln_k.weight": (64,),
        "model.diffusion_model.joint_blocks.0.x_block.adaLN_modulation.1.weight": (576, 64),
        "model.diffusion_model.joint_blocks.2.context_block.adaLN_modulation.1.weight": (128, 64),
        "model.diffusion_model.joint_blocks.1.context_block.mlp.fc2.weight": (64, 256),
        "model.diffusion_model.final_layer.adaLN_modulation.1.bias": (128,),
        "first_stage_model.decoder.conv_in.weight": (64, 16, 3, 3),
        "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight": (529, 64),
        "text_encoders.clip_g.transformer.text_projection.weight": (96, 128),
    },
}
"""Names and axes as the published files have them, at this size."""


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_the_published_ones(kind: str, models: dict[str, Backbone]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in original(models[kind]).items()}
    assert {name: shapes.get(name) for name in LANDMARKS[kind]} == LANDMARKS[kind]
    unknown = ("text_encoders.clip_l.transformer.text_projection.weight", "first_stage_model.quant_conv.bias")
    assert all((name in shapes) is (kind == "sdxl" and "quant" in name) for name in unknown)


def pictures(pipe: Any, **more: Any) -> Any:
    channels = pipe.vae.config.latent_channels
    z = torch.randn(1, channels, 8, 8, generator=torch.manual_seed(1))
    pipe.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np", "latents": z}
    return pipe(PROMPT, **asked, **more).images


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_goes_out_and_back_and_through_plain_diffusers(
    kind: str, models: dict[str, Backbone], tmp_path: Path
) -> None:
    import diffusers

    model, file, out = models[kind], tmp_path / "x.safetensors", tmp_path / "back"
    save_backbone(tmp_path / "folder", model)
    assert main(["export", str(tmp_path / "folder"), str(file), "--layout", "original"]) == 0
    assert main(["import", str(file), str(out), "--tokenizer", str(tmp_path / "folder/tokenizer")]) == 0
    back = load_backbone(out, image_size=64)
    for part, network in model.networks().items():
        state = back.networks()[part].state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items()), part
    again = original(back)
    assert all(torch.equal(again[name], tensor) for name, tensor in original(model).items())
    assert (back.tokenizer.pad_token, back.tokenizer_2.pad_token) == ("<|endoftext|>", "!")
    assert back.zero_empty_prompt == (kind == "sdxl")

    # Sizes that no shape tells are said by configurations alone; the weights are the file's.
    for weights in (tmp_path / "folder").rglob("*.safetensors"):
        weights.unlink()
    name = {"sdxl": "StableDiffusionXLPipeline", "sd3": "StableDiffusion3Pipeline"}[kind]
    without: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None}
    more = {"add_watermarker": False} if kind == "sdxl" else without
    theirs = getattr(diffusers, name).from_single_file(
        str(file), config=str(tmp_path / "folder"), local_files_only=True, **more
    )
    ours = FaceDiffuserPipeline.from_backbones(tdm=back, scheduler=theirs.scheduler)
    np.testing.assert_allclose(pictures(ours, guider="tdm"), pictures(theirs), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_may_be_one_file(
    kind: str, models: dict[str, Backbone], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_part(tmp_path / "tokenizer", "tokenizer", models[kind].tokenizer)
    more = {"ztsnr": torch.empty(0), "v_pred": torch.empty(0)} if kind == "sdxl" else {
        "text_encoders.clip_l.transformer.text_projection.weight": torch.zeros(64, 64),
        "text_encoders.clip_l.logit_scale": torch.ones(()),
        "text_encoders.t5xxl.transformer.shared.weight": torch.ones(2, 2),
    }  # fmt: skip
    file = write_original(tmp_path / "x.ckpt", models[kind], **more)
    node = {"name": "x", "path": str(file), "image_size": 64}
    found = read_backbone(node, tmp_path / "cache")
    said = capsys.readouterr().err
    assert ("else: backbone.prediction_type=" in said) == (kind == "sdxl")
    assert ("Stable Diffusion 3 without its T5, read as" in said) == (kind == "sd3")
    loaded = load_backbone(found.path, image_size=64)
    if kind == "sdxl":
        assert loaded.scheduler_config["prediction_type"] == "v_prediction"
        assert loaded.scheduler_config["rescale_betas_zero_snr"] is True
        assert {"ztsnr", "v_pred"} <= original(loaded).keys()
    else:
        # What is stored there nobody applies.
        assert torch.equal(loaded.text_encoder.text_projection.weight, torch.eye(64))
        with pytest.raises(UserError, match="predicts velocities alone"):
            read_backbone({**node, "prediction_type": "epsilon"}, tmp_path / "cache")


def test_what_a_file_has_no_place_for_is_said(models: dict[str, Backbone], tmp_path: Path) -> None:
    from copy import deepcopy

    other = deepcopy(models["sd3"])
    other.text_encoder.text_projection.weight.data *= 2
    with pytest.raises(UserError, match="projection is not the identity"):
        original(other)
    save_part(tmp_path / "tokenizer", "tokenizer", other.tokenizer)
    name = "model.diffusion_model.joint_blocks.1.x_block.mlp.fc1.bias"
    state = {n: t for n, t in original(models["sd3"]).items() if n != name}
    torch.save(state, tmp_path / "lacks.ckpt")
    with pytest.raises(UserError, match=r"lacks tensor 'joint_blocks\.1\.x_block\.mlp\.fc1\.bias'"):
        main(["import", str(tmp_path / "lacks.ckpt"), str(tmp_path / "out")])
