"""samples.html beside a record: every picture with its reference, face, scores, seed and prompt, to sort and
to filter.

One file without outside requests: thumbnails are inlined, so that it can be sent alone. The whole pictures
lie beside it and open on a click.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.data.captions import unmarked
from fdlab.files import write_text
from fdlab.metrics.matching import Matches
from fdlab.metrics.registry import SCORES
from fdlab.records import table
from fdlab.records.document import document, file
from fdlab.records.per_sample import ScoredPictures, faces
from fdlab.records.per_sample import drawn as drawn_in

PAGE = "samples.html"
THUMBNAIL = 192
"""Longest side of an inlined picture, in pixels."""
TOP = 10

IDENTITY = "identity_similarity_detected"
PROMPT = ("prompt_accuracy", "clip_score")
"""Best and worst by prompt: the first that is measured, ties by the other."""

STATES = {
    "none": "no face found",
    "few": "a person is missing",
    "wrong": "wrong person nearest",
    "right": "right person nearest",
    "face": "face found",
}
"""What became of the faces: none found; fewer than asked for; one nearest to somebody who is not in the
picture; each nearest to its own subject; or found, where no similarities are known."""


def write(
    folder: Path,
    record: Mapping[str, Any],
    scored: ScoredPictures,
    references: Mapping[str, Path],
    report: str | None = None,
) -> Path:
    """Write the page into the record's folder and return its path.

    `references` are the pictures that subjects are scored against; `report` is a relative link to the run's
    page. UserError for a picture that is missing.
    """
    drawn, shown = {}, {}
    for picture in scored.pictures:
        drawn[picture["id"]] = thumbnail(folder / picture["file"])
    for subject, path in references.items():
        shown[subject] = thumbnail(path)[0]
    found = content(scored, drawn, shown)
    path = folder / PAGE
    write_text(path, page(record, found, report))
    return path


def content(
    scored: ScoredPictures, drawn: Mapping[str, tuple[str, tuple[int, int]]], references: Mapping[str, str]
) -> dict[str, Any]:
    """What the page shows, as plain JSON. `drawn`: picture's id -> data URI, (width, height)."""
    state, mistakes = states(scored)
    doubled = ["face_detection_rate", *(["identity_similarity"] if IDENTITY in scored.values else [])]
    names = [n for n in SCORES if n in scored.values and n not in doubled]
    shown = []
    for i, picture in enumerate(scored.pictures):
        uri, size = drawn[picture["id"]]
        scores = {n: float(scored.values[n][i]) for n in names if np.isfinite(scored.values[n][i])}
        if state[i] == "none":
            # A miss counts 0 in the record; here an empty cell says more.
            scores = {n: value for n, value in scores.items() if not n.startswith("identity")}
        shown.append(
            {
                "id": picture["id"],
                "subjects": drawn_in(picture),
                "prompt": str(picture["prompt"]),
                "category": str(picture.get("category") or ""),
                "text": unmarked(str(picture.get("text", ""))),
                # Seeds have 63 bits, a number in a browser 53.
                "seed": str(picture.get("seed", "")),
                "file": picture["file"],
                "thumbnail": uri,
                "faces": [
                    {"box": box(face["box"], size), "confidence": face["score"]} for face in faces(picture)
                ],
                "state": state[i],
                "mistakes": mistakes[i],
                "scores": scores,
            }
        )
    prompts = {p["prompt"]: p["text"] for p in reversed(shown)}
    return {
        "pictures": shown,
        "references": dict(references),
        "subjects": list(scored.subjects),
        "prompts": [
            {"id": name, "text": prompts[name]} for name in dict.fromkeys(p["prompt"] for p in shown)
        ],
        "scores": [
            {
                "key": n,
                "label": SCORES[n].label,
                "higher": SCORES[n].higher_is_better,
                "decimals": SCORES[n].decimals,
            }
            for n in names
        ],
        "states": [[key, STATES[key]] for key in STATES if key in state],
        "sections": sections(shown),
    }


def states(scored: ScoredPictures) -> tuple[list[str], list[list[dict[str, str]]]]:
    """What became of each picture's faces (a key of `STATES`, "" where none were looked for), and which face
    is nearest to somebody who is not in the picture: {"asked", "nearest"}."""
    mistakes: list[list[dict[str, str]]] = [[] for _ in scored.pictures]
    if not scored.looked:
        return [""] * len(scored.pictures), mistakes
    matches = scored.matches
    state = []
    for n, picture in enumerate(scored.pictures):
        found = faces(picture)
        if matches is not None:
            mistakes[n] = _mistakes(scored, matches, n)
        few = len(found) < len(drawn_in(picture))
        known = "right" if matches is not None else "face"
        state.append("none" if not found else "wrong" if mistakes[n] else "few" if few else known)
    return state, mistakes


def _mistakes(scored: ScoredPictures, matches: Matches, n: int) -> list[dict[str, str]]:
    made = []
    rivals_MS = matches.rivals_NMS[n] & np.isfinite(matches.similarity_NMS[n])
    for m in np.flatnonzero(matches.detected_NM[n] & rivals_MS.any(axis=1)):
        similarity_S, own = matches.similarity_NMS[n, m], matches.group_NM[n, m]
        rival = int(np.where(rivals_MS[m], similarity_S, -np.inf).argmax())
        # As in rank-1: a tie is not won.
        if similarity_S[rival] >= similarity_S[own]:
            made.append({"asked": scored.subjects[own], "nearest": scored.subjects[rival]})
    return made


