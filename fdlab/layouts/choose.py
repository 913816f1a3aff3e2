"""Which layout a path holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from fdlab.data.folder import FastComposerFolder, Folder
from fdlab.errors import UserError
from fdlab.layouts.plain import PlainFolder, pictures_below
from fdlab.layouts.shards import ShardFolder

LAYOUTS: dict[str, Callable[[Path], Folder]] = {
    "fastcomposer": FastComposerFolder,
    "webdataset": ShardFolder,
    "plain": PlainFolder,
}
ANY = "folder"
"""Whichever it is."""


def open_folder(root: Path | str, kind: str = ANY, caption: str | None = None) -> Folder:
    """Open a data set in one of `LAYOUTS`, or in whichever it is. Raises: UserError where that cannot be.

    caption: of a plain folder's pictures that have none.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise UserError(f"data folder '{root}' does not exist; give a folder of pictures (data.root).")
    if kind == ANY:
        kind = layout_of(root)
    elif (found := _guess(root)) not in (kind, None, "plain"):
        raise UserError(
            f"data folder '{root}' has the layout '{found}', not '{kind}': take data.kind={found}."
        )
    if caption is None:
        return LAYOUTS[kind](root)
    if kind != PlainFolder.kind and _guess(root) == PlainFolder.kind:
        raise UserError(f"data.caption='{caption}' goes with data=folder; data.kind={kind} reads no such.")
    if kind != PlainFolder.kind:
        raise UserError(
            f"data.caption='{caption}' is for a folder of pictures alone; '{root}' has the layout '{kind}',"
            " with a caption for each: give data.caption=null."
        )
    return PlainFolder(root, caption)


@lru_cache(maxsize=1)
def opened_once(root: Path, kind: str) -> Folder:
    """The same, for a worker that is told many times; who starts workers calls `opened_once.cache_clear`
    first, for it may be one itself."""
    return open_folder(root, kind)


def check_teaches(folder: Folder, subjects: bool) -> None:
    """Refuse to learn subjects from pictures without masks. Raises: UserError."""
    if subjects and not folder.has_masks:
        raise UserError(
            f"data folder '{folder.root}' has captions but no masks: a TDM learns from it (model=tdm), an "
            "SDM needs to know where each person is (FastComposer's layout, or shards with label maps)."
        )


def layout_of(root: Path) -> str:
    """The layout's name. Raises: UserError where a path has none of them."""
    if (found := _guess(root)) is None:
        raise UserError(
            f"data folder '{root}' holds neither FastComposer's image_ids*.txt, nor shards (*.tar), nor "
            "pictures."
        )
    return found


def _guess(root: Path) -> str | None:
    if root.is_file():
        return "webdataset" if root.suffix == ".tar" else None
    if any(root.glob("image_ids*.txt")):
        return "fastcomposer"
    if any(root.glob("*.tar")):
        return "webdataset"
    first = next(pictures_below(root), None)
    if first is None:
        return None
    # A label map beside it: FastComposer's, but its lists are missing.
    return "fastcomposer" if first.with_suffix(".npy").exists() else "plain"
