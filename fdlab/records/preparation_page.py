"""The page of a preparation: what came of the photos, and everything of it to correct by hand.

One file without outside requests, light and dark, any width. It shows who was taken for whom, each picture
with its caption, and what was dropped; what is corrected there is saved as corrections.json, which the next
run honours. It names photos and shows faces: it stays in the work folder.
Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.escape import visible
from fdlab.files import write_text
from fdlab.preparation.masks import read_labels
from fdlab.preparation.matching import Matched, marked
from fdlab.preparation.plan import Chosen
from fdlab.preparation.run import Prepared
from fdlab.preparation.write import sample_of
from fdlab.records.data_page import tinted
from fdlab.records.document import document, file
from fdlab.records.gallery import data_uri
from fdlab.records.report import STYLE

PAGE = "prepared.html"
MOST = 2000
"""Pictures on the page; of more, those to look at first: without a noun, or with a poor mask."""
SIDE, FACE = 224, 72
"""Longest sides of inlined pictures and faces, in pixels."""
MARGIN = 0.35
"""Around a face, in its sides."""


def write(made: Prepared) -> Path:
    """Write the page into the work folder."""
    path = made.work / PAGE
    write_text(path, page(content(made), made.numbers))
    return path


def content(made: Prepared) -> dict[str, Any]:
    """What the page shows, as plain JSON."""
    given = made.given
    shown = sorted(made.plan.chosen, key=_doubt)[:MOST]
    return {
        "pictures": [_picture(made, some) for some in sorted(shown, key=lambda some: some.id)],
        "num": len(made.plan.chosen),
        "dropped": [{"photo": name, "reason": why} for name, why in made.plan.dropped.items()],
        "given": {
            "drop": sorted(given.drop),
            "captions": given.captions,
            "identities": {f"{key}/{face}": name for (key, face), name in given.identities.items()},
        },
    }


def _doubt(some: Chosen) -> tuple[bool, float, str]:
    named = all(person.end is not None for person in some.people) and some.how in ("noun", "by hand")
    return named, min(person.score for person in some.people), some.id


def _picture(made: Prepared, some: Chosen) -> dict[str, Any]:
    stages, key = made.stages, some.seen.key
    image_HW3 = read_photo(stages.pictures.path(key, ".jpg"))
    sample = sample_of(some, image_HW3, read_labels(stages.masks, key))
    ends = tuple(person.end for person in some.people)
    return {
        "key": key,
        "id": some.id,
        "photo": visible(some.seen.name),
        "image": data_uri(Image.fromarray(tinted(sample)), SIDE, 70),
        "caption": marked(Matched(some.caption, ends, some.how)),
        "how": some.how,
        "held": some.held_out,
        "people": [
            {
                "face": f"{key}/{person.face}",
                "identity": person.identity,
                "named": person.end is not None,
                "score": person.score,
                "image": data_uri(_face(image_HW3, some.seen.faces[person.face].box), FACE, 70),
            }
            for person in some.people
        ],
    }


def _face(image_HW3: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) * (0.5 + MARGIN)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    # Beyond the picture it is black, so that all faces are squares.
    area = (round(x - half), round(y - half), round(x + half), round(y + half))
    return Image.fromarray(image_HW3).crop(area)


def page(found: Mapping[str, Any], numbers: Mapping[str, Any] | None = None) -> str:
    """The page's text."""
    less = (
        f"; here the {len(found['pictures']):,} to look at" if found["num"] > len(found["pictures"]) else ""
    )
    body = [
        "<h1>Prepared photos</h1>",
        f'<p class="dim">{found["num"]:,} pictures{less}. Correct what is wrong, save, put '
        "corrections.json into this page's folder and run the same command again.</p>",
        _tiles(numbers) if numbers else "",
        "<noscript><p>A script of this page shows the pictures; allow it to run.</p></noscript>",
        '<div class="tools"><button id="merge">Make one person</button>'
        '<button id="split">Split off</button><button id="save">Save corrections.json</button>'
        '<span id="said" role="status"></span></div>',
        '<h2>People</h2><p class="dim">A line a person. Choose faces, then: all persons of whom a face '
        "is chosen are one; or the chosen faces are somebody else.</p>",
        '<div id="people"></div>',
        '<h2>Pictures</h2><p class="dim">&lt;|image|&gt; stands behind each person\'s noun.</p>',
        '<div class="cards" id="pictures"></div>',
        '<h2>Dropped</h2><div id="dropped"></div>',
    ]
    return document("Prepared photos", STYLE + file("prepared.css"), body, "prepared.js", found)


def _tiles(n: Mapping[str, Any]) -> str:
    tiles: Sequence[tuple[str, int, str]] = list(_numbers(n))
    made = "".join(
        f'<div class="tile"><span class="dim">{escape(name)}</span><b>{value:,}</b>'
        f'<span class="dim">{escape(note)}</span></div>'
        for name, value, note in tiles
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in n["notes"])
    return f'<div class="tiles">{made}</div>{notes}'


def _numbers(n: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    dropped = ", ".join(f"{num:,} {why}" for why, num in n["dropped"].items())
    yield "photos", n["photos"], f"dropped: {dropped}" if dropped else ""
    yield "pictures", n["pictures"], f"{n['split']['test']:,} held out"
    without = f"{n['people_without_noun']:,} without a noun, {n['faces_without_mask']:,} faces without a mask"
    yield "people", n["people"], without
    yield "identities", n["identities"]["number"], f"by {n['identities']['recogniser']}"
