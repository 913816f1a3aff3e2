"""How rows of a table are called, so that no two are called the same where anything tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fdlab.config.schema import leaves
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.pooling import config_of, method_of, seeds_of
from fdlab.records import table

_NAMES = ("name", "label")
_LONGEST = 12
_LONGEST_RUN = 32
"""Characters of a setting, and of a run's name, that a label shows."""


def labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """A label for each group of pooled records: what it is, its run or how many seeds, and the settings in
    which it differs from others of its name: of the sampler, or, where that leaves them alike, any. Long
    names of runs, as those of a grid, are cut in the middle and count as the same."""
    made = [_with_run(group) for group in groups]
    how = _samplers(groups)
    alike: dict[str, list[Sequence[Entry]]] = {}
    for group, (_, key) in zip(groups, made, strict=True):
        alike.setdefault(key, []).append(group)
    settings = {key: _settings(found) for key, found in alike.items() if len(found) > 1}
    found = [
        _with_settings(settings[key][id(group)], label, list(settings[key].values()))
        if key in settings
        else f"{label}: {how[id(group)]}"
        if how[id(group)]
        else label
        for group, (label, key) in zip(groups, made, strict=True)
    ]
    return _told_apart(found, [group[0] for group in groups])


def _samplers(groups: Sequence[Sequence[Entry]]) -> dict[int, str]:
    """Group (by id) -> the sampler's settings in which it differs from others of its name: runs may be called
    anything."""
    found: dict[int, str] = {}
    named: dict[str, list[Sequence[Entry]]] = {}
    for group in groups:
        named.setdefault(table.label(group[0].record), []).append(group)
    for alike in named.values():
        said = {id(group): group[0].record["method"].get("sampler") for group in alike}
        samplers = {key: dict(each) if isinstance(each, Mapping) else {} for key, each in said.items()}
        for key, own in samplers.items():
            differing = _differing(own, list(samplers.values()))
            found[key] = ", ".join(f"{name}={str(own[name])[:_LONGEST]}" for name in differing)
    return found


def _told_apart(labels: Sequence[str], firsts: Sequence[Entry]) -> list[str]:
    """Labels that are still alike, each with the folders by which its record lies apart, or a number."""
    alike: dict[str, list[int]] = {}
    for n, label in enumerate(labels):
        alike.setdefault(label, []).append(n)
    made = list(labels)
    for label, places in alike.items():
        if len(places) > 1:
            folders = [firsts[n].path.parent.parts for n in places]
            differ = [len(set(parts)) > 1 for parts in zip(*folders, strict=False)]
            shared = differ.index(True) if True in differ else len(differ)
            apart = ["/".join(parts[shared : shared + 2])[:_LONGEST_RUN] for parts in folders]
            alone = len(set(apart)) == len(apart) and all(apart)
            for k, n in enumerate(places):
                made[n] = f"{label}: {apart[k] if alone else f'no. {k + 1}'}"
    return made


def _with_run(group: Sequence[Entry]) -> tuple[str, str]:
    """A label, and what it must differ in from others' to tell it apart."""
    first = group[0]
    name = table.label(first.record)
    num = len(seeds_of(group))
    run = f"{num} seeds" if num > 1 else first.run
    cut = len(run) > _LONGEST_RUN
    if cut:
        run = f"{run[: _LONGEST_RUN // 2 - 1]}…{run[-_LONGEST_RUN // 2 :]}"
    label = f"{name} ({run})"
    return label, f"{name} (…)" if cut else label


def _settings(groups: Sequence[Sequence[Entry]]) -> dict[int, dict[str, Any]]:
    """The settings of each group (by id): of its method; where these are all alike, of its configuration."""
    methods = {id(group): dict(leaves(dict(group[0].record["method"]))) for group in groups}
    if any(_differing(own, list(methods.values())) for own in methods.values()):
        return methods
    return {id(group): method_of(config_of(group[0]) or {}) for group in groups}


def _differing(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in own if key not in _NAMES and any(other.get(key) != own[key] for other in alike)]


def _with_settings(own: Mapping[str, Any], label: str, alike: Sequence[Mapping[str, Any]]) -> str:
    said = ", ".join(f"{key.rpartition('.')[2]}={str(own[key])[:_LONGEST]}" for key in _differing(own, alike))
    return f"{label}: {said}" if said else label
