"""A data set made ready for training: no picture is decoded and no caption tokenised while training runs.

One folder under the cache, named by everything it depends on (`fdlab.data.latents` writes it):

    rows.json        ids, subjects of each row, identities, skipped files
    input_ids.npy    M L int32      positions.npy   S int16, last token of each subject's noun phrase
    latents.npy      M C H W float16, posterior means, scaled: z = (mean - shift) * scale
    masks.npy        S H W uint8    references.npy  S R R 4 uint8, RGB and alpha (subject-augmented training
    only)
    landmarks.npy    S 5 2 float32, embeddings.npy S D float32 (trainings that look at faces only)

Where pictures have several shapes, H W are cells of the largest by 1, and `rows.json` says each one's grid.

Axes: M rows (pictures x views), S subjects of all rows, L tokens, C H W latents, R side of a reference, N
subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.arrays import map_array
from fdlab.data.entry import Entry, Faces, grouped
from fdlab.data.layout import read_json
from fdlab.data.sample import CorruptFile
from fdlab.foreign import said

ARRAYS: dict[str, tuple[str, int, type]] = {
    "input_ids": ("rows", 2, np.int32),
    "latents": ("rows", 4, np.float16),
    "positions": ("subjects", 1, np.int16),
    "masks": ("subjects", 3, np.uint8),
    "references": ("subjects", 4, np.uint8),
    "landmarks": ("subjects", 3, np.float32),
    "embeddings": ("subjects", 2, np.float32),
}
"""What each array has an entry for, its axes and type."""
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
            and (self.grids is None or len(self.grids) == len(self.ids))
        ):
            raise ValueError("rows.json is not of its form")

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
        for name, (entries, axes, dtype) in ARRAYS.items():
            if name in OPTIONAL and not (self.folder / f"{name}.npy").exists():
                continue
            length = rows if entries == "rows" else max(1, subjects)
            found = self._array(f"{name}.npy")
            if (found.ndim, found.dtype) != (axes, dtype) or len(found) != length:
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
            faces=None if self.faces_S is None else self.faces_S.of(seen),
        )

    @cached_property
    def groups(self) -> list[list[int]]:
        """As `Source.groups`."""
        grids = self.rows.grids
        return grouped(self.usable, grids and [(h, w) for h, w in grids], self.rows.views)

    def _shaped(self, row: int, array_KHW: np.ndarray) -> np.ndarray:
        """What a row has on its picture's grid: where grids differ, their cells lie one after the other, and
        nothing behind them."""
        if self.rows.grids is None:
            return array_KHW
        height, width = self.rows.grids[row // self.rows.views]
        return array_KHW.reshape(len(array_KHW), -1)[:, : height * width].reshape(-1, height, width)

    def reference(self, key: int) -> np.ndarray:
        """Cut-out RR4 of one subject."""
        return np.asarray(self.references_SRR4[key])

    def same_person(self, key: int) -> list[int]:
        """Subjects in other pictures that show the same identity."""
        identity = self.rows.identities[key]
        if identity is None:
            return []
        picture = self._picture_S[key]
        others = self._by_identity[identity]
        return [k for k in others if self._picture_S[k] != picture and self.masks_SHW[k].any()]

    def _array(self, name: str) -> np.ndarray:
        return map_array(self.folder / name)

    @cached_property
    def input_ids_ML(self) -> np.ndarray:
        """Token ids."""
        return self._array("input_ids.npy")

    @cached_property
    def positions_S(self) -> np.ndarray:
        """Last token of each subject's noun phrase."""
        return self._array("positions.npy")

    @cached_property
    def latents_MCHW(self) -> np.ndarray:
        """Posterior means, scaled."""
        return self._array("latents.npy")

    @cached_property
    def masks_SHW(self) -> np.ndarray:
        """Masks at latent resolution, 0 or 1."""
        return self._array("masks.npy")

    @cached_property
    def references_SRR4(self) -> np.ndarray:
        """Cut-out people."""
        return self._array("references.npy")

    @cached_property
    def faces_S(self) -> Faces | None:
        """Faces of all subjects; None where none were looked for."""
        if not (self.folder / "landmarks.npy").exists():
            return None
        return Faces(self._array("landmarks.npy"), self._array("embeddings.npy"))

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
