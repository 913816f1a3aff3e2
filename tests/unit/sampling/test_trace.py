"""Traces as pictures: against the guider's own output, diffusers' predicted samples, and files read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fdlab.diffusion import guiders
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guiders import Trace
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.sampler import sample
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.errors import UserError
from fdlab.sampling import filmstrip
from fdlab.sampling.trace import SDM_RGB, TDM_RGB, spread, step_pictures
from fdlab.sampling.trace import check_traced as check

B, C, H, W, STEPS = 2, 4, 8, 8, 10
BACKGROUND = (250, 120, 10)


def clean_latents(trace: Trace, schedule: NoiseSchedule) -> Tensor:
    return schedule.clean_at(trace.z_BCHW, trace.output_BCHW, float(trace.t))


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def far_apart(name: str) -> guiders.Model:
    """A model whose predictions say who made them: the TDM's are far above 0, the SDM's far below."""
    level = {"tdm": 100.0, "sdm": -100.0}[name]
    pattern_CHW = some(C, H, W, seed=len(name) + int(level))

    def denoiser(z: Tensor, t: Tensor, ctx: Tensor) -> Tensor:
        return level + ctx.mean((1, 2))[:, None, None, None] * pattern_CHW + 0.01 * z

    return guiders.Model(denoiser, Conditioning(*(some(B, 3, 4, seed=i) for i in range(3))))


def traced(**options: Any) -> list[Trace]:
    seen: list[Trace] = []
    models = {"tdm": far_apart("tdm"), "sdm": far_apart("sdm")}
    guider = guiders.build("snf", num_steps=STEPS, guidance=1.0, recorder=seen.append, **models, **options)
    sample(guider, make_scheduler("ddim", {}), some(B, C, H, W, seed=5), STEPS)
    return seen


def plain(trace: Trace, row: int) -> np.ndarray:
    return np.full((16, 16, 3), BACKGROUND, np.uint8)


def test_masks_and_shares_are_what_was_drawn() -> None:
    """Told from the output alone: where it is low, the SDM drew."""
    seen = traced()
    for row in range(B):
        frames = step_pictures(seen, row, plain, 4 * H)
        assert [frame.stage for frame in frames] == ["tdm"] * 4 + ["snf"] * 3 + ["sdm"] * 3
        for frame, trace in zip(frames, seen, strict=True):
            from_S_HW = (trace.output_BCHW[row, 0] < 0).numpy()
            assert frame.sdm_share == pytest.approx(from_S_HW.mean(), abs=1e-6)
            if frame.stage != "snf":
                assert frame.mask_HW3 is frame.saliency_T_HW3 is frame.saliency_S_HW3 is None
                continue
            assert 0 < frame.sdm_share < 1 and frame.mask_HW3 is not None
            colours = np.where(from_S_HW[..., None], np.uint8(SDM_RGB), np.uint8(TDM_RGB))
            assert (frame.mask_HW3 == colours.repeat(4, 0).repeat(4, 1)).all()
    assert not torch.equal(seen[5].output_BCHW[0] < 0, seen[5].output_BCHW[1] < 0)


def test_a_mask_of_several_channels_is_their_mean() -> None:
    mask_BKHW = torch.zeros(1, 4, 2, 2)
    mask_BKHW[0, :3, 0, 0] = 1
    z = torch.zeros(1, 4, 2, 2)
    (frame,) = step_pictures(
        [Trace(0, torch.tensor(1), "snf", z, z, mask_BKHW, mask_BKHW, mask_BKHW)], 0, plain, 2
    )
    assert frame.mask_HW3 is not None and frame.sdm_share == pytest.approx(3 / 16)
    expected = 0.75 * np.array(SDM_RGB) + 0.25 * np.array(TDM_RGB)
    assert np.abs(frame.mask_HW3[0, 0] - expected).max() <= 0.5
    assert (frame.mask_HW3[1] == TDM_RGB).all()


def test_saliency_is_bright_where_it_is_large() -> None:
    frame = step_pictures(traced(), 1, plain, H)[5]
    trace = traced()[5]
    for shown, map_BKHW in (
        (frame.saliency_T_HW3, trace.saliency_T_BKHW),
        (frame.saliency_S_HW3, trace.saliency_S_BKHW),
    ):
        assert shown is not None and map_BKHW is not None
        # Magma's brightness rises with its value: the order of places is kept.
        brightness = torch.from_numpy(shown @ np.array([0.2126, 0.7152, 0.0722])).flatten()
        order = map_BKHW[1, 0].flatten().argsort()
        assert (brightness[order].diff() > -1.5).all() and brightness[order[-1]] > 200


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("ddim", "leading"),
        ("euler", "leading"),
        ("euler", "linspace"),
        ("euler", "trailing"),
        ("dpmpp_2m", "linspace"),
        ("unipc", "leading"),
    ],
)
def test_the_clean_latents_are_diffusers(name: str, spacing: str, kind: str) -> None:
    """With what each scheduler itself takes for the clean sample at every step."""
    scheduler = make_scheduler(name, {"prediction_type": kind}, spacing)
    schedule = NoiseSchedule.from_config(scheduler.config)
    scheduler.set_timesteps(7)
    z = some(B, C, H, W, seed=1) * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(z, t)
        output = 0.3 * seen + some(B, C, H, W, seed=2)
        done = scheduler.step(output, t, z)
        theirs = (
            scheduler.model_outputs[-1] if hasattr(scheduler, "model_outputs") else done.pred_original_sample
        )
        ours = clean_latents(Trace(step, t, "sdm", seen, output), schedule)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4 * float(theirs.abs().max()))
        z = done.prev_sample


def test_zero_terminal_snr_has_a_clean_latent() -> None:
    config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    schedule = NoiseSchedule.from_config(config)
    z, v = some(1, C, H, W, seed=1), some(1, C, H, W, seed=2)
    # At the last timestep a = 0 and s = 1: v = -z0.
    assert torch.equal(clean_latents(Trace(0, torch.tensor(999.0), "tdm", z, v), schedule), -v)


def test_the_last_prediction_is_the_picture() -> None:
    """DDIM without noise, to alphas_cumprod = 1: what it ends with is what the last step predicts."""
    seen: list[Trace] = []
    models = {"tdm": far_apart("tdm"), "sdm": far_apart("sdm")}
    guider = guiders.build("snf", num_steps=STEPS, guidance=5.0, recorder=seen.append, **models)
    scheduler = make_scheduler("ddim", {"set_alpha_to_one": True})
    z = sample(guider, scheduler, some(B, C, H, W, seed=5), STEPS)
    last = clean_latents(seen[-1], NoiseSchedule.from_config(scheduler.config))
    torch.testing.assert_close(last, z, rtol=1e-4, atol=1e-3)
    first = clean_latents(seen[0], NoiseSchedule.from_config(scheduler.config))
    assert (first - z).abs().mean() > 1


def test_steps_are_spread_over_all_stages() -> None:
    z = torch.zeros(1, 1, 1, 1)
    stages = ["tdm"] * 16 + ["snf"] * 15 + ["sdm"] * 19
    traces = [Trace(i, torch.tensor(i), stage, z, z) for i, stage in enumerate(stages)]
    chosen = spread(traces)
    assert len(chosen) == 8 and chosen == sorted(set(chosen)) and {0, 16, 30, 49} <= set(chosen)
    assert [sum(stages[i] == name for i in chosen) for name in ("tdm", "snf", "sdm")] == [2, 4, 2]
    assert spread(traces[:5]) == [0, 1, 2, 3, 4]
    assert len(spread(traces[:16])) == 8 and len(spread(traces[:9])) == 8


@pytest.mark.parametrize("name", sorted(guiders.GUIDERS))
def test_a_guider_either_records_or_is_refused(name: str) -> None:
    seen: list[Trace] = []
    fake = far_apart("tdm")
    options: dict[str, Any] = {"alpha": 0.0, "beta": 0.1} if "alpha" in guiders.options(name) else {}
    guider = guiders.build(
        name, num_steps=STEPS, guidance=1.0, tdm=fake, sdm=fake, recorder=seen.append, **options
    )
    guider(some(B, C, H, W, seed=0), torch.tensor(5), STEPS - 1)
    if seen:
        check(name)
    else:
        with pytest.raises(UserError, match=f"guider '{name}' does not fuse by place; .*attention, snf"):
            check(name)


def frames() -> list[Any]:
    """One clean colour a step, which no other part of a figure has."""
    return step_pictures(
        traced(),
        0,
        lambda trace, row: np.full((8, 8, 3), (250, 10 * trace.step, 9), np.uint8),
        filmstrip.SIZE,
    )


def cleans(image: Image.Image) -> set[int]:
    """Steps whose clean picture is in a figure, whole."""
    counts = image.convert("RGB").getcolors(1 << 24) or []
    return {
        int(c[1]) // 10
        for n, c in counts  # type: ignore[misc]
        if c[0] == 250 and c[2] == 9 and n >= filmstrip.SIZE**2
    }


def test_a_figure_shows_the_steps_chosen(tmp_path: Path) -> None:
    shown = [0, 4, 5, 9]
    filmstrip.figure(frames(), shown, filmstrip.words("snf", "text"), "a woman " * 60, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert cleans(image) == set(shown)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_animation_has_every_step(tmp_path: Path) -> None:
    all_frames = frames()
    filmstrip.animation(all_frames, filmstrip.words("attention", "text"), tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        assert image.n_frames == STEPS  # type: ignore[attr-defined]
        for step in range(STEPS):
            image.seek(step)
            centre = np.asarray(image.convert("RGB"))[filmstrip.MARGIN + 26 + 80, filmstrip.MARGIN + 80]
            assert np.abs(centre.astype(int) - (250, 10 * step, 9)).max() <= 12


def test_panels_are_named_by_what_they_show() -> None:
    assert filmstrip.words("attention", "text")[0][0] == "TDM's attention"
    assert filmstrip.words("snf", "text")[1] != filmstrip.words("snf", "null")[1]
