"""What a person asks to have drawn, on the command line or in a file; checked before weights load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.files import is_file, is_folder, shortened
from fdlab.pipeline.inputs import check_markers, tokens
from fdlab.sampling import prompts_file
from fdlab.sampling.settings import SampleSettings


@dataclass(frozen=True)
class Request:
    """One prompt with its subjects, to be drawn a number of times."""

    prompt: str
    photos: tuple[Path, ...]
    faces: tuple[int | None, ...]
    """Which face of each photo, counted from the left; None is the largest."""
    seed: int
    where: str = ""
    """`FILE, line 3`; empty for the command line."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the row in front of what is wrong with it."""
        try:
            yield
        except UserError as error:
            if not self.where:
                raise
            raise UserError(f"{self.where}: {error}") from error


def read(asked: SampleSettings) -> list[Request]:
    """The requests of the file `prompts`, or the one of `prompt`, `subjects`, `faces`. Raises: UserError."""
    if asked.prompts is None:
        if asked.prompt is None or not asked.prompt.strip():
            raise UserError(
                "there is nothing to draw: give prompt=TEXT, as in 'prompt=a woman <|image|> on a beach',"
                " or prompts=FILE."
            )
        photos = tuple(Path(photo).expanduser() for photo in asked.subjects)
        return [_request(asked.prompt, photos, asked.faces, asked.seed, "")]
    for key in ("prompt", "subjects", "faces"):
        if getattr(asked, key):
            raise UserError(f"prompts={asked.prompts} has its own prompts and subjects; leave {key}= out.")
    rows = prompts_file.read(Path(asked.prompts).expanduser())
    return [
        _request(row.prompt, row.photos, row.faces, asked.seed if row.seed is None else row.seed, row.where)
        for row in rows
    ]


def check(requests: Sequence[Request], draws_subjects: bool, max_subjects: int, tokenizer: Any) -> None:
    """Check prompts against their subjects, and that the photos are there. Raises: UserError."""
    for request in requests:
        with request.named():
            check_markers(request.prompt, len(request.photos), draws_subjects)
            if len(request.photos) > max_subjects:
                raise UserError(
                    f"prompt '{request.prompt}' has {len(request.photos)} subjects; at most {max_subjects}"
                    " are allowed, as many as the models learnt to tell apart (data.max_subjects)."
                )
            tokens(tokenizer, [request.prompt])
            for photo in request.photos:
                if not is_file(photo):
                    what = "is a folder; name a picture in it" if is_folder(photo) else "does not exist"
                    raise UserError(f"photo {shortened(photo)} {what}.")


def _request(
    prompt: str, photos: tuple[Path, ...], faces: Sequence[int | None] | None, seed: int, where: str
) -> Request:
    chosen = (None,) * len(photos) if faces is None else tuple(faces)
    request = Request(prompt, photos, chosen, seed, where)
    with request.named():
        for index in chosen:
            if index is not None and (type(index) is not int or index < 0):
                raise UserError(f"face {index} was asked for; allowed: whole numbers from 0, or null.")
        if len(chosen) != len(photos):
            raise UserError(
                f"{len(chosen)} faces are chosen for {len(photos)} subjects: choose one for each."
            )
    return request
