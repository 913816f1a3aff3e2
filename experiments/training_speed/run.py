"""Training samples a second and memory of fdlab's SDM and of the released step, on the same random weights.

    python experiments/training_speed/run.py --device cuda --compile whole --cached
    python experiments/training_speed/run.py --size 64 --width 32 --batch 2 --steps 4    # a try on a CPU
First both compute the same loss and gradient in float32, which must agree. Then they take turns, in
bfloat16 unless told otherwise. --cached: latents and texts come from a cache, as `data.cache_latents` and
`data.cache_text` keep them. Writes results.json and table.md. Axes as in released_training.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning
import networks  # first: it says where the next two are
import torch
from diffusers.utils import logging
from flops import ceiling
from machine import device_name
from networks import WIDTH
from released_training import Drawn, ReleasedTraining, draw
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from fdlab.config.provenance import environment
from fdlab.data.latents import encode_pixels
from fdlab.engine.draws import Draws
from fdlab.engine.loop import LoopSettings, run
from fdlab.errors import UserError
from fdlab.files import write_json, write_text
from fdlab.models.backbone import Backbone
from fdlab.models.compiling import HOW, compile_denoiser
from fdlab.models.conditioning import encode_text
from fdlab.models.denoiser import UNetDenoiser
from fdlab.randomness import torch_generator
from fdlab.training.subject_augmented import SDM

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = 1e-3
"""Largest relative difference of the two losses and gradients in float32."""
WARM = 3
"""Steps before the clock runs."""


class Repeated(lightning.LightningDataModule):
    """One batch again and again: what is measured is the step, not the loader."""

    def __init__(self, batch: Mapping[str, Any]) -> None:
        super().__init__()
        self.batch, self.start, self.stop = dict(batch), 0, 0

    def train_dataloader(self) -> Any:
        """As often as there are steps left."""
        return DataLoader([self.batch] * (self.stop - self.start), batch_size=None)


class Clock(lightning.Callback):
    """Seconds of each step after the first `WARM`, until the device is done with it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Lightning's hook."""
        wait(pl_module.device)
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Lightning's hook."""
        wait(pl_module.device)
        if pl_module.step > WARM:
            self.seconds.append(time.perf_counter() - self.since)


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def module_of(of: Backbone, given: argparse.Namespace, **settings: Any) -> SDM:
    """fdlab's SDM as released: both masked losses as the script does them, no averaging (as there)."""
    options = {"masked_loss_mode": "released", "ema_decay": 0.0, "lr": 1e-5}
    options |= {"gradient_checkpointing": given.checkpointing}
    return SDM(of, 0, **(options | settings))


def released_of(of: Backbone, dtype: torch.dtype, device: torch.device) -> ReleasedTraining:
    """The released training with networks of its own."""
    parts = {part: deepcopy(network).to(device) for part, network in of.networks().items()}
    return ReleasedTraining(**parts, null_ids_L=networks.null_ids_L().to(device), dtype=dtype)


def agreement(of: Backbone, given: argparse.Namespace, batch: dict[str, Tensor]) -> dict[str, float]:
    """Loss and norm of the gradient by both, in float32, of the same noise: every sample with its condition,
    and once with the masked loss."""
    found, device = {}, torch.device(given.device)
    for masked in (0.0, 1.0):
        released = released_of(of, torch.float32, device)
        own = deepcopy(of).to(device)
        module = module_of(own, given, condition_dropout=0.0, subject_keep=1.0, masked_loss=masked)
        module.to(device).on_fit_start()
        draws = lambda: Draws(torch_generator(0, "agreement"))  # noqa: E731 (the same ones twice)
        loss = module.losses(dict(batch), draws())["loss"]
        shape = (len(batch["image_B3HW"]), *of.latent_shape_CHW)
        again, schedule = draws(), module.noise.schedule
        eps = again.normal(*shape).to(device)
        t = module.noise.timesteps.draw(shape[0], schedule, again.generator).to(device)
        off = torch.zeros(shape[0], dtype=torch.bool, device=device)
        kept = torch.ones_like(batch["subject_valid_BN"])
        other = released.loss(batch, Drawn(eps, t, off, kept, torch.tensor(masked > 0, device=device)))
        gradients = [
            torch.autograd.grad(value, of_whom, allow_unused=True)
            for value, of_whom in (
                (loss, list(module.trainable_parameters().values())),
                (other, released.parameters),
            )
        ]
        norms = [torch.stack([g.norm() for g in found_ if g is not None]).norm() for found_ in gradients]
        found[f"loss, masked={masked:g}"] = float((loss - other).detach().abs() / other.detach().abs())
        found[f"gradient, masked={masked:g}"] = float(abs(norms[0] - norms[1]) / norms[1])
    if not max(found.values()) <= TOLERANCE:
        raise RuntimeError(f"fdlab and the released step compute different things: {found}.")
    return found


