"""A run of a TDM taken out: what plain diffusers draws with it, and files that come back bit for bit."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fdlab.cli.checkpoint import main
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders.model import Model
from fdlab.diffusion.guiders.tdm import TextDriven
from fdlab.errors import UserError
from fdlab.exchange import whole_model
from fdlab.files import write_text
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.denoiser import UNetDenoiser
from fdlab.models.nano import SCHEDULER, build_fusion, build_image_encoder
from fdlab.models.parts import save_part
from fdlab.models.tokenizer import token_ids
from fdlab.training.text_driven import TDM
from fdlab.weights.lora_files import read_lora
from tests.worlds.backbones import tiny_sd15
from tests.worlds.original import tiny_original

VISION = {
    "hidden_size": 64, "intermediate_size": 64, "projection_dim": 32, "num_hidden_layers": 1,
    "num_attention_heads": 1, "image_size": 24, "patch_size": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a LoRA training leaves: model/ with the parts that learned, and the configuration."""
    folder = tmp_path_factory.mktemp("run")
    base = tiny_original(prediction_type="v_prediction")
    save_backbone(folder / "base", base)
    module = TDM(deepcopy(base), seed=0, lora_rank=2)
    with torch.no_grad():
        for p in module.trainable_parameters().values():
            p += 0.05
    module.export(folder / "model")
    write_text(folder / "config.yaml", f"backbone: {{name: x, path: '{folder / 'base'}', image_size: 64}}\n")
    return folder


@pytest.fixture(scope="module")
def whole(run: Path) -> Backbone:
    return load_backbone(run / "base", {"unet": run / "model/unet"})


@pytest.mark.filterwarnings("ignore")
def test_plain_diffusers_loads_the_folder_and_draws_the_same(
    run: Path, whole: Backbone, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    assert main(["export", str(run), str(tmp_path / "out"), "--layout", "diffusers"]) == 0
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "library_name: diffusers" in card and "* TDM: " in card and str(tmp_path) not in card
    assert pipe.scheduler.config.prediction_type == "v_prediction" and pipe.safety_checker is None
    pipe.set_progress_bar_config(disable=True)
    z = torch.linspace(-2, 2, 256).reshape(1, 4, 8, 8)
    asked = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "latent"}
    theirs = pipe("a woman on a beach", latents=z, **asked).images
    with torch.no_grad():
        null, text = (
            whole.text_encoder(token_ids(whole.tokenizer, [words]))[0] for words in ("", "a woman on a beach")
        )
        guider = TextDriven(Model(UNetDenoiser(whole.unet), Conditioning(null, text)), Guidance(2.0))
        pipe.scheduler.set_timesteps(3)
        for step, t in enumerate(pipe.scheduler.timesteps):
            z = pipe.scheduler.step(guider(z, t, step), t, z).prev_sample
    torch.testing.assert_close(z, theirs, atol=1e-4, rtol=1e-4)


def test_the_original_layout_comes_back_bit_for_bit(run: Path, whole: Backbone, tmp_path: Path) -> None:
    file = tmp_path / "tdm.safetensors"
    assert main(["export", str(run / "model"), str(file), "--layout", "original"]) == 0
    first = file.read_bytes()
    save_part(tmp_path / "tokenizer", "tokenizer", whole.tokenizer)
    assert main(["import", str(file), str(tmp_path / "back")]) == 0
    back = load_backbone(tmp_path / "back", image_size=64)
    assert back.scheduler_config["prediction_type"] == "v_prediction"
    for part, network in whole.networks().items():
        state = back.networks()[part].state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    write = [str(tmp_path / "back"), str(file), "--layout", "original", "--force"]
    assert main(["export", *write]) == 0 and file.read_bytes() == first


def test_zero_terminal_snr_leaves_with_a_scheduler_that_does_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import diffusers

    asked = {**SCHEDULER, "_class_name": "PNDMScheduler", "prediction_type": "v_prediction"}
    made, written = list[dict[str, Any]](), type("AutoencoderKL", (), {})()
    monkeypatch.setattr(whole_model, "save_backbone", lambda _, b, *__: made.append(b.scheduler_config))
    for config in (asked, asked | {"rescale_betas_zero_snr": True}):
        backbone = Backbone(name="", vae=written, scheduler_config=config)
        backbone.networks = dict  # type: ignore[method-assign,assignment]
        monkeypatch.setattr(whole_model, "load_whole", lambda *_, found=backbone: found)
        whole_model.write_pipeline(tmp_path, "run", None, False)
    assert made[0] == asked
    scheduler = getattr(diffusers, made[1]["_class_name"]).from_config(made[1])
    scheduler.set_timesteps(4)
    assert float(scheduler.alphas_cumprod[-1]) < 1e-6 and list(scheduler.timesteps) == [999, 749, 499, 249]
    assert scheduler.config.prediction_type == "v_prediction"


