"""report.html: one page that holds everything of a run; no script, no external file, light and dark, any
width. Only its links to every method's pictures lead to other files of the run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fdlab.benchmarks.profiles import STRICT
from fdlab.files import write_text
from fdlab.metrics import registry
from fdlab.metrics.registry import METRICS, SCORES
from fdlab.records import table
from fdlab.records.comparability import profile_of
from fdlab.records.document import document

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#16181d;--dim:#626975;--line:#e3e6ea;--card:#f6f7f9}
@media(prefers-color-scheme:dark){
:root{--bg:#14161a;--fg:#e8eaed;--dim:#9aa1ac;--line:#2c3038;--card:#1c1f25}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:68rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2.4rem 0 .7rem}
p{margin:.4rem 0}.dim{color:var(--dim);font-size:.88rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem;margin:1.2rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:.7rem .9rem}
.tile b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.7rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.5rem .75rem;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--bg)}
thead th{color:var(--dim);font-weight:600;font-size:.82rem}tr:last-child td{border-bottom:0}
tr.main td{font-weight:600}td small{display:block;color:var(--dim);font-weight:400}
figure{margin:0 0 1.2rem}img{max-width:100%;height:auto;border-radius:.5rem;background:#fff}
figcaption{color:var(--dim);font-size:.88rem;margin-top:.3rem}
details{border:1px solid var(--line);border-radius:.7rem;margin:.6rem 0;padding:.6rem .9rem}
a{color:inherit;text-decoration-color:var(--dim);text-underline-offset:.2em}
summary{cursor:pointer;font-weight:600}
.rows{font-size:.85rem}.rows th,.rows td{padding:.5rem .25rem;white-space:normal}
.rows thead th{font-size:.78rem}
.rows th:first-child,.rows td:first-child{padding-left:.6rem}
@media(max-width:40rem){.rows thead{display:none}.rows,.rows tbody,.rows tr,.rows td{display:block}
.rows tr{padding:.4rem 0;border-bottom:1px solid var(--line)}.rows td{border:0;padding:.1rem .6rem}
.rows td:first-child{font-weight:600}
.rows td[data-of]{display:grid;grid-template-columns:1fr auto 6.5rem;gap:0 .5rem}
.rows td[data-of]::before{content:attr(data-of);text-align:left;color:var(--dim);font-weight:400}}
pre{overflow-x:auto;background:var(--card);padding:.8rem;border-radius:.5rem;font-size:.82rem;line-height:1.45}
"""


def write(
    path: Path,
    title: str,
    records: Sequence[Mapping[str, Any]],
    main_name: str,
    figures: Sequence[tuple[str, Path]],
    texts: Sequence[tuple[str, str]] = (),
    links: Mapping[str, str] | None = None,
    breakdown: Mapping[str, Any] | None = None,
) -> None:
    """Write the page. `main_name` is the method.name of the record in the tiles; `figures` are (caption, PNG)
    and `texts` (title, preformatted text) to unfold, such as the configuration. `links` lead from
    method.name to its page of pictures; `breakdown` is the main record's. Everything is escaped and inlined.
    """
    links = links or {}
    main = next(record for record in records if record["method"]["name"] == main_name)
    benchmark, provenance = main["benchmark"], main["provenance"]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">{escape(benchmark["name"])} v{escape(str(benchmark["version"]))}: '
        f"{benchmark['num_subjects']} people, {benchmark['num_prompts']} prompts, "
        f"{benchmark['images_per_prompt']} picture(s) each &middot; {escape(table.label(main))} &middot; "
        f"{escape(str(provenance['created']))}{_profile(benchmark)}</p>",
        _tiles(main),
    ]
    if main_name in links:
        body.append(
            f'<p><a href="{escape(links[main_name])}">Every picture with its scores</a>: the best, the worst '
            "and the failures, to sort and to filter.</p>"
        )
    body += [
        "<h2>Results</h2>",
        f'<div class="scroll">{_table(records, main_name, links)}</div>',
        f'<p class="dim">{escape(table.note(records))}</p>',
    ]
    body += [inline(caption, file) for caption, file in figures]
    if breakdown:
        body += ["<h2>By category and by subject</h2>", *_breakdown(breakdown)]
    body += ["<h2>How it was made</h2>", _details("Where the numbers come from", _provenance(main))]
    body += [_details(name, f"<pre>{escape(text)}</pre>") for name, text in texts]
    write_text(path, document(title, STYLE, body))


