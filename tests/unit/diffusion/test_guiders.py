"""Guiders: which model they call, when, with what, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from fdlab.diffusion import guiders
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.guiders import Trace
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.saliency import SaliencyOptions, fuse, fusion_mask, response, saliency
from fdlab.errors import UserError

B, C, H, W, L, D = 3, 4, 6, 8, 5, 4
NAMES = ("null", "text", "augmented")
STEPS = 10


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Fake:
    """A denoiser with a formula of its own for each embedding, which notes what it was called with."""

    seed: int
    calls: list[tuple[int, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weight_DC = some(D, C, seed=self.seed)
        self.pattern_CHW = some(C, H, W, seed=self.seed + 1)

    def __call__(self, z: Tensor, t: Tensor, ctx: Tensor) -> Tensor:
        self.calls.append((len(z), ctx))
        gain_BC = (ctx.mean(1) @ self.weight_DC.to(ctx.dtype))[:, :, None, None]
        return z * 0.1 + gain_BC * (self.pattern_CHW.to(z.dtype) + z.sin()) * (1 + t / 1000)

    def attend(self, z: Tensor, t: Tensor, ctx: Tensor) -> tuple[Tensor, Tensor]:
        looks = (ctx[:, :, :1, None] * self.pattern_CHW[0]).abs()
        return self(z, t, ctx), looks

    def model(self, rows: list[int] | None = None) -> guiders.Model:
        contexts = (some(B, L, D, seed=self.seed + 10 + i) for i in range(3))
        return guiders.Model(self, Conditioning(*(ctx if rows is None else ctx[rows] for ctx in contexts)))


@pytest.fixture
def tdm() -> Fake:
    return Fake(100)


@pytest.fixture
def sdm() -> Fake:
    return Fake(200)


Z, T = some(B, C, H, W, seed=0), torch.tensor(500)


def predict(fake: Fake, name: str) -> Tensor:
    """One prediction alone, and not counted."""
    output = fake(Z, T, fake.model().conditioning.get(name))
    fake.calls.pop()
    return output


def guided(fake: Fake, base: str, target: str, scale: float = 5.0) -> Tensor:
    return predict(fake, base) + scale * (predict(fake, target) - predict(fake, base))


def build(name: str, tdm: Fake, sdm: Fake, **options: Any) -> guiders.Guider:
    given: dict[str, Any] = {"guidance": 5.0, "num_steps": STEPS, **options}
    return guiders.build(name, tdm=tdm.model(), sdm=sdm.model(), **given)


def snf_by_hand(tdm: Fake, sdm: Fake, base: str = "text", **chosen: Any) -> Tensor:
    options = SaliencyOptions(**chosen)
    R_T = response(predict(tdm, "null"), predict(tdm, "text"), 5.0)
    R_S = response(predict(sdm, base), predict(sdm, "augmented"), 5.0)
    mask = fusion_mask(saliency(R_T, options), saliency(R_S, options), options)
    return fuse(predict(tdm, "null") + R_T, predict(sdm, base) + R_S, mask)


def test_formulas_of_single_models(tdm: Fake, sdm: Fake) -> None:
    torch.testing.assert_close(build("tdm", tdm, sdm)(Z, T, 0), guided(tdm, "null", "text"))
    torch.testing.assert_close(build("sdm", tdm, sdm)(Z, T, 0), guided(sdm, "text", "augmented"))
    torch.testing.assert_close(build("sdm", tdm, sdm, base="null")(Z, T, 0), guided(sdm, "null", "augmented"))


def test_average_and_its_weight(tdm: Fake, sdm: Fake) -> None:
    text, subject = guided(tdm, "null", "text"), guided(sdm, "text", "augmented")
    torch.testing.assert_close(build("average", tdm, sdm)(Z, T, 0), (text + subject) / 2)
    torch.testing.assert_close(
        build("average", tdm, sdm, sdm_share=0.25)(Z, T, 0), 0.75 * text + 0.25 * subject
    )


def test_delayed_conditioning_switches_the_embedding_of_one_model(tdm: Fake, sdm: Fake) -> None:
    guider = build("delayed", tdm, sdm, subject_fraction=0.7)
    early, late = guided(sdm, "null", "text"), guided(sdm, "null", "augmented")
    for step in range(STEPS):
        torch.testing.assert_close(guider(Z, T, step), early if step <= 3 else late)
    assert not tdm.calls


def test_switch_changes_models_after_its_step(tdm: Fake, sdm: Fake) -> None:
    text, subject = guided(tdm, "null", "text"), guided(sdm, "text", "augmented")
    for options, last in (({}, 3), ({"fraction": 0.55}, 5), ({"last_tdm_step": 0}, 0)):
        guider = build("switch", tdm, sdm, **options)
        for step in range(STEPS):
            torch.testing.assert_close(guider(Z, T, step), text if step <= last else subject)


def test_snf_stages_formulas_and_calls(tdm: Fake, sdm: Fake) -> None:
    """Each stage calls only the models it needs, each once, with both branches of the whole batch."""
    guider = build("snf", tdm, sdm)
    stages = [(0, 3, "tdm"), (4, 6, "snf"), (7, 9, "sdm")]
    expected = {
        "tdm": (guided(tdm, "null", "text"), 1, 0),
        "snf": (snf_by_hand(tdm, sdm), 1, 1),
        "sdm": (guided(sdm, "text", "augmented"), 0, 1),
    }
    for first, last, stage in stages:
        output, num_tdm, num_sdm = expected[stage]
        for step in range(first, last + 1):
            tdm.calls.clear(), sdm.calls.clear()
            torch.testing.assert_close(guider(Z, T, step), output)
            assert (len(tdm.calls), len(sdm.calls)) == (num_tdm, num_sdm), f"{stage} at step {step}"
            assert all(rows == 2 * B for rows, _ in tdm.calls + sdm.calls)


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing": "gaussian", "sigma": 2.0},
        {"reduction": "none"},
        {"temperature": 0.3, "mask": "soft"},
        {"tie": "sdm"},
    ],
)
def test_snf_options_reach_the_saliency(tdm: Fake, sdm: Fake, options: dict[str, Any]) -> None:
    expected = snf_by_hand(tdm, sdm, **options)
    torch.testing.assert_close(build("snf", tdm, sdm, **options)(Z, T, 5), expected)


def test_snf_with_null_base_and_indices(tdm: Fake, sdm: Fake) -> None:
    guider = build("snf", tdm, sdm, base="null", last_tdm_step=-1, last_snf_step=0)
    torch.testing.assert_close(guider(Z, T, 0), snf_by_hand(tdm, sdm, "null"))
    torch.testing.assert_close(guider(Z, T, 1), guided(sdm, "null", "augmented"))


def test_snf_draws_each_place_from_one_model(tdm: Fake, sdm: Fake) -> None:
    output = build("snf", tdm, sdm)(Z, T, 5)
    from_T = output == Guidance(5.0)(predict(tdm, "null"), predict(tdm, "text"))
    from_S = output == Guidance(5.0)(predict(sdm, "text"), predict(sdm, "augmented"))
    assert (from_T ^ from_S).all()
    # All channels of a place come from the same model, and both models draw something.
    assert torch.equal(from_S.all(1), from_S.any(1)) and 0 < from_S.float().mean() < 1


def test_a_trace_tells_what_happened(tdm: Fake, sdm: Fake) -> None:
    seen: list[Trace] = []
    guider = build("snf", tdm, sdm, recorder=seen.append)
    outputs = [guider(Z, T, step) for step in range(STEPS)]
    assert [trace.stage for trace in seen] == ["tdm"] * 4 + ["snf"] * 3 + ["sdm"] * 3
    assert all(torch.equal(trace.output_BCHW, output) for trace, output in zip(seen, outputs, strict=True))
    assert seen[0].mask_BKHW is None and (seen[0].sdm_share_B == 0).all() and (seen[9].sdm_share_B == 1).all()
    fused = seen[5]
    assert fused.mask_BKHW is not None and fused.saliency_T_BKHW is not None
    assert fused.mask_BKHW.shape == fused.saliency_T_BKHW.shape == (B, 1, H, W)
    torch.testing.assert_close(fused.sdm_share_B, fused.mask_BKHW.mean((1, 2, 3)))


def test_v_prediction_compares_responses_as_noise(tdm: Fake, sdm: Fake) -> None:
    """Two models that know the same, one saying eps and one v, get the same saliencies."""
    seen: list[Trace] = []
    alphas = NoiseSchedule.from_config({}).alphas_cumprod_T
    a = alphas[500].sqrt()

    def as_v(fake: Fake) -> guiders.Model:
        model = fake.model()

        def denoiser(z: Tensor, t: Tensor, ctx: Tensor) -> Tensor:
            return (fake(z, t, ctx) - (1 - a**2).sqrt() * z) / a

        return guiders.Model(denoiser, model.conditioning)

    common: dict[str, Any] = {"guidance": 5.0, "num_steps": STEPS, "recorder": seen.append}
    guiders.build("snf", tdm=tdm.model(), sdm=sdm.model(), **common)(Z, T, 5)
    schedule = NoiseSchedule(alphas, "v_prediction")
    v = guiders.build("snf", tdm=as_v(tdm), sdm=as_v(sdm), schedule=schedule, **common)(Z, T, 5)
    noise, from_v = seen
    torch.testing.assert_close(from_v.saliency_T_BKHW, noise.saliency_T_BKHW)
    assert torch.equal(from_v.mask_BKHW, noise.mask_BKHW)
    torch.testing.assert_close(schedule.noise(Z, v, T), noise.output_BCHW, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", guiders.GUIDERS)
@pytest.mark.parametrize("step", [0, 5, 9])
def test_an_image_does_not_depend_on_its_batch(name: str, step: int, tdm: Fake, sdm: Fake) -> None:
    def run(rows: list[int]) -> Tensor:
        models = {"tdm": tdm.model(rows), "sdm": sdm.model(rows)}
        return guiders.build(name, **models, guidance=Guidance(5.0, 0.5), num_steps=STEPS)(Z[rows], T, step)

    together = run([0, 1, 2])
    torch.testing.assert_close(run([2, 0]), together[[2, 0]], rtol=0, atol=1e-4)
    torch.testing.assert_close(run([1]), together[[1]], rtol=0, atol=1e-4)


def test_without_guidance_the_base_is_not_computed(tdm: Fake, sdm: Fake) -> None:
    output = build("tdm", tdm, sdm, guidance=1.0)(Z, T, 0)
    torch.testing.assert_close(output, predict(tdm, "text"))
    assert [rows for rows, _ in tdm.calls] == [B]


def test_models_may_run_in_half_precision_under_float32_latents(sdm: Fake) -> None:
    half = guiders.Model(sdm, sdm.model().conditioning.to(dtype=torch.bfloat16))
    output = guiders.build("sdm", sdm=half, guidance=5.0, num_steps=STEPS)(Z, T, 0)
    assert output.dtype == torch.float32
    # What is left is bfloat16's rounding of the predictions, five times amplified.
    assert (output - guided(sdm, "text", "augmented")).abs().mean() < 0.1


def test_needs_and_bad_input(tdm: Fake, sdm: Fake) -> None:
    assert guiders.needs("tdm") == ("tdm",) and guiders.needs("delayed") == ("sdm",)
    assert guiders.needs("snf") == ("tdm", "sdm")
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("snff", {}, "Did you mean 'snf'"),
        ("snf", {"smooting": "average"}, "Did you mean 'smoothing'"),
        ("snf", {"alpha": 0.7}, "alpha < beta"),
        ("snf", {"base": "nul"}, "Did you mean 'null'"),
        ("tdm", {"alpha": 0.3}, "option of guider 'tdm'"),
        ("average", {"sdm_share": 2.0}, "sdm_share"),
        ("switch", {"fraction": -0.1}, "fraction"),
        ("delayed", {"subject_fraction": 1.5}, "subject_fraction"),
    ]
    for name, options, said in bad:
        with pytest.raises(UserError, match=said):
            build(name, tdm, sdm, **options)
    with pytest.raises(UserError, match="needs a SDM"):
        guiders.build("snf", tdm=tdm.model(), guidance=5.0, num_steps=STEPS)
    with pytest.raises(UserError, match="needs subjects"):
        conditioning = Conditioning(some(B, L, D, seed=1), some(B, L, D, seed=2))
        guiders.build("sdm", sdm=guiders.Model(sdm, conditioning), guidance=5.0, num_steps=STEPS)(Z, T, 0)
    with pytest.raises(ValueError, match="3 latents, but embeddings for 2"):
        guiders.build("tdm", tdm=tdm.model([0, 1]), guidance=5.0, num_steps=STEPS)(Z, T, 0)


def looks_by_hand(fake: Fake, name: str) -> Tensor:
    """Each subject's map scaled to [0, 1], then the largest; subjects are where text and augmented differ."""
    conditioning = fake.model().conditioning
    maps = fake.attend(Z, T, conditioning.get(name))[1]
    scaled = [[(m - m.min()) / (m.max() - m.min()) for m in row] for row in maps]
    fake.calls.pop()
    return torch.stack([torch.stack(row).amax(0) for row in scaled])[:, None]


