"""The one object that draws: every setting reaches the picture, whoever has it drawn."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fdlab import FaceDiffuserPipeline
from fdlab.diffusion.settings import SHARED, SamplerSettings
from fdlab.errors import UserError
from fdlab.pipeline.artist import Artist, Progress, call_arguments
from fdlab.pipeline.inputs import Scene
from tests.worlds.backbones import tiny_backbone

SETTINGS = SamplerSettings("snf", num_steps=4, guidance_scale=2.0)
FACE = np.random.default_rng(0).integers(0, 256, (30, 24, 3), np.uint8)
SCENES = [
    Scene("a woman <|image|> on a beach", 5, (FACE,)),
    Scene("a man <|image|>", 6, (FACE[::-1].copy(),)),
]


@pytest.fixture(scope="module")
def artist() -> Artist:
    return Artist({"tdm": tiny_backbone(1), "sdm": tiny_backbone(2)}, SETTINGS)


def drawn(artist: Artist, **changed: Any) -> np.ndarray:
    artist.use(replace(SETTINGS, **changed))
    return artist(SCENES).astype(int)


@pytest.mark.parametrize(
    "changed",
    [
        {"num_steps": 5},
        {"guidance_scale": 4.0},
        {"guidance_rescale": 0.7},
        {"guidance_start": 0.5},
        {"guidance_end": 0.5},
        {"eta": 0.8},
        {"final_sigma": 1.0},
        {"scheduler": "euler"},
        {"spacing": "linspace"},
        {"guider": "switch"},
        {"options": {"alpha": 0.0, "beta": 1.0}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_changes_the_picture(artist: Artist, changed: dict[str, Any]) -> None:
    images_BHW3 = drawn(artist, **changed)
    assert images_BHW3.shape == (2, 64, 64, 3) and (images_BHW3 != drawn(artist)).any()


def test_no_setting_is_forgotten_on_the_way_to_the_pipeline() -> None:
    """A key that all samplers share is an argument, or makes the scheduler."""
    assert len(call_arguments(SETTINGS)) == len(SHARED) - len({"scheduler", "spacing"}) + len({"options"})
    parameters = inspect.signature(FaceDiffuserPipeline.__call__).parameters
    usual = call_arguments(SamplerSettings("snf"))
    # What suits the weights is the pipeline's own.
    own = inspect.signature(FaceDiffuserPipeline.__init__).parameters
    suits = ("guidance_scale", "final_sigma")
    assert {key: own[key].default for key in suits} == {key: usual[key] for key in suits}
    unsaid = dict.fromkeys(("guider_options", *suits))
    assert {key: parameters[key].default for key in usual} == usual | unsaid


def test_it_draws_as_the_pipeline_does(artist: Artist) -> None:
    artist.use(replace(SETTINGS, eta=0.3, guidance_rescale=0.2))
    pipe = FaceDiffuserPipeline.from_backbones(tiny_backbone(1), tiny_backbone(2))
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        [scene.prompt for scene in SCENES],
        [list(scene.references) for scene in SCENES],
        seeds=[5, 6],
        num_inference_steps=4,
        guidance_scale=2.0,
        guidance_rescale=0.2,
        eta=0.3,
    ).images
    assert np.array_equal(artist(SCENES), np.stack([np.asarray(image) for image in images]))


def test_a_guider_without_subjects_is_given_the_bare_prompt(artist: Artist) -> None:
    bare = [Scene("a woman on a beach", 5), Scene("a man", 6)]
    artist.use(SETTINGS.with_guider("tdm"))
    assert np.array_equal(artist(SCENES), artist(bare)) and artist.reference_size == 0


def test_each_step_is_told_previewed_and_may_be_the_last(artist: Artist) -> None:
    artist.use(SETTINGS)
    seen: list[tuple[int, int]] = []

    def after(step: Progress) -> None:
        seen.append((step.done, step.total))
        assert step.preview().shape == (2, 64, 64, 3)
        if step.done == 3:
            step.stop()

    stopped = artist(SCENES, on_step=after)
    assert seen == [(1, 4), (2, 4), (3, 4)] and (stopped != artist(SCENES)).any()


def test_a_model_that_is_missing_is_named_and_nothing_is_changed() -> None:
    alone = Artist({"tdm": tiny_backbone(1)}, SETTINGS.with_guider("tdm"))
    with pytest.raises(UserError, match="sampler 'snf' needs the SDM, but has none"):
        alone.use(SETTINGS)
    assert alone.settings.guider == "tdm" and alone(SCENES).shape == (2, 64, 64, 3)
