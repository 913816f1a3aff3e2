"""The subject-augmented model (SDM): denoiser, fusion and the end of the image encoder learn from cut-out
references.

Face-diffuser (arXiv 2311.10329), section 3.2; FastComposer (arXiv 2305.10431), sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from fdlab.data.latents import decode_latents
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.draws import Draws
from fdlab.engine.module import Losses, Optimization
from fdlab.errors import UserError
from fdlab.measure.faces import SubjectFaces
from fdlab.models.adapter import LoraSettings
from fdlab.models.attention import CrossAttentionMaps
from fdlab.models.backbone import Backbone
from fdlab.models.denoiser import is_transformer
from fdlab.models.trainable import sdm_choice, select
from fdlab.training.denoising import DenoisingTraining, Frozen, TextSettings
from fdlab.training.faces import FaceSettings, Identity, teacher
from fdlab.training.objective import SubjectNetworks, SubjectSettings, subject_augmented_losses


class SDM(DenoisingTraining):
    """UNet, fusion MLP and the image encoder's last blocks learn. Parameters are those of
    conf/model/sdm.yaml."""

    KIND = "sdm"
    PARTS = ("unet", "image_encoder", "fusion")
    REFERENCES = True

    def __init__(
        self,
        backbone: Backbone,
        seed: int,
        condition_dropout: float = 0.1,
        text_only: float = 0.0,
        subject_keep: float = 0.9,
        train_image_blocks: int = 2,
        masked_loss: float = 0.5,
        masked_loss_mode: Literal["released", "sample"] = "sample",
        localization_weight: float = 1e-3,
        localization_blocks: int = 5,
        localization_normalize: bool = False,
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
        face_weight: float = 0.0,
        identity_weight: float = 0.0,
        identity_recogniser: str = "faceres",
        identity_weights_file: str | None = None,
        identity_from: float = 0.15,
        identity_to: float = 5.0,
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
        self.subjects = SubjectSettings(
            text_only=text_only,
            subject_keep=subject_keep,
            masked_loss=masked_loss,
            masked_loss_per_sample=masked_loss_mode == "sample",
            localization_weight=localization_weight,
            localization_normalize=localization_normalize,
            faces=FaceSettings(
                weight=face_weight,
                identity_weight=identity_weight,
                identity_from=identity_from,
                identity_to=identity_to,
                cell=int(backbone.image_size) / backbone.latent_shape_CHW[1],
            ),
        )
        self._teacher = (identity_recogniser, identity_weights_file)
        recogniser = teacher(*self._teacher) if identity_weight > 0 else None
        self.identity: Identity | None = None
        if self.subjects.faces.count:
            self.faces = SubjectFaces(recogniser)
        if recogniser is not None:
            self.identity = Identity(partial(decode_latents, backbone.vae), recogniser)
            self.taught_by, self.decodes = (identity_recogniser,), True
        localized = localization_weight > 0 and localization_blocks > 0
        if localized and is_transformer(backbone.unet.config):
            raise UserError(
                f"model.localization_weight={localization_weight}: this backbone's transformer has no"
                " cross-attention to localize; use 0."
            )
        self.maps = CrossAttentionMaps(backbone.unet, localization_blocks) if localized else None
        self.encoder_rests = train_image_blocks == 0
        self.start(select(backbone, sdm_choice(train_image_blocks, self.choice)))

    def on_fit_start(self) -> None:
        """Lightning's hook: the recogniser follows the networks to their device."""
        super().on_fit_start()
        if self.identity is not None:
            recogniser = teacher(*self._teacher, device=str(self.device))
            self.identity = replace(self.identity, recogniser=recogniser)

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        """Noise loss under the augmented captions, and localization."""
        b = self.backbone
        networks = SubjectNetworks(b.unet, b.text, b.image_encoder, b.fusion, self.maps, self.identity)
        z0_BCHW = self.latents(batch)
        losses = subject_augmented_losses(batch, z0_BCHW, networks, self.noise, self.subjects, draws)
        return self.with_prior(losses, batch, draws)
