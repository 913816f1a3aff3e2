"""Records that say they are quoted: no pictures of theirs were measured here, so they stand with published
numbers and not in a column of measured ones."""

from __future__ import annotations

from fdlab.leaderboard.collect import Entry, Group
from fdlab.leaderboard.published import Quoted
from fdlab.metrics.registry import METRICS
from fdlab.records import table
from fdlab.records.comparability import described

_PROTOCOL = "From records that say they are quoted, of the same benchmark, metric versions and extractors"


def split(group: Group) -> tuple[Group, Quoted | None]:
    """A group's measured records as a group, and its quoted ones as published numbers (None without any)."""
    told = [entry for entry in group.entries if entry.record["provenance"]["kind"] == "quoted"]
    if not told:
        return group, None
    measured = [entry for entry in group.entries if entry.record["provenance"]["kind"] != "quoted"]
    rest = Group(group.basis, measured)
    rest.order(group.ordered_by or None)
    return rest, _quoted(group, told)


def _quoted(group: Group, told: list[Entry]) -> Quoted:
    names = [name for name in METRICS if any(name in entry.record["metrics"] for entry in told)]
    columns = {
        name: {"name": spec.label, "unit": spec.unit, "higher_is_better": spec.higher_is_better}
        for name in names
        for spec in [METRICS[name]]
    }
    rows = [
        {
            "method": table.label(entry.record),
            "measured_by": str(entry.record["provenance"]["source"]),
            "source": str(entry.record["provenance"]["source"]),
            **{
                name: entry.record["metrics"][name]["value"]
                for name in names
                if name in entry.record["metrics"]
            },
        }
        for entry in told
    ]
    name = f"{group.benchmark['name']}: {told[0].path}"
    return Quoted(name, described(group.benchmark), _PROTOCOL, columns, rows)
