"""The memory that a training is said to take, against what autograd, an allocator and a batch really hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fdlab.__main__ import main
from fdlab.data.batches import Batches
from fdlab.engine.draws import Draws
from fdlab.engine.live_memory import Live, as_on_cuda, peak_of_pass, without_numbers
from fdlab.training import fit
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.footprint import blank_batch, estimate
from fdlab.training.initial import make_module
from fdlab.training.settings import FitSettings
from fdlab.training.source import batch_settings

Configure = Callable[..., Any]
LARGE = ("trainer.batch_size=16", "trainer.precision=32", "trainer.sample_every=0")


def made(configure: Configure, *more: str, exp: str = "sdm") -> tuple[DenoisingTraining, FitSettings]:
    settings = FitSettings.read(configure(exp, *LARGE, *more))
    return make_module(settings)[1], settings


def allocated(compute: Callable[[], object]) -> int:
    """Most bytes that PyTorch's own allocator had given out while something was computed."""
    with torch.profiler.profile(profile_memory=True) as profile:
        compute()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    "checkpointing", [pytest.param(False, marks=pytest.mark.long), True], ids=["plain", "checkpointing"]
)
def test_a_pass_holds_what_the_allocator_gave_out(checkpointing: bool, configure: Configure) -> None:
    module, settings = made(configure, f"model.gradient_checkpointing={checkpointing}".lower())
    batch = blank_batch(module, settings)
    batch["subject_valid_BN"][:] = True
    learning = module.trainable_parameters().values()
    found = estimate(module, settings, "cpu")

    def step() -> None:
        for parameter in learning:
            parameter.grad = torch.zeros_like(parameter)
        loss = module.losses(batch, Draws(torch.Generator()))["loss"]
        for parameter in learning:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]

    module.losses(batch, Draws(torch.Generator()))
    arrays = sum(value.nbytes for value in batch.values() if isinstance(value, Tensor))
    assert found.activations - arrays + found.gradients == pytest.approx(allocated(step), rel=0.15)
    # Position ids and the like are no state.
    assert found.weights == pytest.approx(sum(p.nbytes for p in module.state_dict().values()), rel=1e-3)
    assert found.gradients == found.averages == found.optimizer // 2 == sum(p.nbytes for p in learning)


def test_what_autograd_keeps_is_alive(configure: Configure) -> None:
    module, settings = made(configure)
    batch = blank_batch(module, settings)
    given = [*module.parameters(), *module.buffers(), *(v for v in batch.values() if isinstance(v, Tensor))]
    before = {tensor.untyped_storage().data_ptr() for tensor in given}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in before:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = module.losses(batch, Draws(torch.Generator()))
    truth = sum(kept.values())
    del losses
    with without_numbers(module) as mode, mode:
        empty = {key: torch.empty_like(v) if isinstance(v, Tensor) else v for key, v in batch.items()}
        with Live([*module.parameters(), *module.buffers(), *_tensors(empty)]) as live:
            losses = module.losses(empty, Draws(torch.Generator()))
            assert live.now == pytest.approx(truth, rel=0.03) and losses


def _tensors(batch: dict[str, Any]) -> list[Tensor]:
    return [value for value in batch.values() if isinstance(value, Tensor)]


@pytest.mark.long
def test_a_gpu_computes_norms_in_fp32(configure: Configure) -> None:
    """torch's list for CUDA has group_norm, layer_norm and softmax; what follows a norm is as wide as it."""
    x, norm = torch.ones(2, 8, dtype=torch.bfloat16), torch.nn.LayerNorm(8)
    with torch.autocast("cpu", torch.bfloat16):
        with as_on_cuda(norm):
            assert norm(x).dtype == torch.float32
        assert norm(x).dtype == torch.bfloat16
    sizes = []
    for more in ("trainer.precision=32", "trainer.precision=bf16", "model.gradient_checkpointing=true"):
        module, settings = made(configure, "trainer.precision=bf16", more)
        sizes.append(estimate(module, settings, "cuda").activations)
    whole, half, checkpointed = sizes
    assert checkpointed < half < whole < half / 0.6


@pytest.mark.parametrize(
    "more",
    [
        ["model.face_weight=1"],
        ["model.train_image_blocks=0", "data.background=grey", "data.cache_text=true"],
    ],
    ids=["faces", "kept"],
)
def test_a_blank_batch_is_shaped_as_the_trainings(
    more: list[str], configure: Configure, world: ModuleType, people_folder: Path, tmp_path: Path
) -> None:
    from fdlab.training.source import embedded, embedded_texts, make_source

    module, settings = made(configure, "data.cache_latents=true", *more)
    b, cpu = module.backbone, torch.device("cpu")
    _, source = make_source(settings.data, b, True, cpu, module.faces)
    rows = batch_settings(settings, b, True)
    kept = embedded(module, source, settings.data, cpu), embedded_texts(module, source, settings.data, cpu)
    real, blank = Batches(source, rows, 1, *kept)[0], blank_batch(module, settings)
    assert blank.keys() == real.keys()
    for key, value in real.items():
        if isinstance(value, Tensor):
            assert (blank[key].shape, blank[key].dtype) == (value.shape, value.dtype), key


def test_weights_come_back(configure: Configure) -> None:
    module, _ = made(configure)
    before = {name: (id(p), p.clone()) for name, p in module.named_parameters()}
    with pytest.raises(ZeroDivisionError), without_numbers(module) as mode, mode:
        assert all(type(p.data).__name__ == "FakeTensor" for p in module.parameters())
        peak_of_pass(module, lambda: 1 / 0, torch.float32, cuda=False, accumulates=False)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        assert id(parameter) == before[name][0] and torch.equal(parameter, before[name][1])
        assert parameter.grad is None


@pytest.mark.long
def test_what_does_not_fit_is_told_what_would_make_it(
    configure: Configure,
    world: ModuleType,
    backbone_folder: Path,
    people_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "capacity", lambda device: 2**20)
    released = [word for word in world.RELEASED if not word.startswith("data.")]
    words = world.overrides(tmp_path, backbone_folder, people_folder, *released)
    more = ("trainer.batch_size=2", "trainer.precision=32", "trainer.sample_every=0", "evaluate=false")
    assert main(["train", "+exp=sdm", *words, *more, "--dry", "--json"]) == 0
    shown = capsys.readouterr()
    warned = "the device has 1 MiB. One after the other these make it less: model.gradient_checkpointing=true"
    assert warned in shown.err
    memory = json.loads(shown.out)["memory"]
    assert memory["device"] == 2**20 < memory["peak"]
    peaks = [step["peak"] for step in memory["economies"]]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] < memory["peak"]
    assert main(["train", "+exp=sdm", "--json"]) == 2
    assert "--json goes with --dry" in capsys.readouterr().err
