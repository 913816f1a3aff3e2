"""What TDM and SDM share: a backbone, latents of a batch, and the fine-tuned parts in diffusers' layout.

Axes: B batch, C latent channels, H W latent grid, L tokens.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fdlab.data.captions import null_ids
from fdlab.data.entry import FaceReader
from fdlab.data.latents import encode_pixels
from fdlab.diffusion.flow import is_flow, schedule_of
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.module import Optimization, Training
from fdlab.errors import UserError
from fdlab.models import adapter, fast
from fdlab.models.adapter import LoraSettings
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.randomness import derive
from fdlab.training.objective import NoiseSettings
from fdlab.weights.lora_files import DIFFUSERS_FILE, write_diffusers


class DenoisingTraining(Training):
    """A denoiser that learns on a backbone's latents and captions."""

    KIND: ClassVar[str]
    """`tdm` or `sdm`: which shipped weights it continues, which sampler shows it."""
    PARTS: ClassVar[tuple[str, ...]]
    """Parts of the backbone that learning changes."""
    REFERENCES: ClassVar[bool]
    """Whether batches need references."""
    encoder_rests: bool = False
    """Whether references are encoded by a network that does not learn."""
    faces: FaceReader | None = None
    """Looks for subjects' faces, where the training needs them."""
    taught_by: tuple[str, ...] = ()
    """Recognisers whose opinion is trained for: no independent judges of what is drawn afterwards."""

    def __init__(
        self,
        backbone: Backbone,
        seed: int,
        optimization: Optimization,
        *,
        condition_dropout: float,
        prediction_type: str | None,
        min_snr_gamma: float | None,
        timesteps: TimestepDensity,
        gradient_checkpointing: bool,
        lora: LoraSettings,
        noise_offset: float,
        input_perturbation: float,
        zero_terminal_snr: bool,
    ) -> None:
        super().__init__(optimization, seed)
        if is_flow(backbone.need("scheduler")):
            _check_flow(prediction_type, min_snr_gamma, zero_terminal_snr, lora)
        if prediction_type is not None:
            backbone.scheduler_config = {**backbone.need("scheduler"), "prediction_type": prediction_type}
        if zero_terminal_snr:
            backbone.scheduler_config = {**backbone.need("scheduler"), "rescale_betas_zero_snr": True}
        self.backbone, self.lora = backbone, lora
        if lora.rank:
            adapter.add(backbone.unet, lora, seed)
        self.networks = nn.ModuleDict(backbone.networks())
        if gradient_checkpointing:
            backbone.unet.enable_gradient_checkpointing()
        self.noise = NoiseSettings(
            schedule=schedule_of(backbone.need("scheduler")),
            null_ids_L=torch.from_numpy(null_ids(backbone.need("tokenizer"))),
            condition_dropout=condition_dropout,
            min_snr_gamma=min_snr_gamma,
            timesteps=timesteps,
            noise_offset=noise_offset,
            input_perturbation=input_perturbation,
        )

    def configure_model(self) -> None:
        """Lightning's hook, before a strategy wraps what learns and lays its gradients out."""
        fast.suit(self.backbone.need("unet"), self.trainer.strategy.root_device)
        super().configure_model()

    def on_fit_start(self) -> None:
        """Lightning's hook: spare a copy to the device at every step."""
        schedule, null = self.noise.schedule.to(self.device), self.noise.null_ids_L.to(self.device)
        self.noise = replace(self.noise, schedule=schedule, null_ids_L=null)

    def learning(self) -> list[nn.Module]:
        """The networks of the backbone that learn, and which a pass calls whole."""
        networks = self.backbone.networks().values()
        return [network for network in networks if any(p.requires_grad for p in network.parameters())]

    @property
    def denoiser(self) -> str:
        """What of the denoiser learns, as `trainable.select` calls it."""
        return adapter.PARAMETERS if self.lora.rank else "unet"

    def train(self, mode: bool = True) -> DenoisingTraining:
        """Put the networks that learn, and the adapter's dropout, into training mode."""
        super().train(mode)
        if self.lora.rank:
            adapter.train_dropout(self.backbone.unet, mode)
        return self

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Lightning's hook: one forward pass, whose dropout follows from the seed too."""
        if not self.lora.dropout:
            return super().training_step(batch, batch_idx)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive(self.seed, "dropout", self.first_pass + batch_idx, self.global_rank))
            return super().training_step(batch, batch_idx)

    def latents(self, batch: dict[str, Any]) -> Tensor:
        """Scaled latents of a batch: as cached, or encoded now."""
        if "latent_BCHW" in batch:
            z0_BCHW: Tensor = batch["latent_BCHW"]
            return z0_BCHW
        with torch.autocast(self.device.type, enabled=False):
            return encode_pixels(self.backbone.vae, batch["image_B3HW"])

    def export(self, folder: Path) -> None:
        """Write the parts that learning changed, and the scheduler (which knows what the denoiser predicts);
        an adapter merged into the denoiser, and by itself as diffusers reads it."""
        b = self.backbone
        parts = {part: getattr(b, part) for part in self.PARTS}
        if self.lora.rank:
            parts["unet"] = adapter.merged(b.unet)
        save_backbone(folder, Backbone(name=b.name, scheduler_config=b.scheduler_config, **parts))
        if self.lora.rank:
            write_diffusers(folder / DIFFUSERS_FILE, {"unet": adapter.updates(b.unet)})


def _check_flow(
    prediction_type: str | None, min_snr_gamma: float | None, zero_terminal_snr: bool, lora: LoraSettings
) -> None:
    """Refuse what has no meaning in flow matching, or is not there for transformers. Raises: UserError."""
    asked = {
        f"prediction_type={prediction_type}": prediction_type is not None,
        f"min_snr_gamma={min_snr_gamma}": min_snr_gamma is not None,
        "zero_terminal_snr=true": zero_terminal_snr,
        f"lora_rank={lora.rank}": lora.rank > 0,
    }
    for key, given in asked.items():
        if given:
            raise UserError(f"model.{key} does not go with a model of flow matching; leave it out.")
