"""A page of what is in a data set: its numbers as bars, and some of its samples with masks and nouns in one
colour. One file without script or outside requests, light and dark, any width.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from fdlab.data.sample import PersonSample
from fdlab.escape import visible
from fdlab.files import write_text
from fdlab.layouts.stats import Statistics, binned, summary
from fdlab.records.document import document
from fdlab.records.gallery import data_uri
from fdlab.records.report import STYLE

COLOURS = ((229, 57, 53), (30, 136, 229), (67, 160, 71), (251, 140, 0), (142, 36, 170), (0, 172, 193))
"""Of subjects, in the order of the caption."""
TINT = 0.12
"""Share of its colour within a mask."""
OUTLINES = 120
"""Widths of an outline that the picture's longer side has."""
SIDE = 288
"""Longest side of an inlined picture, in pixels."""
WORD_BINS = (0, 5, 10, 15, 20, 30, 40, 60)
PICTURE_BINS = (1, 2, 3, 5, 10, 20, 50)
_LAST_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*\W*$")
MORE_STYLE = """
.charts{columns:19rem;column-gap:1rem}
.chart{break-inside:avoid;margin-bottom:1rem}
.chart{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:.8rem 1rem}
.chart h3{font-size:.95rem;margin:0 0 .5rem}
.bar{display:grid;grid-template-columns:6.5rem 1fr 3.6rem;gap:.6rem;align-items:center;font-size:.85rem;
font-variant-numeric:tabular-nums}
.bar span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar span:last-child{color:var(--dim);text-align:right}
.bar i{display:block;height:.75rem;border-radius:0 .2rem .2rem 0;background:#2563eb;min-width:1px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.7rem;overflow:hidden}
.card img{display:block;width:100%;aspect-ratio:1;object-fit:contain;border-radius:0;background:#8883}
.card p{margin:.6rem .8rem;font-size:.9rem;overflow-wrap:anywhere}
.card u{text-decoration-thickness:.2rem;text-underline-offset:.2rem}
"""


def write(path: Path, found: Statistics, samples: Sequence[PersonSample]) -> None:
    """Write the page of a data set's statistics, with these of its samples."""
    n = summary(found)
    title = found.folder.root.resolve().name
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="dim">layout {n["layout"]}, split {n["split"]}; sizes and faces of {n["looked_at"]:,} '
        "pictures drawn at random, all else of every caption</p>",
        f'<div class="tiles">{"".join(_tile(*tile) for tile in _tiles(n))}</div>',
        f'<div class="charts">{"".join(_charts(found, n))}</div>',
        "<h2>Samples</h2>",
        f'<div class="cards">{"".join(card(sample) for sample in samples)}</div>',
    ]
    write_text(path, document(f"{visible(title)}: what is in it", STYLE + MORE_STYLE, body))


