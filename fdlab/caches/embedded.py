"""Embeddings that are the same at every step, made once: of all references, where their encoder rests and
nothing about them is drawn; of all captions, whose encoder always rests.

Axes: S subjects of all rows, E width of an embedding, 3 R R reference pixels, U captions that differ, L
tokens, D text width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab.caches.parts import Parts, finish, make_parts, place
from fdlab.caches.prepared import Prepared
from fdlab.data.store import ArrayFolder
from fdlab.progress import Progress, bar
from fdlab.randomness import numpy_rng
from fdlab.transforms.references import DRAWN, Background, composite

PART = 8192
"""Embeddings a part."""
CHUNK = 256
"""Embeddings between two states on disk."""
BATCH = 32
REFERENCES, TEXTS = "references", "texts"
Embed = Callable[[range], np.ndarray]


class EmbeddedReferences:
    """References' embeddings (S E float32) by the keys of a `Source`; mapped in each process of its own."""

    def __init__(self, folder: Path, num: int) -> None:
        self.folder, self.num = Path(folder), num

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "num": self.num}

    def __getitem__(self, key: int) -> np.ndarray:
        return np.asarray(self.array_SE[key])

    @property
    def width(self) -> int:
        """E."""
        return int(self.array_SE.part(0).shape[1])

    @cached_property
    def array_SE(self) -> Parts:
        """All of them."""
        return Parts(self.folder, REFERENCES, _bounds(self.num))


class EmbeddedTexts:
    """What a text encoder makes of captions (L D float16), by their token ids; mapped in each process of its
    own."""

    def __init__(self, folder: Path, ids_UL: np.ndarray, null_LD: np.ndarray) -> None:
        self.folder, self.ids_UL, self.null_LD = Path(folder), ids_UL, null_LD

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "ids_UL": self.ids_UL, "null_LD": self.null_LD}

    def __getitem__(self, input_ids_L: np.ndarray) -> np.ndarray:
        return np.asarray(self._array_ULD[self._place[input_ids_L.astype(np.int32).tobytes()]])

    @cached_property
    def _array_ULD(self) -> Parts:
        return Parts(self.folder, TEXTS, _bounds(len(self.ids_UL)))

    @cached_property
    def _place(self) -> dict[bytes, int]:
        return {ids_L.tobytes(): u for u, ids_L in enumerate(self.ids_UL)}


def embed_all(
    prepared: Prepared,
    background: Background,
    embed: Callable[[Tensor], Tensor],
    width: int,
    encoder: str,
    device: torch.device | str = "cpu",
    show: bool = True,
) -> EmbeddedReferences:
    """Embed (or find) every reference of a prepared folder.

    `embed`: S3RR, normalised, to SE; `encoder`: hash of its weights; `background`: none that is drawn.
    """
    if background in DRAWN:
        raise ValueError(f"behind a reference lies other {background} at every step")
    folder, num = _folder(prepared, background, encoder), prepared.rows.first[-1]
    rng = numpy_rng(0, "fixed background")

    def some(keys: range) -> np.ndarray:
        pixels = torch.stack([composite(prepared.reference(k), background, rng) for k in keys])
        return embed(pixels.to(device)).float().cpu().numpy()

    _make(folder, REFERENCES, num, (width,), np.float32, some, show)
    return EmbeddedReferences(folder, num)


def embed_texts(
    prepared: Prepared,
    null_ids_L: np.ndarray,
    embed: Callable[[Tensor], Tensor],
    shape_LD: tuple[int, int],
    encoder: str,
    device: torch.device | str = "cpu",
    show: bool = True,
) -> EmbeddedTexts:
    """Embed (or find) every caption of a prepared folder, each once however many pictures have it, and the
    empty one.

    `embed`: ids BL to BLD, whose L may be another; `encoder`: hash of its weights.
    """
    all_ML = [np.asarray(part) for part in prepared.input_ids_ML.parts()]
    ids_UL = np.unique(np.concatenate([*all_ML, null_ids_L[None].astype(np.int32)]), axis=0)
    folder = _folder(prepared, "texts", encoder)

    def some(places: range) -> np.ndarray:
        ids_BL = torch.from_numpy(ids_UL[places.start : places.stop].astype(np.int64))
        return embed(ids_BL.to(device)).half().cpu().numpy()

    _make(folder, TEXTS, len(ids_UL), shape_LD, np.float16, some, show)
    texts = EmbeddedTexts(folder, ids_UL, np.empty(0))
    return EmbeddedTexts(folder, ids_UL, np.array(texts[null_ids_L]))


def _folder(prepared: Prepared, *of: str) -> Path:
    key = hashlib.blake2b(json.dumps([2, *of]).encode(), digest_size=8).hexdigest()
    return prepared.folder.parent.parent / "embedded" / f"{prepared.folder.name}-{key}"


def _bounds(num: int) -> list[int]:
    return [*range(0, max(1, num), PART), num]


def _make(
    folder: Path, name: str, num: int, shape: tuple[int, ...], kind: type, embed: Embed, show: bool
) -> None:
    """Make the parts of an array of embeddings, in chunks that an interruption leaves whole."""
    bounds = _bounds(num)

    def make(number: int, progress: Progress) -> None:
        start, end = bounds[number], bounds[number + 1]
        out = ArrayFolder(place(folder, number), {name: ((max(1, end - start), *shape), kind)})
        done = int(out.state.get("done", start))
        progress.found(done - start)
        while done < end:
            stop = min(done + CHUNK, end)
            for first in range(done, stop, BATCH):
                some = range(first, min(first + BATCH, stop))
                out.arrays[name][some.start - start : some.stop - start] = embed(some)
            progress.advance(stop - done)
            done = stop
            out.commit(done=done)
        finish(folder, number, out, {})

    with bar(f"embed {name}", num, show=show) as progress, torch.no_grad():
        make_parts(
            folder,
            [[name]] * (len(bounds) - 1),
            lambda number: make(number, progress),
            lambda number: progress.found(bounds[number + 1] - bounds[number]),
        )
