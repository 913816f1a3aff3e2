"""Stable Diffusion XL: plain diffusers draws the same, one step equals a plain computation, recipes run."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.cli.checkpoint import main
from fdlab.engine.draws import Draws
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone, load_backbone
from fdlab.models.conditioning import condition
from fdlab.models.denoiser import denoiser_of
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.training.subject_augmented import SDM
from fdlab.training.text_driven import TDM
from tests.worlds import pairs

LR = 0.01


@pytest.fixture(scope="module")
def xl() -> Backbone:
    return pairs.tiny_xl(subjects=True)


@pytest.mark.filterwarnings("ignore")
def test_plain_diffusers_loads_the_folder_and_draws_the_same(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    base = pairs.tiny_xl()
    pairs.write_run(tmp_path, base)
    assert main(["export", str(tmp_path), str(tmp_path / "out"), "--layout", "diffusers"]) == 0
    theirs = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out", add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    with pytest.raises(UserError, match="no Stable Diffusion 1, 2, XL or 3"):
        main(["export", str(tmp_path), str(tmp_path / "x.safetensors"), "--layout", "original"])
    with pytest.raises(UserError, match="has no text_encoder_2"):
        main(["export", str(tmp_path / "base"), str(tmp_path / "x.bin")])
    asked: dict[str, Any] = {
        "num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np",
        "latents": torch.randn(1, 4, 8, 8, generator=torch.manual_seed(1)),
    }  # fmt: skip
    prompt = "a woman in a red sweater"
    wanted = theirs(prompt, **asked).images
    model = load_backbone(tmp_path / "base", {"unet": tmp_path / "model/unet"})
    assert model.zero_empty_prompt
    ours = FaceDiffuserPipeline.from_backbones(tdm=model, scheduler=theirs.scheduler)
    ours.set_progress_bar_config(disable=True)
    drawn = ours(prompt, guider="tdm", **asked).images
    np.testing.assert_allclose(drawn, wanted, atol=1e-3)
    assert np.abs(wanted - theirs("a man", **asked).images).max() > 1e-3
    ours.save_pretrained(tmp_path / "pipe")
    again = FaceDiffuserPipeline.from_pretrained(tmp_path / "pipe")
    again.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(again(prompt, guider="tdm", **asked).images, drawn, atol=1e-5)


@pytest.mark.parametrize("kind", [TDM, SDM])
def test_one_step_equals_a_plain_computation(kind: Any, xl: Backbone) -> None:
    batch, plain, more = pairs.batch(xl), deepcopy(xl), {}
    if kind is SDM:
        more = {"masked_loss": 0.0, "localization_weight": 0.0, "subject_keep": 1.0, "train_image_blocks": 1}
    module = kind(deepcopy(xl), seed=0, condition_dropout=0.0, lr=LR, **more)
    trained = module.trainable_parameters()
    losses = module.losses(batch, Draws(torch.Generator().manual_seed(7)))
    losses["loss"].backward()
    module.configure_optimizers().step()

    generator = torch.Generator().manual_seed(7)
    eps = torch.randn(batch["latent_BCHW"].shape, generator=generator)
    t = torch.randint(0, 1000, (2,), generator=generator)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, 0)[t].float()[:, None, None, None]
    noisy = signal.sqrt() * batch["latent_BCHW"] + (1 - signal).sqrt() * eps
    networks = plain.networks()
    hand = {name: networks[name.split(".")[0]].get_parameter(name.partition(".")[2]) for name in trained}
    for p in hand.values():
        p.requires_grad_()
    text, pooled = pairs.plain_context(plain, batch, subjects=kind is SDM)
    told = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
    output = plain.unet(noisy, t, encoder_hidden_states=text, added_cond_kwargs=told).sample
    loss = ((output - eps) ** 2).mean()
    torch.testing.assert_close(losses["loss"], loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    for name, parameter in trained.items():
        p = hand[name]
        torch.testing.assert_close(parameter.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)
        sure = p.grad.abs() > 1e-5
        step = pairs.adam_step(p.detach(), p.grad, LR)
        torch.testing.assert_close(parameter.detach()[sure], step[sure], rtol=1e-4, atol=1e-4)
    assert {name.split(".")[0] for name in trained} == set(kind.PARTS)


def test_dropped_captions_are_zeros_and_localization_sees_tokens_alone(xl: Backbone) -> None:
    batch, module = pairs.batch(xl), SDM(deepcopy(xl), seed=0, subject_keep=1.0)
    losses = module.losses(batch, Draws(torch.Generator().manual_seed(0)))
    assert losses["localization_loss"].isfinite()
    maps = module.maps
    assert maps is not None
    assert all(probs.shape[-1] == batch["token_index_BN"].shape[1] for probs in maps)
    text_BLD = condition(xl, batch["input_ids_BL"], batch["subject_token_BL"]).text_BLD
    with torch.no_grad(), maps:
        denoiser_of(module.backbone.unet)(torch.zeros(len(text_BLD), *xl.latent_shape_CHW), 5, text_BLD)
    assert text_BLD.shape[1] == 78 and all(probs.shape[-1] == 77 for probs in maps)
    for zero in (True, False):
        model = replace(xl, zero_empty_prompt=zero)
        empty = condition(model, batch["input_ids_BL"], batch["subject_token_BL"]).null_BLD
        assert empty.shape == (2, 78, 40) and bool(empty.any()) is not zero


def test_all_guiders_draw_given_people(xl: Backbone) -> None:
    sdm = deepcopy(xl)
    pipe = FaceDiffuserPipeline.from_backbones(pairs.tiny_xl(seed=1), sdm)
    pipe.set_progress_bar_config(disable=True)
    embeddings = pipe.encode_prompt(list(pairs.PROMPTS), subjects())
    assert torch.equal(embeddings.text_BLD[:, -1], embeddings.augmented_BLD[:, -1])
    drawn = {
        guider: pipe(list(pairs.PROMPTS), subjects(), guider=guider, seeds=[1, 2], num_inference_steps=4,
                     output_type="np").images
        for guider in ("snf", "attention", "delayed")
    }  # fmt: skip
    assert all(picture.shape == (2, 64, 64, 3) for picture in drawn.values())
    assert np.abs(drawn["snf"] - drawn["delayed"]).max() > 1e-3


def subjects() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [[rng.integers(0, 256, (24, 24, 3), np.uint8) for _ in range(n)] for n in (2, 1)]


def test_parts_that_do_not_go_together_are_said(xl: Backbone, tmp_path: Path) -> None:
    from fdlab.models.backbone import check_fit

    for part, said in (("text_encoder_2", "no text_encoder_2 in"), ("tokenizer_2", "no tokenizer_2")):
        lacking = pairs.tiny_xl()
        setattr(lacking, part, None)
        with pytest.raises(UserError, match=said):
            check_fit(lacking)
            condition(lacking, *(pairs.batch(xl)[key] for key in ("input_ids_BL", "subject_token_BL")))
    other = pairs.tiny_xl()
    other.tokenizer_2 = pairs.tiny_tokenizer(77, vocab_size=520)
    with pytest.raises(UserError, match="different tokens"):
        check_fit(other)
