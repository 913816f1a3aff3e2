"""What the page shows, as plain JSON: everything but pictures, which it refers to by relative links.

What all rows of a table share (configuration, order of pictures, who measured) stands there once, so that 500
rows with 50,000 pictures stay under 5 MB.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from fdlab.config.schema import leaves, written
from fdlab.data.captions import unmarked
from fdlab.leaderboard import pooling, runs
from fdlab.leaderboard.evidence import Look
from fdlab.leaderboard.tables import Board, Cell, Row, Table
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS, SCORES
from fdlab.publishing import machine, quoted_tables, thumbnails, words
from fdlab.records import table as records_table
from fdlab.records.per_sample import ScoredPictures, drawn, file_of

PROVENANCE = (
    "created",
    "device",
    "seconds",
    "seed",
    "fdlab_version",
    "git_commit",
    "git_dirty",
    "image_format",
)
_DIGITS = 8
_LOOKED = 8
"""Pictures that are looked for; where none of these is, none is."""
"""Significant digits of a number on the page."""


def content(board: Board, folder: Path, look: Look, carried: int = 0) -> dict[str, Any]:
    """The page's data; links are relative to `folder`, where it will lie. `carried` pictures of each row, and
    its worst, are part of it."""
    return {
        "metrics": {
            name: {
                "label": metric.label,
                "higher": metric.higher_is_better,
                "decimals": metric.decimals,
                "unit": metric.unit,
                "about": metric.about,
            }
            for name, metric in SCORES.items()
        },
        "tables": [_table(table, folder, look, carried) for table in board.tables],
        "quoted": [
            {"title": entry.title, "notes": entry.notes, "head": head, "rows": rows, "beside": number}
            for number, entry in _quoted(board)
            for head, rows in [quoted_tables.cells(entry)]
        ],
    }


def _quoted(board: Board) -> list[tuple[int, Any]]:
    beside = [(table.number, entry) for table in board.tables for entry in table.quoted]
    return [*beside, *((0, entry) for entry in board.quoted)]


def _table(table: Table, folder: Path, look: Look, carried: int) -> dict[str, Any]:
    configs = [_config(row) for row in table.rows]
    shared = _shared(configs)
    seen = [look(row.entry).scored for row in table.rows]
    # What pictures were asked to show is told by those that nothing speaks against.
    sound = [scored for row, scored in zip(table.rows, seen, strict=True) if scored and row.competes]
    usual = _usual(sound or [scored for scored in seen if scored is not None])
    scores = _scores([scored for scored in seen if scored is not None])
    asked = _cells(usual)
    chosen = thumbnails.places(asked["pictures"], carried)
    rows = [
        _row(row, folder, config, shared, scored, usual, scores, carried)
        for row, config, scored in zip(table.rows, configs, seen, strict=True)
    ]
    if carried:
        for row, made in zip(table.rows, rows, strict=True):
            made |= _inside(row, made, asked["pictures"], chosen)
    return {
        "number": table.number,
        "name": str(table.benchmark["name"]),
        "title": table.title,
        "apart": table.apart,
        "orderedBy": table.ordered_by,
        "axes": list(table.axes or ()),
        "columns": table.metrics,
        "short": table.short,
        "notes": words.notes(table, apart=False),
        "measuredBy": _measured_by(table),
        "config": shared,
        "scores": scores,
        **asked,
        "rows": rows,
    }


def _inside(
    row: Row, made: Mapping[str, Any], pictures: Sequence[Sequence[Any]], chosen: Sequence[int]
) -> dict[str, dict[str, str]]:
    """The pictures of a row that lie in the page."""
    if "folder" not in made:
        return {}
    files = made.get("files") or [f"images/{name}.png" for name, *_ in pictures]
    wanted = [*chosen, *thumbnails.worst(made["values"])]
    return {"inside": thumbnails.read(row.entry.path.parent, [unquote(file) for file in files], wanted)}


def _row(
    row: Row,
    folder: Path,
    config: Mapping[str, str],
    shared: Mapping[str, str],
    scored: ScoredPictures | None,
    usual: ScoredPictures | None,
    scores: Sequence[str],
    carried: int,
) -> dict[str, Any]:
    provenance = row.record["provenance"]
    return {
        "label": row.label,
        "rank": row.rank,
        "open": row.is_open,
        "unranked": row.unranked,
        "marks": [[mark.word, mark.text] for mark in row.marks],
        "competes": row.competes,
        "front": row.on_front,
        "seeds": row.num_seeds,
        "steps": records_table.steps(row.record),
        "cells": {name: _cell(cell) for name, cell in row.cells.items()},
        "provenance": {key: str(provenance[key]) for key in PROVENANCE if provenance.get(key) is not None},
        "records": [] if carried else [_link(entry.path, folder) for entry in row.entries],
        "command": machine.command(runs.command_of(row.entry)),
        "config": {key: value for key, value in config.items() if shared.get(key) != value},
        "breakdown": _breakdown(row),
        **_pictures(row, folder, scored, usual, scores),
    }


def _cell(cell: Cell) -> list[Any]:
    return [*(_short(x) for x in (cell.value, cell.low, cell.high)), cell.num, _short(cell.spread)]


def _config(row: Row) -> dict[str, str]:
    """The run's configuration, or the record's method where there is none; everything as text."""
    found = pooling.config_of(row.entry)
    if found is None:
        found = {f"method.{key}": value for key, value in leaves(dict(row.record["method"]))}
    return machine.settings({key: written(value) for key, value in found.items()})


def _shared(configs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Settings that all rows have alike."""
    if len(configs) < 2:
        return {}
    first, *others = configs
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _measured_by(table: Table) -> dict[str, str]:
    """Metric -> who measured it, in which version: alike for a whole table."""
    found: dict[str, str] = {}
    for row in table.rows:
        for name, entry in row.record["metrics"].items():
            by = entry["extractor"]
            digest = f", {by['sha256'][:10]}" if by["sha256"] else ""
            found.setdefault(name, f"version {entry['version']} by {by['name']}{digest}")
    return found


