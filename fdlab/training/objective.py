"""What TDM and SDM are trained on: a batch, networks and a generator in, losses out.

Axes: B batch, C latent channels, H W latent grid, L tokens, D text width, N subjects (padded), E width of a
reference's embedding.
Draws come from one CPU generator a forward pass, in a fixed order, so that devices and numbers of processes
agree.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fdlab.diffusion.flow import Schedule
from fdlab.diffusion.losses import localization_loss, masked_noise_loss, min_snr_weight, noise_loss
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.draws import Draws
from fdlab.engine.module import Losses
from fdlab.models.attention import CrossAttentionMaps
from fdlab.models.conditioning import add_subjects, embed_references, encode_text
from fdlab.models.denoiser import denoiser_of
from fdlab.training.faces import FaceSettings, Identity, face_area, face_weights, identity_loss


@dataclass(frozen=True)
class NoiseSettings:
    """What TDM and SDM have in common."""

    schedule: Schedule
    """Its prediction type is what the denoiser learns."""
    null_ids_L: Tensor
    """Token ids of the empty prompt."""
    condition_dropout: float = 0.1
    """Share of samples with the empty caption and no subject."""
    min_snr_gamma: float | None = None
    timesteps: TimestepDensity = field(default_factory=TimestepDensity)
    noise_offset: float = 0.0
    """Strength of one more draw for each whole channel: Gaussian noise alone hardly changes a picture's mean
    (Guttenberg 2023)."""
    input_perturbation: float = 0.0
    """Strength of noise that the denoiser sees and is not asked for: its own errors while sampling are such
    (Ning et al. 2023, arXiv 2301.11706)."""


@dataclass(frozen=True)
class SubjectSettings:
    """What the SDM has besides (research: FastComposer's released training script)."""

    text_only: float = 0.0
    """Share of samples with their caption but no subject."""
    subject_keep: float = 0.9
    masked_loss: float = 0.5
    """Probability of scoring only the subjects' pixels."""
    masked_loss_per_sample: bool = True
    """True: a coin a sample, mean over its mask. False, as released: a coin a batch, mean over all pixels."""
    localization_weight: float = 1e-3
    localization_normalize: bool = False
    faces: FaceSettings = field(default_factory=FaceSettings)


@dataclass(frozen=True)
class Noised:
    """A batch of latents with noise on it, and what the denoiser should say."""

    z_BCHW: Tensor
    t_B: Tensor
    target_BCHW: Tensor
    weight_B: Tensor | None


@dataclass(frozen=True)
class SubjectNetworks:
    """The networks of an SDM."""

    unet: nn.Module
    text_encoder: Any
    """One, or a `TextPair`."""
    image_encoder: nn.Module
    fusion: nn.Module
    maps: CrossAttentionMaps | None = None
    """Of the UNet's cross-attention, where it is to be localized."""
    identity: Identity | None = None
    """Who looks at faces, where they are to be recognised."""


def add_noise(z0_BCHW: Tensor, settings: NoiseSettings, draws: Draws) -> Noised:
    """Draw noise and timesteps and apply them."""
    schedule, device = settings.schedule, z0_BCHW.device
    eps_BCHW = draws.normal(*z0_BCHW.shape)
    if settings.noise_offset:
        eps_BCHW = eps_BCHW + settings.noise_offset * draws.normal(*z0_BCHW.shape[:2], 1, 1)
    seen_BCHW = eps_BCHW
    if settings.input_perturbation:
        seen_BCHW = eps_BCHW + settings.input_perturbation * draws.normal(*z0_BCHW.shape)
    eps_BCHW, seen_BCHW = eps_BCHW.to(device), seen_BCHW.to(device)
    t_B = draws.own(settings.timesteps.draw(draws.all(len(z0_BCHW)), schedule, draws.generator)).to(device)
    weight_B = None
    if settings.min_snr_gamma is not None:
        weight_B = min_snr_weight(schedule.snr(t_B), settings.min_snr_gamma, schedule.prediction_type)
    z_BCHW = schedule.add_noise(z0_BCHW, seen_BCHW, t_B)
    return Noised(z_BCHW, t_B, schedule.target(z0_BCHW, eps_BCHW, t_B), weight_B)


def drop_captions(input_ids_BL: Tensor, dropped_B: Tensor, null_ids_L: Tensor) -> Tensor:
    """Replace the captions of dropped samples with the empty one."""
    return torch.where(
        dropped_B.to(input_ids_BL.device)[:, None], null_ids_L.to(input_ids_BL.device), input_ids_BL
    )


def embed_captions(batch: dict[str, Any], dropped_B: Tensor, text_encoder: Any, null_ids_L: Tensor) -> Tensor:
    """Captions as the denoiser takes them (BLD), those dropped as the empty one: as cached, or encoded
    now."""
    if "text_BLD" in batch:
        dropped_B11 = dropped_B.to(batch["text_BLD"].device)[:, None, None]
        return torch.where(dropped_B11, batch["null_LD"], batch["text_BLD"])
    return encode_text(text_encoder, drop_captions(batch["input_ids_BL"], dropped_B, null_ids_L))


def text_driven_losses(
    batch: dict[str, Any],
    z0_BCHW: Tensor,
    unet: nn.Module,
    text_encoder: Any,
    settings: NoiseSettings,
    draws: Draws,
) -> Losses:
    """The TDM's loss: E || target - eps_T(z_t, t, psi(c)) ||^2 (Face-diffuser, section 3.1)."""
    noised = add_noise(z0_BCHW, settings, draws)
    dropped_B = draws.coins(settings.condition_dropout, len(z0_BCHW))
    ctx_BLD = embed_captions(batch, dropped_B, text_encoder, settings.null_ids_L)
    output_BCHW = denoiser_of(unet)(noised.z_BCHW, noised.t_B, ctx_BLD)
    return {"loss": noise_loss(output_BCHW, noised.target_BCHW, noised.weight_B)}


def with_prior(losses: Losses, prior: Tensor, weight: float) -> Losses:
    """Losses with the weighted loss on pictures of anybody beside them: DreamBooth's prior preservation (Ruiz
    et al. 2023, arXiv 2208.12242, equation 2)."""
    parts = {"noise_loss": losses["loss"].detach()} | {k: v for k, v in losses.items() if k != "loss"}
    return {"loss": losses["loss"] + weight * prior, **parts, "prior_loss": prior.detach()}


def subject_augmented_losses(
    batch: dict[str, Any],
    z0_BCHW: Tensor,
    networks: SubjectNetworks,
    settings: NoiseSettings,
    subjects: SubjectSettings,
    draws: Draws,
) -> Losses:
    """The SDM's loss: noise with psi(c)_aug, on the subjects' pixels now and then, plus weighted localization
    and identity of faces."""
    noised = add_noise(z0_BCHW, settings, draws)
    num, device = len(z0_BCHW), z0_BCHW.device
    dropped_B = draws.coins(settings.condition_dropout, num)
    text_only_B = draws.coins(subjects.text_only, num)
    kept_BN = draws.coins(subjects.subject_keep, *batch["subject_valid_BN"].shape)
    valid_BN = batch["subject_valid_BN"] & (kept_BN & ~(dropped_B | text_only_B)[:, None]).to(device)

    text_BLD = embed_captions(batch, dropped_B, networks.text_encoder, settings.null_ids_L)
    obj_BNE = batch.get("reference_BNE")
    if obj_BNE is None:
        obj_BNE = embed_references(networks.image_encoder, batch["references_BN3HW"], valid_BN)
    ctx_BLD = add_subjects(networks.fusion, text_BLD, obj_BNE, batch["subject_token_BL"], valid_BN)

    # Of all attention, the loss below looks at the subjects' tokens.
    capture = nullcontext() if networks.maps is None else networks.maps.of_tokens(batch["token_index_BN"])
    with capture:
        output_BCHW = denoiser_of(networks.unet)(noised.z_BCHW, noised.t_B, ctx_BLD)
    chance = subjects.masked_loss
    looks_B = draws.coins(chance, num) if subjects.masked_loss_per_sample else draws.coin(chance).expand(num)
    noise = masked_noise_loss(
        output_BCHW,
        noised.target_BCHW,
        batch["mask_BNHW"],
        valid_BN,
        looks_B.to(device),
        normalized=subjects.masked_loss_per_sample,
        weight_B=noised.weight_B,
        pixel_weight_B1HW=_face_weights(batch, subjects.faces, output_BCHW),
    )
    terms: dict[str, tuple[float, Tensor]] = {}
    if networks.maps is not None:
        terms["localization_loss"] = (
            subjects.localization_weight,
            localization_loss(
                list(networks.maps),
                batch["mask_BNHW"],
                torch.arange(valid_BN.shape[1], device=device).expand_as(valid_BN),
                valid_BN,
                subjects.localization_normalize,
            ),
        )
    if networks.identity is not None:
        seen = noised.z_BCHW, output_BCHW, noised.t_B, batch["landmark_BN52"], batch["face_BND"], valid_BN
        loss = identity_loss(networks.identity, subjects.faces, settings.schedule, *seen)
        terms["identity_loss"] = (subjects.faces.identity_weight, loss)
    return _sum(noise, terms)


def _face_weights(batch: dict[str, Any], faces: FaceSettings, like_BCHW: Tensor) -> Tensor | None:
    if not faces.weight:
        return None
    area_B1HW = face_area(batch["landmark_BN52"], faces.cell, *like_BCHW.shape[2:])
    return face_weights(area_B1HW, faces.weight)


def _sum(noise: Tensor, terms: dict[str, tuple[float, Tensor]]) -> Losses:
    """What is minimised, and its parts where there are several."""
    if not terms:
        return {"loss": noise}
    loss = noise
    for weight, value in terms.values():
        loss = loss + weight * value
    return {"loss": loss, "noise_loss": noise.detach()} | {k: v.detach() for k, (_, v) in terms.items()}
