"""What happened at each step of a fusing guider, as pictures: saliencies, mask, predicted clean picture.

Axes: B images, C latent channels, H W latent grid or pixels, 3 RGB; K is C, or 1 where channels share a mask.
Suffix T is the text-driven model, S the subject-augmented one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from fdlab.diffusion.flow import schedule_of
from fdlab.diffusion.guiders import GUIDERS, Trace
from fdlab.diffusion.guiders.staged import StagedFusion
from fdlab.diffusion.stages import SNF
from fdlab.errors import UserError
from fdlab.pipeline.outputs import to_pixels

TDM_RGB, SDM_RGB = (229, 231, 235), (37, 99, 235)
"""Colours of a mask's places: who draws there."""
NUM_STEPS = 8
"""How many steps a figure shows where nobody chose."""

Decode = Callable[[Trace, int], np.ndarray]
"""(trace, row of the batch) -> the predicted clean picture HW3, uint8; see `decoder`."""


@dataclass(frozen=True, eq=False)
class StepPicture:
    """One step of one image; saliencies and mask are None in stages that call one model."""

    step: int
    t: float
    """The timestep; whole numbers but for Euler's with spacing linspace."""
    stage: str
    """tdm, snf or sdm."""
    sdm_share: float
    """Share of the places that the SDM draws, in [0, 1]."""
    saliency_T_HW3: np.ndarray | None
    """Bright where the TDM's response is strong, relative to its own largest."""
    saliency_S_HW3: np.ndarray | None
    """The SDM's, likewise."""
    mask_HW3: np.ndarray | None
    """SDM_RGB where the SDM draws, TDM_RGB where the TDM does, between them where both do."""
    clean_HW3: np.ndarray
    """The clean picture that the step's guided output implies."""


def step_pictures(traces: Sequence[Trace], row: int, decode: Decode, size: int) -> list[StepPicture]:
    """Turn the traces of a batch into pictures of image `row`, uint8 (size, size, 3), one entry a trace.

    `decode` is `decoder(pipeline)`. What to show of many steps is `spread`'s or the caller's choice.
    """
    return [
        StepPicture(
            step=trace.step,
            t=float(trace.t),
            stage=trace.stage,
            sdm_share=float(trace.sdm_share_B[row]),
            saliency_T_HW3=_heat(trace.saliency_T_BKHW, row, size),
            saliency_S_HW3=_heat(trace.saliency_S_BKHW, row, size),
            mask_HW3=_mask(trace.mask_BKHW, row, size),
            clean_HW3=_resized(decode(trace, row), size, Image.Resampling.LANCZOS),
        )
        for trace in traces
    ]


def decoder(pipeline: Any) -> Decode:
    """How a `FaceDiffuserPipeline` turns a trace into the predicted clean picture."""
    schedule = schedule_of(pipeline.scheduler.config)

    def decode(trace: Trace, row: int) -> np.ndarray:
        z0_BCHW = schedule.clean_at(trace.z_BCHW, trace.output_BCHW, float(trace.t))
        return to_pixels(pipeline.decode(z0_BCHW[row : row + 1]))[0]

    return decode


def check_traced(guider: str) -> None:
    """Check that a guider records what it does. Raises: UserError."""
    fusing = sorted(name for name, kind in GUIDERS.items() if issubclass(kind, StagedFusion))
    if guider not in fusing:
        raise UserError(
            f"trace=true shows which model draws which place, and guider '{guider}' does not fuse by place;"
            f" guiders that do: {', '.join(fusing)} (as in sampler=snf_demo)."
        )


def places(traces: Sequence[Trace], steps: Sequence[int]) -> list[int]:
    """Where in `traces` each of `steps` is: its last call, where a scheduler makes several a step."""
    last = {trace.step: place for place, trace in enumerate(traces)}
    return [last[step] for step in steps]


def spread(traces: Sequence[Trace], num: int = NUM_STEPS) -> list[int]:
    """Choose `num` places in `traces` to show: first and last, half of them in the fusion, gaps alike."""
    if len(traces) <= num:
        return list(range(len(traces)))
    fused = [place for place, trace in enumerate(traces) if trace.stage == SNF]
    among = np.linspace(0, max(len(fused) - 1, 0), min(num // 2, len(fused))).round().astype(int)
    chosen = {0, len(traces) - 1, *(fused[place] for place in among)}
    while len(chosen) < num:
        low, high = max(pairwise(sorted(chosen)), key=lambda gap: gap[1] - gap[0])
        chosen.add((low + high) // 2)
    return sorted(chosen)


def _heat(map_BKHW: Tensor | None, row: int, size: int) -> np.ndarray | None:
    if map_BKHW is None:
        return None
    map_HW = map_BKHW[row].float().mean(0).cpu().numpy()
    colours = matplotlib.colormaps["magma"](map_HW / max(float(map_HW.max()), 1e-12), bytes=True)[..., :3]
    return _resized(colours, size)


def _mask(mask_BKHW: Tensor | None, row: int, size: int) -> np.ndarray | None:
    if mask_BKHW is None:
        return None
    share_HW1 = mask_BKHW[row].float().mean(0).cpu().numpy()[..., None]
    colours = share_HW1 * np.array(SDM_RGB) + (1 - share_HW1) * np.array(TDM_RGB)
    return _resized(colours.round().astype(np.uint8), size)


def _resized(
    image_HW3: np.ndarray, size: int, how: Image.Resampling = Image.Resampling.NEAREST
) -> np.ndarray:
    """Cells of a map stay cells: the grid is what the models decide on."""
    image = Image.fromarray(np.ascontiguousarray(image_HW3))
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), how))
