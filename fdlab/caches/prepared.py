"""A data set made ready for training: no picture is decoded and no caption tokenised while training runs.

One folder under the cache, named by everything it depends on (`fdlab.caches.prepare` writes it), in parts of
1,024 pictures (`fdlab.caches.parts`):

    rows.json              ids, subjects of each row, identities, skipped files
    00000/input_ids.npy    M L int32
    00000/positions.npy    S int16, last token of each subject's noun phrase
    00000/latents.npy      M C H W float16, posterior means, scaled: z = (mean - shift) * scale
    00000/masks.npy        S H W uint8
    00000/references.npy   S / views R R 4 uint8, RGB and alpha, not mirrored (SDMs only)
    00000/landmarks.npy    S 5 2 float32, embeddings.npy S D float32 (trainings that look at faces only)

Where pictures have several shapes, H W are cells of the largest by 1, and `rows.json` says each one's grid.

Axes: M rows (pictures x views), S subjects of all rows, L tokens, C H W latents, R side of a reference, N
subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.caches.parts import Parts, place
from fdlab.data.entry import Entry, Faces, grouped
from fdlab.data.layout import read_json
from fdlab.data.sample import CorruptFile
from fdlab.foreign import said

ARRAYS: dict[str, tuple[str, int, type]] = {
    "input_ids": ("rows", 2, np.int32),
    "latents": ("rows", 4, np.float16),
    "positions": ("subjects", 1, np.int16),
    "masks": ("subjects", 3, np.uint8),
    "references": ("people", 4, np.uint8),
    "landmarks": ("subjects", 3, np.float32),
    "embeddings": ("subjects", 2, np.float32),
}
"""What each array has an entry for (people: the subjects of one view), its axes and type."""
OPTIONAL = ("references", "landmarks", "embeddings")
"""Absent where they are not needed."""


@dataclass(frozen=True)
class Rows:
    """What `rows.json` says."""

    ids: list[str]
    """Id of each picture; picture p makes the rows p * views to p * views + views - 1."""
    views: int
    """1, or 2 where pictures are mirrored as well."""
    first: list[int]
    """Row m's subjects are first[m] to first[m + 1]; M + 1 entries."""
    identities: list[int | None]
    """One entry a subject."""
    skipped: dict[str, str]
    """Id to reason."""
    part: int
    """Pictures a part."""
    grids: list[list[int]] | None = None
    """Height and width of each picture in latents; None: all as the arrays are."""

    def __post_init__(self) -> None:
        if not (
            all(isinstance(entries, list) for entries in (self.ids, self.first, self.identities))
            and all(isinstance(id, str) for id in self.ids)
            and self.views in (1, 2)
            and all(type(number) is int for number in self.first)
            and self.first == sorted(self.first)
            and self.first[:1] == [0]
            and all(number is None or type(number) is int for number in self.identities)
            and isinstance(self.skipped, dict)
            and type(self.part) is int
            and self.part > 0
            and (self.grids is None or len(self.grids) == len(self.ids))
        ):
            raise ValueError("rows.json is not of its form")

    def bounds(self, entries: str) -> list[int]:
        """Where the entries of each part begin, and the end of the last."""
        edges = [*range(0, len(self.ids), self.part), len(self.ids)]
        rows = [p * self.views for p in edges]
        if entries == "rows":
            return rows
        subjects = [self.first[row] for row in rows]
        return subjects if entries == "subjects" else [number // self.views for number in subjects]

    @property
    def usable(self) -> list[int]:
        """Rows whose files could be read."""
        return [
            row
            for row in range(len(self.ids) * self.views)
            if self.ids[row // self.views] not in self.skipped
        ]


class Prepared:
    """Read access to a prepared folder; arrays are memory-mapped at first use, in each process of its own.

    Raises: CorruptFile where something of it is missing, torn or of another size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        value = read_json(self.folder / "rows.json")
        try:
            self.rows = Rows(**value)
            self.usable = self.rows.usable
            self._check()
        except (TypeError, ValueError) as error:
            raise CorruptFile(f"'{self.folder}' is damaged: {said(error)}.") from error

    def _check(self) -> None:
        """That the arrays are as long as the rows say."""
        rows, subjects = len(self.rows.ids) * self.rows.views, self.rows.first[-1]
        if len(self.rows.first) != rows + 1 or len(self.rows.identities) != subjects:
            raise ValueError("rows.json is not of one piece")
        for name, (_, axes, dtype) in ARRAYS.items():
            if name in OPTIONAL and not self._has(name):
                continue
            array = self._array(name)
            for found, (start, end) in zip(array.parts(), pairwise(array.bounds), strict=True):
                if (found.ndim, found.dtype) != (axes, dtype) or len(found) != max(1, end - start):
                    raise ValueError(f"{name}.npy is {found.dtype} {found.shape}")

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as a copy: workers open their own instead.
        return {"folder": self.folder, "rows": self.rows, "usable": self.usable}

    def entry(self, row: int, rng: np.random.Generator | None = None) -> Entry:
        """Read one row; nothing of it is drawn."""
        keys = list(range(self.rows.first[row], self.rows.first[row + 1]))
        seen = [key for key in keys if self.masks_SHW[key].any()]
        return Entry(
            id=self.rows.ids[row // self.rows.views],
            picture=self._shaped(row, np.asarray(self.latents_MCHW[row], np.float32)),
            input_ids_L=np.asarray(self.input_ids_ML[row], np.int64),
            positions_N=[int(self.positions_S[key]) for key in seen],
            masks_NHW=self._shaped(row, np.asarray(self.masks_SHW[seen])),
            keys_N=seen,
            faces=self._faces(seen),
        )

    @cached_property
    def groups(self) -> list[list[int]]:
        """As `Source.groups`."""
        grids = self.rows.grids
        sizes = None if grids is None else [(height, width) for height, width in grids]
        return grouped(self.usable, sizes, self.rows.views)

    def _shaped(self, row: int, array_KHW: np.ndarray) -> np.ndarray:
        """What a row has on its picture's grid: where grids differ, their cells lie one after the other, and
        nothing behind them."""
        if self.rows.grids is None:
            return array_KHW
        height, width = self.rows.grids[row // self.rows.views]
        num = len(array_KHW)
        cells_KM = array_KHW.reshape(num, array_KHW.shape[1] * array_KHW.shape[2])
        return cells_KM[:, : height * width].reshape(num, height, width)

    def reference(self, key: int) -> np.ndarray:
        """Cut-out RR4 of one subject, mirrored with its picture."""
        views = self.rows.views
        start = self.rows.first[int(self._picture_S[key]) * views]
        people = (self.rows.first[int(self._picture_S[key]) * views + views] - start) // views
        view, place = divmod(key - start, people)
        rgba_RR4 = np.asarray(self.references_SRR4[start // views + place])
        return rgba_RR4[:, ::-1] if view else rgba_RR4

    def same_person(self, key: int) -> list[int]:
        """Subjects in other pictures that show the same identity."""
        identity = self.rows.identities[key]
        if identity is None:
            return []
        picture = self._picture_S[key]
        others = self._by_identity[identity]
        return [k for k in others if self._picture_S[k] != picture and self.masks_SHW[k].any()]

    def _array(self, name: str) -> Parts:
        return Parts(self.folder, name, self.rows.bounds(ARRAYS[name][0]))

    def _has(self, name: str) -> bool:
        return (place(self.folder, 0) / f"{name}.npy").exists()

    @cached_property
    def input_ids_ML(self) -> Parts:
        """Token ids."""
        return self._array("input_ids")

    @cached_property
    def positions_S(self) -> Parts:
        """Last token of each subject's noun phrase."""
        return self._array("positions")

    @cached_property
    def latents_MCHW(self) -> Parts:
        """Posterior means, scaled."""
        return self._array("latents")

    @cached_property
    def masks_SHW(self) -> Parts:
        """Masks at latent resolution, 0 or 1."""
        return self._array("masks")

    @cached_property
    def references_SRR4(self) -> Parts:
        """Cut-out people, those of mirrored pictures left out."""
        return self._array("references")

    @cached_property
    def _faces_S(self) -> tuple[Parts, Parts] | None:
        """Landmarks and embeddings of all subjects; None where none were looked for."""
        return (self._array("landmarks"), self._array("embeddings")) if self._has("landmarks") else None

    def _faces(self, keys: list[int]) -> Faces | None:
        return None if self._faces_S is None else Faces(*(array[keys] for array in self._faces_S))

    @cached_property
    def _picture_S(self) -> np.ndarray:
        counts = np.diff(self.rows.first)
        return np.repeat(np.arange(len(counts)), counts) // self.rows.views

    @cached_property
    def _by_identity(self) -> dict[int, list[int]]:
        table: dict[int, list[int]] = {}
        skipped = {p for p, id in enumerate(self.rows.ids) if id in self.rows.skipped}
        for key, identity in enumerate(self.rows.identities):
            if identity is not None and int(self._picture_S[key]) not in skipped:
                table.setdefault(identity, []).append(key)
        return table
