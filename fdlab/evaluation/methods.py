"""What can draw a benchmark's pictures: its own true renders, the autoencoder alone, and models with a
sampler.

B batch, C latent channels, H W grid or pixels, 3 RGB, L tokens, N subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fdlab.benchmarks.benchmark import Benchmark, Subject
from fdlab.benchmarks.jobs import Job
from fdlab.data.captions import parse
from fdlab.data.pictures import open_photo, read_image
from fdlab.data.transforms import Background, cut_out, to_model
from fdlab.diffusion.guiders import Recorder
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.models.latents import decode_latents, encode_images
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.pipeline.pictures import to_pixels, to_uint8
from fdlab.randomness import numpy_rng

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
        return to_pixels(decode_latents(vae, encode_images(vae, x_B3HW)))


class Sampled:
    """One or two models and a sampler. A picture depends on its job alone, but for rounding.

    `tdm` and `sdm` are backbones with a denoiser of their own; which of them is called is the guider's
    business. `sampler` has the keys of conf/sampler. `half` False leaves the UNets as they are on a GPU: they
    may be in training. `background` lies behind a reference that is cut out by
    its mask.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        sampler: Mapping[str, Any],
        tdm: Backbone | None = None,
        sdm: Backbone | None = None,
        background: Background = "noise",
        device: str = "cpu",
        half: bool = True,
    ) -> None:
        self.benchmark, self.background = benchmark, background
        self.settings = SamplerSettings.from_mapping(sampler)
        models = {"tdm": tdm, "sdm": sdm}
        for name in self.settings.needs:
            if models[name] is None:
                raise UserError(
                    f"sampler '{self.settings.guider}' needs the {name.upper()}, but has none ({name}=PATH)."
                )
        used = {name: model for name, model in models.items() if name in self.settings.needs}
        main = next(model for model in used.values() if model is not None)
        if main.image_size and main.image_size != benchmark.size:
            raise UserError(
                f"benchmark '{benchmark.name}' has pictures of {benchmark.size} pixels, the backbone draws "
                f"{main.image_size}; choose another benchmark or backbone."
            )
        self.size = sdm.reference_size if sdm is not None and "sdm" in used else 0
        scheduler = self.settings.make_scheduler(main.need("scheduler"))
        self.pipeline = FaceDiffuserPipeline.from_backbones(**used, scheduler=scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.to(device)
        if device.startswith("cuda") and half:
            # On a GPU bf16 is several times faster; on a CPU fp32 keeps pictures equal up to rounding.
            for name in self.settings.needs:
                getattr(self.pipeline, f"{name}_unet").to(torch.bfloat16)
        self._references: dict[str, Tensor] = {}

    def __call__(
        self,
        batch: Sequence[Job],
        recorder: Recorder | None = None,
        on_step: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """images_BHW3 uint8; `recorder` receives what happened at each step, `on_step` each step's number."""
        settings, with_subjects = self.settings, "sdm" in self.settings.needs

        def stepped(_: Any, step: int, *rest: Any) -> dict[str, Any]:
            if on_step is not None:
                on_step(step)
            return {}

        pixels_B3HW = self.pipeline(
            [job.text if with_subjects else parse(job.text)[0] for job in batch],
            [
                [self._reference(subject) for subject in job.subjects] if with_subjects else []
                for job in batch
            ],
            num_inference_steps=settings.num_steps,
            guidance_scale=settings.guidance_scale,
            guidance_rescale=settings.guidance_rescale,
            guidance_start=settings.guidance_start,
            guidance_end=settings.guidance_end,
            eta=settings.eta,
            guider=settings.guider,
            guider_options=settings.options,
            seeds=[job.seed for job in batch],
            output_type="pt",
            recorder=recorder,
            callback_on_step_end=stepped,
        ).images
        return to_uint8(pixels_B3HW)

    def _reference(self, subject: Subject) -> Tensor:
        """The subject cut out of its first reference, normalised; whole where the benchmark has no mask."""
        if subject.id not in self._references:
            name = subject.references[0]
            image_HW3 = read_image(self.benchmark.folder / name)
            path = self.benchmark.mask_of(name)
            mask_HW = None if path is None else _read_mask(path, image_HW3.shape[:2])
            rng = numpy_rng(self.benchmark.seed, "reference background", subject.id)
            self._references[subject.id] = cut_out(image_HW3, mask_HW, self.size, self.background, rng)
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
