"""Drawing one picture while somebody watches: in a thread of its own, step by step, with a way to stop it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

from PIL import Image

from fdlab.demo.recipe import Recipe
from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.photos import Head, cut_face
from fdlab.pipeline.artist import Artist, Progress
from fdlab.sampling.trace import StepPicture, decoder, spread, step_pictures

FIGURE_SIZE = 128
"""Pixels a side of a step's pictures."""
PREVIEW_SHARE = 0.2
"""Most of the time that may go into previews; a step without one has come too soon after the last."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step is done."""

    done: int
    total: int
    preview: Image.Image | None
    """The clean picture predicted now."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The end: the picture, and how some of its steps came about (none for a guider that does not fuse)."""

    picture: Image.Image
    steps: list[StepPicture]
    stopped_at: Step | None
    """The last step, where it was stopped; the picture is then the one predicted there."""
    seconds: float
    unseen: str = ""
    """What of the prompt lies past the text encoder's last token."""


class Painter:
    """Has an artist draw, one picture at a time."""

    def __init__(self, artist: Artist) -> None:
        self.artist, self.detector = artist, FaceDetector()
        self.head = Head.of(artist.reference_crop, artist.models["sdm"].reference_size, artist.background)

    @property
    def size(self) -> int:
        """Pixels a side of its pictures."""
        return self.artist.size

    def faces(self, photos: Sequence[str]) -> list[Image.Image]:
        """Cut the largest face out of each photo. Raises: UserError that names the file, not its folder."""
        found = []
        for photo in photos:
            try:
                found.append(cut_face(photo, detector=self.detector, head=self.head))
            except UserError as error:
                raise UserError(str(error).replace(photo, Path(photo).name)) from error
        return found

    def draw(
        self, recipe: Recipe, faces: Sequence[Image.Image], stop: Event, num_shown: int
    ) -> Iterator[Step | Drawn]:
        """Yield each step as it is done, and the picture at last. Setting `stop` ends it after a step.

        Raises: UserError.
        """
        news: SimpleQueue[Step | None] = SimpleQueue()
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._draw, recipe, list(faces), stop, num_shown, news)
            work.add_done_callback(lambda _: news.put(None))
            try:
                while (step := news.get()) is not None:
                    yield step
            finally:
                # Whoever stops listening wants no more of it.
                stop.set()
            yield work.result()

    def _draw(
        self,
        recipe: Recipe,
        faces: list[Image.Image],
        stop: Event,
        num_shown: int,
        news: SimpleQueue[Step | None],
    ) -> Drawn:
        traces: list[Any] = []
        began = shown = time.monotonic()
        cost, last = 0.0, Step(0, 1, None)

        def after(step: Progress) -> None:
            nonlocal shown, cost, last
            preview, now = None, time.monotonic()
            if stop.is_set() or cost < PREVIEW_SHARE * (now - shown):
                preview = Image.fromarray(step.preview()[0])
                shown = time.monotonic()
                cost = shown - now
            last = Step(step.done, step.total, preview)
            news.put(last)
            if stop.is_set():
                step.stop()

        self.artist.use(recipe.sampler)
        picture_HW3 = self.artist([recipe.scene(faces)], traces.append, after)[0]
        chosen = [traces[place] for place in spread(traces, num_shown)] if traces else []
        steps = step_pictures(chosen, 0, decoder(self.artist.pipeline), min(self.size, FIGURE_SIZE))
        stopped = last if last.done < last.total else None
        return Drawn(
            Image.fromarray(picture_HW3) if stopped is None or last.preview is None else last.preview,
            steps,
            stopped,
            time.monotonic() - began,
            self.artist.pipeline.unseen(recipe.prompt),
        )
