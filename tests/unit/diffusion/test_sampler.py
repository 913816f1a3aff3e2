"""The denoising loop, with a denoiser whose answer is known: all data are one picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fdlab.diffusion.initial import latents, step_generators
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.sampler import Guider, sample
from fdlab.diffusion.schedulers import SCHEDULERS, make_scheduler
from fdlab.errors import UserError

PICTURE = torch.linspace(-1, 1, 4 * 6 * 5).view(1, 4, 6, 5)
SHAPE = (4, 6, 5)


def perfect(config: dict[str, object]) -> Guider:
    """The exact denoiser of a data set of one picture."""
    schedule = NoiseSchedule.from_config(config)

    def guider(z: Tensor, t: Tensor, step: int) -> Tensor:
        a = schedule.alphas_cumprod_T[t.long()].sqrt()
        s = (1 - schedule.alphas_cumprod_T[t.long()]).sqrt()
        eps = (z - a * PICTURE) / s
        return eps if schedule.prediction_type == "epsilon" else a * eps - s * PICTURE

    return guider


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_finds_the_picture(name: str) -> None:
    z, scheduler = latents([1, 2], SHAPE), make_scheduler(name, {})
    result = sample(perfect({}), scheduler, z, 20)
    assert (result - PICTURE).abs().max() < 0.15  # a last step to timestep 0 leaves 3 % of the noise
    assert torch.equal(sample(perfect({}), scheduler, z, 20), result), "a scheduler used twice"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_noise_and_v_prediction_take_the_same_path(name: str) -> None:
    """The same knowledge in either form; a scheduler that mistakes one for the other leaves the path."""

    def path(model: str, scheduler: str) -> Tensor:
        passed: list[Tensor] = []
        made = make_scheduler(name, {"prediction_type": scheduler})
        sample(
            perfect({"prediction_type": model}),
            made,
            latents([1], SHAPE),
            8,
            lambda *step: passed.append(step[2]),
        )
        return torch.stack(passed)

    right = path("epsilon", "epsilon")
    # PNDM mixes the outputs of several steps before it converts them, so its two paths are near but not one.
    off = 0.2 if name == "pndm" else 1e-5
    assert (path("v_prediction", "v_prediction") - right).abs().max() < off
    assert (path("v_prediction", "epsilon") - right).abs().max() > 1
    assert (path("epsilon", "v_prediction") - right).abs().max() > 0.5


def test_ddim_ends_where_its_formula_says() -> None:
    """With one picture the noise along DDIM's path is constant, so that z ends at a_0 picture + s_0 eps."""
    schedule = NoiseSchedule.from_config({})
    signal = schedule.alphas_cumprod_T
    z = latents([5], SHAPE)
    eps = (z - signal[901].sqrt() * PICTURE) / (1 - signal[901]).sqrt()
    expected = signal[0].sqrt() * PICTURE + (1 - signal[0]).sqrt() * eps
    torch.testing.assert_close(
        sample(perfect({}), make_scheduler("ddim", {}), z, 10), expected, atol=1e-4, rtol=0
    )


def test_zero_terminal_snr_needs_no_signal_at_the_start() -> None:
    config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    z = latents([1], SHAPE)
    result = sample(perfect(config), make_scheduler("ddim", config), z, 20)
    assert (result - PICTURE).abs().max() < 0.15


def test_a_guider_is_told_the_step_of_its_timestep() -> None:
    def visited(name: str) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []

        def guider(z: Tensor, t: Tensor, step: int) -> Tensor:
            assert t.dim() == 0
            seen.append((step, int(t)))
            return torch.zeros_like(z)

        sample(guider, make_scheduler(name, {}), latents([0], SHAPE), 5)
        return seen

    assert visited("ddim") == [(0, 801), (1, 601), (2, 401), (3, 201), (4, 1)]
    assert visited("pndm") == [(0, 801), (1, 601), (1, 601), (2, 401), (3, 201), (4, 1)]


def test_a_callback_sees_every_step_and_may_replace_the_latents() -> None:
    seen: list[int] = []

    def watch(step: int, t: Tensor, z: Tensor) -> None:
        seen.append(step)

    def replace(step: int, t: Tensor, z: Tensor) -> Tensor | None:
        return torch.full_like(z, 7.0) if step == 9 else None

    scheduler, z = make_scheduler("ddim", {}), latents([0], SHAPE)
    plain = sample(perfect({}), scheduler, z, 10)
    assert torch.equal(sample(perfect({}), scheduler, z, 10, watch), plain) and seen == list(range(10))
    assert (sample(perfect({}), scheduler, z, 10, replace) == 7).all()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_an_image_does_not_depend_on_its_batch(name: str, eta: float) -> None:
    if eta and name != "ddim":
        with pytest.raises(UserError, match="has no eta"):
            sample(
                perfect({}),
                make_scheduler(name, {}),
                latents([0], SHAPE),
                5,
                generator=step_generators([0]),
                eta=eta,
            )
        return

    def run(seeds: list[int]) -> Tensor:
        generators = step_generators(seeds) if eta else None
        return sample(
            perfect({}), make_scheduler(name, {}), latents(seeds, SHAPE), 6, generator=generators, eta=eta
        )

    together = run([3, 1, 2])
    torch.testing.assert_close(run([2, 3]), together[[2, 0]], rtol=0, atol=1e-5)


def test_noise_on_the_way_needs_a_generator_and_a_sane_eta() -> None:
    scheduler, z = make_scheduler("ddim", {}), latents([0], SHAPE)
    with pytest.raises(UserError, match="needs a generator"):
        sample(perfect({}), scheduler, z, 5, eta=0.5)
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        sample(perfect({}), scheduler, z, 5, generator=step_generators([0]), eta=2.0)
    state = torch.get_rng_state()
    noisy = sample(perfect({}), scheduler, z, 5, generator=step_generators([0]), eta=1.0)
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"
    assert not torch.equal(noisy, sample(perfect({}), scheduler, z, 5))


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(1, requires_grad=True)
    result = sample(lambda z, t, step: z * weight, make_scheduler("ddim", {}), latents([0], SHAPE), 3)
    assert not result.requires_grad


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_drawing_may_end_with_the_clean_picture_predicted_on_the_way(name: str, kind: str) -> None:
    config = {"prediction_type": kind}
    seen: list[float] = []

    def guider(z: Tensor, t: Tensor, step: int) -> Tensor:
        seen.append(float(t))
        return perfect(config)(z, t.round(), step)

    z = latents([1, 2], SHAPE)
    result = sample(guider, make_scheduler(name, config), z, 20, final_sigma=0.7)
    alphas = NoiseSchedule.from_config({}).alphas_cumprod_T.double()
    sigma = ((1 - alphas) / alphas).sqrt()
    assert sigma[int(seen[-1])] <= 0.7 < sigma[int(seen[-2])], "the first call at or below it is the last"
    # Who knows the picture exactly predicts it at any noise, where the last step would leave 3 % of it.
    assert (result - PICTURE).abs().max() < (1e-4 if name != "euler" else 0.02)


def test_a_final_noise_level_above_the_first_steps_ends_at_once() -> None:
    calls: list[int] = []
    sample(
        perfect({}),
        make_scheduler("ddim", {}),
        latents([1], SHAPE),
        8,
        lambda *s: calls.append(s[0]),
        final_sigma=14.0,
    )
    assert calls == [0]
