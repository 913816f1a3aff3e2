"""What is drawn: a pipeline, and embeddings of enough prompts. Axes: N pictures, L tokens, D width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdlab import FaceDiffuserPipeline
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.errors import UserError, unknown
from fdlab.models.nano import seeded
from fdlab.people import benchmark, picture
from fdlab.people.identity import identity
from fdlab.randomness import torch_generator

BACKBONES = ("nano", "sd15-random")
WIDTH = 320
"""Channels of SD-1.5's first level; its autoencoder's first level has 128."""
TOKENS, TEXT_WIDTH = 77, 768
"""Of SD-1.5's text embeddings."""


@dataclass
class Workload:
    """A pipeline in float32 on the CPU, and what its pictures are conditioned on."""

    name: str
    pipeline: FaceDiffuserPipeline
    null_NLD: Tensor
    text_NLD: Tensor
    augmented_NLD: Tensor
    size: int
    """Pixels a side."""

    def __post_init__(self) -> None:
        self.pipeline.set_progress_bar_config(disable=True)

    @property
    def latent_shape_CHW(self) -> tuple[int, int, int]:
        """Of one picture."""
        side = self.size // self.pipeline.vae_scale_factor
        return self.pipeline.tdm_unet.config.in_channels, side, side


def build(backbone: str, num: int, size: int | None = None, width: int | None = None) -> Workload:
    """`num` pictures with a backbone; `size` in pixels and `width` in channels shrink it, None is its own.

    Raises: UserError for an unknown backbone, or a size or width that it cannot have.
    """
    if backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    if backbone == "sd15-random":
        return _sd15_random(num, 512 if size is None else size, WIDTH if width is None else width)
    if width is not None:
        raise UserError(f"width is {width}, but the nano backbone has weights; leave it out, or sd15-random.")
    return _nano(num, 128 if size is None else size)


def _nano(num: int, size: int) -> Workload:
    """Shipped weights; people and prompts of the embedded benchmark."""
    _check("size", size, 32)
    pipeline = FaceDiffuserPipeline.shipped()
    prompts, people = [], []
    for k in range(num):
        noun = identity(benchmark.HELD_OUT + k % benchmark.SUBJECTS).noun
        prompts.append(benchmark.PROMPTS[k % len(benchmark.PROMPTS)].text.format(noun=noun))
        people.append([picture.render(benchmark.spec(k % benchmark.SUBJECTS, "reference")).image_HW3])
    return Workload("nano", pipeline, *pipeline.encode_prompt(prompts, people), size)


def sd15_networks(size: int = 512, width: int = WIDTH) -> dict[str, Any]:
    """Stable Diffusion 1.5's UNet, twice, and autoencoder, with random weights: tdm_unet, sdm_unet, vae."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    # The autoencoder shrinks along, but not below what its 32 groups divide.
    narrow = max(32, 32 * round(128 * width / WIDTH / 32))
    parts: dict[str, Any] = {}
    for name in ("tdm_unet", "sdm_unet"):
        with seeded(0, name):
            parts[name] = UNet2DConditionModel(
                sample_size=size // 8,
                block_out_channels=(width, 2 * width, 4 * width, 4 * width),
                cross_attention_dim=TEXT_WIDTH,
                attention_head_dim=8,
            )
    with seeded(0, "vae"):
        parts["vae"] = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(narrow, 2 * narrow, 4 * narrow, 4 * narrow),
            layers_per_block=2,
            latent_channels=4,
            sample_size=size,
        )
    for network in parts.values():
        network.eval().requires_grad_(False)
    return parts


def _sd15_random(num: int, size: int, width: int) -> Workload:
    """Random weights, and random embeddings of 77 tokens."""
    _check("size", size, 64)
    _check("width", width, 32)
    nothing = dict.fromkeys(("text_encoder", "image_encoder", "fusion", "tokenizer"))
    scheduler = make_scheduler("ddim", {})
    pipeline = FaceDiffuserPipeline(**sd15_networks(size, width), **nothing, scheduler=scheduler)
    name = "sd15-random" if width == WIDTH else f"sd15-random, width {width}"
    return Workload(name, pipeline, *random_embeddings(num, TOKENS, TEXT_WIDTH), size)


def random_embeddings(num: int, tokens: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Null, text and augmented embeddings, (num, tokens, width) each, standard normal."""
    generator = torch_generator(0, "embeddings")
    null_1LD = torch.randn(1, tokens, width, generator=generator)
    text_NLD = torch.randn(num, tokens, width, generator=generator)
    # A subject is one token of many, as in the real thing.
    augmented_NLD = text_NLD.clone()
    augmented_NLD[:, 5] = torch.randn(num, width, generator=generator)
    return null_1LD.expand_as(text_NLD), text_NLD, augmented_NLD


def _check(name: str, given: int, step: int) -> None:
    if given <= 0 or given % step:
        near = max(step, step * math.ceil(given / step))
        raise UserError(f"{name} is {given}; it must be a positive multiple of {step}, such as {near}.")
