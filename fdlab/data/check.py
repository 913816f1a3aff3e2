"""Is this folder a data set one can train on? Every finding is one line that names the file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.data.annotation import Annotation
from fdlab.data.entry import Crop, Shape, caption_tokens, cut_subject, read_checked
from fdlab.data.folder import Folder, check_complete, folder_of, is_rendered
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.progress import track


@dataclass
class Report:
    """What `check` found."""

    num_samples: int = 0
    num_subjects: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Id to reason, of what `skip_corrupt` passes over."""


REFERENCE = 32
"""Pixels a side of the references that are cut out to see whether they can be."""


def check(
    root: Path | Folder,
    tokenizer: Any,
    split: str = "all",
    labels: Collection[str] | None = None,
    skip_corrupt: bool = False,
    workers: int = 4,
    show: bool = True,
    crop: Crop | None = None,
) -> Report:
    """Read every sample of a folder as training does, to the tokens of its caption, and cut every subject out
    with `crop`. Raises UserError at the first fault; with `skip_corrupt`, samples that cannot be used are
    listed in the report instead."""
    folder = folder_of(root)
    check_complete(folder)
    root, rendered, ids = folder.root, is_rendered(folder.root), folder.ids(split)
    shape = Shape(image_size=1, latent_CHW=(1, 1, 1), reference_size=None, max_subjects=1)
    report = Report()

    def read(id: str) -> Annotation | CorruptFile:
        try:
            annotation = folder.annotation(id, labels)
            sample = read_checked(folder, annotation, rendered)
            for subject in sample.subjects if crop is not None else ():
                cut_subject(sample, subject, REFERENCE, False, crop)
        except CorruptFile as error:
            return error
        return annotation

    for id, found in track(zip(ids, _map(read, ids, workers), strict=True), "check", len(ids), show=show):
        try:
            if isinstance(found, CorruptFile):
                raise found
            caption_tokens(tokenizer, found, shape)
        except CorruptFile as error:
            if not skip_corrupt:
                raise
            report.skipped[id] = str(error)
        else:
            report.num_samples += 1
            report.num_subjects += len(found.subjects)
    if not report.num_samples:
        raise UserError(
            f"data folder '{root}' holds no readable sample: {next(iter(report.skipped.values()))}"
        )
    return report


def _map(function: Callable[[str], Any], ids: list[str], workers: int) -> Any:
    """Map over ids in threads, in order, a window at a time (an error stops what has not begun)."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(ids), 64):
            yield from pool.map(function, ids[start : start + 64])
