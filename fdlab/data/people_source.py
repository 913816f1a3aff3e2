"""Rendered people on demand: rendered at first use, found again afterwards."""

from __future__ import annotations

from pathlib import Path

from fdlab.data.check import check_complete
from fdlab.data.store import is_whole, make_once


def people_folder(root: Path, mix: str, num: int, seed: int, size: int) -> Path:
    """Folder of one rendered data set; its name says all that decides its content, the renderer's version
    too."""
    from fdlab.people.dataset import VERSION

    return Path(root) / f"{mix}-{num}-seed{seed}-{size}px-v{VERSION}"


def ensure_people(
    root: Path, mix: str, num: int, seed: int, size: int, workers: int = 0, progress: bool = True
) -> Path:
    """Render the data set below `root` unless it is there already; return its folder.

    An interrupted rendering goes on where it stopped; of several processes one renders and the others wait.
    """
    folder = people_folder(root, mix, num, seed, size)

    def make() -> None:
        from fdlab.people.dataset import render

        # A mark that cannot be read; the pictures that are there are kept.
        (folder / "dataset.json").unlink(missing_ok=True)
        render(folder, mix, num, seed, size=size, workers=workers, progress=progress)

    make_once(folder, lambda: is_whole(folder, "dataset.json", ()), make)
    check_complete(folder, rendered=True)
    return folder
