"""`FaceDiffuserPipeline`: given people in new scenes, by a text-driven and a subject-augmented model.

Axes: B pictures, L tokens, D width, C latent channels, H W latent grid.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput, is_accelerate_available
from torch import Tensor

from fdlab.data.captions import parse, unseen
from fdlab.data.latents import decode_in_parts, spatial_factor
from fdlab.diffusion import guiders
from fdlab.diffusion.flow import schedule_of
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.sampler import Noise, Step, trajectory
from fdlab.diffusion.timesteps import num_calls, sampler_timesteps
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone, load_backbone, part_folders
from fdlab.models.conditioning import Embeddings
from fdlab.models.denoiser import denoiser_of
from fdlab.models.nano import SHIPPED
from fdlab.pipeline.callbacks import TENSORS, Callback, after_step, check_tensors
from fdlab.pipeline.embeddings import conditioning_of, embed
from fdlab.pipeline.folder import check_folder, reading
from fdlab.pipeline.inputs import Reference, as_lists, check_markers, tell_unseen
from fdlab.pipeline.joined import ENCODERS, TEXT, joined
from fdlab.pipeline.noise import latent_shape, starting_noise
from fdlab.pipeline.outputs import as_output, check_output_type
from fdlab.transforms.references import Background
from fdlab.weights.files import check_finite


@dataclass
class FaceDiffuserPipelineOutput(BaseOutput):
    """What a call returns."""

    images: Any
    """A list of PIL images; an array BHW3 in [0, 1]; a tensor B3HW in [0, 1]; or latents BCHW."""


class FaceDiffuserPipeline(DiffusionPipeline):
    r"""Draw given people in a new scene (Face-diffuser, CVPR 2024; arXiv 2311.10329).

    The TDM builds the scene, both models collaborate through saliency-adaptive noise fusion, and the SDM
    refines the people. Loading, saving, moving and offloading are `DiffusionPipeline`'s.

    Args:
        tdm_unet (`UNet2DConditionModel`): The text-driven model; None where guiders call only the SDM.
        sdm_unet (`UNet2DConditionModel`): The subject-augmented model; None where only guider "tdm" is used.
        vae (`AutoencoderKL`): From latents to pictures; not needed with `output_type="latent"`.
        text_encoder (`CLIPTextModel`), tokenizer (`CLIPTokenizer`), image_encoder
            (`CLIPVisionModelWithProjection`), fusion (`SubjectFusion`): From prompts and subjects to
            embeddings; not needed where embeddings are given.
        scheduler (`SchedulerMixin`): Any of diffusers' whose `step` takes (output, t, sample).
        text_encoder_2 (`CLIPTextModelWithProjection`), tokenizer_2 (`CLIPTokenizer`), zero_empty_prompt
            (`bool`): Stable Diffusion XL's; embeddings are packed then (`fdlab.models.text_pair`).
        tdm_text_encoder, tdm_text_encoder_2: The text-driven model's, where it has others than the
            subject-augmented one; each then reads the prompt for itself.
        reference_crop (`str`): What of a subject's picture is seen: "person", all; "head", which is cut out.
        guidance_scale (`float`), final_sigma (`float`): A call's, where it gives none.

    Example:
        >>> from fdlab import FaceDiffuserPipeline
        >>> pipe = FaceDiffuserPipeline.shipped()
        >>> picture = pipe("a woman <|image|> on a beach", "ada.png", seeds=[1]).images[0]
    """

    model_cpu_offload_seq = (
        "text_encoder->text_encoder_2->tdm_text_encoder->tdm_text_encoder_2"
        "->image_encoder->fusion->tdm_unet->sdm_unet->vae"
    )
    _optional_components = [  # noqa: RUF012 (diffusers' way)
        "tdm_unet", "sdm_unet", "vae", *ENCODERS, *(f"tdm_{name}" for name in TEXT),
    ]  # fmt: skip
    _callback_tensor_inputs = [*TENSORS]  # noqa: RUF012

    def __init__(
        self,
        tdm_unet: Any,
        sdm_unet: Any,
        vae: Any,
        text_encoder: Any,
        image_encoder: Any,
        fusion: Any,
        tokenizer: Any,
        scheduler: Any,
        reference_crop: str = "person",
        guidance_scale: float = 5.0,
        final_sigma: float = 0.0,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        zero_empty_prompt: bool = False,
        tdm_text_encoder: Any = None,
        tdm_text_encoder_2: Any = None,
    ) -> None:
        super().__init__()
        usual = {"guidance_scale": guidance_scale, "final_sigma": final_sigma}
        usual |= {"zero_empty_prompt": zero_empty_prompt}
        self.register_to_config(reference_crop=reference_crop, **usual)
        self.register_modules(
            tdm_unet=tdm_unet,
            sdm_unet=sdm_unet,
            vae=vae,
            text_encoder=text_encoder,
            text_encoder_2=text_encoder_2,
            tdm_text_encoder=tdm_text_encoder,
            tdm_text_encoder_2=tdm_text_encoder_2,
            image_encoder=image_encoder,
            fusion=fusion,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            scheduler=scheduler,
        )
        self._denoisers: dict[str, Any] = {}
        self._interrupt = False
        self._told: set[str] = set()

    @classmethod
    def from_backbones(
        cls, tdm: Backbone | None = None, sdm: Backbone | None = None, scheduler: Any = None
    ) -> FaceDiffuserPipeline:
        """Join the parts of a TDM and an SDM, either of which may be None; what they share, from either.

        Raises: UserError where neither is given, or the two predict different things.
        """
        return cls(**joined(tdm, sdm, scheduler))

    @classmethod
    def shipped(cls) -> FaceDiffuserPipeline:
        """The nano backbone with TDM and SDM, which ships: 128 px, on a CPU in seconds; cuts heads out."""
        encoders = ("text_encoder", "image_encoder", "fusion", "tokenizer")
        wanted = {"tdm": ("unet", "scheduler"), "sdm": ("unet", "scheduler", "vae", *encoders)}
        models = {
            kind: load_backbone("asset:nano", part_folders(f"asset:nano/{kind}"), parts)
            for kind, parts in wanted.items()
        }
        made = cls.from_backbones(**models)
        made.register_to_config(**SHIPPED)
        return made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> FaceDiffuserPipeline:
        """Read what `save_pretrained` wrote, from a folder or the hub; safetensors only.

        Takes `DiffusionPipeline.from_pretrained`'s arguments. Raises: UserError for a folder that asks for
        classes that such a pipeline does not have, or for weights that are not safetensors.
        """
        if not kwargs.setdefault("use_safetensors", True):
            raise UserError("use_safetensors=False would read pickles, which can run code.")
        # Else diffusers says at length that it would like to have accelerate.
        kwargs.setdefault("low_cpu_mem_usage", is_accelerate_available())
        if Path(pretrained_model_name_or_path).is_dir():
            check_folder(Path(pretrained_model_name_or_path))
        with reading(Path(pretrained_model_name_or_path)):
            pipeline: FaceDiffuserPipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module):
                check_finite(part.state_dict(), f"{pretrained_model_name_or_path}/{name}")
        return pipeline

    @property
    def guidance_scale(self) -> float:
        """The current call's."""
        return self._guidance.scale

    @property
    def num_timesteps(self) -> int:
        """Steps of the current call; PNDM makes one more than it is asked for, `final_sigma` fewer."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `pipe._interrupt = True`, from a callback or another thread, to end after the current step."""
        return self._interrupt

    @property
    def vae_scale_factor(self) -> int:
        """Pixels a latent along one side."""
        return spatial_factor(self.vae.config) if self.vae is not None else 8

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        subjects: Reference | Sequence[Any] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        background: Background = "noise",
        model: str = "sdm",
    ) -> Embeddings:
        """Embed prompts with their subjects: (null_BLD, text_BLD, augmented_BLD); arguments as in `__call__`.

        `model`: for which ("tdm" or "sdm") the prompt is read, where they have text encoders of their own.
        Raises: UserError for a part that is missing, and for subjects and markers that do not match.
        """
        prompts, lists = as_lists(prompt, subjects)
        for text, some in zip(prompts, lists, strict=True):
            check_markers(text, len(some), draws_subjects=bool(some))
        negatives = [negative_prompt] if isinstance(negative_prompt, str) else negative_prompt or []
        tell_unseen(self.tokenizer, [*prompts, *negatives], self._told)
        own = {name: getattr(self, f"tdm_{name}") for name in TEXT} if model == "tdm" else {}
        encoders = {name: own.get(name) or getattr(self, name) for name in ENCODERS}
        parts = Backbone(type(self).__name__, **encoders)
        parts.reference_crop = self.config.reference_crop
        parts.zero_empty_prompt = self.config.zero_empty_prompt
        return embed(parts, prompts, lists, negative_prompt, background, self._execution_device)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        subjects: Reference | Sequence[Any] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        eta: float = 0.0,
        final_sigma: float | None = None,
        guider: str = "snf",
        alpha: float | None = None,
        beta: float | None = None,
        last_tdm_step: int | None = None,
        last_snf_step: int | None = None,
        guider_options: Mapping[str, Any] | None = None,
        num_images_per_prompt: int = 1,
        seeds: Sequence[int] | None = None,
        generator: Noise = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        subject_prompt_embeds: Tensor | None = None,
        background: Background = "noise",
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        recorder: guiders.Recorder | None = None,
    ) -> Any:
        r"""Draw.

        Args:
            prompt: What to draw, with a marker `<|image|>` behind the words of each subject. A list draws one
                picture each, in one batch; the numbers of subjects may differ.
            subjects: Pictures of the subjects in the order of their markers: PIL images, paths or uint8
                arrays; for a list of prompts, a list of lists. With alpha, only what is opaque is the
                subject. Head and shoulders suit best, unless the pipeline cuts heads out.
            negative_prompt: What to guide away from in place of the empty prompt.
            height, width: Pixels; what the UNet was made for by default.
            num_inference_steps: Denoising steps.
            guidance_scale: Strength of classifier-free guidance; 1 is none.
            guidance_rescale: In [0, 1]; brings the contrast back (Lin et al. 2024).
            guidance_start, guidance_end: Fractions of the steps between which guidance is on
                (Kynkaanniemi et al. 2024).
            eta: DDIM's; 0 is deterministic.
            final_sigma: Noise level s_t / a_t whose predicted clean picture is the end; 0: the last step's.
            guider: How models become one: snf, tdm, sdm, delayed, average, switch or attention.
            alpha, beta: Fractions of the steps at which the TDM's and the fusion's stage end (the guider's
                own where None; 0.3 and 0.6 for snf).
            last_tdm_step, last_snf_step: In their place, inclusive indices of steps, as released.
            guider_options: The guider's other options, as in conf/sampler.
            num_images_per_prompt: Pictures a prompt.
            seeds: One a picture: each then depends on its seed alone, whatever the batch and the device.
            generator: In place of seeds, a generator or a list of one a picture.
            latents: In place of seeds, (B, C, H, W) standard normal.
            prompt_embeds, negative_prompt_embeds, subject_prompt_embeds: (B, L, D), in place of prompt and
                subjects: of the prompt without markers, of nothing, and of the prompt with its subjects.
            background: What lies behind a cut-out subject: noise (as in training), grey or white.
            output_type: "pil", "np" (B, H, W, 3 in [0, 1]), "pt" (B, 3, H, W in [0, 1]) or "latent".
            return_dict: False returns a tuple.
            callback_on_step_end: Called as (pipeline, call, t, {"latents": ...}) after each call of the
                guider; latents in the dictionary it returns replace these.
            callback_on_step_end_tensor_inputs: What it is given: "latents", or "clean_latents", the clean
                ones predicted now.
            recorder: Receives a `Trace` of each step of a guider that fuses: stage, saliencies, mask.

        Returns:
            `FaceDiffuserPipelineOutput` with `images`, or a tuple of them.

        Raises:
            UserError: Anything that does not fit, in one line, before the first step.
        """
        check_output_type(output_type, self.vae)
        check_tensors(callback_on_step_end_tensor_inputs)
        steps, usual = int(num_inference_steps), self.config
        guidance_scale = usual.guidance_scale if guidance_scale is None else guidance_scale
        final_sigma = usual.final_sigma if final_sigma is None else final_sigma
        self._guidance = Guidance.between(
            guidance_scale, guidance_rescale, guidance_start, guidance_end, steps
        )
        ends = {"last_tdm_step": last_tdm_step, "last_snf_step": last_snf_step}
        stages = {"alpha": alpha, "beta": beta, **ends}
        options: dict[str, Any] = {key: value for key, value in stages.items() if value is not None}
        options |= guider_options or {}
        needed = self._needs(guider)
        # Before the encoders run, which may take a while.
        guiders.check(guider, num_steps=steps, guidance=self._guidance, **options)

        device, unet = self._execution_device, getattr(self, f"{needed[0]}_unet")
        embeds = (negative_prompt_embeds, prompt_embeds, subject_prompt_embeds)
        readers = needed if any(getattr(self, f"tdm_{name}") is not None for name in TEXT) else needed[:1]
        conditionings = conditioning_of(
            self.encode_prompt,
            readers,
            "sdm" in needed,
            prompt,
            subjects,
            negative_prompt,
            embeds,
            background,
        )
        conditionings = {
            name: made.repeat(num_images_per_prompt).to(device, unet.dtype)
            for name, made in conditionings.items()
        }
        first = conditionings[needed[0]]
        shape = (len(first), *latent_shape(unet, self.vae_scale_factor, height, width))
        z_BCHW, generator = starting_noise(shape, seeds, generator, latents, device, eta)

        schedule = schedule_of(self.scheduler.config).to(device)
        with ExitStack() as stack:
            models: dict[str, Any] = {
                name: guiders.Model(stack.enter_context(self._denoiser(name)), conditionings.get(name, first))
                for name in needed
            }
            models |= {"guidance": self._guidance, "schedule": schedule, "recorder": recorder}
            guide = guiders.build(guider, num_steps=steps, **models, **options)
            asked = tuple(callback_on_step_end_tensor_inputs)
            after = after_step(callback_on_step_end, self, asked, schedule)
            timesteps_S = sampler_timesteps(self.scheduler, steps, device)
            self._num_timesteps = num_calls(timesteps_S, schedule, final_sigma)
            walk = trajectory(guide, self.scheduler, z_BCHW, steps, generator, eta, final_sigma)
            z_BCHW = self._denoise(walk, z_BCHW, after)
        images = as_output(z_BCHW, output_type, self.decode)
        self.maybe_free_model_hooks()
        return FaceDiffuserPipelineOutput(images=images) if return_dict else (images,)

    def _needs(self, guider: str) -> tuple[str, ...]:
        """Which models a guider calls; they are there. Raises: UserError."""
        needed = guiders.needs(guider)
        for name in needed:
            if getattr(self, f"{name}_unet") is None:
                raise UserError(f"guider '{guider}' needs a {name.upper()}, but there is no {name}_unet.")
        return needed

    def _denoise(
        self,
        walk: Generator[Step, Tensor | None, None],
        z_BCHW: Tensor,
        after: Callable[[Step], Tensor | None] | None,
    ) -> Tensor:
        """All steps, with progress bar, callback and interruption."""
        self._interrupt = False
        replaced: Tensor | None = None
        with self.progress_bar(total=self._num_timesteps) as bar:
            while not self._interrupt:
                try:
                    step = walk.send(replaced)
                except StopIteration:
                    break
                bar.update()
                replaced = after(step) if after else None
                z_BCHW = step.z_BCHW if replaced is None else replaced
        return z_BCHW

    def unseen(self, prompt: str) -> str:
        """What of a prompt, markers aside, lies past the text encoder's last token; empty where nothing."""
        return unseen(self.tokenizer, parse(prompt)[0]) if self.tokenizer is not None else ""

    @torch.no_grad()
    def decode(self, z_BCHW: Tensor) -> Tensor:
        """Latents to pixels B3HW, about [-1, 1]; float32."""
        return decode_in_parts(self.vae, z_BCHW.to(self.vae.dtype)).float()

    def _denoiser(self, name: str) -> Any:
        """One a UNet for the pipeline's life: a compiled UNet is compiled anew for new processors."""
        unet = getattr(self, f"{name}_unet")
        if name not in self._denoisers or self._denoisers[name].unet is not unet:
            self._denoisers[name] = denoiser_of(unet)
        return self._denoisers[name]
