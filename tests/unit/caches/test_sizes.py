"""The table of disk sizes in conf/README.md against what the formats take."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np

from fdlab.caches.plan import PART, Plan
from fdlab.data.annotation import Annotation
from fdlab.data.entry import Shape
from fdlab.data.sample import ShownSubject

README = Path(__file__).resolve().parents[3] / "conf/README.md"
PICTURES, PEOPLE = 70_000, 2
ROW = re.compile(r"^\| ([^|]+) \| ([\d,]+) a (\w+) \| ([\d.]+) GB \| ([\d.]+) GB \|$", re.MULTILINE)


def taken(views: int) -> dict[str, float]:
    """GB of each array of a part of Stable Diffusion's, times the parts there are."""
    ids, subjects = [str(n) for n in range(PART)], (ShownSubject(1, 1), ShownSubject(2, 2))
    plan = Plan(
        folder=None,  # type: ignore[arg-type]
        ids=ids,
        shape=Shape(512, (4, 64, 64), 224, 4),
        views=views,
        rendered=False,
        annotations=[Annotation(id, "", ()) for id in ids],
        subjects=[subjects] * PART,
        input_ids_PVL=np.zeros((PART, views, 77), np.int64),
        positions=[],
        skipped={},
        crop=None,
        reader=None,
        sizes=None,
    )
    layout = plan.layout(0)
    return {n: prod(s) * np.dtype(kind).itemsize * PICTURES / PART / 1e9 for n, (s, kind) in layout.items()}


def test_the_table_says_what_the_formats_take() -> None:
    rows = {name.split(",")[0]: found for name, *found in ROW.findall(README.read_text())}
    assert len(rows) == 6
    names = {"latents": "latents", "masks": "masks", "token ids": "input_ids", "people cut out": "references"}
    for row, array in names.items():
        assert [float(size) for size in rows[row][2:]] == [round(taken(views)[array], 2) for views in (1, 2)]
    each = {"picture": PICTURES, "caption": PICTURES, "person": PICTURES * PEOPLE}
    for row, (size, of, alone, _) in rows.items():
        assert float(alone) == round(int(size.replace(",", "")) * each[of] / 1e9, 2), row
