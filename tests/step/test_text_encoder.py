"""Text encoders that learn: one step by hand, what is written, and that each model is read by its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fdlab.cli.checkpoint import main as checkpoint
from fdlab.engine.draws import Draws
from fdlab.errors import UserError
from fdlab.files import write_text
from fdlab.models import finetuned
from fdlab.models.adapter import LoraSettings, add_to_text, merged, updates
from fdlab.models.backbone import part_folders, save_backbone
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.training.fit import FitResult, fit
from fdlab.training.initial import load_start, make_module
from fdlab.training.settings import FitSettings
from fdlab.training.subject_augmented import SDM
from fdlab.training.text_driven import TDM
from fdlab.weights.lora_files import DIFFUSERS_FILE, read_lora
from tests.worlds import pairs
from tests.worlds.backbones import tiny_backbone, tiny_sd15
from tests.worlds.original import tiny_original

Configure = Callable[..., Any]
LR = 0.01
LEARNS = "model.train_text_encoder=true"
QUICK = ("trainer.sample_every=0", "model.lr=0.01", "trainer.precision=32")


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (TDM, "xl"),
        (SDM, "sd3"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in ((TDM, "sd15"), (SDM, "sd15"), (SDM, "xl"))
        ),
    ],
)
def test_one_step_equals_a_plain_computation(kind: Any, size: str) -> None:
    """Of every parameter that learns, the text encoders' at a rate of their own; what has no say rests."""
    made = {"sd15": tiny_sd15, "xl": pairs.tiny_xl, "sd3": pairs.tiny_sd3}[size](subjects=True)
    batch, plain, more = pairs.batch(made), deepcopy(made), {}
    if kind is SDM:
        more = {"masked_loss": 0.0, "localization_weight": 0.0, "subject_keep": 1.0, "train_image_blocks": 1}
    more |= {"train_text_encoder": True, "text_encoder_lr": LR / 5, "gradient_checkpointing": True}
    module = kind(made, seed=0, condition_dropout=0.0, lr=LR, clip=1e9, **more)
    trained = module.trainable_parameters()
    losses = module.losses(batch, Draws(torch.Generator().manual_seed(7)))
    losses["loss"].backward()
    optimizer = module.configure_optimizers()
    module.max_steps = 1
    module.optimizer_step(0, 0, optimizer, lambda: None)

    generator = torch.Generator().manual_seed(7)
    eps = torch.randn(batch["latent_BCHW"].shape, generator=generator)
    networks = plain.networks()
    hand = {name: networks[name.split(".")[0]].get_parameter(name.partition(".")[2]) for name in trained}
    for p in hand.values():
        p.requires_grad_()
    if size == "sd15":
        text, pooled = pairs.plain_tokens(plain, batch, kind is SDM), None
    else:
        text, pooled = pairs.plain_context(plain, batch, subjects=kind is SDM)
    z0 = batch["latent_BCHW"]
    if size == "sd3":
        u = torch.rand(2, 1, 1, 1, generator=generator, dtype=torch.float64)
        sigma = (3 * u / (1 + 2 * u)).float()
        noisy, target = (1 - sigma) * z0 + sigma * eps, eps - z0
        rows = torch.nn.functional.pad(text, (0, 48 - text.shape[2], 0, 256))
        output = plain.unet(noisy, rows, pooled, 1000 * sigma.flatten(), return_dict=False)[0]
    else:
        t = torch.randint(0, 1000, (2,), generator=generator)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        signal = torch.cumprod(1 - betas, 0)[t].float()[:, None, None, None]
        noisy, target = signal.sqrt() * z0 + (1 - signal).sqrt() * eps, eps
        told: Any = {}
        if pooled is not None:
            told = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
        output = plain.unet(noisy, t, encoder_hidden_states=text, added_cond_kwargs=told).sample
    loss = ((output - target) ** 2).mean()
    torch.testing.assert_close(losses["loss"], loss, rtol=1e-4, atol=1e-6)
    loss.backward()
    for name, parameter in trained.items():
        p = hand[name]
        assert p.grad is not None, name
        torch.testing.assert_close(parameter.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)
        step = pairs.adam_step(p.detach(), p.grad, LR / 5 if name.startswith("text_encoder") else LR)
        sure = p.grad.abs() > 1e-5
        torch.testing.assert_close(parameter.detach()[sure], step[sure], rtol=1e-4, atol=1e-4)
    text_parts = {"sd15": {"text_encoder"}}.get(size, {"text_encoder", "text_encoder_2"})
    assert {name.split(".")[0] for name in trained} == {*kind.PARTS, *text_parts}
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == sum(
        p.numel() for p in trained.values()
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "text_encoder/model.safetensors")


