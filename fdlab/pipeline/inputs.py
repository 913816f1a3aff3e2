"""What a pipeline is asked for, checked before anything is computed: prompts, subjects, their pictures.

Axes: H W pixels, 3 RGB, 4 RGB and alpha, S side of a reference, N subjects (padded), B prompts, L tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fdlab.data.captions import MARKER, encode, parse, unseen
from fdlab.data.pictures import open_photo, plain
from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.photos import Head, cut_face
from fdlab.randomness import numpy_rng
from fdlab.transforms.references import Background, cut_out

Reference = Image.Image | np.ndarray | Tensor | str | Path
"""A subject's picture; with alpha, only what is opaque is the subject. A tensor 3SS is ready."""


@dataclass(frozen=True)
class Scene:
    """What one picture shows, and the seed of its noise."""

    prompt: str
    """With a marker behind the words of each subject."""
    seed: int
    references: tuple[Reference, ...] = ()
    """One a subject, in the order of the markers."""


def as_lists(
    prompt: str | Sequence[str], subjects: Reference | Sequence[Any] | None
) -> tuple[list[str], list[list[Reference]]]:
    """Prompts and, for each, its subjects, as lists.

    For one prompt `subjects` is a picture or a list of pictures, for several a list of such, one a prompt.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if subjects is None:
        return prompts, [[] for _ in prompts]
    if isinstance(prompt, str):
        subjects = [subjects]
    if not isinstance(subjects, list | tuple):
        raise UserError(f"{len(prompts)} prompts need a list of {len(prompts)} lists of subjects.")
    lists = [list(some) if isinstance(some, list | tuple) else [some] for some in subjects]
    if len(lists) != len(prompts):
        raise UserError(
            f"{len(prompts)} prompts, but subjects for {len(lists)}: give one list of pictures a prompt."
        )
    return prompts, lists


def check_markers(prompt: str, num_subjects: int, draws_subjects: bool) -> None:
    """Check that a prompt marks as many subjects as are given, and that the guider draws them.

    Raises: UserError.
    """
    num_markers = len(parse(prompt)[1])
    if num_markers != num_subjects:
        raise UserError(
            f"prompt '{prompt}' has {num_markers} markers {MARKER}, but {num_subjects} subjects are given;"
            " write one marker behind the words of each subject."
        )
    if num_markers and not draws_subjects:
        raise UserError(
            f"prompt '{prompt}' has subjects, and this guider draws no given subject;"
            " choose another, such as snf."
        )
    if not num_markers and draws_subjects:
        raise UserError(
            f"prompt '{prompt}' has no marker {MARKER}, and this guider draws given subjects;"
            " write one and give the subject's picture, or choose guider tdm."
        )


def tokens(tokenizer: Any, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """input_ids_BL, and a mask of the subjects' last tokens. Raises: UserError for a subject past the last
    token."""
    rows = [encode(tokenizer, *parse(prompt)) for prompt in prompts]
    ids_BL = torch.from_numpy(np.stack([row.input_ids_L for row in rows]))
    mask_BL = torch.zeros(ids_BL.shape, dtype=torch.bool)
    for index, row in enumerate(rows):
        mask_BL[index, row.positions] = True
    return ids_BL, mask_BL


def tell_unseen(tokenizer: Any, prompts: Sequence[str], told: set[str]) -> None:
    """Say on stderr what of prompts lies past the text encoder's last token; once each, `told` remembers."""
    for prompt in dict.fromkeys(prompts):
        cut = unseen(tokenizer, parse(prompt)[0]) if tokenizer is not None and prompt not in told else ""
        told.add(prompt)
        if cut:
            room = int(tokenizer.model_max_length) - 2
            line = (
                f"note: prompt '{prompt}' is longer than the text encoder's {room} tokens; left out: '{cut}'."
            )
            print(line, file=sys.stderr)


def references(
    subjects: Sequence[Sequence[Reference]],
    size: int,
    background: Background = "noise",
    crop: str = "person",
) -> tuple[Tensor, Tensor]:
    """references_BN3SS, normalised for the image encoder and padded, and valid_BN.

    `crop` head: of each picture, its largest face's head alone.
    """
    num = max((len(some) for some in subjects), default=0)
    references_BN3SS = torch.zeros(len(subjects), num, 3, size, size)
    valid_BN = torch.zeros(len(subjects), num, dtype=torch.bool)
    for index, some in enumerate(subjects):
        for place, given in enumerate(some):
            references_BN3SS[index, place] = _reference(given, place, size, background, crop)
            valid_BN[index, place] = True
    return references_BN3SS, valid_BN


@cache
def _detector() -> FaceDetector:
    return FaceDetector()


def _reference(picture: Reference, place: int, size: int, background: Background, crop: str) -> Tensor:
    if isinstance(picture, Tensor):
        if picture.shape != (3, size, size):
            raise UserError(
                f"a prepared reference has shape {tuple(picture.shape)};"
                f" the image encoder takes (3, {size}, {size})."
            )
        return picture
    if isinstance(picture, str | Path):
        picture = open_photo(picture)
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    if not isinstance(picture, Image.Image):
        raise UserError(
            f"a subject is {type(picture).__name__}; allowed: a PIL image, a path, an array, a tensor."
        )
    head = Head.of(crop, size, background)
    if head is not None:
        picture = cut_face(picture, detector=_detector(), head=head)
    rgba_HW4 = np.asarray(plain(picture, "a subject").convert("RGBA"))
    opaque_HW = rgba_HW4[..., 3] > 127
    if not opaque_HW.any():
        raise UserError("a subject's picture is transparent everywhere.")
    # Depends on the subject's place alone, so that a picture does not depend on what it is drawn beside.
    rng = numpy_rng(0, "reference background", place)
    return cut_out(rgba_HW4[..., :3], None if opaque_HW.all() else opaque_HW, size, background, rng)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise UserError(
            f"a subject is an array of {array.dtype} {array.shape};"
            " allowed: uint8 (H, W, 3), or 4 with alpha."
        )
    return Image.fromarray(array)