def _breakdown(row: Row) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Attribute -> group -> metric -> value, interval, pictures; of the metrics of the short table."""
    names = [name for name in registry.short() if name in row.cells]
    return {
        attribute: {
            group: {
                name: [_short(entries[name].get(key)) for key in ("value", "ci_low", "ci_high", "n")]
                for name in names
                if name in entries
            }
            for group, entries in groups.items()
        }
        for attribute, groups in runs.breakdown_of(row.entry).items()
    }


def _usual(found: Sequence[ScoredPictures]) -> ScoredPictures | None:
    """The pictures that most rows have, in their order."""
    if not found:
        return None
    counts = Counter(tuple(scored.ids) for scored in found)
    ids = counts.most_common(1)[0][0]
    return next(scored for scored in found if tuple(scored.ids) == ids)


def _scores(found: Sequence[ScoredPictures]) -> list[str]:
    """Which scores of single pictures the page shows: the first of identity and of prompt consistency."""
    wanted = [name for name in registry.ranked() if any(name in scored.values for scored in found)]
    faces = [name for name in wanted if METRICS[name].by == "faces"]
    others = [name for name in wanted if METRICS[name].by != "faces"]
    return [*faces[:1], *others[:1]]


def _cells(usual: ScoredPictures | None) -> dict[str, Any]:
    """Whom and what each picture was asked to show: `pictures` is [id, subjects, prompt] a picture."""
    if usual is None:
        return {"prompts": [], "pictures": []}
    prompts: dict[str, dict[str, str]] = {}
    for picture in usual.pictures:
        text, category = unmarked(str(picture.get("text", ""))), str(picture.get("category") or "")
        prompts.setdefault(picture["prompt"], {"id": picture["prompt"], "text": text, "category": category})
    place = {name: n for n, name in enumerate(prompts)}
    pictures = [[p["id"], " + ".join(drawn(p)), place[p["prompt"]]] for p in usual.pictures]
    return {"prompts": list(prompts.values()), "pictures": pictures}


def _pictures(
    row: Row, folder: Path, scored: ScoredPictures | None, usual: ScoredPictures | None, scores: Sequence[str]
) -> dict[str, Any]:
    """Where a row's pictures lie and what they score, in the order of `_cells`; nothing for others."""
    if scored is None or usual is None or sorted(scored.ids) != sorted(usual.ids):
        return {}
    place = {name: n for n, name in enumerate(scored.ids)}
    order = np.array([place[name] for name in usual.ids])
    values = {
        name: [_short(float(x), 4) if np.isfinite(x) else None for x in scored.values[name][order]]
        for name in scores
        if name in scored.values
    }
    files = [quote(file_of(scored.pictures[n])) for n in order]
    plain = all(file == f"images/{name}.png" for file, name in zip(files, usual.ids, strict=True))
    beside = row.entry.path.parent
    # Records may travel without their pictures: then no page asks for them.
    if not any((beside / file_of(scored.pictures[n])).is_file() for n in order[:_LOOKED]):
        return {"values": values}
    where = _link(beside, folder)
    return {"folder": where, "values": values, **({} if plain else {"files": files})}


@lru_cache(maxsize=1 << 16)
def _link(path: Path, folder: Path) -> str:
    """A relative link from the page, with a dot before it so that no name is taken for a scheme."""
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return quote(relative if relative.startswith(".") else f"./{relative}")


def _short(value: Any, digits: int = _DIGITS) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
