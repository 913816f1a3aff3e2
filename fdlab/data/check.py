"""Is this folder a data set one can train on? Every finding is one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.captions import encode
from fdlab.data.layout import Annotation, CorruptFile, PersonSample, read_annotation, read_ids, read_sample
from fdlab.errors import UserError
from fdlab.progress import track


@dataclass
class Report:
    """What `check` found."""

    num_samples: int = 0
    num_subjects: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Id to reason, of what `skip_corrupt` passes over."""


def dataset_card(root: Path) -> dict[str, Any] | None:
    """Read `dataset.json`, which rendered data carry and photographs do not."""
    path = Path(root) / "dataset.json"
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"'{path}' is no JSON ({error}).") from None


def check_complete(root: Path, rendered: bool = False) -> None:
    """Refuse a folder that is missing, that lists nothing, or (rendered people) that was never finished."""
    root = Path(root)
    if rendered and root.is_dir() and not (root / "dataset.json").exists():
        raise UserError(
            f"data folder '{root}' is half written: it has no dataset.json; "
            "run the same command again to finish it."
        )
    read_ids(root)
    card = dataset_card(root)
    if card and card.get("num") is not None and int(card["num"]) > len(read_ids(root)):
        raise UserError(
            f"data folder '{root}' is half written: dataset.json promises {card['num']} pictures."
        )


def check_subjects(annotation: Annotation, max_subjects: int) -> None:
    """Refuse a sample with more subjects than a model takes."""
    if len(annotation.subjects) > max_subjects:
        raise UserError(
            f"sample '{annotation.id}' has {len(annotation.subjects)} subjects; at most "
            f"{max_subjects} are allowed (data.max_subjects)."
        )


def check_labels(sample: PersonSample) -> None:
    """Refuse a rendered sample whose label map holds a person the caption does not list."""
    extra = set(np.unique(sample.segments_HW).tolist()) - {0} - {s.segment for s in sample.subjects}
    if extra:
        raise CorruptFile(f"sample '{sample.id}': mask {min(extra)} has no person in the json.")


def check(
    root: Path,
    split: str = "all",
    max_subjects: int = 4,
    tokenizer: Any = None,
    skip_corrupt: bool = False,
    workers: int = 4,
    show: bool = True,
) -> Report:
    """Read every sample of a folder. Raises UserError at the first fault; with `skip_corrupt`, broken files
    are listed in the report instead. `tokenizer` also checks that each subject lies within the text encoder's
    tokens."""
    root = Path(root)
    card = dataset_card(root)
    check_complete(root)
    rendered = bool(card and card.get("kind") == "people")
    ids = read_ids(root, split)
    report = Report()

    def one(id: str) -> int | CorruptFile:
        try:
            annotation = read_annotation(root, id)
            sample = read_sample(root, id, annotation)
            if rendered:
                check_labels(sample)
        except CorruptFile as error:
            if not skip_corrupt:
                raise
            return error
        check_subjects(annotation, max_subjects)
        if tokenizer is not None:
            encode(tokenizer, annotation.caption, [s.end for s in annotation.subjects])
        return len(annotation.subjects)

    for id, result in track(zip(ids, _map(one, ids, workers), strict=True), "check", len(ids), show=show):
        if isinstance(result, CorruptFile):
            report.skipped[id] = str(result)
        else:
            report.num_samples += 1
            report.num_subjects += result
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
