"""Records of one method, trained from several seeds or measured several times, as one row.

Two records are seeds of one method where all that describes it agrees but the weights' digests (backbone,
sampler, training steps, teachers), and the configurations beside them differ in nothing but the seed and the
run's name. They are repeats where method and numbers agree altogether, as a baseline's do in every run of a
grid. A seed that lacks pictures stands apart. Whatever cannot be shown to be either stays apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.config.schema import leaves
from fdlab.errors import UserError
from fdlab.leaderboard import marks
from fdlab.leaderboard.collect import Entry
from fdlab.records import per_sample

Sound = Callable[[Entry], bool]

CONFIG = "config.yaml"
_OF_ONE_RUN = ("seed", "name", "resume", "jobs")
_OF_ONE_MACHINE = (
    "paths.", "logger.", "launcher.", "trainer.devices", "trainer.accelerator", "trainer.num_workers",
)  # fmt: skip
"""Leaves of a configuration that a run with another seed, or on another machine, may change."""
_OF_WEIGHTS = ("sha256", "source")


def pooled(entries: Sequence[Entry], sound: Sound) -> list[list[Entry]]:
    """Entries in groups of one method, in the order of each group's first. `sound` says whether a record's
    single pictures bear it out; it is asked only of records that may stand for others."""
    groups = _by(entries, lambda entry: _text([entry.record["method"], entry.record["metrics"]]))
    groups = [_speaker_first(group, sound) for group in groups]
    firsts = [group[0] for group in groups]
    repeats = {id(group[0]): group for group in groups}
    alike = _by(firsts, lambda entry: _text(_without_weights(entry.record["method"])))
    made = []
    for candidates in alike:
        made += _seeds(candidates, sound)
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


def _speaker_first(copies: list[Entry], sound: Sound) -> list[Entry]:
    """Copies of one record, first the one that speaks for all: one that its pictures bear out, if any."""
    if len(copies) < 2:
        return copies
    likely = sorted(copies, key=lambda entry: not _has_pictures(entry))
    speaker = next((entry for entry in likely if _has_pictures(entry) and sound(entry)), likely[0])
    return [speaker, *(entry for entry in likely if entry is not speaker)]


def _has_pictures(entry: Entry) -> bool:
    return per_sample.kept(entry.path.parent) is not None


def _seeds(candidates: list[Entry], sound: Sound) -> list[list[Entry]]:
    """Split records of like methods into those that are seeds of one another, and the others alone."""
    if len(candidates) < 2:
        return [candidates]
    made = []
    for group in _by(candidates, _training):
        # One that lacks pictures, or that its own do not bear out, would take the rank of all.
        whole = [entry for entry in group if not marks.incomplete(entry.record)]
        borne_out = [entry for entry in whole if sound(entry)] if len(whole) > 1 else []
        seeds = borne_out or whole
        made += [seeds] if _are_distinct(seeds) else [[entry] for entry in seeds]
        made += [[entry] for entry in group if not any(entry is seed for seed in seeds)]
    return made


def _training(entry: Entry) -> str:
    """What seeds of one training have in common: their configuration, but for what a seed may change, and
    the folder that their runs lie in, since a stranger's may say the same."""
    config, folder = config_of(entry), run_folder(entry.path)
    return (
        f"alone {entry.path}"
        if config is None or folder is None
        else _text([str(folder.parent), method_of(config)])
    )


def _are_distinct(seeds: Sequence[Entry]) -> bool:
    """Whether each has a seed and weights of its own."""
    said = [entry.record["provenance"].get("seed") for entry in seeds]
    made = [_weights(entry.record["method"]) for entry in seeds]
    return None not in said and all(len({_text(x) for x in each}) == len(seeds) > 1 for each in (said, made))


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