@pytest.mark.parametrize("maps", ["both", "tdm", "sdm"])
def test_attention_gives_the_subjects_places_to_the_sdm(maps: str, tdm: Fake, sdm: Fake) -> None:
    seen: list[Trace] = []
    guider = build("attention", tdm, sdm, maps=maps, threshold=0.9, recorder=seen.append)
    output = guider(Z, T, 5)
    looks = {"tdm": looks_by_hand(tdm, "text"), "sdm": looks_by_hand(sdm, "augmented")}
    chosen = [looks[name] > 0.9 for name in (("tdm", "sdm") if maps == "both" else (maps,))]
    mask = torch.stack(chosen).any(0)
    assert 0 < mask.float().mean() < 1
    wanted = torch.where(mask, guided(sdm, "text", "augmented"), guided(tdm, "null", "text"))
    torch.testing.assert_close(output, wanted)
    assert seen[0].mask_BKHW is not None and torch.equal(seen[0].mask_BKHW, mask.float())
    for bad, said in (({"threshold": 1.0}, r"threshold is 1\.0"), ({"maps": "bot"}, "Did you mean 'both'")):
        with pytest.raises(UserError, match=said):
            build("attention", tdm, sdm, **bad)


def test_only_the_looks_at_subjects_count(tdm: Fake, sdm: Fake) -> None:
    text, augmented = some(B, L, D, seed=1), some(B, L, D, seed=1)
    augmented[:, 2] += 1.0
    model = guiders.Model(sdm, Conditioning(some(B, L, D, seed=3), text, augmented))
    looks_B1HW = model.attending(Z, T, "null", "augmented")[1]
    maps_BHW = sdm.attend(Z, T, augmented)[1][:, 2]
    for looks, maps in zip(looks_B1HW[:, 0], maps_BHW, strict=True):
        torch.testing.assert_close(looks, (maps - maps.min()) / (maps.max() - maps.min()))


def test_attention_needs_a_denoiser_that_tells(tdm: Fake, sdm: Fake) -> None:
    blind = guiders.Model(lambda z, t, ctx: z, tdm.model().conditioning)
    guider = guiders.build("attention", tdm=blind, sdm=sdm.model(), guidance=5.0, num_steps=STEPS)
    with pytest.raises(UserError, match="needs cross-attention maps"):
        guider(Z, T, 5)


def test_guidance_only_within_its_interval(tdm: Fake, sdm: Fake) -> None:
    guidance = Guidance.between(5.0, 0.0, 0.2, 0.5, STEPS)
    guider = build("tdm", tdm, sdm, guidance=guidance)
    for step in range(STEPS):
        wanted = guided(tdm, "null", "text") if 2 <= step <= 4 else predict(tdm, "text")
        tdm.calls.clear()
        torch.testing.assert_close(guider(Z, T, step), wanted)
        assert [rows for rows, _ in tdm.calls] == [2 * B if 2 <= step <= 4 else B]
    assert Guidance.between(5.0, 0.0, 0.0, 1.0, STEPS) == Guidance(5.0)
    for start, end in ((0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(UserError, match="guidance_start is"):
            Guidance.between(5.0, 0.0, start, end, STEPS)