def sections(pictures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The strips above: the best and the worst by identity and by prompt, then the failures."""
    made = []
    scored = {name for picture in pictures for name in picture["scores"]}
    identity = next((n for n in (IDENTITY, "identity_similarity") if n in scored), None)
    prompt = [n for n in PROMPT if n in scored]
    for what, keys in (("identity", [identity] if identity else []), ("prompt", prompt)):
        if keys:
            ranked = [p for p in pictures if keys[0] in p["scores"]]
            ranked.sort(key=lambda p: [-p["scores"].get(k, -np.inf) for k in keys])
            by = f"By {SCORES[keys[0]].label}" + (f", ties by {SCORES[keys[1]].label}" if keys[1:] else "")
            faces = "; pictures without a face are below" if what == "identity" else ""
            num = min(TOP, len(ranked))
            made.append(
                _section(f"best-{what}", f"Best {what}", f"{by}, the best {num}.", ranked[:TOP], keys[0])
            )
            worst = ranked[::-1][:TOP]
            note = f"{by}, the worst {num}{faces}."
            made.append(_section(f"worst-{what}", f"Worst {what}", note, worst, keys[0]))
    kept = {state: [p for p in pictures if p["state"] == state] for state in STATES}
    if any(kept.values()):
        # They have no order by identity: a few from all over the benchmark say more than the first ones.
        step = max(1, -(-len(kept["none"]) // TOP))
        spread = kept["none"][::step]
        made.append(_failures("none", "No face found", kept["none"], spread, len(pictures), identity))
    if kept["few"]:
        made.append(
            _failures("few", "A person is missing", kept["few"], kept["few"], len(pictures), identity)
        )
    if kept["wrong"] or kept["right"]:
        # The clearest first: those least like their own reference.
        wrong = sorted(kept["wrong"], key=lambda p: p["scores"].get(identity, 0.0))
        made.append(_failures("wrong", "Wrong person nearest", wrong, wrong, len(pictures), identity))
    return made


def box(corners: Sequence[float], size: tuple[int, int]) -> list[float]:
    """A face's x1 y1 x2 y2 in pixels as left, top, width, height in percent, cut at the border."""
    width, height = size
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (corners[0], corners[2]))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (corners[1], corners[3]))
    return [round(100 * value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]


def thumbnail(path: Path, side: int = THUMBNAIL, quality: int = 88) -> tuple[str, tuple[int, int]]:
    """A picture as a data URI of at most `side` pixels a side, and its own width and height. UserError as
    `read_image`."""
    from fdlab.data.pictures import read_image

    image = Image.fromarray(read_image(path))
    size = image.size
    return data_uri(image, side, quality), size


def data_uri(image: Image.Image, side: int = THUMBNAIL, quality: int = 88) -> str:
    """A picture as a data URI, shrunk in place to at most `side` pixels a side."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=quality, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def page(record: Mapping[str, Any], found: Mapping[str, Any], report: str | None = None) -> str:
    """The page's text. Data stands in a JSON block whose `<` are escaped, so that no text can end it."""
    benchmark = record["benchmark"]
    label = table.label(record)
    back = f'<a href="{escape(report)}">report</a> &middot; ' if report else ""
    controls = "".join(
        f'<label>{text}<select id="{name}"></select></label>'
        for name, text in (
            ("sort", "sort by"), ("order", "order"), ("subject", "subject"), ("category", "category"),
            ("prompt", "prompt"), ("state", "face"),
        )
    )  # fmt: skip
    body = [
        f"<h1>{escape(label)}</h1>",
        f'<p class="dim">{back}{escape(benchmark["name"])} v{escape(str(benchmark["version"]))}: '
        f"{len(found['pictures'])} pictures of {benchmark['num_subjects']} people, "
        f"{benchmark['num_prompts']} prompts. Boxes: faces that count, orange where one is nearest to "
        "another person. A click opens the whole picture.</p>",
        "<noscript><p>A script of this page shows the pictures; allow it to run.</p></noscript>",
        '<nav id="nav"><a href="#explore">All pictures</a></nav><div id="sections"></div>',
        f'<h2 id="explore">All pictures</h2><div class="controls">{controls}',
        '<label class="check"><input type="checkbox" id="boxes" checked>face boxes</label>',
        '<span id="count" role="status"></span></div><div class="grid" id="all"></div>',
        '<p><button id="more" hidden></button></p>',
    ]
    return document(f"{label}: pictures", file("samples.css"), body, "samples.js", found)


def _section(
    name: str, title: str, note: str, pictures: Sequence[Mapping[str, Any]], score: str | None
) -> dict[str, Any]:
    return {
        "id": name, "title": title, "note": note, "score": score,
        "pictures": [picture["id"] for picture in pictures],
    }  # fmt: skip


def _failures(
    state: str,
    title: str,
    pictures: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    num: int,
    score: str | None,
) -> dict[str, Any]:
    note = f"{len(pictures)} of {num} pictures ({len(pictures) / num:.0%})"
    if state == "wrong":
        note += "; least like the own reference first"
    made = _section(f"failed-{state}", title, note + ".", shown[:TOP], score)
    return {**made, "state": state, "num": len(pictures)}
