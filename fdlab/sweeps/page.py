"""search.html: one page of a search, written anew after every trial; no script, no external file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fdlab import escape as shown
from fdlab.files import write_text
from fdlab.sweeps import results
from fdlab.sweeps.space import IF
from fdlab.sweeps.study import Study

PAGE = "search.html"


def current(study: Study) -> Path:
    """The page's path; it is written anew where a trial began or ended since."""
    path = study.folder / PAGE
    moments = [when for t in study.trials() for when in (t.datetime_start, t.datetime_complete) if when]
    if path.is_file() and moments and path.stat().st_mtime > max(moments).timestamp():
        return path
    return write(study)


def write(study: Study) -> Path:
    """Write the page and its figures into the search's folder; returns the page's path."""
    # Only here: whoever looks at a search need not wait for matplotlib.
    from fdlab.records.report import STYLE, inline
    from fdlab.sweeps import figures

    trials = study.trials()
    done = [trial for trial in trials if trial.values]
    header, rows = results.table(study)
    body = [
        f"<h1>{escape(study.folder.name)}</h1>",
        *(f'<p class="dim">{escape(line)}</p>' for line in results.summary(study)),
    ]
    if done:
        leading = {trial.number for trial in results.best(study)}
        body += [inline(caption, path) for caption, path in figures.draw(study, done, leading)]
        rows = [["★ " + row[0] if int(row[0]) in leading else row[0], *row[1:]] for row in rows]
    body += ["<h2>trials</h2>", _table(header, rows)]
    body += ["<h2>searched</h2>", f"<pre>{escape(_asked(study))}</pre>"]
    path = study.folder / PAGE
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(study.folder.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<main>{''.join(body)}</main></html>\n"
    )
    write_text(path, text)
    return path


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(shown.visible(cell))}</td>" for cell in row) for row in rows]
    inside = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{inside}</tbody></table></div>'


def _asked(study: Study) -> str:
    lines = [f"{key}: {words}" for key, words in study.space.described().items()]
    fixed = " ".join(shlex.quote(word) if IF in word else word for word in study.space.constant())
    return "\n".join([*lines, "", f"every trial: fdlab {study.space.verb} {fixed}".rstrip()])
