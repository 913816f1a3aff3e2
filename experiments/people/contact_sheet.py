"""Draw the contact sheet of the README: people, one of them in many pictures, styles, several people.

python experiments/people/contact_sheet.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fdlab import files
from fdlab.people import appearance, picture, scenes, styles
from fdlab.people.picture import png_bytes
from fdlab.randomness import numpy_rng

OUT = Path(__file__).with_name("contact_sheet.png")
COLUMNS = 8
FRAMING = picture.Framing(33.0, 0.43)


def row_of_people(first: int) -> list[picture.Spec]:
    """Different people, studio portraits."""
    looks = [appearance.draw(numpy_rng(first, "sheet", k), 1.0) for k in range(COLUMNS)]
    plain = [replace(look, hat=None, scarf=None) for look in looks]
    return [
        picture.Spec(((first + k, look),), "studio", "day", "photograph", FRAMING, k)
        for k, look in enumerate(plain)
    ]


def row_of_one(number: int) -> list[picture.Spec]:
    """One person: other poses, light, clothes, places."""
    kinds = list(scenes.SCENES)
    specs = []
    for k in range(COLUMNS):
        look = appearance.draw(numpy_rng(number, "sheet-one", k), 0.5)
        hour = "sunset" if scenes.SCENES[kinds[k]][2] and k % 2 else "day"
        specs.append(picture.Spec(((number, look),), kinds[k], hour, "photograph", FRAMING, 100 + k))
    return specs


def row_of_styles(number: int) -> list[picture.Spec]:
    """One person in every style, then several people."""
    look = replace(appearance.draw(numpy_rng(number, "sheet-style"), 1.0), hat=None)
    drawn = [picture.Spec(((number, look),), "garden", "day", style, FRAMING, 7) for style in styles.STYLES]
    together = []
    for count in (2, 3, 4):
        certain = tuple(float(n == count) for n in (1, 2, 3, 4))
        mix = replace(picture.MIXES["all"], count=certain, styles={"photograph": 1.0})
        together.append(picture.draw(mix, numpy_rng(number, "sheet-many", count), 500))
    return [*drawn, *together]


def main() -> None:
    """Render and write."""
    rows = [row_of_people(20), row_of_people(28), row_of_one(21), row_of_styles(33)]
    tiles = [np.concatenate([picture.render(spec).image_HW3 for spec in row], 1) for row in rows]
    files.write_bytes(OUT, png_bytes(np.concatenate(tiles)))
    print(OUT)


if __name__ == "__main__":
    main()
