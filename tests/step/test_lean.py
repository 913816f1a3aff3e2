"""A training whose frozen weights are rounded, and away where no step needs them: the same training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fdlab.__main__ import main
from fdlab.engine.draws import Draws
from fdlab.engine.lean import Kept, Lean
from fdlab.engine.loop import LoopSettings
from fdlab.errors import UserError
from fdlab.models.backbone import load_backbone
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.economies import economies
from fdlab.training.fit import FitResult, describe, fit
from fdlab.training.footprint import Footprint, blank_batch, estimate
from fdlab.training.initial import make_module
from fdlab.training.resting import lean_of, rounded_to
from fdlab.training.settings import FitSettings
from fdlab.weights.lora_files import DIFFUSERS_FILE

Configure = Callable[..., Any]
LORA = ("model.lora_rank=2", "model.lora_targets=[transformer]")
KEPT = ("model.train_image_blocks=0", "data.background=grey", "data.cache_text=true")


def made(configure: Configure, *more: str) -> tuple[DenoisingTraining, FitSettings]:
    settings = FitSettings.read(configure("sdm", "trainer.precision=bf16", *more))
    return make_module(settings)[1], settings


def step(module: DenoisingTraining, batch: dict[str, Any]) -> list[torch.Tensor]:
    """Loss and gradients."""
    learning = list(module.trainable_parameters().values())
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        loss = module.losses(batch, Draws(torch.Generator().manual_seed(3)))["loss"]
    return [loss.detach(), *torch.autograd.grad(loss, learning, allow_unused=True)]


@pytest.mark.parametrize("more", [(), LORA], ids=["whole", "lora"])
def test_a_step_with_rounded_weights_is_the_same_to_the_bit(
    more: tuple[str, ...], configure: Configure
) -> None:
    module, settings = made(configure, "model.frozen=half", "data.cache_latents=false", *more)
    batch = blank_batch(module, settings)
    batch["subject_valid_BN"][:] = True
    generator = torch.Generator().manual_seed(0)
    batch["image_B3HW"] = torch.rand(batch["image_B3HW"].shape, generator=generator)
    exact = step(module, batch)
    parts = module.backbone.networks()
    lean = lean_of(module, settings, "cpu")
    Kept(lean, parts, torch.device("cpu"))
    halves = {
        part
        for part, network in parts.items()
        if any(p.dtype == torch.bfloat16 for p in network.parameters())
    }
    # Pictures are encoded outside of autocast: their encoder stays exact.
    assert halves == {"text_encoder", "image_encoder"} | ({"unet"} if more else set())
    assert all(p.dtype == torch.float32 for p in module.trainable_parameters().values())
    for a, b in zip(exact, step(module, batch), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def lora_run(configure: Configure, frozen: str) -> FitResult:
    """With a grid drawn between the steps."""
    options = ("trainer.precision=bf16", "trainer.max_steps=2", "trainer.sample_every=1", "model.lr=0.01")
    return fit(configure("sdm", *LORA, *options, f"model.frozen={frozen}", f"name={frozen}"))


def test_a_run_leaves_weights_as_they_were_read(configure: Configure, backbone_folder: Path) -> None:
    run = lora_run(configure, "half")
    assert (run.run_dir / "samples/step-2.png").is_file()
    read = load_backbone(backbone_folder, parts=["unet", "image_encoder"])
    unet = load_file(run.model / "unet/diffusion_pytorch_model.safetensors")
    base = read.unet.state_dict()
    assert not torch.equal(base["conv_in.weight"], base["conv_in.weight"].bfloat16().float())
    update = load_file(run.model / DIFFUSERS_FILE)
    for name, weight in unet.items():
        a, b = (update.get(f"unet.{name.removesuffix('.weight')}.lora_{side}.weight") for side in "AB")
        if a is None or b is None:
            assert torch.equal(weight, base[name]), name
        else:
            # Merged into the exact weights.
            by_hand = base[name] + (b.flatten(1) @ a.flatten(1)).reshape(weight.shape)
            torch.testing.assert_close(weight, by_hand, rtol=1e-6, atol=1e-7)
    encoder = load_file(run.model / "image_encoder/model.safetensors")
    for name, weight in read.image_encoder.state_dict().items():
        assert torch.equal(encoder[name], weight) == (".layers.0." in name or ".layers." not in name), name


@pytest.mark.long
def test_a_run_is_the_same_to_the_bit(configure: Configure) -> None:
    exact, lean = (lora_run(configure, frozen) for frozen in ("fp32", "half"))
    files = sorted(path.relative_to(exact.run_dir) for path in exact.run_dir.glob("model/*/*.safetensors"))
    assert len(files) == 3
    for file in files:
        one, other = load_file(exact.run_dir / file), load_file(lean.run_dir / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file
    grids = [(run.run_dir / "samples/step-2.png").read_bytes() for run in (exact, lean)]
    assert grids[0] == grids[1]


@pytest.mark.parametrize(
    ("more", "resting"),
    [
        ((), {"vae"}),
        (("data.cache_latents=false",), set()),
        (("model.offload=false",), set()),
    ],
)
def test_what_rests(more: tuple[str, ...], resting: set[str], configure: Configure) -> None:
    module, settings = made(configure, *more)
    assert lean_of(module, settings, "cuda").resting == resting


@pytest.mark.parametrize(
    ("more", "resting"),
    [
        (KEPT, {"vae", "text_encoder", "text_encoder_2", "image_encoder"}),
        pytest.param(
            ("model.identity_weight=0.1", "data.cache_text=true"),
            {"text_encoder", "text_encoder_2"},
            marks=pytest.mark.long,
        ),
    ],
)
def test_no_step_misses_what_rests(more: tuple[str, ...], resting: set[str], configure: Configure) -> None:
    module, settings = made(configure, *more)
    lean = lean_of(module, settings, "cpu")
    assert lean.resting == resting
    batch = blank_batch(module, settings)
    batch["subject_valid_BN"][:] = True
    if "landmark_BN52" in batch:
        batch["landmark_BN52"][:] = torch.tensor([[4, 4], [12, 4], [8, 8], [5, 12], [11, 12]])
    before = step(module, batch)
    away = {id(p) for p in lean.away(module.backbone.networks())}
    for child in module.modules():
        for name, p in child.named_parameters(recurse=False):
            if id(p) in away:
                child.register_parameter(name, nn.Parameter(p.to("meta"), requires_grad=False))
    for a, b in zip(before, step(module, batch), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


PASSES = Footprint(0, 0, 0, 0, 0, activations=5, drawing=7)


def test_what_steps_do_without_is_counted(configure: Configure) -> None:
    module, settings = made(configure, *KEPT, "model.ema_device=cpu", "model.frozen=half")
    b, lean = module.backbone, estimate(module, settings, "cuda", 1, PASSES)
    away = sum(p.nbytes for part in (b.vae, b.text_encoder, b.image_encoder) for p in part.parameters())
    averages = sum(p.nbytes for p in module.trainable_parameters().values())
    assert lean.host == away + 2 * averages and lean.averages == 0
    assert lean.rows()["in host memory"]
    module.offload, module.frozen, module.averaging.place = False, "fp32", "same"
    whole = estimate(module, settings, "cuda", 1, PASSES)
    assert (whole.host, whole.averages, whole.drawing) == (0, averages, 7)
    assert whole.weights - lean.weights == lean.returning - whole.returning == away
    # A CPU's memory is the host's.
    module.offload, module.averaging.place = True, "cpu"
    assert estimate(module, settings, "cpu", 1, PASSES) == whole


def test_lora_rounds_the_denoiser_and_saves_half_of_it(configure: Configure) -> None:
    module, settings = made(configure, *LORA, "model.offload=false")
    exact = estimate(module, settings, "cuda", 1, PASSES)
    module.frozen = "half"
    lean = estimate(module, settings, "cuda", 1, PASSES)
    rounded = Lean(dtype=torch.bfloat16).rounded(module.backbone.networks())
    assert any(p is module.backbone.unet.conv_in.weight for p in rounded)
    halves = sum(p.nbytes for p in rounded) // 2
    assert exact.weights - lean.weights == halves == lean.returning
    assert lean.host == 2 * halves
    on_cpu = estimate(module, settings, "cpu", 1, PASSES)
    assert on_cpu.weights == exact.weights + halves and on_cpu.host == 0


@pytest.mark.long
def test_what_autocast_rounds_each_time_is_no_more_in_a_pass(configure: Configure) -> None:
    module, settings = made(configure, *LORA, "trainer.sample_every=0")
    exact = estimate(module, settings, "cuda").activations
    module.frozen = "half"
    assert estimate(module, settings, "cuda").activations < exact


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["model.frozen=half", "trainer.precision=32"], "half does not go with trainer.precision=32: use"),
        (["model.frozen=half", "trainer.strategy=fsdp"], "use model.frozen=auto"),
        (["model.ema_device=cpu", "trainer.strategy=fsdp"], "use model.ema_device=same"),
        (["model.frozen=bf16"], "model.frozen=bf16: allowed: fp32, half, auto"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_weights_are_read(
    more: list[str],
    said: str,
    world: ModuleType,
    backbone_folder: Path,
    people_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("fdlab.training.fit.make_module")
    words = world.overrides(tmp_path, backbone_folder, people_folder, "evaluate=false", *more)
    assert main(["train", "+exp=sdm", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_half_where_auto_is_fp32_is_refused(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdlab.engine.precision.has_native_bf16", lambda device: False)
    with pytest.raises(UserError, match=r"trainer\.precision=auto, which is 32 here"):
        fit(configure("sdm", "trainer.precision=auto", "model.frozen=half"))


@pytest.mark.parametrize(
    ("precision", "strategy", "device", "dtype"),
    [
        ("bf16", "auto", "cuda", torch.bfloat16), ("bf16", "ddp", "cuda", torch.bfloat16),
        ("fp16", "auto", "cuda", torch.float16), ("32", "auto", "cuda", None), ("bf16", "fsdp", "cuda", None),
        ("bf16", "auto", "cpu", None),
    ],
)  # fmt: skip
def test_auto_rounds_where_that_saves(precision: str, strategy: str, device: str, dtype: Any) -> None:
    loop = LoopSettings(precision=precision, strategy=strategy)
    assert rounded_to("auto", loop, device) == dtype and rounded_to("fp32", loop, device) is None


def test_gradients_make_room_for_drawing(configure: Configure) -> None:
    module, settings = made(configure)
    for parameter in module.trainable_parameters().values():
        parameter.grad = torch.ones_like(parameter)
    with module.averaged():
        assert all(parameter.grad is None for parameter in module.trainable_parameters().values())
    found = estimate(module, settings, "cuda", 1, replace(PASSES, drawing=10**9))
    assert found.peak == found.resting - found.gradients + found.drawing + found.returning
    assert found.returning == sum(p.nbytes for p in module.backbone.vae.parameters())


def test_advice_names_what_costs_no_number_first(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdlab.training.footprint._passes", lambda *_: (10**6, 10**6))
    options = ("model.offload=false", "model.optimizer=adamw", "trainer.batch_size=1", "data.cache_text=true")
    module, settings = made(configure, *options)
    now = estimate(module, settings, "cuda")
    advice = economies(module, settings, "cuda", 1, now, 0)
    assert [words for words, _ in advice] == [
        "model.offload=true", "model.frozen=auto", "model.ema_device=cpu", "model.optimizer=adamw8bit",
    ]  # fmt: skip
    peaks = [now.peak, *(left.peak for _, left in advice)]
    assert peaks == sorted(peaks, reverse=True)
    averages = sum(p.nbytes for p in module.trainable_parameters().values())
    assert peaks[2] - peaks[3] == averages
    assert advice[-1][1] == estimate(module, settings, "cuda")


def test_dry_says_what_waits_where(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdlab.training.footprint._passes", lambda *_: (2**30, 2**20))
    monkeypatch.setattr("fdlab.training.fit.check_device", lambda *_: torch.device("cuda"))
    monkeypatch.setattr("fdlab.training.fit.capacity", lambda _: 2**40)
    lines = describe(FitSettings.read(configure("sdm", *KEPT, "model.ema_device=cpu"))).lines()
    assert lines["waiting on the host"] == "image_encoder, text_encoder, vae, which no step needs"
    assert "  in host memory" in lines and "  averages" not in lines
