"""In which numbers a device computes fastest without harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fdlab.errors import UserError, unknown

PRECISIONS = ("auto", "32", "bf16", "fp16")
SCALED = "16-mixed"
"""Lightning's name for fp16 with loss scaling."""
ACCELERATORS = ("auto", "cpu", "gpu")


def lightning_precision(precision: str, device: torch.device | str) -> str:
    """Lightning's name for `auto`, `32`, `bf16` or `fp16`. Weights stay fp32; bf16 and fp16 are autocast.

    `auto` takes bf16 where the device multiplies it in hardware; elsewhere its emulation is slower than fp32.
    fp16, for GPUs without bf16, has so small a range that the loss is scaled. Raises: UserError for another
    word, and for fp16 without such a GPU.
    """
    if str(precision) not in PRECISIONS:
        raise unknown("precision", str(precision), PRECISIONS)
    if str(precision) == "auto":
        precision = "bf16" if has_native_bf16(torch.device(device)) else "32"
    kind = torch.device(device).type
    if str(precision) == "fp16" and kind != "cuda":
        raise UserError(f"trainer.precision=fp16 is for GPUs, here is {kind}; allowed: auto, 32, bf16.")
    return {"32": "32-true", "bf16": "bf16-mixed", "fp16": SCALED}[str(precision)]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, products of fp32 matrices may be computed in TF32 (10 bits of mantissa) on GPUs that have it;
    elsewhere, and where it is not allowed, nothing changes."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    if allowed:
        products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 matrix products."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities()
        return any(bool(flags.get(flag)) for flag in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def choose_device(accelerator: str, local_rank: int = 0) -> torch.device:
    """Device of this process for `auto`, `cpu` or `gpu`. Raises: UserError for another word, or no GPU."""
    if accelerator not in ACCELERATORS:
        raise unknown("trainer.accelerator", accelerator, ACCELERATORS)
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator == "gpu":
        raise UserError("trainer.accelerator=gpu, but no GPU is here; allowed: auto, cpu.")
    return torch.device("cpu")