def states_of(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    tables = ("parameters", "average")
    return {f"{table} {name}": tensor for table in tables for name, tensor in state[table].items()}


@pytest.fixture
def learnt(configure: Configure) -> FitResult:
    options = (*QUICK, LEARNS, "model.text_encoder_lr=0.02", "model.gradient_checkpointing=true")
    return fit(configure("tdm", *options, "trainer.max_steps=2", "name=whole"))


def test_a_model_carries_the_text_encoder_that_it_learnt_with(
    configure: Configure, backbone_folder: Path, learnt: FitResult
) -> None:
    states = states_of(learnt.run_dir)
    assert {name.split()[1].partition(".")[0] for name in states} == {"unet", "text_encoder"}
    assert set(part_folders(learnt.model)) == {"unet", "text_encoder", "scheduler"}
    # Averages, as of everything that learns.
    for name, tensor in weights(learnt.model).items():
        assert torch.equal(tensor, states[f"average text_encoder.{name.removeprefix('text_model.')}"])
    assert json.loads((learnt.model / "training.json").read_text())["text_encoder_lr"] == 0.02
    settings = FitSettings.read(configure("tdm"))
    told = finetuned.need(settings.backbone, "tdm", str(learnt.run_dir)).describe()
    assert told["text_encoder_lr"] == 0.02 and "text_encoder" in told["parts"]
    # What begins there needs it, though it rests; a copy of the backbone's own is no other.
    for init, brought in ((learnt.run_dir, ("text_encoder",)), (backbone_folder, ())):
        start = load_start(FitSettings.read(configure("sdm", f"init={init}")))
        assert start.backbone.brought == brought


@pytest.mark.long
def test_a_run_goes_on_exactly_and_whatever_comes_of_it_has_the_text_encoder(
    configure: Configure, learnt: FitResult, tmp_path: Path
) -> None:
    options = (*QUICK, LEARNS, "model.text_encoder_lr=0.02", "model.gradient_checkpointing=true")
    fit(configure("tdm", *options, "trainer.max_steps=1", "name=halves"))
    halves = fit(configure("tdm", *options, "trainer.max_steps=2", "name=halves"))
    once, twice = states_of(learnt.run_dir), states_of(halves.run_dir)
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)
    own = weights(learnt.model)
    for layout, out in (("diffusers", "out"), ("released", "flat.safetensors")):
        place = tmp_path / out
        assert checkpoint(["export", str(learnt.run_dir), str(place), "--layout", layout]) == 0
    assert all(torch.equal(weights(tmp_path / "out")[name], tensor) for name, tensor in own.items())
    flat = load_file(tmp_path / "flat.safetensors")
    for name, tensor in own.items():
        assert torch.equal(flat[f"text_encoder.{name.removeprefix('text_model.')}"], tensor)
    sdm = fit(configure("sdm", *QUICK, f"init={learnt.run_dir}", "trainer.max_steps=1", "name=sdm"))
    assert set(part_folders(sdm.model)) >= {"unet", "fusion", "text_encoder"}
    assert all(torch.equal(weights(sdm.model)[name], tensor) for name, tensor in own.items())


