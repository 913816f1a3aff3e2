"""The autoencoder's training as a LightningModule, for those who have a GPU and `fdlab.training.fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fdlab.models.autoencoder import NanoAutoencoder
from fdlab.training.autoencoder import export, sampled_loss
from fdlab.training.module import Optimization, Training
from fdlab.training.objective import Losses


class AutoencoderTraining(Training):
    """Batches hold `image_B3HW` in [-1, 1] and maybe `weight_BHW`, how much each pixel counts.

    Set the latents' scale with `fdlab.training.autoencoder.set_latent_scale` before the export that ships.
    """

    def __init__(
        self, autoencoder: NanoAutoencoder, seed: int, kl_weight: float = 1e-5, **optimization: Any
    ) -> None:
        super().__init__(
            Optimization(**{"lr": 1e-3, "schedule": "cosine", "warmup_steps": 50, **optimization}), seed
        )
        self.autoencoder, self.kl_weight = autoencoder, kl_weight
        self.start(dict(autoencoder.named_parameters()))

    def losses(self, batch: dict[str, Any], generator: torch.Generator) -> Losses:
        """Reconstruction, edges and KL."""
        loss = sampled_loss(
            self.autoencoder, batch["image_B3HW"], batch.get("weight_BHW"), generator, self.kl_weight
        )
        return {"loss": loss.total, "l1": loss.l1, "edges": loss.edges, "kl": loss.kl}

    def export(self, folder: Path) -> None:
        """Write `folder` in diffusers' layout, fp16."""
        export(self.autoencoder, folder)
