"""Stable Diffusion 3: flow matching in training, in plain diffusers, and through the three stages."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fdlab.cli.checkpoint import main
from fdlab.diffusion.guiders import Trace
from fdlab.engine.draws import Draws
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone, load_backbone
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.training.subject_augmented import SDM
from fdlab.training.text_driven import TDM
from tests.worlds import pairs

LR, STEPS, SCALE, LAST_TDM, LAST_SNF = 0.01, 6, 3.0, 1, 3


@pytest.fixture(scope="module")
def sd3() -> Backbone:
    return pairs.tiny_sd3(subjects=True)


@pytest.mark.filterwarnings("ignore")
def test_plain_diffusers_loads_the_folder_and_draws_the_same(tmp_path: Path) -> None:
    from diffusers import StableDiffusion3Pipeline

    base = pairs.tiny_sd3()
    pairs.write_run(tmp_path, base)
    assert (tmp_path / "model/transformer/config.json").is_file()
    assert main(["export", str(tmp_path), str(tmp_path / "out"), "--layout", "diffusers"]) == 0
    # diffusers' own way to leave T5 out.
    without: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None}
    theirs = StableDiffusion3Pipeline.from_pretrained(tmp_path / "out", **without)
    theirs.set_progress_bar_config(disable=True)
    with pytest.raises(UserError, match="no Stable Diffusion 1, 2, XL or 3"):
        main(["export", str(tmp_path), str(tmp_path / "x.safetensors"), "--layout", "original"])
    asked: dict[str, Any] = {
        "num_inference_steps": 4, "guidance_scale": 2.0, "output_type": "np",
        "latents": torch.randn(1, 16, 8, 8, generator=torch.manual_seed(1)),
    }  # fmt: skip
    prompt = "a woman in a red sweater"
    wanted = theirs(prompt, **asked).images
    assert np.abs(wanted - theirs("a man", **asked).images).max() > 1e-3
    model = load_backbone(tmp_path / "base", {"unet": tmp_path / "model/transformer"})
    ours = FaceDiffuserPipeline.from_backbones(tdm=model)
    ours.set_progress_bar_config(disable=True)
    drawn = ours(prompt, guider="tdm", **asked).images
    np.testing.assert_allclose(drawn, wanted, atol=1e-3)
    ours.save_pretrained(tmp_path / "pipe")
    again = FaceDiffuserPipeline.from_pretrained(tmp_path / "pipe")
    again.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(again(prompt, guider="tdm", **asked).images, drawn, atol=1e-5)


def velocity(model: Backbone, z: Any, t: Any, text: Any, pooled: Any) -> Any:
    """The transformer by itself: tokens filled up with zeros to its width, then T5's rows, all zeros."""
    rows = torch.zeros(len(text), 77 + 256, 48)
    rows[:, :77, :40] = text
    arguments = {"encoder_hidden_states": rows, "pooled_projections": pooled, "timestep": t}
    return model.unet(hidden_states=z, **arguments).sample