@pytest.mark.long
def test_matrices_learn_beside_a_text_encoder(
    configure: Configure, backbone_folder: Path, tmp_path: Path
) -> None:
    lora = (*QUICK, LEARNS, "model.lora_rank=2", "model.lora_alpha=6", "trainer.max_steps=2")
    done = fit(configure("sdm", *lora, "model.train_image_blocks=0"))
    names = [name for name in states_of(done.run_dir) if " text_encoder." in name]
    assert names and all(".lora_" in name for name in names)
    file = done.model / DIFFUSERS_FILE
    found, base = read_lora(file), weights(backbone_folder)
    layers = [f"encoder.layers.0.self_attn.{end}" for end in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert set(found["text_encoder"]) == set(layers)
    for name, tensor in weights(done.model).items():
        plain = base[name] if name in base else base[name.removeprefix("text_model.")]
        layer = name.removeprefix("text_model.").removesuffix(".weight")
        if layer in layers:
            plain = plain + found["text_encoder"][layer].delta(plain)
            assert not torch.equal(tensor, base.get(name, plain * 0))
        torch.testing.assert_close(tensor, plain, rtol=1e-5, atol=1e-6)
    # By kohya's names the same, and a training begins where it ends.
    kohya = tmp_path / "kohya.safetensors"
    out = ["export", str(done.run_dir), str(kohya), "--layout", "kohya"]
    assert checkpoint(out) == 0
    assert any(
        name.startswith("lora_te_text_model_encoder_layers_0_self_attn_q_proj.") for name in load_file(kohya)
    )
    for init in (file, kohya):
        more = (f"model.lora_init={init}", "name=again")
        module: Any = make_module(FitSettings.read(configure("sdm", *lora, *more)))[1]
        again = merged(module.backbone.text_encoder).state_dict()
        for name, tensor in weights(done.model).items():
            torch.testing.assert_close(again[name.removeprefix("text_model.")], tensor, rtol=1e-5, atol=1e-6)


def test_matrices_for_a_text_encoder_that_rests_are_not_lost(tmp_path: Path) -> None:
    made = tiny_sd15()
    TDM(made, seed=0, lora_rank=2, train_text_encoder=True).export(tmp_path / "model")
    file = str(tmp_path / "model" / DIFFUSERS_FILE)
    with pytest.raises(UserError, match=r"which would be lost; give model\.train_text_encoder=true"):
        TDM(tiny_sd15(), seed=0, lora_rank=2, lora_init=file)
    TDM(tiny_sd15(), seed=0, lora_rank=2, lora_init=file, train_text_encoder=True)


@pytest.mark.long
def test_one_file_in_the_original_layout_has_it(tmp_path: Path) -> None:
    base = tiny_original()
    save_backbone(tmp_path / "base", base)
    module = TDM(deepcopy(base), seed=0, train_text_encoder=True)
    with torch.no_grad():
        for p in module.trainable_parameters().values():
            p += 0.02
    module.export(tmp_path / "model")
    node = f"backbone: {{name: x, path: '{tmp_path / 'base'}', image_size: 64}}\n"
    write_text(tmp_path / "config.yaml", node)
    out = tmp_path / "one.safetensors"
    words = ["export", str(tmp_path), str(out), "--layout", "original"]
    assert checkpoint(words) == 0
    file = load_file(out)
    for name, tensor in weights(tmp_path / "model").items():
        assert torch.equal(file[f"cond_stage_model.transformer.{name}"], tensor)


def test_two_text_encoders_get_matrices_where_they_have_a_say() -> None:
    xl = pairs.tiny_xl()
    add_to_text(xl.text_encoders, LoraSettings(2), 0)
    first, second = (updates(encoder) for encoder in xl.text_encoders.values())
    assert {name.split(".")[2] for name in first} == {"0", "1"}
    assert {name.split(".")[2] for name in second} == {"0", "1", "2"}
    # What is merged computes: nothing of it is left without numbers.
    ids = torch.zeros(1, 5, dtype=torch.long)
    same = merged(xl.text_encoder_2)(ids).text_embeds, xl.text_encoder_2(ids).text_embeds
    torch.testing.assert_close(*same)


def test_each_model_reads_the_prompt_by_its_own_text_encoder(tmp_path: Path) -> None:
    """Against the fusion of two pipelines, each of one model alone, step by step."""
    tdm, sdm = tiny_backbone(1), tiny_backbone(2)
    tdm.vae = sdm.vae
    prompt, subject = "a woman <|image|> in a city", np.full((24, 24, 3), 128, np.uint8)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    asked: dict[str, Any] = {
        "num_inference_steps": 2, "guidance_scale": 2.0, "latents": noise, "output_type": "latent",
        "negative_prompt": "a man",
    }  # fmt: skip

    def drawn(pipe: Any, guider: str, **more: Any) -> torch.Tensor:
        pipe.set_progress_bar_config(disable=True)
        shown = ("a woman in a city",) if guider == "tdm" else (prompt, subject)
        return pipe(*shown, guider=guider, **{**asked, **more}).images

    both = FaceDiffuserPipeline.from_backbones(tdm, sdm)
    assert both.text_encoder is sdm.text_encoder and both.tdm_text_encoder is tdm.text_encoder
    for kind, alone in (("tdm", {"tdm": tdm}), ("sdm", {"sdm": sdm})):
        own = FaceDiffuserPipeline.from_backbones(**alone)
        assert own.tdm_text_encoder is None
        torch.testing.assert_close(drawn(both, kind), drawn(own, kind), rtol=1e-4, atol=1e-4)
    # One step of the average is the average of one step of each; saved and read, the same.
    one = {"num_inference_steps": 1}
    halves = (drawn(both, "tdm", **one) + drawn(both, "sdm", **one, guider_options={"base": "text"})) / 2
    both.save_pretrained(tmp_path / "pipe")
    again = FaceDiffuserPipeline.from_pretrained(tmp_path / "pipe")
    for pipe in (both, again):
        torch.testing.assert_close(drawn(pipe, "average", **one), halves, rtol=1e-4, atol=1e-4)
    assert drawn(both, "attention").isfinite().all()
    sharing = FaceDiffuserPipeline.from_backbones(tiny_backbone(2), sdm)
    assert sharing.tdm_text_encoder is None
    with pytest.raises(UserError, match="have text encoders of their own here: give a prompt"):
        embeds = both.encode_prompt(prompt, subject)
        both(None, prompt_embeds=embeds[1], negative_prompt_embeds=embeds[0], subject_prompt_embeds=embeds[2])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([LEARNS, "data.cache_text=true"], "does not go with data.cache_text=true"),
        (["model.text_encoder_lr=1e-5"], "give model.train_text_encoder=true with it"),
        (
            [LEARNS, "model.text_encoder_lr=1e-5", "model.optimizer=prodigy", "model.lr=1"],
            "does not go with model.optimizer=prodigy",
        ),
    ],
)
def test_what_does_not_go_together_is_said(configure: Configure, more: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FitSettings.read(configure("tdm", *more))