def released_turn(of: Backbone, batch: dict[str, Tensor], given: argparse.Namespace) -> Iterator[float]:
    """Seconds of each step as released, with networks made anew."""
    training = released_of(of, PRECISIONS[given.precision], torch.device(given.device))
    for step in range(WARM + given.steps):
        wait(training.device)
        since = time.perf_counter()
        shape = (len(batch["image_B3HW"]), *of.latent_shape_CHW)
        training.step(batch, draw(shape, networks.NUM_SUBJECTS, training.device))
        wait(training.device)
        if step >= WARM:
            yield time.perf_counter() - since


def fdlab_turn(of: Backbone, batch: dict[str, Any], given: argparse.Namespace) -> list[float]:
    """Seconds of each step of fdlab's engine: Lightning, its callbacks, progress and curves included."""
    own = deepcopy(of)
    module, clock = module_of(own, given), Clock()
    compile_denoiser(own.unet, given.compile)
    settings = LoopSettings(
        max_steps=WARM + given.steps,
        batch_size=given.batch,
        precision=given.precision,
        tf32=True,
        accelerator={"cuda": "gpu"}.get(given.device, given.device),
        devices=1,
        checkpoint_every=10**9,
        show=False,
    )
    batch = batch | {"ids": [str(k) for k in range(given.batch)]}
    with tempfile.TemporaryDirectory() as folder:
        run(module, Repeated(batch), settings, Path(folder), callbacks=[clock])
    return clock.seconds


