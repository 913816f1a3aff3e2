"""Embeddings of all references of a prepared data set: where the encoder rests and nothing random lies behind
a cut-out, a reference's embedding is the same at every step.

Axes: S subjects of all rows, E width of an embedding, 3 R R reference pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab.data.arrays import map_array
from fdlab.data.prepared import Prepared
from fdlab.data.store import ArrayFolder, is_whole, make_once
from fdlab.progress import bar
from fdlab.randomness import numpy_rng
from fdlab.transforms.references import DRAWN, Background, composite

CHUNK = 256
"""References between two states on disk."""
BATCH = 32
ARRAY = "references"


class EmbeddedReferences:
    """References' embeddings (S E float32) by the keys of a `Source`; mapped in each process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def __getitem__(self, key: int) -> np.ndarray:
        return np.asarray(self.array_SE[key])

    @property
    def width(self) -> int:
        """E."""
        return int(self.array_SE.shape[1])

    @property
    def array_SE(self) -> np.ndarray:
        """All of them."""
        if "_array" not in self.__dict__:
            self._array = map_array(self.folder / f"{ARRAY}.npy")
        return self._array


def embed_all(
    prepared: Prepared,
    background: Background,
    embed: Callable[[Tensor], Tensor],
    width: int,
    encoder: str,
    device: torch.device | str = "cpu",
    show: bool = True,
) -> EmbeddedReferences:
    """Embed (or find) every reference of a prepared folder, in chunks that an interruption leaves whole.

    `embed`: S3RR, normalised, to SE; `encoder`: hash of its weights; `background`: none that is drawn.
    """
    if background in DRAWN:
        raise ValueError(f"behind a reference lies other {background} at every step")
    key = hashlib.blake2b(json.dumps([1, background, encoder]).encode(), digest_size=8).hexdigest()
    folder = prepared.folder.parent.parent / "embedded" / f"{prepared.folder.name}-{key}"

    def make() -> None:
        total = len(prepared.references_SRR4)
        out = ArrayFolder(folder, {ARRAY: ((total, width), np.float32)})
        done, rng = int(out.state.get("done", 0)), numpy_rng(0, "fixed background")
        with bar("embed references", total, done=done, show=show) as progress, torch.no_grad():
            while done < total:
                end = min(done + CHUNK, total)
                for start in range(done, end, BATCH):
                    keys = range(start, min(start + BATCH, end))
                    pixels = torch.stack([composite(prepared.reference(k), background, rng) for k in keys])
                    out.arrays[ARRAY][keys.start : keys.stop] = embed(pixels.to(device)).float().cpu().numpy()
                progress.advance(end - done)
                done = end
                out.commit(done=done)
        out.finish("embedded.json", {"background": background, "encoder": encoder})

    make_once(folder, lambda: is_whole(folder, "embedded.json", [ARRAY]), make)
    return EmbeddedReferences(folder)
