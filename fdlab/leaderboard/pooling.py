"""Records of one method, trained from several seeds or measured several times, as one row.

Two records are seeds of one method where all that describes it agrees but the weights' digests (backbone,
sampler, training steps, teachers), and the configurations beside them differ in nothing but the seed and the
run's name. They are repeats where method and numbers agree altogether, as a baseline's do in every run of a
grid. A seed that lacks pictures stands apart. Whatever cannot be shown to be either stays apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.config.schema import leaves
from fdlab.errors import UserError
from fdlab.leaderboard import marks
from fdlab.leaderboard.collect import Entry
from fdlab.records import per_sample

CONFIG = "config.yaml"
_OF_ONE_RUN = ("seed", "name", "resume", "jobs")
_OF_ONE_MACHINE = (
    "paths.", "logger.", "launcher.", "trainer.devices", "trainer.accelerator", "trainer.num_workers",
)  # fmt: skip
"""Leaves of a configuration that a run with another seed, or on another machine, may change."""
_OF_WEIGHTS = ("sha256", "source")


def pooled(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Entries in groups of one method, in the order of each group's first."""
    groups = _by(entries, lambda entry: _text([entry.record["method"], entry.record["metrics"]]))
    # Of copies the one beside which pictures lie speaks for all.
    groups = [sorted(group, key=lambda entry: not _has_pictures(entry)) for group in groups]
    firsts = [group[0] for group in groups]
    repeats = {id(group[0]): group for group in groups}
    alike = _by(firsts, lambda entry: _text(_without_weights(entry.record["method"])))
    made = []
    for candidates in alike:
        made += _seeds(candidates)
    place = {id(entry): n for n, entry in enumerate(entries)}
    whole = [[entry for first in group for entry in repeats[id(first)]] for group in made]
    return sorted(whole, key=lambda group: place[id(group[0])])


def seeds_of(group: Sequence[Entry]) -> list[list[Entry]]:
    """A group's repeats together: a list for every different training."""
    if len(group) == 1:
        return [list(group)]
    return _by(group, lambda entry: _text([entry.record["method"], entry.record["metrics"]]))


def config_of(entry: Entry) -> dict[str, Any] | None:
    """The configuration of the run that a record belongs to, dotted; None where there is none to be read."""
    folder = run_folder(entry.path)
    if folder is None or not (folder / CONFIG).is_file():
        return None
    try:
        foreign.check_config(folder / CONFIG, "configuration")
        found = foreign.read_yaml(folder / CONFIG, "configuration")
    except UserError:
        return None
    return dict(leaves(found)) if isinstance(found, dict) else None


def run_folder(record: Path) -> Path | None:
    """The run that a record lies in: the folder above `evaluation`; None where there is no such."""
    parts = record.parent.parts
    place = max((i for i, part in enumerate(parts) if part == "evaluation" and i), default=0)
    return Path(*parts[:place]) if place else None


def _has_pictures(entry: Entry) -> bool:
    return per_sample.kept(entry.path.parent) is not None


def _seeds(candidates: list[Entry]) -> list[list[Entry]]:
    """Split records of like methods into those that are seeds of one another, and the others alone."""
    apart = [entry for entry in candidates if marks.incomplete(entry.record)]
    if apart:
        # One that lacks pictures would take the rank of all.
        whole = [entry for entry in candidates if entry not in apart]
        return [*_seeds(whole), *([entry] for entry in apart)]
    digests = {_text(_weights(entry.record["method"])) for entry in candidates}
    if len(candidates) < 2 or len(digests) < 2:
        return [[entry] for entry in candidates]
    groups: dict[str, list[Entry]] = {}
    for entry in candidates:
        config = config_of(entry)
        key = f"alone {entry.path}" if config is None else _text(method_of(config))
        groups.setdefault(key, []).append(entry)
    made = []
    for group in groups.values():
        seeds = [entry.record["provenance"].get("seed") for entry in group]
        distinct = len({_text(seed) for seed in seeds}) == len(group) and None not in seeds
        made += [group] if distinct else [[entry] for entry in group]
    return made


def method_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a dotted configuration another seed, or another machine, does not change."""
    return {
        key: value
        for key, value in config.items()
        if key not in _OF_ONE_RUN and not key.startswith(_OF_ONE_MACHINE)
    }


def _without_weights(method: Mapping[str, Any]) -> dict[str, Any]:
    bare = {key: value for key, value in method.items() if key != "label"}
    for kind in ("tdm", "sdm"):
        if isinstance(bare.get(kind), dict):
            bare[kind] = {key: value for key, value in bare[kind].items() if key not in _OF_WEIGHTS}
    return bare


def _weights(method: Mapping[str, Any]) -> list[Any]:
    models = [method.get(kind) for kind in ("tdm", "sdm")]
    return [model.get("sha256") if isinstance(model, dict) else None for model in models]


def _by(entries: Sequence[Entry], key: Any) -> list[list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return list(found.values())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
