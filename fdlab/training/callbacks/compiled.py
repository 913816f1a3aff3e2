"""A compiled denoiser has to learn what an uncompiled one learns: compare the two before the first step.

torch's compiler has produced wrong gradients in silence; on a CPU, torch 2.13 did so for two thirds of this
project's nano UNet.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from fdlab.engine.continuing import tell
from fdlab.errors import UserError
from fdlab.models.compiling import uncompiled
from fdlab.models.denoiser import denoiser_of, pooled_width

TOLERANCE = 0.5
"""Largest relative difference of one parameter's gradient; bf16 gives about 0.1, a wrong kernel 1."""
SMALLEST = 1e-3
"""Share of the whole gradient's norm below which a parameter's is left to rounding."""

Gradients = dict[str, Tensor]


def gradients(unet: nn.Module, batch_size: int, num_tokens: int) -> Gradients:
    """Gradient of a fixed loss by parameter; leaves none behind."""
    config: Any = unet.config
    size, device = config.sample_size, next(unet.parameters()).device
    generator = torch.Generator().manual_seed(0)
    rows, width = num_tokens + (pooled_width(config) > 0), config.get("cross_attention_dim")
    shapes = (
        (batch_size, config.in_channels, size, size),
        (batch_size, rows, width or config.joint_attention_dim),
        (batch_size, config.out_channels, size, size),
    )
    z_BCHW, ctx_BLD, target_BCHW = (torch.randn(s, generator=generator).to(device) for s in shapes)
    t_B = torch.linspace(1, 999, batch_size).long().to(device)
    output_BCHW = denoiser_of(unet)(z_BCHW, t_B, ctx_BLD)
    learning = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    loss = (output_BCHW.float() - target_BCHW).square().mean()
    return dict(zip(learning, torch.autograd.grad(loss, list(learning.values())), strict=True))


def wrong_parameters(found: Gradients, wanted: Gradients) -> list[str]:
    """Names whose gradient differs by more than rounding, or is no number, the worst first."""
    whole = float(torch.stack([g.float().norm() for g in wanted.values()]).norm())
    errors = {
        name: float((found[name].float() - g.float()).norm() / g.float().norm())
        for name, g in wanted.items()
        if float(g.float().norm()) > SMALLEST * whole
    }
    return sorted((n for n, e in errors.items() if not e <= TOLERANCE), key=lambda n: -errors[n])


class CheckCompiled(lightning.Callback):
    """Refuse a compiled UNet whose gradients are not those of the same UNet uncompiled."""

    def __init__(self, unet: nn.Module, how: str, batch_size: int, num_tokens: int) -> None:
        self.unet, self.how, self.batch_size, self.num_tokens = unet, how, batch_size, num_tokens

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook. Raises: UserError where they differ."""
        tell(
            f"trainer.compile={self.how}: compiling the denoiser, and comparing its gradients with the plain"
            " one's; that takes minutes."
        )
        shape = self.batch_size, self.num_tokens
        with trainer.precision_plugin.forward_context():
            with uncompiled(self.unet):
                wanted = gradients(self.unet, *shape)
            found = gradients(self.unet, *shape)
        wrong = wrong_parameters(found, wanted)
        if wrong:
            raise UserError(
                f"trainer.compile={self.how}: here torch {torch.__version__} compiles the denoiser wrongly ("
                f"{len(wrong)} of {len(wanted)} gradients, {wrong[0]} first); use trainer.compile="
                f"{'blocks or none' if self.how == 'whole' else 'none'}."
            )
