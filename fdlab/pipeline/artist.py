"""The one object that draws: scenes in, pictures out, for benchmarks, `sample`, the demo and grids alike.

B batch, C latent channels, H W latent grid or pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab.data.captions import parse
from fdlab.diffusion.flow import schedule_of
from fdlab.diffusion.guiders import Recorder
from fdlab.diffusion.settings import SamplerSettings
from fdlab.diffusion.timesteps import num_calls, sampler_timesteps
from fdlab.errors import UserError
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone
from fdlab.models.finetuned import BackboneSettings, Weights
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.pipeline.inputs import Scene
from fdlab.pipeline.outputs import to_pixels, to_uint8
from fdlab.transforms.references import Background


@dataclass(frozen=True, eq=False)
class Progress:
    """A step of a batch is done."""

    done: int
    total: int
    """Calls of the guider, which may be more than the steps asked for."""
    clean_BCHW: Tensor
    """The clean latents predicted now."""
    pipeline: FaceDiffuserPipeline

    def preview(self) -> np.ndarray:
        """images_BHW3 uint8: what would remain if all noise went now."""
        return to_pixels(self.pipeline.decode(self.clean_BCHW))

    def stop(self) -> None:
        """End the drawing here."""
        self.pipeline._interrupt = True


class Artist:
    """One or two models and a sampler. A picture depends on its scene alone, but for rounding in a batch.

    `models` has a backbone, with a denoiser of its own, for each of "tdm" and "sdm" that a sampler may need;
    which of them is called is the guider's business. `half` False leaves the UNets as they are on a GPU: they
    may be in training. `background` lies behind a reference that is cut out.
    """

    def __init__(
        self,
        models: Mapping[str, Backbone],
        settings: SamplerSettings,
        *,
        background: Background = "noise",
        device: str = "cpu",
        half: bool = True,
    ) -> None:
        self.models, self.background = dict(models), background
        scheduler = self._scheduler(settings)
        self.settings = settings
        self.pipeline = FaceDiffuserPipeline.from_backbones(**self.models, scheduler=scheduler)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.to(device)
        if half and device.startswith("cuda"):
            # On a GPU bf16 is several times faster; on a CPU fp32 keeps pictures equal up to rounding.
            for name in self.models:
                getattr(self.pipeline, f"{name}_unet").to(torch.bfloat16)

    @classmethod
    def load(
        cls,
        backbone: BackboneSettings,
        weights: Mapping[str, Weights],
        settings: SamplerSettings,
        *,
        background: Background = "noise",
        device: str = "cpu",
    ) -> Artist:
        """An artist with the models whose `weights` were found. Raises: UserError where a part is missing."""
        models = {
            kind: finetuned.load(backbone, found, finetuned.PARTS[kind], device)
            for kind, found in weights.items()
        }
        return cls(models, settings, background=background, device=device)

    def use(self, settings: SamplerSettings) -> None:
        """Draw by other settings from now on. Raises: UserError for a model that they need and is missing."""
        self.pipeline.scheduler = self._scheduler(settings)
        self.settings = settings

    @property
    def size(self) -> int:
        """Pixels a side of its pictures."""
        return self.models[self.settings.needs[0]].image_size

    @property
    def num_calls(self) -> int:
        """Calls of the guider a picture takes: its steps, PNDM's one more, or up to `final_sigma`."""
        schedule = schedule_of(self.pipeline.scheduler.config)
        timesteps_S = sampler_timesteps(self.pipeline.scheduler, self.settings.num_steps)
        return num_calls(timesteps_S, schedule, self.settings.final_sigma)

    @property
    def reference_size(self) -> int:
        """Pixels a side of a reference as the SDM takes it; 0 where the guider draws no given subject."""
        return self.models["sdm"].reference_size if "sdm" in self.settings.needs else 0

    @property
    def reference_crop(self) -> str:
        """What of a reference the SDM takes: person, or head."""
        return self.models["sdm"].reference_crop if "sdm" in self.models else "person"

    def __call__(
        self,
        scenes: Sequence[Scene],
        recorder: Recorder | None = None,
        on_step: Callable[[Progress], object] | None = None,
    ) -> np.ndarray:
        """images_BHW3 uint8; `recorder` receives what a fusing guider did at each step.

        A guider that draws no given subject is given neither markers nor references.
        """
        with_subjects = "sdm" in self.settings.needs

        def stepped(pipeline: FaceDiffuserPipeline, call: int, t: Tensor, known: dict[str, Tensor]) -> None:
            if on_step is not None:
                on_step(Progress(call + 1, pipeline.num_timesteps, known["clean_latents"], pipeline))

        pixels_B3HW = self.pipeline(
            [scene.prompt if with_subjects else parse(scene.prompt)[0] for scene in scenes],
            [list(scene.references) if with_subjects else [] for scene in scenes],
            seeds=[scene.seed for scene in scenes],
            background=self.background,
            output_type="pt",
            recorder=recorder,
            callback_on_step_end=stepped if on_step is not None else None,
            callback_on_step_end_tensor_inputs=("clean_latents",),
            **call_arguments(self.settings),
        ).images
        return to_uint8(pixels_B3HW)

    def _scheduler(self, settings: SamplerSettings) -> Any:
        for name in settings.needs:
            if name not in self.models:
                raise UserError(
                    f"sampler '{settings.guider}' needs the {name.upper()}, but has none ({name}=PATH)."
                )
        return settings.make_scheduler(self.models[settings.needs[0]].need("scheduler"))


def call_arguments(settings: SamplerSettings) -> dict[str, Any]:
    """A sampler's settings as arguments of `FaceDiffuserPipeline.__call__`: all but the scheduler."""
    return {
        "guider": settings.guider,
        "guider_options": dict(settings.options),
        "num_inference_steps": settings.num_steps,
        "guidance_scale": settings.guidance_scale,
        "guidance_rescale": settings.guidance_rescale,
        "guidance_start": settings.guidance_start,
        "guidance_end": settings.guidance_end,
        "eta": settings.eta,
        "final_sigma": settings.final_sigma,
    }
