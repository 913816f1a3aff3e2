"""Pictures a second of fdlab's pipeline and of the released loop, on the same weights, device and noise.

    python experiments/sampling_speed/benchmark.py
    python experiments/sampling_speed/benchmark.py --backbone sd15-random --device cuda --dtype bfloat16 \\
        --compile --channels-last --out experiments/sampling_speed/gpu
First both draw the same pictures in float32, which must agree. Then they take turns; only sampling and
decoding are timed. Axes: B pictures, C latent channels, H W latent grid or pixels, 3 RGB.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from flops import Flops, ceiling, count, timed
from machine import device_name, others, usage
from released_loop import boundaries, draw, unet_rows
from torch import Tensor
from torch._dynamo.utils import counters
from workloads import BACKBONES, Workload, build

from fdlab.config.provenance import environment
from fdlab.diffusion.initial import latents
from fdlab.errors import UserError
from fdlab.files import write_json, write_text

GUIDANCE = 5.0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = 1e-2
"""Largest difference of two pixels in [0, 1], in float32: under it the two draw the same picture. Sums in
another order reach it only where the fusion's mask is all but a tie."""


@dataclass(frozen=True)
class Difference:
    """Of pictures that two loops drew of the same noise."""

    pixel_max: float
    """Of pixels in [0, 1]."""
    pixel_mean: float
    latent_max: float
    """Of final latents, in their standard deviations."""


class Released:
    """The released loop with a copy of the pipeline's weights: what is done to those stays there."""

    def __init__(self, work: Workload) -> None:
        pipe = work.pipeline
        self.unets, self.vae = (deepcopy(pipe.tdm_unet), deepcopy(pipe.sdm_unet)), deepcopy(pipe.vae)
        self.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)

    def to(self, device: torch.device, dtype: torch.dtype) -> Released:
        """Move all networks, in place."""
        for network in (*self.unets, self.vae):
            network.to(device, dtype)
        return self

    def __call__(self, inputs: Sequence[Tensor], num_steps: int) -> tuple[Tensor, Tensor]:
        """Pictures B3HW and final latents BCHW, one after the other."""
        networks = self.unets, self.vae, self.scheduler
        rows = [
            draw(*networks, *(x[i : i + 1] for x in inputs), num_steps, GUIDANCE)
            for i in range(len(inputs[0]))
        ]
        images, z = zip(*rows, strict=True)
        return torch.cat(images), torch.cat(z)


def pictures(work: Workload, inputs: Sequence[Tensor], num_steps: int, **options: Any) -> Tensor:
    """fdlab's pictures B3HW of the same inputs, in one batch."""
    null_BLD, text_BLD, augmented_BLD, noise_BCHW = inputs
    images: Tensor = work.pipeline(
        prompt_embeds=text_BLD,
        negative_prompt_embeds=null_BLD,
        subject_prompt_embeds=augmented_BLD,
        latents=noise_BCHW,
        height=work.size,
        width=work.size,
        num_inference_steps=num_steps,
        guidance_scale=GUIDANCE,
        output_type="pt",
        **options,
    ).images
    return images