def as_released(backbone: Backbone) -> torch.nn.Module:
    """What the released code loads a file into, strictly: its modules' names, put together by hand."""
    whole, vae = torch.nn.Module(), deepcopy(backbone.vae)
    for half in (vae.encoder, vae.decoder):
        attention = half.mid_block.attentions[0]
        attention.query, attention.key, attention.value = attention.to_q, attention.to_k, attention.to_v
        attention.proj_attn = attention.to_out[0]
        del attention.to_q, attention.to_k, attention.to_v, attention.to_out
    text = deepcopy(backbone.text_encoder)
    text, image = getattr(text, "text_model", text), deepcopy(backbone.image_encoder)
    for embeddings in (text.embeddings, image.vision_model.embeddings):
        embeddings.register_buffer("position_ids", torch.zeros_like(embeddings.position_ids))
    whole.vae, whole.text_encoder, whole.unet = vae, text, backbone.unet
    whole.image_encoder, whole.postfuse_module = image, backbone.fusion
    return whole


def test_the_released_code_loads_a_runs_file_strictly(run: Path, whole: Backbone, tmp_path: Path) -> None:
    own, out = tmp_path / "sdm/model", ["export", str(tmp_path / "sdm"), str(tmp_path / "x.bin")]
    subjects: dict[str, Any] = {
        "image_encoder": build_image_encoder(VISION), "fusion": build_fusion(64, 32),
    }  # fmt: skip
    for part, network in subjects.items():
        save_part(own / part, part, network)
    (own / "unet").symlink_to(run / "model/unet")
    with pytest.raises(UserError, match=r"sdm' has no vae, no text_encoder; give .* --base FOLDER\.$"):
        main(out)
    write_text(own.parent / "config.yaml", "backbone: {name: x, path: nowhere}\n")
    with pytest.raises(UserError, match="no text_encoder, and the backbone 'nowhere' is not here; give"):
        main(out)
    assert main([*out, "--base", str(run / "base")]) == 0
    expected = replace(whole, **subjects)
    state = torch.load(tmp_path / "x.bin", weights_only=True)
    for part, prefix in {
        "unet": "unet",
        "fusion": "postfuse_module",
        "image_encoder": "image_encoder",
    }.items():
        ours = getattr(expected, part).state_dict()
        assert all(torch.equal(state[f"{prefix}.{name}"], tensor) for name, tensor in ours.items())
    attention = expected.vae.decoder.mid_block.attentions[0]
    old = "vae.decoder.mid_block.attentions.0.proj_attn.weight"
    assert torch.equal(state[old], attention.to_out[0].weight)
    assert torch.equal(state["text_encoder.embeddings.position_ids"], torch.arange(77)[None])
    as_released(expected).load_state_dict(state, strict=True)


def test_an_adapter_is_written_by_both_names(run: Path, whole: Backbone, tmp_path: Path) -> None:
    for layout in ("lora", "kohya"):
        assert main(["export", str(run), str(tmp_path / f"{layout}.safetensors"), "--layout", layout]) == 0
    found = [
        read_lora(tmp_path / f"{layout}.safetensors", {"unet": whole.unet}) for layout in ("lora", "kohya")
    ]
    assert found[0].keys() == {"unet"} and found[0]["unet"].keys() == found[1]["unet"].keys()
    for name, update in found[0]["unet"].items():
        weight = whole.unet.get_submodule(name).weight
        torch.testing.assert_close(update.delta(weight), found[1]["unet"][name].delta(weight))
    assert any(
        name.startswith("lora_unet_down_blocks_0") for name in load_file(tmp_path / "kohya.safetensors")
    )
    kohya, again = str(tmp_path / "kohya.safetensors"), str(tmp_path / "again.safetensors")
    with pytest.raises(UserError, match=r"kohya's names.*give --base FOLDER"):
        main(["export", kohya, again, "--layout", "lora"])
    assert main(["export", kohya, again, "--layout", "lora", "--base", str(run / "base")]) == 0
    expected = load_file(tmp_path / "lora.safetensors")
    assert all(torch.equal(expected[name], tensor) for name, tensor in load_file(again).items())


def test_what_cannot_be_taken_out_is_said(
    run: Path, whole: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(said: str, *words: str) -> None:
        with pytest.raises(UserError, match=said):
            main(["export", *words])

    nano = ["asset:nano/base", str(tmp_path / "x"), "--layout", "diffusers", "--base", "asset:nano"]
    refused("knows no NanoAutoencoder", *nano)
    refused("writes a folder", str(run), "x.safetensors", "--layout", "diffusers")
    refused(r"must end in \.safetensors", str(run), "x.bin", "--layout", "original")
    refused("was not trained by LoRA", str(run / "base"), str(tmp_path / "x.safetensors"), "--layout", "lora")
    refused("takes no --half", str(run), str(tmp_path / "x.bin"), "--half")
    refused("'nowhere' does not exist", str(run), str(tmp_path / "x.bin"), "--base", "nowhere")
    subjects = tmp_path / "sdm"
    save_backbone(subjects, tiny_sd15(subjects=True))
    refused("other programs know no fusion", str(subjects), str(tmp_path / "x"), "--layout", "diffusers")
    (subjects / "fusion/config.json").unlink()
    (subjects / "fusion/diffusion_pytorch_model.safetensors").unlink()
    (subjects / "fusion").rmdir()
    refused("no Stable Diffusion 1, 2, XL or 3", str(subjects), str(tmp_path / "x.safetensors"), "--layout",
            "original")  # fmt: skip
    assert main(["info", str(run)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert (
        "LoRA of rank 2" in rows["lora"]
        and f"{sum(p.numel() for p in whole.unet.parameters()):,}" in rows["unet"]
    )
    assert {"lora", "unet"} <= rows.keys() and not list(tmp_path.glob("x*"))