@pytest.mark.parametrize("kind", [TDM, SDM])
def test_one_step_equals_a_plain_computation(kind: Any, sd3: Backbone) -> None:
    batch, plain, more = pairs.batch(sd3), deepcopy(sd3), {}
    if kind is SDM:
        more = {"masked_loss": 0.0, "localization_weight": 0.0, "subject_keep": 1.0, "train_image_blocks": 1}
    density = {"timesteps": "log_normal", "log_sigma_mean": 0.5, "log_sigma_std": 1.2, "uniform_share": 0.0}
    module = kind(deepcopy(sd3), seed=0, condition_dropout=0.0, lr=LR, **density, **more)
    trained = module.trainable_parameters()
    losses = module.losses(batch, Draws(torch.Generator().manual_seed(7)))
    losses["loss"].backward()
    module.configure_optimizers().step()

    generator = torch.Generator().manual_seed(7)
    eps = torch.randn(batch["latent_BCHW"].shape, generator=generator)
    place = torch.rand(2, generator=generator, dtype=torch.float64)
    quantile = (torch.randperm(2, generator=generator) + place) / 2
    # The paper's logit-normal: u = sigmoid(m + s x), then the shift of resolution, here 3.
    u = torch.sigmoid(torch.distributions.Normal(0.5, 1.2).icdf(quantile))
    sigma = (3 * u / (1 + 2 * u)).float()
    noisy = torch.lerp(batch["latent_BCHW"], eps, sigma[:, None, None, None])
    networks = plain.networks()
    hand = {name: networks[name.split(".")[0]].get_parameter(name.partition(".")[2]) for name in trained}
    for p in hand.values():
        p.requires_grad_()
    text, pooled = pairs.plain_context(plain, batch, subjects=kind is SDM)
    output = velocity(plain, noisy, 1000 * sigma, text, pooled)
    loss = ((output - (eps - batch["latent_BCHW"])) ** 2).mean()
    torch.testing.assert_close(losses["loss"], loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    for name, parameter in trained.items():
        p = hand[name]
        if p.grad is None:
            assert parameter.grad is None or not parameter.grad.any()
            continue
        torch.testing.assert_close(parameter.grad, p.grad, rtol=1e-4, atol=1e-6, msg=name)
        sure = p.grad.abs() > 1e-5
        step = pairs.adam_step(p.detach(), p.grad, LR)
        torch.testing.assert_close(parameter.detach()[sure], step[sure], rtol=1e-4, atol=1e-4)
    assert {name.split(".")[0] for name in trained} == set(kind.PARTS)


def plain_snf(tdm: Backbone, sdm: Backbone, batch: dict[str, Any], z: Any) -> tuple[Any, Any, Any]:
    """Saliency-adaptive fusion of velocities written out: latents at the end, noise levels, masks."""
    null = pairs.plain_context(sdm, batch, False, ["", ""])
    text, augmented = (pairs.plain_context(sdm, batch, subjects) for subjects in (False, True))
    lowest = 3 * 0.001 / (1 + 2 * 0.001)
    even = [1 + (lowest - 1) * i / (STEPS - 1) for i in range(STEPS)]
    sigmas, masks = [*(3 * s / (1 + 2 * s) for s in even), 0.0], []

    def salient(change: Any, sigma: float) -> Any:
        # A change of the velocity is one of the noise, times what of the picture is left: 1 - sigma.
        size = SCALE * (1 - sigma) * change.abs()
        smooth = F.interpolate(F.avg_pool2d(size, 4, 1, 1), (8, 8), mode="bilinear", antialias=True)
        return smooth.mean(1, keepdim=True).flatten(2).softmax(-1).reshape(2, 1, 8, 8)

    for step, sigma in enumerate(sigmas[:-1]):
        t = torch.full((2,), 1000 * sigma)
        v_null, v_text = (velocity(tdm, z, t, *context) for context in (null, text))
        v_base, v_subject = (velocity(sdm, z, t, *context) for context in (text, augmented))
        v_T, v_S = v_null + SCALE * (v_text - v_null), v_base + SCALE * (v_subject - v_base)
        if step <= LAST_TDM:
            v = v_T
        elif step <= LAST_SNF:
            masks.append(salient(v_subject - v_base, sigma) > salient(v_text - v_null, sigma))
            v = torch.where(masks[-1], v_S, v_T)
        else:
            v = v_S
        z = z + (sigmas[step + 1] - sigma) * v
    return z, sigmas, masks


@torch.no_grad()
def test_three_stages_of_velocities_equal_a_plain_computation(sd3: Backbone) -> None:
    tdm, batch = pairs.tiny_sd3(seed=1), pairs.batch(sd3)
    pipe = FaceDiffuserPipeline.from_backbones(tdm, sd3)
    pipe.set_progress_bar_config(disable=True)
    z = torch.randn(2, 16, 8, 8, generator=torch.manual_seed(3))
    traces: list[Trace] = []
    shown = [list(batch["references_BN3HW"][0]), [batch["references_BN3HW"][1, 0]]]
    drawn = pipe(
        list(pairs.PROMPTS), shown, latents=z, num_inference_steps=STEPS, guidance_scale=SCALE,
        last_tdm_step=LAST_TDM, last_snf_step=LAST_SNF, output_type="latent", recorder=traces.append,
    ).images  # fmt: skip
    wanted, sigmas, masks = plain_snf(tdm, sd3, batch, z)
    found = [trace.mask_BKHW for trace in traces if trace.mask_BKHW is not None]
    assert len(found) == len(masks) == LAST_SNF - LAST_TDM
    for ours, theirs in zip(found, masks, strict=True):
        assert torch.equal(ours.bool(), theirs) and 0 < theirs.float().mean() < 1
    torch.testing.assert_close(drawn, wanted, rtol=1e-4, atol=1e-4)

    # The stages meet: each begins with the latents, and at the noise level, that the one before came to.
    assert [trace.stage for trace in traces] == ["tdm", "tdm", "snf", "snf", "sdm", "sdm"]
    for step, trace in enumerate(traces):
        assert float(trace.t) / 1000 == pytest.approx(sigmas[step], abs=1e-6)
        came_to = traces[step + 1].z_BCHW if step + 1 < STEPS else drawn
        leap = sigmas[step + 1] - sigmas[step]
        torch.testing.assert_close(came_to, trace.z_BCHW + leap * trace.output_BCHW, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
def test_other_solvers_go_the_same_way(name: str, sd3: Backbone) -> None:
    from fdlab.diffusion.schedulers import make_scheduler

    pipe = FaceDiffuserPipeline.from_backbones(tdm=sd3)
    pipe.set_progress_bar_config(disable=True)
    z = torch.randn(1, 16, 8, 8, generator=torch.manual_seed(3))
    asked: dict[str, Any] = {"guider": "tdm", "latents": z, "output_type": "latent", "guidance_scale": 1.0}
    fine = pipe("a man", num_inference_steps=100, **asked).images
    pipe.scheduler = make_scheduler(name, sd3.scheduler_config)
    near = pipe("a man", num_inference_steps=30, **asked).images
    assert (near - fine).norm() < 0.03 * (z - fine).norm()


def test_what_does_not_go_with_flow_matching_is_said(sd3: Backbone) -> None:
    from fdlab.diffusion.schedulers import make_scheduler

    for option in ({"min_snr_gamma": 5.0}, {"prediction_type": "epsilon"}):
        with pytest.raises(UserError, match="does not go with a model of flow matching"):
            TDM(deepcopy(sd3), seed=0, **option)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no cross-attention to localize"):
        SDM(deepcopy(sd3), seed=0)
    with pytest.raises(UserError, match="use one of: euler, dpmpp_2m, unipc"):
        make_scheduler("ddim", sd3.scheduler_config)
    with pytest.raises(UserError, match="leave it null"):
        make_scheduler("euler", sd3.scheduler_config, "trailing")
    with pytest.raises(UserError, match="only a fixed shift"):
        make_scheduler("euler", {**sd3.scheduler_config, "use_dynamic_shifting": True})
    pipe = FaceDiffuserPipeline.from_backbones(sd3, sd3)
    with pytest.raises(UserError, match="does not give"):
        pipe(pairs.PROMPTS[1], torch.zeros(3, 24, 24), guider="attention", num_inference_steps=2)
