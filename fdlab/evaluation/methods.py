"""What can draw a benchmark's pictures: its own true renders, the autoencoder alone, and models with a
sampler.

B batch, C latent channels, H W grid or pixels, 3 RGB, L tokens, N subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fdlab.benchmarks.benchmark import Benchmark, Subject
from fdlab.benchmarks.jobs import Job
from fdlab.data.latents import decode_latents, encode_pixels
from fdlab.data.pictures import open_photo, read_image
from fdlab.errors import UserError
from fdlab.measure.faces import HeadCrop
from fdlab.pipeline.artist import Artist
from fdlab.pipeline.inputs import Scene
from fdlab.pipeline.outputs import to_pixels
from fdlab.randomness import numpy_rng
from fdlab.transforms.inputs import to_model
from fdlab.transforms.references import composite, cut_out

if TYPE_CHECKING:
    from fdlab.models.backbone import Backbone


@dataclass(frozen=True)
class RealPictures:
    """The benchmark's true pictures: the ceiling of every method."""

    benchmark: Benchmark

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        paths = [self.benchmark.real_path(job.group, job.prompt.id, job.index) for job in batch]
        return np.stack([read_image(path, self.benchmark.size) for path in paths])


@dataclass(frozen=True)
class AutoencoderOnly:
    """The true pictures encoded and decoded: what any model on these latents can reach."""

    benchmark: Benchmark
    backbone: Backbone
    device: str = "cpu"

    @torch.no_grad()
    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        x_B3HW = to_model(RealPictures(self.benchmark)(batch)).to(self.device)
        vae = self.backbone.need("vae")
        return to_pixels(decode_latents(vae, encode_pixels(vae, x_B3HW)))


class Sampled:
    """An artist who draws a benchmark's jobs, each subject by its first reference.

    Raises: UserError for an artist whose pictures are of another size than the benchmark's.
    """

    def __init__(self, benchmark: Benchmark, artist: Artist) -> None:
        self.benchmark, self.artist = benchmark, artist
        if artist.size and artist.size != benchmark.size:
            raise UserError(
                f"benchmark '{benchmark.name}' has pictures of {benchmark.size} pixels, the backbone draws "
                f"{artist.size}; choose another benchmark or backbone."
            )
        self._references: dict[str, Tensor] = {}
        self._crop = HeadCrop() if artist.reference_crop == "head" else None

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        return self.artist(self.scenes(batch))

    def scenes(self, batch: Sequence[Job]) -> list[Scene]:
        """What the artist is asked for."""
        return [Scene(job.text, job.seed, self._references_of(job)) for job in batch]

    def _references_of(self, job: Job) -> tuple[Tensor, ...]:
        subjects = job.subjects if self.artist.reference_size else ()
        return tuple(self.reference(subject) for subject in subjects)

    def reference(self, subject: Subject) -> Tensor:
        """The subject cut out of its first reference, normalised; whole where the benchmark has no mask.
        Raises: UserError where a head is to be cut out, and there is no face."""
        if subject.id not in self._references:
            name = subject.references[0]
            image_HW3 = read_image(self.benchmark.folder / name)
            path = self.benchmark.mask_of(name)
            mask_HW = None if path is None else _read_mask(path, image_HW3.shape[:2])
            rng = numpy_rng(self.benchmark.seed, "reference background", subject.id)
            size, background = self.artist.reference_size, self.artist.background
            if self._crop is None:
                self._references[subject.id] = cut_out(image_HW3, mask_HW, size, background, rng)
            else:
                try:
                    rgba_SS4 = self._crop(image_HW3, mask_HW, size)
                except UserError as error:
                    raise UserError(f"reference '{name}' of subject '{subject.id}': {error}") from None
                self._references[subject.id] = composite(rgba_SS4, background, rng)
        return self._references[subject.id]


def _read_mask(path: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask_HW = np.asarray(open_photo(path, "mask").convert("L")) > 127
    if mask_HW.shape != tuple(shape):
        raise UserError(
            f"mask '{path}' is {mask_HW.shape[1]} x {mask_HW.shape[0]}, its picture {shape[1]} x {shape[0]}."
        )
    if not mask_HW.any():
        raise UserError(f"mask '{path}' marks no person.")
    return mask_HW
