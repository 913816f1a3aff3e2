"""One row of training data before it is collated, and how it is made from a sample on disk.

Axes: H W pixels or latents, N subjects, L tokens, R side of a reference, 3 RGB, 4 RGB and alpha.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fdlab.data import sides
from fdlab.data.annotation import MOST_SEGMENTS, Annotation
from fdlab.data.captions import Encoded, encode
from fdlab.data.folder import Folder, folder_of
from fdlab.data.sample import CorruptFile, PersonSample, ShownSubject
from fdlab.errors import UserError
from fdlab.transforms.framing import Framing, Size, framed
from fdlab.transforms.inputs import latent_mask
from fdlab.transforms.references import cut_rgba

KEPT = 256
"""Cut-outs that `Live` has at hand, for each process."""


@dataclass(frozen=True)
class Shape:
    """Sizes that the networks prescribe."""

    image_size: int
    """Pixels a side of a square, and where pictures have other shapes, the root of their area."""
    latent_CHW: tuple[int, int, int]
    reference_size: int | None
    """Pixels a side of a reference; None where none are needed."""
    max_subjects: int
    """Most subjects of a picture that a batch shows; 0: captions alone are wanted, and subjects are not
    looked at."""

    def grid(self, size: Size | None = None) -> Size:
        """Height and width in latents of a picture of `size` pixels (None: of the square)."""
        _, height, width = self.latent_CHW
        if size is None:
            return height, width
        cell = self.image_size // height
        return size[0] // cell, size[1] // cell


@dataclass(frozen=True)
class Faces:
    """The faces of a picture's subjects, as far as they are found."""

    landmarks_N52: np.ndarray
    """float32 (x, y) of five points in pixels of the picture; NaN where no face is found."""
    embedding_ND: np.ndarray
    """float32, unit length; zeros where no face is found. D 0 where none are asked for."""

    def of(self, chosen: list[int]) -> Faces:
        """Those of some subjects."""
        return Faces(self.landmarks_N52[chosen], self.embedding_ND[chosen])


class FaceReader(Protocol):
    """Looks for subjects' faces, for trainings that weigh or recognise them."""

    name: str
    """Of all that decides what it finds: a cache's key."""
    dim: int
    """Width of an embedding."""

    def __call__(self, image_HW3: np.ndarray, masks_NHW: np.ndarray) -> Faces:
        """The faces of those whom the masks show."""


@dataclass(frozen=True)
class Entry:
    """One row. `picture` is a latent CHW float or, where latents are not cached, an image HW3 uint8."""

    id: str
    picture: np.ndarray
    input_ids_L: np.ndarray
    positions_N: list[int]
    masks_NHW: np.ndarray
    keys_N: list[int]
    """Handles of the subjects, for `Source.reference` and `Source.same_person`."""
    faces: Faces | None = None
    """None where none were looked for."""


class Source(Protocol):
    """Where rows come from: prepared (`Prepared`) or read anew each time (`Live`)."""

    usable: list[int]
    """Rows that can be read."""

    @property
    def groups(self) -> list[list[int]]:
        """The same by the shape of their pictures, of which each batch takes one."""

    def entry(self, row: int, rng: np.random.Generator | None = None) -> Entry:
        """Read one row; what is drawn anew each time comes from `rng`."""

    def reference(self, key: int) -> np.ndarray:
        """Cut-out RR4 of one subject."""

    def same_person(self, key: int) -> list[int]:
        """Subjects in other pictures that show the same identity, where that is known."""


def caption_tokens(
    tokenizer: Any, annotation: Annotation, shape: Shape, is_mirrored: bool = False
) -> tuple[Encoded, tuple[ShownSubject, ...]]:
    """Tokenise a caption, where the picture is mirrored with left for right (if its subjects then have room);
    one token can carry one subject, so of two at the same token the first stays.

    CorruptFile when a subject lies past the last token.
    """
    text, ends = annotation.caption, [subject.end for subject in annotation.subjects]
    if is_mirrored:
        text, ends = sides.mirrored(text, ends)
    if not shape.max_subjects:
        return encode(tokenizer, text), ()
    try:
        encoded = encode(tokenizer, text, ends)
    except UserError as error:
        if text != annotation.caption:
            return caption_tokens(tokenizer, annotation, shape)
        raise CorruptFile(f"sample '{annotation.id}': {error}") from None
    first = [n for n, position in enumerate(encoded.positions) if position not in encoded.positions[:n]]
    subjects = tuple(annotation.subjects[n] for n in first)
    return Encoded(encoded.input_ids_L, [encoded.positions[n] for n in first]), subjects