def cached(of: Backbone, batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch with latents and texts in the pictures' and captions' place."""
    own = deepcopy(of).to(device)
    with torch.no_grad():
        kept = {
            "latent_BCHW": encode_pixels(own.vae, batch["image_B3HW"]),
            "text_BLD": encode_text(own.text_encoder, batch["input_ids_BL"]),
            "null_LD": encode_text(own.text_encoder, networks.null_ids_L()[None].to(device))[0],
        }
    return {name: value for name, value in batch.items() if name != "image_B3HW"} | kept


def unet_flops(of: Backbone) -> int:
    """Operations of one sample through the UNet, forward and backward (three times as many as forward)."""
    with torch.device("meta"), torch.no_grad():
        unet = type(of.unet).from_config(of.unet.config)
        z, t = torch.empty(1, *of.latent_shape_CHW), torch.empty(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            UNetDenoiser(unet)(z, t, torch.empty(1, networks.TOKENS, networks.TEXT_WIDTH))
    return 3 * int(counter.get_total_flops())


def peak(device: torch.device, work: Callable[[], list[float]]) -> tuple[list[float], float | None]:
    """What `work` returns, and the device's peak memory meanwhile in GiB; a CPU does not tell."""
    gc.collect()
    if device.type != "cuda":
        return work(), None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return work(), torch.cuda.max_memory_allocated(device) / 2**30


def measure(given: argparse.Namespace, say: Callable[[str], Any] = print) -> dict[str, Any]:
    """Check that both compute the same, then time them in turn; what results.json holds."""
    device = torch.device(given.device)
    of = networks.backbone(given.size, given.width)
    batch = {name: value.to(device) for name, value in networks.batch(of, given.batch).items()}
    exact = agreement(of, given, batch)
    say(f"agreement in float32: {exact}")
    flops, product = unet_flops(of), ceiling(device, PRECISIONS[given.precision], 0.5)
    say(f"matrix product: {product}; a sample: {flops / 1e12:.4f} TFLOP in the UNet")
    kept = cached(of, batch, device) if given.cached else batch
    found: dict[str, Any] = {"released": [], "fdlab": []}
    memory: dict[str, Any] = {}
    for turn in range(given.turns):
        for name, work in (
            ("released", lambda: list(released_turn(of, batch, given))),
            ("fdlab", lambda: fdlab_turn(of, kept, given)),
        ):
            seconds, memory[name] = peak(device, work)
            found[name].append(statistics.median(seconds))
            say(f"turn {turn + 1}: {name} {given.batch / found[name][-1]:.3f} samples/s")
    rates = {name: [given.batch / s for s in seconds] for name, seconds in found.items()}
    best = product["flops_per_second"]
    return {
        "backbone": of.name,
        "settings": {key: value for key, value in vars(given).items() if key != "out"},
        "float32_difference": exact,
        "unet_flops_a_sample": flops,
        "matmul": product,
        "seconds_a_step": found,
        "samples_per_second": rates,
        "ratio": [a / b for a, b in zip(rates["fdlab"], rates["released"], strict=True)],
        "utilisation": {name: flops * statistics.median(r) / best for name, r in rates.items()},
        "peak_gib": memory,
        "environment": environment() | {"device": device_name(device)},
    }


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    made, given = result["environment"], result["settings"]
    commit = (made["git_commit"] or "unknown")[:10] + (" with changes" if made["git_dirty"] else "")
    on = [key for key in ("cached", "checkpointing") if given[key]]
    on += [f"compile {given['compile']}"] if given["compile"] != "none" else []
    lines = [
        f"{result['backbone']}, {given['size']} px, batch {given['batch']}, precision {given['precision']}"
        f"{', ' + ', '.join(on) if on else ''}; {made['device']}, {made['num_threads']} threads, torch"
        f" {made['packages']['torch']}, commit {commit}.",
        "",
        "| | samples/s | of the fastest matrix product | peak memory |",
        "|---|---:|---:|---:|",
    ]
    for name, rates in result["samples_per_second"].items():
        gib = result["peak_gib"][name]
        lines.append(
            f"| {name} | {_spread(rates, 3)} | {result['utilisation'][name]:.0%} |"
            f" {'not told' if gib is None else f'{gib:.1f} GiB'} |"
        )
    lines += ["", f"Ratio: {_spread(result['ratio'], 2)}, of the two in each of {given['turns']} turns."]
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int) -> str:
    middle = statistics.median(values)
    return f"{middle:.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bf16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12, help="timed in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cached", action="store_true", help="fdlab's latents and texts")
    parser.add_argument("--compile", choices=HOW, default="none", help="fdlab's UNet")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing in fdlab")
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--width", type=int, default=WIDTH, help="first channels of the UNet")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(argv)
    for name in ("batch", "steps", "turns", "size", "width"):
        if getattr(given, name) < 1:
            raise UserError(f"{name} is {getattr(given, name)}; it must be 1 or more.")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU; use --device cpu.")
    return given


def main(argv: list[str] | None = None) -> int:
    """Build, compare, time, write. Returns 0 done, 2 the user's input is wrong."""
    # It warns of every dtype that it is handed.
    logging.set_verbosity_error()
    try:
        given = _arguments(argv)
        result = measure(given)
    except UserError as error:
        print(f"run: {error}", file=sys.stderr)
        return 2
    write_json(given.out / "results.json", result)
    write_text(given.out / "table.md", table(result))
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