def _profile(benchmark: Mapping[str, Any]) -> str:
    """How pictures were scored, where not strictly."""
    name = profile_of(benchmark)
    if name == STRICT:
        return ""
    lines = [
        f"scored by profile {name}",
        *(f"not as published: {d}" for d in benchmark.get("departures", ())),
    ]
    return "".join(f"<br>{escape(line)}" for line in lines)


def _tiles(record: Mapping[str, Any]) -> str:
    tiles = []
    for name in registry.tiles():
        entry = record["metrics"].get(name)
        if entry is not None:
            tiles.append(
                f'<div class="tile"><span class="dim">{escape(METRICS[name].label)}</span>'
                f"<b>{table.value(entry, name)}</b>"
                f'<span class="dim">{table.interval(entry, name)}</span></div>'
            )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(records: Sequence[Mapping[str, Any]], main_name: str, links: Mapping[str, str]) -> str:
    names = table.columns(records, registry.whole())
    heads = ["training steps", *(table.heading(name) for name in names)]
    rows = []
    for record in records:
        cells = [escape(table.steps(record))]
        for name in names:
            entry = record["metrics"].get(name)
            below = table.interval(entry, name)
            cells.append(f"{table.value(entry, name)}{f'<small>{below}</small>' if below else ''}")
        mark = ' class="main"' if record["method"]["name"] == main_name else ""
        label = escape(table.label(record))
        link = links.get(record["method"]["name"])
        label = f'<a href="{escape(link)}">{label}</a>' if link else label
        rows.append(f"<tr{mark}><td>{label}</td>{_cells(heads, cells)}</tr>")
    return _whole("method", heads, rows)


def _cells(heads: Sequence[str], cells: Sequence[str]) -> str:
    """A row's cells, each with its heading: on a narrow screen a row is a list."""
    return "".join(
        f'<td data-of="{escape(head)}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)
    )


def _whole(first: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    named = "".join(f"<th>{escape(head)}</th>" for head in (first, *heads))
    return f'<table class="rows"><thead><tr>{named}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _breakdown(parts: Mapping[str, Any]) -> list[str]:
    """Tables to unfold: every score by category (open) and by subject."""
    made = []
    for key, opened in (("by_category", " open"), ("by_subject", "")):
        resampled = escape(parts["resampled"][key])
        groups = parts[key]
        names = [n for n in SCORES if any(n in entries for entries in groups.values())]
        heads = [SCORES[n].label for n in names]
        lines = []
        for group, entries in groups.items():
            cells = _cells(heads, [_cell(entries.get(n), n) for n in names])
            lines.append(f"<tr><td>{escape(group) or table.ABSENT}</td>{cells}</tr>")
        title = key.replace("_", " ").capitalize()
        made.append(
            f"<details{opened}><summary>{title} (95 % intervals: {resampled} resampled)</summary>"
            f'<div class="scroll">{_whole(title.split()[1], heads, lines)}</div></details>'
        )
    return made


def _cell(entry: Mapping[str, Any] | None, name: str) -> str:
    if entry is None:
        return table.ABSENT
    value = f"{entry['value']:.{SCORES[name].decimals}f}"
    if entry["ci_low"] is None:
        return value
    return f"{value}<small>[{entry['ci_low']:.2f}, {entry['ci_high']:.2f}]</small>"


def inline(caption: str, file: Path) -> str:
    """A PNG as HTML, its data within."""
    data = base64.b64encode(file.read_bytes()).decode()
    text = escape(caption)
    return f'<h2>{text}</h2><figure><img alt="{text}" src="data:image/png;base64,{data}"></figure>'


def _details(name: str, inside: str) -> str:
    return f"<details><summary>{escape(name)}</summary>{inside}</details>"


def _provenance(record: Mapping[str, Any]) -> str:
    lines = [f"{key}: {value}" for key, value in record["provenance"].items()]
    lines += [f"benchmark {key}: {value}" for key, value in record["benchmark"].items()]
    extractors = {
        f"{e['extractor']['name']} ({e['extractor']['sha256']})" for e in record["metrics"].values()
    }
    lines += [f"measured with: {name}" for name in sorted(extractors)]
    lines += [f"{part}: {record['method'][part]}" for part in ("backbone", "sampler", "tdm", "sdm")]
    return f"<pre>{escape(chr(10).join(lines))}</pre>"