def read_checked(folder: Folder, annotation: Annotation, rendered: bool) -> PersonSample:
    """Read a sample and, for rendered people, make sure that every mask has its person. Raises:
    CorruptFile."""
    sample = folder.sample(annotation.id, annotation)
    if rendered:
        listed = {0, *(s.segment for s in annotation.subjects), *annotation.others}
        if extra := set(np.unique(sample.segments_HW).tolist()) - listed:
            raise CorruptFile(f"sample '{sample.id}': mask {min(extra)} has no person in the json.")
    return sample


@dataclass(frozen=True)
class View:
    """A picture as the networks see it."""

    image_HW3: np.ndarray
    """Square, or of the shape that was asked for."""
    masks_NHW: np.ndarray
    """At latent size; empty of a subject that was cropped away."""
    faces: Faces | None


def view(
    sample: PersonSample,
    subjects: tuple[ShownSubject, ...],
    shape: Shape,
    mirrored: bool,
    reader: FaceReader | None = None,
    rng: np.random.Generator | None = None,
    least: float = 1.0,
    size: Size | None = None,
) -> View:
    """A sample's picture with its subjects' masks, and faces where there is a reader; `rng`, `least` and
    `size` as of `framed` (None: the square)."""
    image_HW3, segments_HW = sample.image_HW3, sample.segments_HW
    if mirrored:
        image_HW3, segments_HW = image_HW3[:, ::-1], segments_HW[:, ::-1]
    (height, width), numbers = shape.grid(size), [s.segment for s in subjects]
    size = size or (shape.image_size, shape.image_size)
    image_HW3, segments_HW = framed(np.ascontiguousarray(image_HW3), segments_HW, size, numbers, rng, least)
    masks_NHW = segments_HW == np.array(numbers, segments_HW.dtype)[:, None, None]
    latent_NHW = np.zeros((len(subjects), height, width), np.uint8)
    for n, mask_HW in enumerate(masks_NHW):
        latent_NHW[n] = latent_mask(mask_HW, height, width)
    return View(image_HW3, latent_NHW, None if reader is None else reader(image_HW3, masks_NHW))


class Crop(Protocol):
    """How a reference is cut out, where not by the person's mask alone."""

    name: str
    """Of all that decides what it makes: a cache's key."""

    def __call__(self, image_HW3: np.ndarray, mask_HW: np.ndarray | None, size: int) -> np.ndarray:
        """RR4 of the person that the mask shows. Raises: UserError where it cannot be cut."""


def cut_subject(
    sample: PersonSample, subject: ShownSubject, size: int, mirrored: bool, crop: Crop | None = None
) -> np.ndarray:
    """Cut one subject out of the whole picture (RR4), mirrored with it. Raises: CorruptFile where `crop`
    cannot."""
    mask_HW = sample.segments_HW == subject.segment
    try:
        rgba_RR4 = (crop or cut_rgba)(sample.image_HW3, mask_HW, size)
    except UserError as error:
        out = "leave such pictures out with data.skip_corrupt=true, or take backbone.reference_crop=person."
        raise CorruptFile(f"sample '{sample.id}': {str(error).rstrip('.')}; {out}") from None
    return rgba_RR4[:, ::-1] if mirrored else rgba_RR4


