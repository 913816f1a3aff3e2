"""What a person asks to have drawn, on the command line or in a file; checked before weights load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.pipeline.inputs import check_markers, tokens
from fdlab.sampling import prompts_file
from fdlab.sampling.trace import check_traced


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


def read(cfg: Any) -> list[Request]:
    """The requests of `cfg.prompts`, or the one of `cfg.prompt`, `cfg.subjects`, `cfg.faces`. Raises:
    UserError."""
    if cfg.prompts is None:
        if cfg.prompt is None or not cfg.prompt.strip():
            raise UserError(
                "there is nothing to draw: give prompt=TEXT, as in 'prompt=a woman <|image|> on a beach',"
                " or prompts=FILE."
            )
        photos = tuple(Path(str(photo)).expanduser() for photo in cfg.subjects)
        return [_request(cfg.prompt, photos, cfg.faces, cfg.seed, "")]
    for key in ("prompt", "subjects", "faces"):
        if cfg[key]:
            raise UserError(f"prompts={cfg.prompts} has its own prompts and subjects; leave {key}= out.")
    rows = prompts_file.read(Path(cfg.prompts).expanduser())
    return [
        _request(row.prompt, row.photos, row.faces, cfg.seed if row.seed is None else row.seed, row.where)
        for row in rows
    ]


def check_sampler(cfg: Any) -> SamplerSettings:
    """Check the sampler's settings, and that it can be traced where that is asked for. Raises: UserError."""
    settings = SamplerSettings.from_mapping(cfg.sampler)
    settings.check()
    if cfg.trace:
        check_traced(settings.guider)
        for step in cfg.trace_steps or ():
            if type(step) is not int or not 0 <= step < settings.num_steps:
                raise UserError(
                    f"trace_steps has {step}; allowed: whole numbers from 0 to {settings.num_steps - 1}."
                )
    return settings


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
                if not photo.is_file():
                    raise UserError(f"photo '{photo}' does not exist.")


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
