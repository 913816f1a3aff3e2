"""What the page was filled with: checked, and text that gives the same picture again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab import FaceDiffuserPipeline
from fdlab.__main__ import main
from fdlab.config.compose import compose
from fdlab.demo import choices
from fdlab.demo.examples import render_examples
from fdlab.demo.recipe import Models, ask
from fdlab.diffusion import guiders
from fdlab.errors import UserError
from fdlab.measure.faces.photos import Head

PROMPT = "a woman <|image|> on a beach"


def test_command_script_and_arguments_draw_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = render_examples(tmp_path / 'it\'s a "folder", é')[0].photos[0]
    asked = ask(PROMPT, [str(photo)], "attention", {"alpha": 0.1, "beta": 0.75}, 3, 4.5, 7)
    # What the page has no field for may come from the guider's file: it must not be forgotten.
    more = {"eta": 0.5, "guidance_rescale": 0.3, "guidance_start": 0.1, "guidance_end": 0.9}
    more["final_sigma"] = 0.7
    asked = replace(asked, sampler=replace(asked.sampler, **more), head=Head(96))  # type: ignore[arg-type]
    pipe = FaceDiffuserPipeline.shipped()
    mine = np.asarray(pipe(asked.prompt, [photo], **asked.arguments).images[0])

    monkeypatch.chdir(tmp_path)
    exec(asked.script(), {})
    assert (np.asarray(Image.open("picture.png")) == mine).all()

    python, dash_m, package, *words = shlex.split(asked.command)
    assert (python, dash_m, package) == ("python", "-m", "fdlab")
    assert main([*words, "out=drawn"]) == 0
    (drawn,) = (tmp_path / "drawn" / "images").glob("*.png")
    assert (np.asarray(Image.open(drawn)) == mine).all()

    other = ask(PROMPT, [str(photo)], "attention", {"alpha": 0.1, "beta": 0.75}, 3, 4.5, 8)
    assert (np.asarray(pipe(other.prompt, [photo], **other.arguments).images[0]) != mine).any()


@pytest.mark.parametrize("guider", guiders.GUIDERS)
def test_every_guider_is_offered_and_its_command_has_its_settings(guider: str) -> None:
    sliders = dict.fromkeys(choices.all_sliders(), 0.25)
    asked = ask(PROMPT, ["a b.jpg"], guider, sliders | {"beta": 0.55}, 12, 3.5, 4, Models("nano", "base"))
    cfg = compose(shlex.split(asked.command)[4:], config_name="sample")
    assert (cfg.prompt, list(cfg.subjects), cfg.seed) == (asked.prompt, list(asked.photos), 4)
    assert (cfg.tdm, cfg.sdm) == ("base", "shipped")
    assert {key: cfg.sampler[key] for key in asked.sampler.as_dict()} == asked.sampler.as_dict()
    assert cfg.sampler.guider == guider
    assert choices.offered()[guider]


def test_a_guider_without_subjects_leaves_them_out() -> None:
    asked = ask(PROMPT, ["a.jpg"], "tdm", {}, 3, 5.0, 0)
    assert (asked.prompt, asked.photos) == ("a woman on a beach", ())


def test_more_subjects_than_usual_are_admitted_by_the_command() -> None:
    prompt = "a <|image|> b <|image|> c <|image|>"
    assert "data.max_subjects=3" in ask(prompt, ["a.jpg"] * 3, "snf", {}, 3, 5.0, 0).command


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a woman on a beach"}, "has 0 markers <|image|>, but 1 subjects"),
        ({"photos": []}, "no photo is given; add 1 to 4"),
        ({"photos": ["a.jpg"] * 5}, "5 photos are given; allowed: 1 to 4"),
        ({"shares": {"alpha": 0.7, "beta": 0.6}}, "alpha is 0.7 and beta 0.6; allowed"),
        ({"seed": None}, "the seed is empty"),
        ({"seed": -1}, "the seed is -1"),
        ({"guider": "snff"}, "Did you mean 'snf'"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(changed: dict[str, object], said: str) -> None:
    filled = {
        "prompt": PROMPT,
        "photos": ["a.jpg"],
        "guider": "snf",
        "shares": {},
        "num_steps": 3,
        "guidance_scale": 5.0,
        "seed": 0,
    }
    with pytest.raises(UserError) as raised:
        ask(**{**filled, **changed})  # type: ignore[arg-type]
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_script_cuts_heads_where_the_models_take_heads() -> None:
    shipped = replace(ask(PROMPT, ["a.jpg"], "sdm", {}, 4, 2.0, 1), head=Head(96, "grey"))
    assert '["a.jpg"],' in shipped.script() and "cut_face" not in shipped.script()
    script = replace(shipped, models=Models(sdm="folder")).script()
    assert "from fdlab.measure.faces.photos import Head, cut_face" in script
    assert "cut_face(\"a.jpg\", head=Head(size=96, background='grey'))" in script
    compile(script, "script", "exec")
