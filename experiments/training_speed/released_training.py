"""A plain version of the released SDM training step: what fdlab's speed and memory are held against.

FastComposer's and Face-diffuser's scripts as research describes them: eager networks, autocast, frozen parts
in the low precision, every picture through the autoencoder and every caption through the text encoder at each
step, all padded references through the image encoder, and the cross-attention of the middle five blocks
stored whole for the localization loss. Written from that description, with nothing of fdlab.
Axes: B batch, C latent channels, H W latent grid, N padded subjects, L tokens, h heads, Q positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIDDLE_FIVE = ("down_blocks.1.", "down_blocks.2.", "mid_block.", "up_blocks.1.", "up_blocks.2.")
TRAIN_STEPS, BETAS = 1000, (0.00085, 0.012)
LOCALIZATION = 1e-3


class Drawn(NamedTuple):
    """What is random in a step."""

    eps_BCHW: Tensor
    t_B: Tensor
    dropped_B: Tensor
    """Whose caption and subjects are left out."""
    kept_BN: Tensor
    masked: Tensor
    """Whether this batch's loss looks at the subjects alone."""


def draw(shape_BCHW: tuple[int, ...], num_subjects: int, device: torch.device) -> Drawn:
    """As released: one sample in ten without condition, a subject kept nine times of ten, a coin a batch."""
    batch = shape_BCHW[0]
    return Drawn(
        torch.randn(shape_BCHW, device=device),
        torch.randint(0, TRAIN_STEPS, (batch,), device=device),
        torch.rand(batch, device=device) < 0.1,
        torch.rand(batch, num_subjects, device=device) < 0.9,
        torch.rand((), device=device) < 0.5,
    )


class StoredAttention:
    """An attention processor that keeps all probabilities of its call."""

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probs = attn.get_attention_scores(query, key)
        self.kept.append(probs.unflatten(0, (len(hidden_states), attn.heads)))
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probs, value))))


@dataclass
class ReleasedTraining:
    """Networks of Stable Diffusion's layout, trained as the released script does."""

    unet: Any
    vae: Any
    text_encoder: Any
    image_encoder: Any
    fusion: nn.Module
    null_ids_L: Tensor
    dtype: torch.dtype
    """Of autocast and of the frozen parts; float32: none."""
    lr: float = 1e-5
    num_trained_blocks: int = 2
    maps: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        for network in (self.vae, self.text_encoder, self.image_encoder):
            network.requires_grad_(False)
        layers = self.image_encoder.vision_model.encoder.layers[-self.num_trained_blocks :]
        for learning in (self.unet, self.fusion, layers):
            learning.requires_grad_(True)
        for frozen in (self.vae, self.text_encoder):
            frozen.to(self.dtype)
        learned = [self.unet, self.fusion, layers]
        self.parameters = [p for network in learned for p in network.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.lr, weight_decay=1e-2)
        for name, module in self.unet.named_modules():
            if name.endswith("attn2") and name.startswith(MIDDLE_FIVE):
                module.set_processor(StoredAttention(self.maps))
        beta = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TRAIN_STEPS, device=self.device) ** 2
        self.alphas_cumprod_T = torch.cumprod(1 - beta, 0)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.unet.parameters()).device

    def step(self, batch: Mapping[str, Tensor], drawn: Drawn) -> Tensor:
        """One optimiser step; returns the loss."""
        loss = self.loss(batch, drawn)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def loss(self, batch: Mapping[str, Tensor], drawn: Drawn) -> Tensor:
        """Noise regression, on the subjects alone now and then, and localization."""
        self.maps.clear()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            with torch.no_grad():
                posterior = self.vae.encode(batch["image_B3HW"].to(self.dtype)).latent_dist
                z0_BCHW = posterior.mean.float() * self.vae.config.scaling_factor
                ids_BL = torch.where(drawn.dropped_B[:, None], self.null_ids_L, batch["input_ids_BL"])
                text_BLD = self.text_encoder(ids_BL).last_hidden_state
            valid_BN = batch["subject_valid_BN"] & drawn.kept_BN & ~drawn.dropped_B[:, None]
            pixels = batch["references_BN3HW"].flatten(0, 1)
            obj_BNE = self.image_encoder(pixel_values=pixels).image_embeds.unflatten(0, valid_BN.shape)
            ctx_BLD = self.fused(text_BLD, obj_BNE, batch["token_index_BN"], valid_BN)
            signal = self.alphas_cumprod_T[drawn.t_B][:, None, None, None]
            z_BCHW = signal.sqrt() * z0_BCHW + (1 - signal).sqrt() * drawn.eps_BCHW
            output_BCHW = self.unet(z_BCHW, drawn.t_B, encoder_hidden_states=ctx_BLD).sample
        error = (output_BCHW.float() - drawn.eps_BCHW).square()
        union = (batch["mask_BNHW"] * valid_BN[:, :, None, None]).amax(1, keepdim=True)
        loss = torch.where(drawn.masked, error * union.square(), error).mean()
        return loss + LOCALIZATION * self.localization(batch, valid_BN)

    def fused(self, text_BLD: Tensor, obj_BNE: Tensor, index_BN: Tensor, valid_BN: Tensor) -> Tensor:
        """Subjects' embeddings mixed into their tokens'."""
        b, n = valid_BN.nonzero(as_tuple=True)
        places = (b, index_BN[b, n])
        mixed = self.fusion.fuse(text_BLD[places][:, None], obj_BNE[b, n][:, None].to(text_BLD.dtype))[:, 0]
        return text_BLD.index_put(places, mixed.to(text_BLD.dtype))

    def localization(self, batch: Mapping[str, Tensor], valid_BN: Tensor) -> Tensor:
        """Attention to a subject's token beside its mask less on it, over all stored maps."""
        losses = []
        valid = valid_BN.float()
        for probs_BhQL in self.maps:
            mask_BNHW = batch["mask_BNHW"]
            shrink = (mask_BNHW.shape[-2] * mask_BNHW.shape[-1] / probs_BhQL.shape[2]) ** 0.5
            size = [round(side / shrink) for side in mask_BNHW.shape[-2:]]
            mask_BNQ = F.interpolate(mask_BNHW, size, mode="bilinear", antialias=True).flatten(2)
            index = batch["token_index_BN"].clamp(min=0)[:, None, None]
            index = index.expand(-1, *probs_BhQL.shape[1:3], -1)
            seen_BhNQ = probs_BhQL.float().gather(3, index).transpose(2, 3)
            on, off = mask_BNQ[:, None], 1 - mask_BNQ[:, None]
            beside = (seen_BhNQ * off).sum(-1) / (off.sum(-1) + 1e-5)
            apart = beside - (seen_BhNQ * on).sum(-1) / (on.sum(-1) + 1e-5)
            losses.append(((apart * valid[:, None]).sum(2) / (valid.sum(1)[:, None] + 1e-5)).mean())
        return torch.stack(losses).mean()
