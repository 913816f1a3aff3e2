"""What trainings at Stable Diffusion 1.5's size take of a GPU's memory, by options; estimated, and measured
where there is a GPU.

    python experiments/memory/table.py [--batch-size 8] [--measure] [--rows NAME ...] [--width 320]

Networks have Stable Diffusion 1.5's sizes and CLIP ViT-L/14's; nothing is read. An estimate needs no memory
of that size, since its tensors have no numbers; `--measure` makes random weights on the GPU and three steps
with each row.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fdlab.config.compose import compose
from fdlab.config.instantiate import instantiate
from fdlab.engine.draws import Draws
from fdlab.engine.lean import Kept
from fdlab.engine.precision import lightning_precision
from fdlab.errors import UserError, unknown
from fdlab.files import write_json
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.footprint import Footprint, blank_batch, estimate, shown
from fdlab.training.resting import DTYPES, lean_of
from fdlab.training.settings import FitSettings

# The networks are those of the training's benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training_speed"))

import networks

PLAIN = ("trainer.precision=32", "model.gradient_checkpointing=false")
HALF = ("trainer.precision=bf16", "model.gradient_checkpointing=false")
CHECKPOINTS = ("trainer.precision=bf16", "model.gradient_checkpointing=true")
CACHES = (*CHECKPOINTS, "data.cache_latents=true", "data.cache_text=true")
ROUNDED = (*CACHES, "model.frozen=half")
FAR = (*ROUNDED, "model.ema_device=cpu")
LORA = ("model.lora_rank=16", "model.lora_targets=[transformer]")
ROWS: dict[str, tuple[str, ...]] = {
    "SDM, fp32": PLAIN,
    "SDM, bf16": HALF,
    "... checkpointing": CHECKPOINTS,
    "... latents and texts cached": CACHES,
    "... frozen weights in bf16": ROUNDED,
    "... averages on the host": FAR,
    "... AdamW in 8 bits": (*FAR, "model.optimizer=adamw8bit"),
    "sdm_sd15_fast": (*ROUNDED, "model.optimizer=adamw8bit"),
    "SDM, bf16, no localization": (*HALF, "model.localization_weight=0"),
    "... cached, no localization": (*CACHES, "model.localization_weight=0"),
    "SDM by LoRA of rank 16, bf16": (*HALF, *LORA),
    "... checkpointing, cached": (*CACHES, *LORA),
    "... denoiser in bf16": (*ROUNDED, *LORA),
}
"""Each with its overrides of +exp=sdm_sd15; "..." goes on from the row above."""
STEPS = 3
WIDTH = 320
"""Channels of Stable Diffusion 1.5's first level."""


@dataclass(frozen=True)
class Row:
    name: str
    overrides: tuple[str, ...]
    estimated: Footprint
    measured: int | None
    """Bytes; None: not measured."""


def module_of(overrides: tuple[str, ...], device: str, width: int) -> tuple[DenoisingTraining, FitSettings]:
    """What +exp=sdm_sd15 trains, with weights on a device that mean nothing ("meta": none at all)."""
    settings = FitSettings.read(compose(["+exp=sdm_sd15", "data.root=/", *overrides]))
    with torch.device(device):
        backbone = networks.backbone(width=width)
    return instantiate(settings.model, backbone=backbone, seed=0), settings


def measure(module: DenoisingTraining, settings: FitSettings) -> int:
    """Most bytes of the GPU's allocator over a few steps, weights included."""
    device = torch.device("cuda")
    module.to(device)
    module.averaging.to_parameters_device()
    Kept(lean_of(module, settings, "cuda"), module.backbone.networks(), device)
    module.train()
    torch.cuda.reset_peak_memory_stats()
    optimizer = module.configure_optimizers()
    made = blank_batch(module, settings)
    made["subject_valid_BN"][:] = True
    batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in made.items()}
    dtype = DTYPES.get(lightning_precision(settings.loop.precision, device), torch.float32)
    for step in range(STEPS):
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32, cache_enabled=False):
            loss = module.losses(batch, Draws(torch.Generator().manual_seed(step)))["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(module.trainable_parameters().values()), 1.0)
        module.averaging.let_weights_change()
        optimizer.step()
        module.averaging.update(step)
        del loss
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def table(rows: list[Row]) -> str:
    """Markdown."""
    measured = any(row.measured is not None for row in rows)
    heads = ["", "weights", "averages", "gradients", "optimiser", "a pass", "training", "drawing 8 pictures"]
    heads += ["on the host"]
    heads += ["measured", "estimated / measured"] if measured else []
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        e = row.estimated
        parts = [e.weights, e.averages, e.gradients, e.optimizer, e.activations, e.resting + e.activations]
        cells = [row.name, *map(shown, [*parts, e.resting - e.gradients + e.drawing + e.returning, e.host])]
        if measured and row.measured is not None:
            cells += [shown(row.measured), f"{(e.resting + e.activations) / row.measured:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="NAME")
    parser.add_argument("--width", type=int, default=WIDTH, help="channels of the UNet's first level")
    parser.add_argument("--measure", action="store_true", help="also on the GPU that is here")
    parser.add_argument(
        "--out", type=Path, help="folder of results.json; by default, of the whole table, this"
    )
    asked = parser.parse_args()
    for name in asked.rows:
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    if asked.measure and not torch.cuda.is_available():
        raise UserError("--measure, but no GPU is here.")
    rows = []
    for name in asked.rows:
        overrides = (*ROWS[name], f"trainer.batch_size={asked.batch_size}")
        estimated = estimate(*module_of(overrides, "meta", asked.width), "cuda")
        measured = None
        if asked.measure:
            torch.cuda.empty_cache()
            measured = measure(*module_of(overrides, "cuda", asked.width))
        rows.append(Row(name, overrides, estimated, measured))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    found = [
        {"row": r.name, "overrides": r.overrides, "bytes": r.estimated.to_json(), "measured": r.measured}
        for r in rows
    ]
    device = torch.cuda.get_device_name() if asked.measure else None
    whole = {"batch_size": asked.batch_size, "torch": torch.__version__, "device": device, "rows": found}
    is_whole = [*asked.rows] == [*ROWS] and asked.width == WIDTH
    if out := asked.out or (Path(__file__).parent if is_whole else None):
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "results.json", whole)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
