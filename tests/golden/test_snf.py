"""The released three-stage sampling, step by step (see README.md beside this file)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from fdlab import FaceDiffuserPipeline
from fdlab.diffusion import guiders
from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.sampler import sample
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.diffusion.timesteps import sampler_timesteps

FOLDER = Path(__file__).parent / "snf"
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def trajectory() -> dict[str, Tensor]:
    return load_file(FOLDER / "trajectory.safetensors")


@pytest.fixture(scope="module")
def models(trajectory: dict[str, Tensor]) -> dict[str, guiders.Model]:
    conditioning = Conditioning(trajectory["null"], trajectory["text"], trajectory["augmented"])

    def load(name: str) -> guiders.Model:
        unet = UNet2DConditionModel.from_pretrained(FOLDER / name, local_files_only=True).eval()
        return guiders.Model(lambda z, t, ctx: unet(z, t, ctx, return_dict=False)[0], conditioning)

    return {"tdm": load("tdm_unet"), "sdm": load("sdm_unet")}


@pytest.fixture(scope="module")
def scheduler() -> Any:
    config = {key: value for key, value in SETTINGS["scheduler"].items() if key != "type"}
    return make_scheduler(SETTINGS["scheduler"]["type"], config)


def test_the_same_timesteps(scheduler: Any, trajectory: dict[str, Tensor]) -> None:
    assert sampler_timesteps(scheduler, SETTINGS["steps"]).tolist() == trajectory["timesteps"].tolist()


def test_one_image_is_the_same_alone(
    models: dict[str, guiders.Model], scheduler: Any, trajectory: dict[str, Tensor]
) -> None:
    """Neither the other image nor the order changes a result; free-running, on a crop of the grid."""

    def run(rows: list[int]) -> Tensor:
        chosen = {
            name: guiders.Model(model.denoiser, model.conditioning._map(lambda context: context[rows]))
            for name, model in models.items()
        }
        guider = guiders.build("snf", **chosen, guidance=5.0, num_steps=4, last_tdm_step=0, last_snf_step=2)
        return sample(guider, scheduler, trajectory["initial_latents"][rows, :, :16, :16], 4)

    together = run([0, 1])
    for other in (run([1, 0]).flip(0), torch.cat([run([0]), run([1])])):
        assert (together - other).abs().max() < 1e-4 * together.abs().max()


@pytest.mark.long
def test_every_step_teacher_forced(scheduler: Any, trajectory: dict[str, Tensor]) -> None:
    """Through the pipeline, with embeddings and the released inclusive indices. The callback replaces each
    step's latents by the recorded ones, from which the next step starts."""
    unets = {
        f"{name}_unet": UNet2DConditionModel.from_pretrained(FOLDER / f"{name}_unet", local_files_only=True)
        for name in ("tdm", "sdm")
    }
    # One of the two: that a picture does not depend on its batch is shown above.
    image = slice(1, 2)
    others = ("vae", "text_encoder", "image_encoder", "fusion", "tokenizer")
    pipe = FaceDiffuserPipeline(**unets, **dict.fromkeys(others), scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    worst: list[float] = []

    def force(_: Any, step: int, t: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
        assert t == trajectory["timesteps"][step]
        recorded = trajectory["latents_after_step"][step][image]
        worst.append((given["latents"] - recorded).abs().max().item())
        return {"latents": recorded}

    pipe(
        negative_prompt_embeds=trajectory["null"][image],
        prompt_embeds=trajectory["text"][image],
        subject_prompt_embeds=trajectory["augmented"][image],
        latents=trajectory["initial_latents"][image],
        num_inference_steps=SETTINGS["steps"],
        guidance_scale=SETTINGS["guidance_scale"],
        last_tdm_step=SETTINGS["start_merge_step"],
        last_snf_step=SETTINGS["final_step"],
        output_type="latent",
        callback_on_step_end=force,
    )
    assert len(worst) == SETTINGS["steps"] and max(worst) < TOLERANCE
