"""Floating-point operations: how many a picture takes, and how many a second the device can do.

Counted on the meta device, where nothing is computed; a multiplication and an addition are two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from released_loop import unet_rows
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fdlab.models.denoiser import UNetDenoiser

SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
"""Of the square matrices that are tried."""
PATIENCE = 1.0
"""Seconds; where a product takes longer, larger ones, of eight times the work each, are not tried: a CPU that
does not know bfloat16 has a rate of them a hundred times below its own."""


class Flops(NamedTuple):
    """Operations a picture, in FLOP."""

    unet_row: int
    """One row through a UNet."""
    decoding: int
    released: int
    """The whole picture as released: every call of a UNet, and decoding."""
    fdlab: int
    """The same less the text's keys and values, which fdlab computes once a picture in place of once a
    call."""


def count(unet: Any, vae: Any, latent_shape_CHW: tuple[int, ...], tokens: int, num_steps: int) -> Flops:
    """Operations a picture of the demo preset; both UNets have the layout of `unet`."""
    with torch.device("meta"), torch.no_grad():
        unet = type(unet).from_config(unet.config)
        vae = type(vae).from_config(vae.config)
        z_1CHW, t = torch.empty(1, *latent_shape_CHW), torch.empty((), dtype=torch.long)
        ctx_1LD = torch.empty(1, tokens, unet.config.cross_attention_dim)
        denoise = UNetDenoiser(unet)
        call = lambda: denoise(z_1CHW, t, ctx_1LD)  # noqa: E731 (counted three times)
        row, decoding = _counted(call), _counted(lambda: vae.decode(z_1CHW))
        with denoise:
            first, kept = _counted(call), _counted(call)
    rows = unet_rows(num_steps)
    # Four embeddings a picture: of nothing and the prompt for the TDM, with and without subjects for the SDM.
    return Flops(row, decoding, rows * row + decoding, rows * kept + 4 * (first - kept) + decoding)


def ceiling(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> dict[str, Any]:
    """The best FLOP a second of a large square matrix product, how it was reached, and each library's best.

    Each way is tried for `seconds`, and its fastest product counts. On a CPU in float32, torch.mm goes to
    MKL and convolutions to oneDNN; where the two differ, the slower would be no ceiling.
    """
    ways = {"mm": _by_mm} | ({"convolution": _by_convolution} if device.type == "cpu" else {})
    found = {}
    for name, way in ways.items():
        for side in SIDES[device.type]:
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            # On a GPU one product is too short for the clock.
            times = 1 if device.type == "cpu" else 20
            product = way(a, b, times)
            product()
            until, fastest = time.perf_counter() + seconds, timed(product, device)
            while time.perf_counter() < until:
                fastest = min(fastest, timed(product, device))
            found[name, side] = times * 2 * side**3 / fastest
            if fastest > PATIENCE:
                break
    by, side = max(found, key=lambda key: found[key])
    each = {way: max(value for (name, _), value in found.items() if name == way) for way in ways}
    return {"flops_per_second": found[by, side], "by": by, "side": side, "each": each}


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `work` takes, until the device is done with it."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _by_mm(a: Tensor, b: Tensor, times: int) -> Callable[[], None]:
    out = torch.empty_like(a)

    def product() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return product


def _by_convolution(a: Tensor, b: Tensor, times: int) -> Callable[[], None]:
    """The same product as a 1 x 1 convolution over a's rows, laid out as a batch of 16 pictures."""
    side = len(a)
    a_BCHW = a.view(16, side // 16, 1, side).permute(0, 3, 1, 2)
    kernel_OC11 = b.t().contiguous()[:, :, None, None]

    def product() -> None:
        for _ in range(times):
            torch.nn.functional.conv2d(a_BCHW, kernel_OC11)

    return product


def _counted(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
