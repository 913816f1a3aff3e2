"""How much memory a training takes, before it is begun: part by part, from shapes alone.

Axes: B batch, C latent channels, H W latent grid, L tokens, D text width.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab.config.launch import launched
from fdlab.data.batches import Batch, Batches
from fdlab.data.beside import beside
from fdlab.data.entry import Entry, Faces
from fdlab.data.latents import decode_in_parts
from fdlab.engine import optimizers
from fdlab.engine.draws import Draws
from fdlab.engine.live_memory import peak_of_pass, peak_without_gradient, without_numbers
from fdlab.engine.precision import lightning_precision
from fdlab.engine.strategies import FSDP, ZERO
from fdlab.models import fast
from fdlab.models.denoiser import denoiser_of
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.resting import DTYPES, lean_of
from fdlab.training.settings import FitSettings
from fdlab.training.source import batch_settings, keeps_references

GRID = 8
"""Pictures that a sample grid draws at once."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device."""

    weights: int
    """Of all networks, as steps need them."""
    averages: int
    gradients: int
    optimizer: int
    buckets: int
    """Second gradients, which data-parallel processes exchange."""
    activations: int
    """Most that a pass holds besides, its batch and what is made on the way included."""
    drawing: int
    """Most that drawing a sample grid or validation's pictures holds in their place and the gradients'."""
    returning: int = 0
    """Of weights, what comes back for drawing."""
    host: int = 0
    """Of the host's memory, where the device has its own: what is kept there for it."""

    @property
    def resting(self) -> int:
        """What is there all the time."""
        return self.weights + self.averages + self.gradients + self.optimizer + self.buckets

    @property
    def peak(self) -> int:
        """The most there is at any time."""
        return self.resting + max(self.activations, self.drawing + self.returning - self.gradients)

    def rows(self) -> dict[str, str]:
        """The parts as text."""
        kept = {name: size for name, size in asdict(self).items() if size}
        return {f"in {name} memory" if name == "host" else name: shown(size) for name, size in kept.items()}

    def to_json(self) -> dict[str, int]:
        """The parts and the peak, in bytes."""
        return {**asdict(self), "peak": self.peak}


class Blank:
    """A source whose pictures show nothing, with as many subjects as a batch takes."""

    def __init__(self, module: DenoisingTraining, settings: FitSettings) -> None:
        b, data = module.backbone, settings.data
        num = data.max_subjects if module.REFERENCES else 0
        side, length = int(b.image_size), int(b.max_tokens)
        picture = np.zeros((side, side, 3), np.uint8)
        if data.cache_latents:
            picture = np.zeros(b.latent_shape_CHW, np.float32)
        masks_NHW = np.zeros((num, *b.latent_shape_CHW[1:]), np.uint8)
        faces = None
        if module.faces is not None:
            empty = np.zeros((num, 5, 2), np.float32), np.zeros((num, module.faces.dim), np.float32)
            faces = Faces(*empty)
        ids_L = np.zeros(length, np.int64)
        self._entry = Entry("", picture, ids_L, [1] * num, masks_NHW, [0] * num, faces)
        self._size = b.reference_size if num else 0
        self.usable, self.groups = [0], [[0]]

    def entry(self, row: int, rng: np.random.Generator | None = None) -> Entry:
        """The only one there is."""
        return self._entry

    def reference(self, key: int) -> np.ndarray:
        """Nobody."""
        return np.zeros((self._size, self._size, 4), np.uint8)

    def same_person(self, key: int) -> list[int]:
        """Nobody."""
        return []


@dataclass
class _Zeros:
    """Embeddings that are kept: of captions, or of references."""

    null_LD: np.ndarray

    @property
    def width(self) -> int:
        return int(self.null_LD.shape[-1])

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.null_LD


def blank_batch(module: DenoisingTraining, settings: FitSettings) -> Batch:
    """A batch as the training will see it, without anything on it."""
    b, data = module.backbone, settings.data
    texts = embedded = None
    if data.cache_text:
        rows = int(b.max_tokens) + (b.text_encoder_2 is not None)
        texts = _Zeros(np.zeros((rows, b.text_width), np.float32))
    if keeps_references(module, data):
        embedded = _Zeros(np.zeros(int(b.need("image_encoder").config.projection_dim), np.float32))
    asked = replace(batch_settings(settings, b, module.REFERENCES), reference="own")
    num = 2 if module.prior_weight else 1
    first, *others = (Batches(Blank(module, settings), asked, 1, embedded, texts)[0] for _ in range(num))
    return beside(first, *others) if others else first