def _tiles(n: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Name, value and note of each number that says most."""
    captions, identities = n["captions"], n["identities"]
    unreadable = f"{n['unreadable']:,} unreadable" if n["unreadable"] else ""
    yield "pictures", f"{n['pictures']:,}", unreadable
    yield "subjects", f"{n['subjects']:,}", f"{n['subjects'] / max(1, n['pictures']):.2f} a picture"
    if identities["known"]:
        alone = f"{identities['in_one_picture']:,} in one picture"
        yield "identities", f"{identities['known']:,}", alone
    yield "words a caption", f"{captions['words_mean']:.1f}", f"{captions['different_words']:,} different"
    yield "captions cut", f"{captions['cut']:,}", f"past {captions['tokens_read']} tokens"
    if "faces" in n and n["faces"]["subjects_looked_at"]:
        share = 1 - n["faces"]["subjects_without"] / n["faces"]["subjects_looked_at"]
        yield "with a face", f"{share:.0%}", f"of {n['faces']['subjects_looked_at']:,} subjects"


def _tile(name: str, value: str, note: str) -> str:
    return (
        f'<div class="tile"><span class="dim">{escape(name)}</span><b>{escape(value)}</b>'
        f'<span class="dim">{escape(note)}</span></div>'
    )


def _charts(found: Statistics, n: Mapping[str, Any]) -> Iterable[str]:
    yield _chart("Pictures by subjects", n["pictures_by_subjects"])
    yield _chart("Captions by words", binned(found.counts.lengths, WORD_BINS))
    yield _chart("Nouns of subjects", n["nouns"])
    yield _chart("Most frequent words", n["captions"]["most_frequent"])
    pictures = Counter(found.counts.identities.values())
    yield _chart("Identities by their pictures", binned(pictures, PICTURE_BINS) if pictures else {})
    yield _chart("Pictures by shorter side, in pixels", n["pictures_by_shorter_side"])
    yield _chart("Subjects by height, in % of the picture", n["subjects_by_share_of_height"])
    if "faces" in n:
        yield _chart("Faces by longer side, in pixels", n["faces"]["by_side"])
        yield _chart("Faces by turn: the nose aside, in % of the eyes' distance", n["faces"]["by_turn"])
        yield _chart("Faces by tilt, in degrees", n["faces"]["by_tilt"])


def _chart(title: str, counted: Mapping[str, int]) -> str:
    """Bars, from the first to the last that is not empty."""
    items = list(counted.items())
    while items and not items[-1][1]:
        items.pop()
    while items and not items[0][1]:
        items.pop(0)
    if not items:
        return ""
    most = max(num for _, num in items)
    bars = "".join(
        f'<div class="bar"><span title="{_text(name)}">{_text(name)}</span>'
        f'<i style="width:{100 * num / most:.2f}%"></i><span>{num:,}</span></div>'
        for name, num in items
    )
    return f'<section class="chart"><h3>{escape(title)}</h3>{bars}</section>'


def card(sample: PersonSample, note: str = "") -> str:
    """A sample with its masks outlined, caption and facts; `note`: HTML above them."""
    height, width = sample.segments_HW.shape
    uri = data_uri(Image.fromarray(tinted(sample)), SIDE)
    people = [s.identity for s in sample.subjects if s.identity is not None]
    known = f" &middot; identity {', '.join(map(str, people))}" if people else ""
    return (
        f'<div class="card"><img alt="{_text(sample.caption)}" src="{uri}">{note}<p>{_marked(sample)}</p>'
        f'<p class="dim">{_text(sample.id)} &middot; {width} x {height}{known}</p></div>'
    )


def tinted(sample: PersonSample) -> np.ndarray:
    """A sample's picture (uint8 HW3) with each subject's mask outlined and lightly tinted in its colour."""
    image_HW3 = sample.image_HW3.astype(np.float32)
    width = max(1, round(max(sample.segments_HW.shape) / OUTLINES))
    for n, subject in enumerate(sample.subjects):
        colour_3 = np.asarray(COLOURS[n % len(COLOURS)])
        mask_HW = sample.segments_HW == subject.segment
        inside_HW = binary_erosion(mask_HW, iterations=width, border_value=1)
        image_HW3[inside_HW] = (1 - TINT) * image_HW3[inside_HW] + TINT * colour_3
        image_HW3[mask_HW & ~inside_HW] = colour_3
    return image_HW3.astype(np.uint8)


def _marked(sample: PersonSample) -> str:
    """The caption, each subject's noun underlined in its colour."""
    made, at = "", 0
    for n, subject in enumerate(sample.subjects):
        before = sample.caption[at : subject.end]
        word = _LAST_WORD.search(before)
        if word is None:
            continue
        colour = "rgb({},{},{})".format(*COLOURS[n % len(COLOURS)])
        noun = f'<u style="text-decoration-color:{colour}">{_text(word[0])}</u>'
        made += _text(before[: word.start()]) + noun
        at = subject.end
    return made + _text(sample.caption[at:])


def _text(text: str) -> str:
    return escape(visible(text))
