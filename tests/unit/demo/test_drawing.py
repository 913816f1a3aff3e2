"""Drawing while somebody watches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image

from fdlab import FaceDiffuserPipeline
from fdlab.demo import choices, markup
from fdlab.demo.drawing import Drawn, Painter, Step
from fdlab.demo.examples import Example, render_examples
from fdlab.demo.pipeline import load_artist
from fdlab.demo.recipe import ask
from fdlab.errors import UserError


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return render_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(load_artist(device="cpu"))


def _asked(example: Example, guider: str, steps: int):
    photos = [str(path) for path in example.photos]
    asked = ask(example.prompt, photos, guider, choices.shares(guider), steps, 5.0, 3)
    # Every step, to the last.
    return replace(asked, sampler=replace(asked.sampler, final_sigma=0.0))


@pytest.mark.parametrize("guider", ["snf", "switch"])
def test_it_draws_what_the_pipeline_draws(painter: Painter, examples: list[Example], guider: str) -> None:
    asked = _asked(examples[0], guider, 4)
    faces = painter.faces(asked.photos)
    *steps, drawn = painter.draw(asked, faces, Event(), 8)
    assert isinstance(drawn, Drawn) and drawn.stopped_at is None
    assert [(step.done, step.total) for step in steps if isinstance(step, Step)] == [
        (done, 4) for done in (1, 2, 3, 4)
    ]
    plain = FaceDiffuserPipeline.shipped()
    expected = plain(asked.prompt, asked.photos, **asked.arguments).images[0]
    assert (np.asarray(drawn.picture) == np.asarray(expected)).all()
    assert len(drawn.steps) == (4 if guider == "snf" else 0)
    # A preview is what the trace shows of its step.
    if guider == "snf":
        assert isinstance(steps[0], Step) and steps[0].preview is not None
        assert np.abs(np.asarray(steps[0].preview, int) - drawn.steps[0].clean_HW3).max() <= 1
        html = markup.figure(drawn.steps, asked.sampler)
        fused = [step for step in drawn.steps if step.mask_HW3 is not None]
        assert html.count("<img") == len(drawn.steps) + 3 * len(fused)
        assert all(f"SDM {step.sdm_share:.0%}" in html for step in fused)


def test_it_can_be_stopped(painter: Painter, examples: list[Example]) -> None:
    stop = Event()
    asked = _asked(examples[0], "snf", 50)
    news = painter.draw(asked, painter.faces(asked.photos), stop, 8)
    first = next(news)
    stop.set()
    *_, drawn = news
    assert isinstance(first, Step) and isinstance(drawn, Drawn)
    assert drawn.stopped_at is not None and drawn.stopped_at.done < 50
    assert drawn.stopped_at.preview is drawn.picture
    assert "stopped after" in markup.finished(drawn)


def test_who_stops_listening_ends_the_drawing(painter: Painter, examples: list[Example]) -> None:
    asked, stop = _asked(examples[0], "snf", 50), Event()
    news = painter.draw(asked, painter.faces(asked.photos), stop, 8)
    next(news)
    news.close()
    assert painter.artist.pipeline.interrupt


def test_an_error_on_the_way_arrives(painter: Painter, examples: list[Example]) -> None:
    asked = _asked(examples[0], "snf", 4)
    with pytest.raises(UserError, match="but 0 subjects are given"):
        list(painter.draw(asked, [], Event(), 8))


def test_every_example_has_faces_and_markers_that_match(painter: Painter, examples: list[Example]) -> None:
    for example in examples:
        assert len(painter.faces(_asked(example, "snf", 4).photos)) == len(example.photos)


def test_a_photo_without_a_face_is_named_without_its_folder(painter: Painter, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "wall.png")
    with pytest.raises(UserError, match=r"^no face found in photo 'wall\.png'"):
        painter.faces([str(tmp_path / "wall.png")])


def test_a_photo_too_large_for_memory_is_refused_before_it_is_read(painter: Painter, tmp_path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=r"^photo 'black\.png' is too large; at most 64 million pixels"):
        painter.faces([str(tmp_path / "black.png")])


def test_what_a_user_wrote_is_no_markup() -> None:
    assert "<|image|>" not in markup.refusal("prompt 'a <|image|> <script>'")
    assert "&lt;script&gt;" in markup.refusal("prompt 'a <|image|> <script>'")
