"""What each sample of a folder is: a digest of its files, and its picture's size; read once, and kept for as
long as no file's size or time changes. Where nothing is made of the whole files, a glance at each does.

Axes: P pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from fdlab.data.arrays import map_array
from fdlab.data.folder import Folder, fingerprint
from fdlab.data.pictures import size_of
from fdlab.data.store import ArrayFolder, is_whole, make_once
from fdlab.errors import UserError
from fdlab.progress import bar
from fdlab.transforms.framing import Size

VERSION = 1
CHUNK = 256
"""Samples between two states on disk."""
THREADS, GLANCES = 4, 16
"""Samples read at once: whole, for which a disk has so much to give, and by pieces, which wait for it."""


class Contents:
    """Digests and sizes of a folder's samples, in the order of `ids`."""

    def __init__(self, folder: Path, num: int) -> None:
        self.folder, self.num = folder, num
        self.digest_P16: np.ndarray = map_array(folder / "digests.npy")[:num]
        self._sizes: dict[int, Size | None] = {}

    def look_again(self, read: Callable[[int], tuple[bytes, Size | None]]) -> None:
        """Read anew what could not be read: a right or a disk that is given back changes no file's time."""
        places = np.flatnonzero(~self.digest_P16.any(1)).tolist()
        self.digest_P16 = np.array(self.digest_P16) if places else self.digest_P16
        for place in places:
            content, self._sizes[place] = read(place)
            self.digest_P16[place] = np.frombuffer(content, np.uint8)

    @property
    def digest(self) -> str:
        """Of all samples in their order."""
        return hashlib.blake2b(np.ascontiguousarray(self.digest_P16).tobytes(), digest_size=16).hexdigest()

    @property
    def sizes(self) -> list[Size | None]:
        """Height and width of each picture, upright; None of one that cannot be read. Not of `pieces`."""
        size_P2 = map_array(self.folder / "sizes.npy")[: self.num]
        found = [(height, width) if height else None for height, width in size_P2.tolist()]
        return [self._sizes.get(place, size) for place, size in enumerate(found)]


def contents(
    folder: Folder, ids: list[str], cache: Path, show: bool = True, pieces: bool = False
) -> Contents:
    """Read (or find) what a folder's samples are, in chunks that an interruption leaves whole; with `pieces`,
    their digests alone, of what `fdlab.data.pieces` looks at: of 70,000 photographs not their 100 GB."""
    version = f"{VERSION} pieces" if pieces else f"{VERSION}"
    digest = hashlib.blake2b(f"{version} {fingerprint(folder, ids)}\n".encode(), digest_size=8)
    for id in ids:
        digest.update(f"{id}\n".encode())
    made = Path(cache) / "contents" / f"{folder.root.name}-{digest.hexdigest()}"
    names = ["digests"] if pieces else ["digests", "sizes"]

    def make() -> None:
        total = max(1, len(ids))
        layout = {"digests": ((total, 16), np.uint8), "sizes": ((total, 2), np.int32)}
        out = ArrayFolder(made, {name: layout[name] for name in names})
        done = int(out.state.get("done", 0))
        with (
            bar("read pictures", len(ids), done=done, show=show) as progress,
            ThreadPoolExecutor(GLANCES if pieces else THREADS) as pool,
        ):
            while done < len(ids):
                end = min(done + CHUNK, len(ids))
                found = pool.map(partial(_of, folder, pieces=pieces), ids[done:end])
                for place, (content, size, is_read) in enumerate(found, done):
                    out.arrays["digests"][place] = np.frombuffer(content, np.uint8) if is_read else 0
                    if not pieces:
                        out.arrays["sizes"][place] = size or (0, 0)
                progress.advance(end - done)
                done = end
                out.commit(done=done)
        out.finish("contents.json", {"num": len(ids)})

    make_once(made, lambda: is_whole(made, "contents.json", names), make)
    read = Contents(made, len(ids))
    read.look_again(lambda place: _of(folder, ids[place], pieces)[:2])
    return read


def _of(folder: Folder, id: str, pieces: bool) -> tuple[bytes, Size | None, bool]:
    """Digest of a sample's name and files, its picture's size, and whether the system let them be read."""
    digest, size, picture = hashlib.blake2b(f"{id}\n".encode(), digest_size=16), None, b""
    is_read = True
    try:
        for name, data in folder.files(id, pieces):
            digest.update(f"{name} {len(data)}\n".encode())
            digest.update(data)
            picture = data if name == "picture" else picture
        size = None if pieces else size_of(picture, f"picture '{id}'")
    except UserError as error:
        # What cannot be read is named where it is needed.
        digest.update(f"broken: {type(error).__name__}".encode())
        is_read = not isinstance(error.__cause__, OSError)
    return digest.digest(), size, is_read
