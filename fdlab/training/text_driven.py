"""The text-driven model (TDM), and the base it starts from: the denoiser learns from captions, and text
encoders where that is asked for.

Face-diffuser (arXiv 2311.10329), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.draws import Draws
from fdlab.engine.module import Losses, Optimization
from fdlab.models.adapter import LoraSettings
from fdlab.models.backbone import Backbone
from fdlab.models.trainable import select
from fdlab.training.denoising import DenoisingTraining, Frozen, TextSettings
from fdlab.training.objective import text_driven_losses


class TDM(DenoisingTraining):
    """The UNet learns, or an adapter in it, and perhaps the text encoders. Parameters are those of
    conf/model/tdm.yaml."""

    KIND = "tdm"
    PARTS = ("unet",)
    REFERENCES = False

    def __init__(
        self,
        backbone: Backbone,
        seed: int,
        condition_dropout: float = 0.1,
        prediction_type: str | None = None,
        min_snr_gamma: float | None = None,
        timesteps: str = "uniform",
        log_sigma_mean: float = 0.4,
        log_sigma_std: float = 0.9,
        uniform_share: float = 0.2,
        gradient_checkpointing: bool = False,
        frozen: Frozen = "fp32",
        offload: bool = True,
        noise_offset: float = 0.0,
        input_perturbation: float = 0.0,
        zero_terminal_snr: bool = False,
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        lora_targets: Sequence[str] = ("attention",),
        lora_init: str | None = None,
        train_text_encoder: bool = False,
        text_encoder_lr: float | None = None,
        prior_weight: float = 0.0,
        **optimization: Any,
    ) -> None:
        super().__init__(
            backbone,
            seed,
            Optimization(**optimization),
            condition_dropout=condition_dropout,
            prediction_type=prediction_type,
            min_snr_gamma=min_snr_gamma,
            timesteps=TimestepDensity(timesteps, log_sigma_mean, log_sigma_std, uniform_share),
            gradient_checkpointing=gradient_checkpointing,
            frozen=frozen,
            offload=offload,
            noise_offset=noise_offset,
            input_perturbation=input_perturbation,
            zero_terminal_snr=zero_terminal_snr,
            lora=LoraSettings(lora_rank, lora_alpha, lora_dropout, lora_targets, lora_init),
            text=TextSettings(train_text_encoder, text_encoder_lr),
            prior_weight=prior_weight,
        )
        self.start(select(backbone, self.choice))

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        """Noise loss under the captions."""
        z0_BCHW = self.latents(batch)
        b = self.backbone
        losses = text_driven_losses(batch, z0_BCHW, b.unet, b.text, self.noise, draws)
        return self.with_prior(losses, batch, draws)
