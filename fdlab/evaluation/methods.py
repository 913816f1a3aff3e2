"""What can draw a benchmark's pictures: its own true renders, the autoencoder alone, and models with a
sampler.

B batch, C latent channels, H W grid or pixels, 3 RGB, L tokens, N subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fdlab.data.captions import encode, parse
from fdlab.data.transforms import cut_out, to_model
from fdlab.diffusion import guiders
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.initial import latents, step_generators
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.sampler import sample
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.errors import UserError
from fdlab.evaluation.benchmarks import Benchmark, Subject
from fdlab.evaluation.generation import Job, read_image
from fdlab.models.conditioning import condition
from fdlab.models.denoiser import UNetDenoiser
from fdlab.models.latents import decode_latents, encode_images
from fdlab.randomness import numpy_rng

if TYPE_CHECKING:
    from fdlab.models.backbone import Backbone

SHARED = ("guider", "scheduler", "num_steps", "guidance_scale", "guidance_rescale", "spacing", "eta")
"""A sampler's keys that are not options of its guider."""


def to_pixels(x_B3HW: Tensor) -> np.ndarray:
    """Float in [-1, 1] to uint8 images_BHW3, clipped and rounded."""
    scaled = ((x_B3HW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


@dataclass(frozen=True)
class RealPictures:
    """The benchmark's true pictures: the ceiling of every method."""

    benchmark: Benchmark

    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        paths = [self.benchmark.real_path(job.subject.id, job.prompt.id, job.index) for job in batch]
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
    """One or two models and a sampler. A picture depends on its job alone.

    `tdm` and `sdm` are backbones with a denoiser of their own; which of them is called is the guider's
    business. `sampler` has the keys of conf/sampler. `background` lies behind a reference that is cut out by
    its mask.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        sampler: Mapping[str, Any],
        tdm: Backbone | None = None,
        sdm: Backbone | None = None,
        background: str = "noise",
        device: str = "cpu",
    ) -> None:
        self.benchmark, self.sampler, self.device, self.background = (
            benchmark,
            dict(sampler),
            device,
            background,
        )
        self.models = {"tdm": tdm, "sdm": sdm}
        needed = guiders.needs(self.sampler["guider"])
        for name in needed:
            if self.models[name] is None:
                raise UserError(
                    f"sampler '{sampler['guider']}' needs the {name.upper()}, but has none ({name}=PATH)."
                )
        self.models = {name: model for name, model in self.models.items() if name in needed}
        self.any: Backbone = next(model for model in self.models.values() if model is not None)
        if self.any.image_size and self.any.image_size != benchmark.size:
            raise UserError(
                f"benchmark '{benchmark.name}' has pictures of {benchmark.size} pixels, the backbone draws "
                f"{self.any.image_size}; choose another benchmark or backbone."
            )
        kinds = {
            model.need("scheduler").get("prediction_type", "epsilon")
            for model in self.models.values()
            if model
        }
        if len(kinds) > 1:
            raise UserError(
                f"TDM and SDM predict different things ({', '.join(sorted(kinds))}); they cannot be fused."
            )
        self._references: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, batch: Sequence[Job]) -> np.ndarray:
        """images_BHW3 uint8."""
        ids_BL, token_BL = self._tokens(batch)
        conditioned = {}
        for name, model in self.models.items():
            assert model is not None
            references = self._references_of(batch, model) if name == "sdm" else (None, None)
            embeddings = condition(model, ids_BL, token_BL, *references)
            conditioned[name] = guiders.Model(self._denoiser(model), Conditioning(*embeddings))
        options = {key: value for key, value in self.sampler.items() if key not in SHARED}
        schedule = NoiseSchedule.from_config(self.any.need("scheduler")).to(self.device)
        guider = guiders.build(
            self.sampler["guider"],
            num_steps=int(self.sampler["num_steps"]),
            guidance=Guidance(
                float(self.sampler["guidance_scale"]), float(self.sampler.get("guidance_rescale", 0.0))
            ),
            schedule=schedule,
            tdm=conditioned.get("tdm"),
            sdm=conditioned.get("sdm"),
            **options,
        )
        scheduler = make_scheduler(
            self.sampler["scheduler"], self.any.need("scheduler"), self.sampler.get("spacing")
        )
        seeds = [job.seed for job in batch]
        eta = float(self.sampler.get("eta", 0.0))
        z_BCHW = latents(seeds, self.any.latent_shape_CHW, device=self.device)
        generators = step_generators(seeds) if eta else None
        z_BCHW = sample(
            guider, scheduler, z_BCHW, int(self.sampler["num_steps"]), generator=generators, eta=eta
        )
        return to_pixels(decode_latents(self.any.need("vae"), z_BCHW))

    def _denoiser(self, model: Backbone) -> guiders.Denoiser:
        plain = UNetDenoiser(model.need("unet"))

        def denoise(z_BCHW: Tensor, t: Tensor, ctx_BLD: Tensor) -> Tensor:
            # On a GPU bf16 is several times faster; on a CPU fp32 keeps pictures equal whatever the batch.
            cuda = self.device.startswith("cuda")
            with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
                return plain(z_BCHW, t, ctx_BLD).float()

        return denoise

    def _tokens(self, batch: Sequence[Job]) -> tuple[Tensor, Tensor]:
        """input_ids_BL and the mask of the subjects' last tokens."""
        ids, tokens = [], []
        for job in batch:
            text, ends = parse(job.text)
            encoded = encode(self.any.need("tokenizer"), text, ends)
            row = np.zeros(len(encoded.input_ids_L), bool)
            row[encoded.positions] = True
            ids.append(encoded.input_ids_L)
            tokens.append(row)
        return (
            torch.from_numpy(np.stack(ids)).to(self.device),
            torch.from_numpy(np.stack(tokens)).to(self.device),
        )

    def _references_of(self, batch: Sequence[Job], model: Backbone) -> tuple[Tensor, Tensor]:
        """references_BN3HW, padded, and valid_BN."""
        num = max(len(job.subjects) for job in batch)
        valid_BN = torch.zeros(len(batch), num, dtype=torch.bool)
        size = model.reference_size
        references_BN3HW = torch.zeros(len(batch), num, 3, size, size)
        for i, job in enumerate(batch):
            for j, subject in enumerate(job.subjects):
                references_BN3HW[i, j] = self._reference(subject, size)
                valid_BN[i, j] = True
        return references_BN3HW.to(self.device), valid_BN.to(self.device)

    def _reference(self, subject: Subject, size: int) -> Tensor:
        """The subject cut out of its first reference, normalised; whole where the benchmark has no mask."""
        if subject.id not in self._references:
            name = subject.references[0]
            image_HW3 = read_image(self.benchmark.folder / name)
            path = self.benchmark.mask_of(name)
            mask_HW = None if path is None else _read_mask(path, image_HW3.shape[:2])
            rng = numpy_rng(self.benchmark.seed, "reference background", subject.id)
            self._references[subject.id] = cut_out(image_HW3, mask_HW, size, self.background, rng)  # type: ignore[arg-type]
        return self._references[subject.id]


def _read_mask(path: Any, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as opened:
        mask_HW = np.asarray(opened.convert("L")) > 127
    if mask_HW.shape != tuple(shape):
        raise UserError(
            f"mask '{path}' is {mask_HW.shape[1]} x {mask_HW.shape[0]}, its picture {shape[1]} x {shape[0]}."
        )
    if not mask_HW.any():
        raise UserError(f"mask '{path}' marks no person.")
    return mask_HW