def grouped(rows: list[int], sizes: Sequence[Size] | None, views: int) -> list[list[int]]:
    """Rows by the size of their pictures; in one group where that is one."""
    if sizes is None:
        return [rows]
    found: dict[Size, list[int]] = {}
    for row in rows:
        found.setdefault(sizes[row // views], []).append(row)
    return [found[size] for size in sorted(found)]


class Live:
    """Rows read from the folder at every step: for data too large to keep prepared. A path is one in
    FastComposer's layout; `sizes`: pixels that each picture is shown at, where not all are squares."""

    def __init__(
        self,
        root: Path | Folder,
        ids: list[str],
        tokenizer: Any,
        shape: Shape,
        views: int = 1,
        rendered: bool = False,
        labels: Collection[str] | None = None,
        crop: Crop | None = None,
        reader: FaceReader | None = None,
        framing: Framing | None = None,
        sizes: Sequence[Size] | None = None,
    ) -> None:
        self.folder, self.ids, self.tokenizer, self.shape = folder_of(root), ids, tokenizer, shape
        self.views, self.rendered, self.labels, self.crop = views, rendered, labels, crop
        self.reader, self.framing = reader, framing or Framing()
        self.sizes = sizes
        self._kept: dict[int, np.ndarray] = {}
        self.usable = list(range(len(ids) * views))
        self._identities: dict[int, list[int]] | None = None

    def entry(self, row: int, rng: np.random.Generator | None = None) -> Entry:
        """Read one row, framed anew each time where that is asked for."""
        picture, is_mirrored = self.ids[row // self.views], bool(row % self.views)
        annotation = self._annotation(row)
        encoded, subjects = caption_tokens(self.tokenizer, annotation, self.shape, is_mirrored)
        sample = read_checked(self.folder, annotation, self.rendered)
        drawn = self.framing.drawn(rng)
        size = self.sizes[row // self.views] if self.sizes else None
        framing = (drawn, self.framing.least, size)
        shown = view(sample, subjects, self.shape, is_mirrored, self.reader, *framing)
        seen = [n for n in range(len(subjects)) if shown.masks_NHW[n].any()]
        keys = [row * MOST_SEGMENTS + annotation.subjects.index(subjects[n]) for n in seen]
        if self.shape.reference_size is not None:
            # Where one cannot be cut, the row is not usable, and that must show here.
            for key, n in zip(keys, seen, strict=True):
                self._keep(key, self._cut(sample, subjects[n], is_mirrored))
        return Entry(
            picture,
            shown.image_HW3,
            encoded.input_ids_L,
            [encoded.positions[n] for n in seen],
            shown.masks_NHW[seen],
            keys,
            None if shown.faces is None else shown.faces.of(seen),
        )

    @cached_property
    def groups(self) -> list[list[int]]:
        """As `Source.groups`."""
        return grouped(self.usable, self.sizes, self.views)

    def _annotation(self, row: int) -> Annotation:
        return self.folder.annotation(self.ids[row // self.views], self.labels)

    def reference(self, key: int) -> np.ndarray:
        """Cut-out RR4 of one subject."""
        if key not in self._kept:
            row, n = divmod(key, MOST_SEGMENTS)
            sample = self.folder.sample(self.ids[row // self.views], self._annotation(row))
            self._keep(key, self._cut(sample, sample.subjects[n], bool(row % self.views)))
        return self._kept[key]

    def _cut(self, sample: PersonSample, subject: ShownSubject, is_mirrored: bool) -> np.ndarray:
        size = self.shape.reference_size
        assert size is not None
        return cut_subject(sample, subject, size, is_mirrored, self.crop)

    def _keep(self, key: int, rgba_RR4: np.ndarray) -> None:
        """A step asks for most of what it has just read: the last ones are at hand, and not read again."""
        self._kept[key] = rgba_RR4
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def same_person(self, key: int) -> list[int]:
        """Subjects in other pictures that show the same identity. Reads every annotation at the first
        call."""
        if self._identities is None:
            self._identities = {}
            for row in range(len(self.ids) * self.views):
                try:
                    subjects = self._annotation(row).subjects
                except CorruptFile:
                    # It is named where its own row is read.
                    continue
                for n, subject in enumerate(subjects):
                    if subject.identity is not None:
                        here = row * MOST_SEGMENTS + n
                        self._identities.setdefault(subject.identity, []).append(here)
        row, n = divmod(key, MOST_SEGMENTS)
        identity = self._annotation(row).subjects[n].identity
        if identity is None:
            return []
        per_picture = MOST_SEGMENTS * self.views
        return [k for k in self._identities.get(identity, []) if k // per_picture != key // per_picture]
