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
from torch import Tensor

from fdlab.demo.asked import Asked
from fdlab.demo.pipeline import WatchedDDIM
from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.pipeline.pictures import as_output
from fdlab.sampling.photos import cut_face
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


class Painter:
    """Draws with one pipeline, one picture at a time."""

    def __init__(self, pipeline: FaceDiffuserPipeline) -> None:
        self.pipeline, self.detector = pipeline, FaceDetector()
        self.pipeline.scheduler = WatchedDDIM.from_config(pipeline.scheduler.config)

    @property
    def size(self) -> int:
        """Pixels a side of its pictures."""
        return int(self.pipeline.sdm_unet.config.sample_size) * self.pipeline.vae_scale_factor

    def faces(self, photos: Sequence[str]) -> list[Image.Image]:
        """Cut the largest face out of each photo. Raises: UserError that names the file, not its folder."""
        found = []
        for photo in photos:
            try:
                found.append(cut_face(photo, detector=self.detector))
            except UserError as error:
                raise UserError(str(error).replace(photo, Path(photo).name)) from error
        return found

    def draw(
        self, asked: Asked, faces: Sequence[Image.Image], stop: Event, num_shown: int
    ) -> Iterator[Step | Drawn]:
        """Yield each step as it is done, and the picture at last. Setting `stop` ends it after a step.

        Raises: UserError.
        """
        news: SimpleQueue[Step | None] = SimpleQueue()
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._draw, asked, list(faces), stop, num_shown, news)
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
        asked: Asked,
        faces: list[Image.Image],
        stop: Event,
        num_shown: int,
        news: SimpleQueue[Step | None],
    ) -> Drawn:
        traces: list[Any] = []
        began = shown = time.monotonic()
        cost, last = 0.0, Step(0, 1, None)

        def after(pipeline: Any, index: int, t: Tensor, known: dict[str, Tensor]) -> None:
            nonlocal shown, cost, last
            preview, now = None, time.monotonic()
            if stop.is_set() or cost < PREVIEW_SHARE * (now - shown):
                preview = as_output(pipeline.scheduler.clean_BCHW, "pil", pipeline._decode)[0]
                shown = time.monotonic()
                cost = shown - now
            last = Step(index + 1, pipeline.num_timesteps, preview)
            news.put(last)
            if stop.is_set():
                pipeline._interrupt = True

        picture = self.pipeline(
            asked.prompt,
            faces or None,
            **asked.arguments,
            callback_on_step_end=after,
            recorder=traces.append,
        ).images[0]
        chosen = [traces[place] for place in spread(traces, num_shown)] if traces else []
        steps = step_pictures(chosen, 0, decoder(self.pipeline), min(self.size, FIGURE_SIZE))
        stopped = last if last.done < last.total else None
        return Drawn(
            picture if stopped is None or last.preview is None else last.preview,
            steps,
            stopped,
            time.monotonic() - began,
        )