def inputs_of(work: Workload, num: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Embeddings null, text and augmented, and noise of the first `num` pictures, where the models are."""
    embeddings = (work.null_NLD, work.text_NLD, work.augmented_NLD)
    noise_BCHW = latents(range(num), work.latent_shape_CHW, device=device)
    return *(x[:num].to(device, dtype) for x in embeddings), noise_BCHW


def compare(work: Workload, released: Released, inputs: Sequence[Tensor], num_steps: int) -> Difference:
    """Draw the same pictures by both, fdlab's in one batch."""
    kept: dict[str, Tensor] = {}
    images_B3HW = pictures(work, inputs, num_steps, callback_on_step_end=lambda *args: kept.update(args[-1]))
    others_B3HW, z_BCHW = released(inputs, num_steps)
    apart_B3HW = (images_B3HW - others_B3HW).abs()
    apart_BCHW = (kept["latents"] - z_BCHW).abs() / z_BCHW.std()
    return Difference(float(apart_B3HW.max()), float(apart_B3HW.mean()), float(apart_BCHW.max()))


def check_agreement(difference: Difference) -> None:
    """Refuse a comparison of different things."""
    # Written so that a NaN fails as well.
    if not difference.pixel_max <= TOLERANCE:
        raise RuntimeError(
            f"fdlab and the released loop draw different pictures: {difference}; a ratio would mean nothing."
        )


def compiles_by_step(work: Workload, inputs: Sequence[Tensor], num_steps: int) -> list[int]:
    """Draw once; how many graphs torch.compile made in each step."""
    seen = [_graphs()]
    pictures(work, inputs, num_steps, callback_on_step_end=lambda *_: seen.append(_graphs()))
    return [after - before for before, after in pairwise(seen)]


def check_compiles(first: Sequence[int], later: Sequence[int]) -> None:
    """The first step may compile, and the first of the SDM, if it does not share the TDM's graph; nothing
    else, and no later call."""
    sdm = boundaries(len(first))[0] + 1
    wrong = [step for step, num in enumerate(first) if num and step not in (0, sdm)]
    if wrong or not first[0] or any(later):
        raise RuntimeError(
            f"graphs compiled when none should be: by step {list(first)}, in a later call {list(later)}."
        )


def alternate(
    loops: Sequence[Callable[[], Any]], repeats: int, device: torch.device
) -> tuple[tuple[float, ...], ...]:
    """Seconds of each loop in turn, A B A B. Both must be warm."""
    rows = [tuple(timed(loop, device) for loop in loops) for _ in range(repeats)]
    return tuple(zip(*rows, strict=True))


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(
    work: Workload,
    batches: Sequence[int],
    num_steps: int = 50,
    repeats: int = 3,
    device: str = "cpu",
    dtype: str = "float32",
    compiled: bool = False,
    channels_last: bool = False,
    ceiling_seconds: float = 0.5,
    say: Callable[[str], Any] = print,
) -> dict[str, Any]:
    """Check that both draw the same pictures, then time them; what results.json holds."""
    where, kind, pipe = torch.device(device), DTYPES[dtype], work.pipeline
    # TF32 would make float32 mean two things: convolutions use it unasked, matrix products do not.
    torch.backends.cudnn.allow_tf32 = False
    released = Released(work).to(where, torch.float32)
    pipe.to(where)
    exact = compare(work, released, inputs_of(work, max(batches), where, torch.float32), num_steps)
    say(f"agreement in float32, {max(batches)} pictures: {exact}")
    check_agreement(exact)

    released.to(where, kind)
    pipe.to(where, kind)
    networks = {"tdm": pipe.tdm_unet, "sdm": pipe.sdm_unet, "vae": pipe.vae}
    for network in networks.values() if channels_last else ():
        network.to(memory_format=torch.channels_last)
    flops = count(pipe.tdm_unet, pipe.vae, work.latent_shape_CHW, work.text_NLD.shape[1], num_steps)
    product = ceiling(where, kind, ceiling_seconds)
    say(f"matrix product: {product}")

    rows = []
    for batch in batches:
        inputs = inputs_of(work, batch, where, kind)
        compiles: dict[str, Any] = {}
        if compiled:
            torch._dynamo.reset()
            for name in ("tdm", "sdm"):
                networks[name].compile(dynamic=False)
            first = compiles_by_step(work, inputs, num_steps)
            compiles = {"first_call": first, "second_call": compiles_by_step(work, inputs, num_steps)}
            check_compiles(*compiles.values())
        # Warms both up, too.
        difference = compare(work, released, inputs, num_steps)
        graphs, before = _graphs(), usage()
        loops = (
            lambda inputs=inputs: released(inputs, num_steps),
            lambda inputs=inputs: pictures(work, inputs, num_steps),
        )
        times = alternate(loops, repeats, where)
        if _graphs() != graphs:
            raise RuntimeError(f"{_graphs() - graphs} graphs were compiled while the clock ran.")
        found = {"difference": vars(difference), "compiles": compiles, "others": others(before, usage())}
        rows.append(_row(batch, times, flops, product["flops_per_second"]) | found)
        say(_line(work, rows[-1]))
    return {
        "backbone": work.name,
        "size": work.size,
        "latent_shape_CHW": list(work.latent_shape_CHW),
        "num_steps": num_steps,
        "dtype": dtype,
        "compiled": compiled,
        "channels_last": channels_last,
        "repeats": repeats,
        "float32_difference": vars(exact),
        "unet_rows": unet_rows(num_steps),
        "flops": flops._asdict(),
        "matmul": product,
        "rows": rows,
        "environment": environment() | {"device": device_name(where)},
    }


def _row(batch: int, times: Sequence[Sequence[float]], flops: Flops, best: float) -> dict[str, Any]:
    row: dict[str, Any] = {"batch": batch}
    for name, seconds, work in zip(("released", "fdlab"), times, (flops.released, flops.fdlab), strict=True):
        row[name] = {
            "seconds": list(seconds),
            "images_per_second": _spread([batch / s for s in seconds]),
            "utilisation": work * batch / statistics.median(seconds) / best,
        }
    row["ratio"] = _spread([a / b for a, b in zip(*times, strict=True)])
    return row


COLUMNS = (
    "pictures",
    "released, pictures/s",
    "fdlab, pictures/s",
    "ratio",
    "utilisation",
    "difference",
    "others, cores",
)


def _cells(row: dict[str, Any]) -> list[str]:
    def three(values: dict[str, float], digits: int) -> str:
        return f"{values['median']:.{digits}f} [{values['min']:.{digits}f}, {values['max']:.{digits}f}]"

    return [
        str(row["batch"]),
        three(row["released"]["images_per_second"], 3),
        three(row["fdlab"]["images_per_second"], 3),
        three(row["ratio"], 2),
        f"{row['released']['utilisation']:.0%}, {row['fdlab']['utilisation']:.0%}",
        f"{row['difference']['pixel_max']:.1e}",
        "" if row["others"] is None else f"{row['others']:.2f}",
    ]


def _line(work: Workload, row: dict[str, Any]) -> str:
    return f"{work.name}: " + "; ".join(f"{k} {v}" for k, v in zip(COLUMNS, _cells(row), strict=True))


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    made, flops, product = result["environment"], result["flops"], result["matmul"]
    options = [name.replace("_", "-") for name in ("compiled", "channels_last") if result[name]]
    commit = (made["git_commit"] or "unknown")[:10] + (" with changes" if made["git_dirty"] else "")
    what = f"{result['backbone']}, {result['size']} px, {result['num_steps']} steps"
    machine = f"{made['device']}, {made['num_threads']} threads, torch {made['packages']['torch']}"
    by = ", ".join(f"{name} {value / 1e12:.3f}" for name, value in product["each"].items())
    exact = result["float32_difference"]["pixel_max"]
    lines = [
        f"{', '.join([what, result['dtype'], *options])}; {machine}, commit {commit}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---:|" * len(COLUMNS),
        *("| " + " | ".join(_cells(row)) + " |" for row in result["rows"]),
        "",
        f"* Median [least, most] of {result['repeats']} turns; the ratio is of a turn's two.",
        f"* A picture: {result['unet_rows']} rows through a UNet of {flops['unet_row'] / 1e9:.3f} GFLOP,"
        f" decoding {flops['decoding'] / 1e9:.3f}; {flops['released'] / 1e12:.4f} TFLOP as released,"
        f" {flops['fdlab'] / 1e12:.4f} in fdlab.",
        f"* Utilisation (released, fdlab): of the fastest matrix product, by {product['by']} with side"
        f" {product['side']} (TFLOP/s: {by}).",
        f"* Difference: the largest of two pixels in [0, 1], as timed; {exact:.1e} in float32,"
        " before compiling.",
        "* Others: cores that other processes kept busy meanwhile.",
    ]
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write results.json and table.md."""
    write_json(folder / "results.json", result)
    write_text(folder / "table.md", table(result))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="nano", help=f"one of {', '.join(BACKBONES)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="pictures at a time in fdlab")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--compile", action="store_true", help="fdlab's UNets")
    parser.add_argument("--channels-last", action="store_true", help="fdlab's weights")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, help="pixels a side, in place of the backbone's own")
    parser.add_argument("--width", type=int, help="first channels of sd15-random's UNet, in place of 320")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(argv)
    for name, least in (("steps", 1), ("repeats", 1), ("batch", 1)):
        values = getattr(given, name)
        if min(values if isinstance(values, list) else [values]) < least:
            raise UserError(f"{name} is {values}; it must be {least} or more.")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU; use --device cpu.")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Build, compare, time, write. Returns 0 done, 2 the user's input is wrong."""
    try:
        given = _arguments(argv)
        # It warns of every dtype that it is handed.
        logging.set_verbosity_error()
        work = build(given.backbone, max(given.batch), given.size, given.width)
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    gc.collect()
    result = measure(
        work,
        given.batch,
        given.steps,
        given.repeats,
        given.device,
        given.dtype,
        given.compile,
        given.channels_last,
    )
    write(result, given.out)
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
