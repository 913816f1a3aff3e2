"""What TDM and SDM share: a backbone, latents of a batch, and the fine-tuned parts in diffusers' layout.

Axes: B batch, C latent channels, H W latent grid, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fdlab.data.beside import class_part
from fdlab.data.captions import null_ids
from fdlab.data.entry import FaceReader
from fdlab.data.latents import encode_pixels
from fdlab.diffusion.flow import is_flow, schedule_of
from fdlab.diffusion.schedulers import at_zero_snr
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.draws import Draws
from fdlab.engine.lean import Kept, Lean
from fdlab.engine.module import Losses, Optimization, Training
from fdlab.errors import UserError
from fdlab.models import adapter, fast
from fdlab.models.adapter import LoraSettings
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.trainable import TEXT, TEXT_LORA
from fdlab.randomness import derive
from fdlab.training.objective import NoiseSettings, text_driven_losses, with_prior
from fdlab.weights.lora_files import DIFFUSERS_FILE, write_diffusers

Frozen = Literal["fp32", "half", "auto"]
"""How weights that do not learn are kept while others do: exact, rounded as steps compute with them, or so
where that saves memory."""


@dataclass(frozen=True)
class TextSettings:
    """Whether text encoders learn, and at which rate; None: at the others'."""

    learn: bool = False
    lr: float | None = None


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
    decodes: bool = False
    """Whether a step looks at decoded pictures."""
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
        frozen: Frozen,
        offload: bool,
        lora: LoraSettings,
        noise_offset: float,
        input_perturbation: float,
        zero_terminal_snr: bool,
        text: TextSettings,
        prior_weight: float,
    ) -> None:
        super().__init__(optimization, seed)
        if is_flow(backbone.need("scheduler")):
            _check_flow(prediction_type, min_snr_gamma, zero_terminal_snr)
        if prediction_type is not None:
            backbone.scheduler_config = {**backbone.need("scheduler"), "prediction_type": prediction_type}
        if zero_terminal_snr:
            if (kind := backbone.need("scheduler").get("prediction_type", "epsilon")) == "epsilon":
                raise UserError(
                    f"model.zero_terminal_snr=true does not go with prediction type '{kind}': where there is"
                    " noise alone, it says nothing about the picture; give model.prediction_type=v_prediction"
                    " with it."
                )
            backbone.scheduler_config = at_zero_snr(backbone.need("scheduler"))
        self.backbone, self.lora, self.text = backbone, lora, text
        self.prior_weight = prior_weight
        self.frozen, self.offload = frozen, offload
        self.lean = Lean()
        """How lean frozen weights are while this trains."""
        self._kept: Kept | None = None
        if lora.rank:
            adapter.add(backbone.unet, lora, seed)
        if lora.rank and text.learn:
            adapter.add_to_text(backbone.text_encoders, lora, seed)
        elif lora.rank:
            adapter.check_rests(backbone.text_encoders, lora)
        self.networks = nn.ModuleDict(backbone.networks())
        if gradient_checkpointing:
            self.checkpoint_gradients()
        self.noise = NoiseSettings(
            schedule=schedule_of(backbone.need("scheduler")),
            null_ids_L=torch.from_numpy(null_ids(backbone.need("tokenizer"))),
            condition_dropout=condition_dropout,
            min_snr_gamma=min_snr_gamma,
            timesteps=timesteps,
            noise_offset=noise_offset,
            input_perturbation=input_perturbation,
        )

    def checkpoint_gradients(self) -> None:
        """Have the denoiser, and text encoders that learn, compute activations again and not keep them."""
        self.backbone.unet.enable_gradient_checkpointing()
        for encoder in self.backbone.text_encoders.values() if self.text.learn else ():
            # The later name, and the one that transformers 5 began with.
            enable = getattr(encoder, "activation_checkpointing_enable", None)
            (enable or encoder.gradient_checkpointing_enable)({"use_reentrant": False})
            # Theirs works in training mode alone.
            encoder.train()

    def rate_shares(self) -> dict[str, float]:
        """The text encoders' share of the learning rate, where it is another."""
        if self.text.lr is None:
            return {}
        share = self.text.lr / self.optimization.lr
        return {name: share for name in self.trainable_parameters() if name.startswith("text_encoder")}

    def configure_model(self) -> None:
        """Lightning's hook, before a strategy wraps what learns and lays its gradients out."""
        fast.suit(self.backbone.need("unet"), self.trainer.strategy.root_device)
        super().configure_model()

    def on_fit_start(self) -> None:
        """Lightning's hook: spare a copy to the device at every step."""
        schedule, null = self.noise.schedule.to(self.device), self.noise.null_ids_L.to(self.device)
        self.noise = replace(self.noise, schedule=schedule, null_ids_L=null)
        self._kept = Kept(self.lean, self.backbone.networks(), self.device)

    def on_train_end(self) -> None:
        """Lightning's hook: frozen weights as they were given."""
        super().on_train_end()
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.undo()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the weights' place, and all networks whole on the device."""
        with nullcontext() if self._kept is None else self._kept.whole(), super().averaged():
            yield

    def learning(self) -> list[nn.Module]:
        """The networks of the backbone that learn, and which a pass calls whole."""
        networks = self.backbone.networks().values()
        return [network for network in networks if any(p.requires_grad for p in network.parameters())]

    @property
    def choice(self) -> str:
        """What of the denoiser and the text encoders learns, as `trainable.select` calls it."""
        denoiser, text = (adapter.PARAMETERS, TEXT_LORA) if self.lora.rank else ("unet", TEXT)
        return f"{denoiser}+{text}" if self.text.learn else denoiser

    def train(self, mode: bool = True) -> DenoisingTraining:
        """Put the networks that learn, and the adapter's dropout, into training mode."""
        super().train(mode)
        for network in self._adapted().values():
            adapter.train_dropout(network, mode)
        return self

    def _adapted(self) -> dict[str, Any]:
        """The networks beside whose weights matrices learn, by part."""
        text = self.backbone.text_encoders if self.text.learn else {}
        return {"unet": self.backbone.unet, **text} if self.lora.rank else {}

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

    def with_prior(self, losses: Losses, batch: dict[str, Any], draws: Draws) -> Losses:
        """Losses with that on pictures of anybody, where they are asked for.

        Of an SDM too it is the text's alone: a class picture has no reference. What an SDM says to a caption
        is what its subjects are guided away from, and what few people's pictures would change; were each its
        own reference, it would be one more person to learn.
        """
        if not self.prior_weight:
            return losses
        classes = class_part(batch)
        unet, text = self.backbone.unet, self.backbone.text
        prior = text_driven_losses(classes, self.latents(classes), unet, text, self.noise, draws)["loss"]
        return with_prior(losses, prior, self.prior_weight)

    def export(self, folder: Path) -> None:
        """Write the parts that learning changed, text encoders that are not the backbone's, and the scheduler
        (which knows what the denoiser predicts); adapters merged into their networks, and by themselves as
        diffusers reads them."""
        b = self.backbone
        text = b.text_encoders if self.text.learn else {part: getattr(b, part) for part in b.brought}
        parts = {part: getattr(b, part) for part in self.PARTS} | text
        adapted = self._adapted()
        parts |= {part: adapter.merged(network) for part, network in adapted.items()}
        save_backbone(folder, Backbone(name=b.name, scheduler_config=b.scheduler_config, **parts))
        if adapted:
            updates = {part: adapter.updates(network) for part, network in adapted.items()}
            write_diffusers(folder / DIFFUSERS_FILE, updates)


def _check_flow(prediction_type: str | None, min_snr_gamma: float | None, zero_terminal_snr: bool) -> None:
    """Refuse what has no meaning in flow matching. Raises: UserError."""
    asked = {
        f"prediction_type={prediction_type}": prediction_type is not None,
        f"min_snr_gamma={min_snr_gamma}": min_snr_gamma is not None,
        "zero_terminal_snr=true": zero_terminal_snr,
    }
    for key, given in asked.items():
        if given:
            raise UserError(f"model.{key} does not go with a model of flow matching; leave it out.")
