"""What a diagnosis finds: one verdict a line, its numbers, and the cure in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["fine", "beware", "will not learn"]
FINE: Verdict = "fine"
BEWARE: Verdict = "beware"
NOT: Verdict = "will not learn"


@dataclass(frozen=True)
class Finding:
    """One line."""

    name: str
    verdict: Verdict
    says: str
    """Counts and shares, in words."""
    cure: str = ""
    """What to do; nothing where all is fine."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""


def share(part: int, whole: int) -> float:
    """A share; of nothing it is 0."""
    return part / whole if whole else 0.0


def judged(value: float, fine: float, enough: float) -> Verdict:
    """A verdict of a share of which more is better: fine from `fine`, hopeless below `enough`."""
    return FINE if value >= fine else BEWARE if value >= enough else NOT


def of(part: int, whole: int) -> str:
    """A count and its share: "3 of 40 (8 %)"."""
    return f"{part:,} of {whole:,} ({100 * share(part, whole):.0f} %)"


def will_learn(findings: Sequence[Finding]) -> bool:
    """Whether nothing stands in the way."""
    return all(finding.verdict != NOT for finding in findings)


def conclusion(findings: Sequence[Finding]) -> str:
    """All findings in one sentence, which promises nothing that was not seen."""
    if not will_learn(findings):
        return "It will not learn."
    num = sum(finding.verdict == BEWARE for finding in findings)
    return f"Nothing found keeps it from learning; beware of {num}." if num else "It will learn."


def text(findings: Sequence[Finding]) -> str:
    """The findings for a terminal, a line each, and a line for each cure."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<16}{finding.name:<18}{finding.says}")
        if finding.cure:
            lines.append(f"{'':<16}{'':<18}cure: {finding.cure}")
    return "\n".join(lines)
