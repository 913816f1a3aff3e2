"""The released sampling loop, written anew from its description: what fdlab's speed is measured against.

One prompt at a time, both branches of classifier-free guidance, TDM while i <= start, saliency-adaptive noise
fusion while i <= final, then SDM; the demo's start and final are 15 and 30 of 50 steps. Where the description
is silent, the cheapest sensible reading is taken: a stage calls only the models that it needs, the two
branches go through a model in one call, and attention is torch's fused one. Latents and saliency are in
float32, and the scheduler is the caller's (the released code leaves SD-1.5's PNDM in place).

Axes: B batch, L tokens, D width, C latent channels, H W latent grid or pixels, 3 RGB. Suffix T is the
text-driven model, S the subject-augmented one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def boundaries(num_steps: int) -> tuple[int, int]:
    """The demo's inclusive last steps of the first two stages: 15 and 30 of 50, scaled to `num_steps`."""
    return 15 * num_steps // 50, 30 * num_steps // 50


def unet_rows(num_steps: int) -> int:
    """Rows that go through a UNet for one picture: two in a step with one model, four in a step with both."""
    start, final = boundaries(num_steps)
    return 2 * num_steps + 2 * (final - start)


@torch.no_grad()
def draw(
    unets: tuple[Any, Any],
    vae: Any,
    scheduler: Any,
    null_1LD: Tensor,
    text_1LD: Tensor,
    augmented_1LD: Tensor,
    noise_1CHW: Tensor,
    num_steps: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """One picture, 13HW in [0, 1], and the latents that it was decoded from; `unets` are the TDM's and SDM's.

    `noise_1CHW` is standard normal, float32.
    """
    (tdm, sdm), (start, final) = unets, boundaries(num_steps)
    ctx_T_2LD, ctx_S_2LD = torch.cat([null_1LD, text_1LD]), torch.cat([text_1LD, augmented_1LD])
    scheduler.set_timesteps(num_steps, device=noise_1CHW.device)
    z_1CHW = noise_1CHW * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        z_2CHW = scheduler.scale_model_input(torch.cat([z_1CHW] * 2), t).to(text_1LD.dtype)
        if i <= final:
            empty_1CHW, text_1CHW = _call(tdm, z_2CHW, t, ctx_T_2LD)
            response_T_1CHW = scale * (text_1CHW - empty_1CHW)
            guided_T_1CHW = empty_1CHW + response_T_1CHW
        if i > start:
            plain_1CHW, subject_1CHW = _call(sdm, z_2CHW, t, ctx_S_2LD)
            response_S_1CHW = scale * (subject_1CHW - plain_1CHW)
            guided_S_1CHW = plain_1CHW + response_S_1CHW
        if i <= start:
            eps_1CHW = guided_T_1CHW
        elif i <= final:
            # The stronger response after a softmax over all positions; a tie is the TDM's.
            mask_11HW = (_softmax(response_S_1CHW) > _softmax(response_T_1CHW)).float()
            eps_1CHW = mask_11HW * guided_S_1CHW + (1 - mask_11HW) * guided_T_1CHW
        else:
            eps_1CHW = guided_S_1CHW
        z_1CHW = scheduler.step(eps_1CHW, t, z_1CHW).prev_sample
    raw_1CHW = z_1CHW / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    x_13HW = vae.decode(raw_1CHW.to(vae.dtype)).sample.float()
    return (x_13HW / 2 + 0.5).clamp(0, 1), z_1CHW


def _call(unet: Any, z_2CHW: Tensor, t: Tensor, ctx_2LD: Tensor) -> tuple[Tensor, ...]:
    return unet(z_2CHW, t, encoder_hidden_states=ctx_2LD).sample.float().chunk(2)


def _softmax(response_1CHW: Tensor) -> Tensor:
    """The saliency of a response as a distribution over the latent grid, 11HW."""
    pooled_1CHW = F.avg_pool2d(response_1CHW.abs(), 4, stride=1, padding=1)
    resized_1CHW = F.interpolate(pooled_1CHW, response_1CHW.shape[-2:], mode="bilinear", antialias=True)
    saliency_11HW = resized_1CHW.mean(1, keepdim=True)
    return saliency_11HW.flatten(1).softmax(1).view_as(saliency_11HW)