def estimate(
    module: DenoisingTraining,
    settings: FitSettings,
    device: str,
    num_devices: int = 1,
    passes: Footprint | None = None,
) -> Footprint:
    """Count what a training holds on a device of type `device`: weights and states by their sizes, what
    passes leave and make on tensors without numbers, unless they were counted before (`passes`). The weights
    are as before afterwards."""
    learning = module.trainable_parameters()
    gradients = _bytes(learning.values())
    activations, drawing = (
        _passes(module, settings, device) if passes is None else (passes.activations, passes.drawing)
    )
    averages = _bytes(module.averaging.average.values())
    far = module.averaging.place == "cpu" and device != "cpu"
    saved, kept = _set_aside(module, settings, device)
    found = Footprint(
        weights=_bytes([*module.parameters(), *module.buffers()]) - saved,
        averages=0 if far else averages,
        gradients=gradients,
        optimizer=optimizers.state_bytes(module.optimization.optimizer, learning),
        buckets=gradients if settings.loop.strategy == "ddp" or num_devices > 1 else 0,
        activations=activations,
        drawing=drawing,
        returning=max(0, saved) if drawing else 0,
        # With the averages the weights that are fetched for them.
        host=kept + (2 * averages if far else 0),
    )
    return _shared_out(found, settings.loop.strategy, num_devices)


def _set_aside(module: DenoisingTraining, settings: FitSettings, device: str) -> tuple[int, int]:
    """Bytes of frozen weights that steps do without, and those that wait in the host's memory for it."""
    lean, parts = lean_of(module, settings, device), module.backbone.networks()
    exact, rounded = lean.rounded(parts), 0
    if lean.dtype is not None:
        rounded = sum(p.numel() * lean.dtype.itemsize for p in exact)
    if device == "cpu":
        # Its memory is the host's: exact weights lie beside the rounded ones, and nothing is away.
        return -rounded, 0
    kept = _bytes([*lean.away(parts), *exact])
    return kept - rounded, kept


def _passes(module: DenoisingTraining, settings: FitSettings, device: str) -> tuple[int, int]:
    """What a training pass and a drawing hold."""
    precision = lightning_precision(settings.loop.precision, device)
    accumulates = settings.loop.accumulate > 1
    if device == "cpu":
        fast.suit(module.backbone.unet, torch.device(device))
    batch = blank_batch(module, settings)
    gradients = _bytes(module.trainable_parameters().values())
    lean = lean_of(module, settings, device)
    rounded = lean.rounded(module.backbone.networks())
    with without_numbers(module, rounded, lean.dtype) as mode, mode:
        seen = {key: _empty(value) for key, value in batch.items()}
        peak = peak_of_pass(
            module,
            lambda: module.losses(seen, Draws(torch.Generator()))["loss"],
            DTYPES.get(precision, torch.float32),
            cuda=device != "cpu",
            accumulates=accumulates,
        )
    with without_numbers(module) as mode, mode:
        drawing = max((_drawing(module, num) for num in _drawn_at_once(settings)), default=0)
    arrays = _bytes(value for value in batch.values() if isinstance(value, Tensor))
    return peak - gradients + arrays, drawing


def shown(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def num_devices(settings: FitSettings, device: str) -> int:
    """Processes that train together."""
    if (launch := launched()) is not None:
        return launch.per_node * launch.nodes
    asked = settings.loop.devices
    here = max(1, torch.cuda.device_count()) if device == "cuda" else 1
    return settings.loop.nodes * (here if str(asked) in ("auto", "-1") else int(asked))


def capacity(device: torch.device) -> int:
    """Bytes that a device has in all; 0 where it does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _drawn_at_once(settings: FitSettings) -> list[int]:
    """Pictures of a batch that is drawn while training: of sample grids, of validation."""
    grids = [GRID] if settings.sample_every > 0 else []
    validation, benchmark = settings.values["validation"], settings.values["benchmark"]
    return grids + ([int(benchmark["batch_size"])] if int(validation["every"]) > 0 else [])


def _drawing(module: DenoisingTraining, num: int) -> int:
    """Most that a step with guidance holds, or the decoding after the last one."""
    b = module.backbone
    rows = int(b.max_tokens) + (b.text_encoder_2 is not None)

    def step() -> None:
        with denoiser_of(b.unet) as denoise:
            denoise(torch.empty(2 * num, *b.latent_shape_CHW), 0, torch.empty(2 * num, rows, b.text_width))

    def decode() -> None:
        decode_in_parts(b.vae, torch.empty(num, *b.latent_shape_CHW))

    return max(peak_without_gradient(module, step), peak_without_gradient(module, decode))


def _shared_out(whole: Footprint, strategy: str, num: int) -> Footprint:
    """What a device holds of what `num` share; blocks that are gathered for a moment are not counted."""
    if strategy == FSDP:
        return replace(
            whole,
            weights=whole.weights - whole.gradients + whole.gradients // num,
            averages=whole.averages // num,
            gradients=whole.gradients // num,
            optimizer=whole.optimizer // num,
            buckets=0,
        )
    if strategy in ZERO:
        gradients = whole.gradients // num if ZERO[strategy] > 1 else whole.gradients
        return replace(whole, optimizer=whole.optimizer // num, gradients=gradients, buckets=0)
    return whole


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of tensors, those that share their memory once."""
    return sum({t.untyped_storage()._cdata: t.numel() * t.element_size() for t in tensors}.values())


def _empty(value: Any) -> Any:
    return torch.empty(value.shape, dtype=value.dtype) if isinstance(value, Tensor) else value
