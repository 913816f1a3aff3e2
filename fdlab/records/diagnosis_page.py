"""A page of a diagnosis: each verdict with its cure, and pictures in which something is wrong, with the masks
that a training would be given. One file without script or outside requests, light and dark, any width."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fdlab.data.sample import CorruptFile
from fdlab.diagnosis.doctor import Diagnosis
from fdlab.diagnosis.findings import BEWARE, FINE, NOT, Finding, conclusion
from fdlab.diagnosis.judge import wrong_in
from fdlab.escape import visible
from fdlab.files import write_text
from fdlab.records.data_page import MORE_STYLE, card
from fdlab.records.document import document
from fdlab.records.report import STYLE

SAMPLES = 24
"""Pictures on the page."""
CLASSES = {FINE: "fine", BEWARE: "beware", NOT: "not"}
OWN_STYLE = """
.finding{display:grid;grid-template-columns:7.5rem 7.5rem 1fr;gap:.2rem .9rem;padding:.7rem .9rem;
border-bottom:1px solid var(--line)}
.finding:last-child{border-bottom:0}.finding>*{min-width:0;overflow-wrap:anywhere}
.finding .verdict{font-weight:600}.finding .cure{grid-column:3}
.fine .verdict{color:#15803d}.beware .verdict{color:#b45309}.not .verdict{color:#dc2626}
@media(prefers-color-scheme:dark){.fine .verdict{color:#4ade80}.beware .verdict{color:#fbbf24}
.not .verdict{color:#f87171}}
@media(max-width:44rem){.finding{grid-template-columns:1fr}.finding .cure{grid-column:1}}
.list{border:1px solid var(--line);border-radius:.7rem;background:var(--card);margin:1.2rem 0}
.card .wrong{font-weight:600}
"""


def write(path: Path, made: Diagnosis) -> None:
    """Write the page."""
    title = f"{visible(made.looked.folder.root.resolve().name)}: will an SDM learn from it?"
    verdict = conclusion(made.findings)
    looked = f"{len(made.looked.shown):,} of {len(made.looked.told):,} pictures looked at"
    cards = _cards(made)
    heading = "<h2>Pictures in which something is wrong</h2>"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p><b>{verdict}</b> <span class="dim">{looked}</span></p>',
        f'<div class="list">{"".join(_line(finding) for finding in made.findings)}</div>',
        *([heading, f'<div class="cards">{cards}</div>'] if cards else []),
    ]
    write_text(path, document(title, STYLE + MORE_STYLE + OWN_STYLE, body))


def _line(finding: Finding) -> str:
    cure = f'<span class="cure dim">Cure: {_text(finding.cure)}</span>' if finding.cure else ""
    return (
        f'<div class="finding {CLASSES[finding.verdict]}"><span class="verdict">{finding.verdict}</span>'
        f"<span>{finding.name}</span><span>{_text(finding.says)}</span>{cure}</div>"
    )


def _cards(made: Diagnosis) -> str:
    """Pictures that can be shown, those with most wrong in them first."""
    wrong = [(each, wrong_in(each)) for each in made.looked.shown]
    wrong = sorted((pair for pair in wrong if pair[1]), key=lambda pair: -len(pair[1]))
    folder, cards = made.looked.folder, []
    for each, lines in wrong:
        try:
            sample = folder.sample(each.id, folder.annotation(each.id, made.labels))
        except CorruptFile:
            continue
        cards.append(card(sample, f'<p class="wrong">{_text("; ".join(lines))}</p>'))
        if len(cards) == SAMPLES:
            break
    return "".join(cards)


def _text(text: str) -> str:
    return escape(visible(text))
