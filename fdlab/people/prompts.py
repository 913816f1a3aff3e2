"""What the embedded benchmarks ask for: prompts by category, for one person and for two.

Each says in words what a picture must show, and what a judge may check of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fdlab.marker import MARKER
from fdlab.people import scenes, styles
from fdlab.people.captions import article


@dataclass(frozen=True)
class Wish:
    """What a prompt asks of one person; None is left to chance or plainness."""

    color: str | None = None
    garment: str | None = None
    hat: str | None = None
    scarf: str | None = None
    expression: str | None = None

    @property
    def text(self) -> str:
        """What stands behind the person's marker."""
        worn = [article(f"{self.color} {self.garment}")] if self.color else []
        worn += [article(f"{self.hat} hat")] if self.hat else []
        worn += [article(f"{self.scarf} scarf")] if self.scarf else []
        text = " in " + " and ".join(worn) if worn else ""
        if self.expression:
            text += "" if self.expression in ("smiling", "laughing") else " looking"
            text += f" {self.expression}"
        return text


@dataclass(frozen=True)
class Prompt:
    """One prompt: where, in what style, and how each person looks."""

    category: str
    scene: str
    wishes: tuple[Wish, ...] = (Wish(),)
    hour: str = "day"
    style: str = "photograph"

    @property
    def text(self) -> str:
        """The prompt with `{noun}` (`{noun2}` for the second person) and a marker behind it."""
        people = [
            f"a {{noun{k if k > 1 else ''}}} {MARKER}{wish.text}" for k, wish in enumerate(self.wishes, 1)
        ]
        where = scenes.SCENES[self.scene][1] + (" at sunset" if self.hour == "sunset" else "")
        return f"{styles.STYLES[self.style][1][-1]}{' and '.join(people)} {where}"

    @property
    def truth(self) -> dict[str, str]:
        """What a picture must show, by attribute.

        Of several people only what is true of the picture as a whole: the judge answers once a picture.
        """
        whole = {"scene": self.scene, "style": self.style}
        if len(self.wishes) > 1:
            return {**whole, "people": str(len(self.wishes))}
        wish = self.wishes[0]
        asked = {
            "clothes_color": wish.color,
            "garment": wish.garment,
            "hat": wish.hat,
            "scarf": wish.scarf,
            "expression": wish.expression,
        }
        return whole | {name: value for name, value in asked.items() if value is not None}


def _one(category: str, scene: str, wish: Wish | None = None, **more: str) -> Prompt:
    return Prompt(category, scene, (wish or Wish(),), **more)


def _two(
    category: str, scene: str, first: Wish | None = None, second: Wish | None = None, **more: str
) -> Prompt:
    return Prompt(category, scene, (first or Wish(), second or Wish()), **more)


SINGLE = (
    _one("context", "beach", Wish("red", "t-shirt")),
    _one("clothes", "studio", Wish("yellow", "sweater")),
    _one("style", "garden", style="pencil drawing"),
    _one("expression", "library", Wish("blue", "shirt", expression="smiling")),
    _one("context", "snow", Wish("green", "jacket")),
    _one("clothes", "city", Wish("purple", "t-shirt", hat="black")),
    _one("style", "mountains", style="watercolor"),
    _one("expression", "kitchen", Wish("white", "t-shirt", expression="surprised")),
    _one("context", "night", Wish("orange", "sweater")),
    _one("clothes", "forest", Wish("pink", "shirt", scarf="blue")),
    _one("style", "city", style="black-and-white photograph"),
    _one("expression", "studio", Wish("grey", "sweater", expression="laughing")),
    _one("context", "desert", Wish("white", "shirt"), hour="sunset"),
    _one("clothes", "library", Wish("green", "jacket")),
    _one("style", "beach", style="pop art"),
    _one("expression", "garden", Wish("black", "t-shirt", expression="sad")),
)
PAIRS = (
    _two("context", "beach", Wish("red", "t-shirt"), Wish("white", "shirt")),
    _two("clothes", "studio", Wish("yellow", "sweater"), Wish("black", "jacket")),
    _two("style", "garden", style="pencil drawing"),
    _two(
        "expression",
        "library",
        Wish("blue", "shirt", expression="smiling"),
        Wish("orange", "sweater", expression="laughing"),
    ),
    _two("context", "snow", Wish("green", "jacket"), Wish("purple", "sweater")),
    _two("clothes", "city", Wish("purple", "t-shirt", hat="black"), Wish("green", "shirt")),
    _two("style", "mountains", style="watercolor"),
    _two(
        "expression",
        "kitchen",
        Wish("white", "t-shirt", expression="surprised"),
        Wish("red", "jacket", expression="smiling"),
    ),
    _two("context", "desert", Wish("white", "shirt"), Wish("blue", "t-shirt"), hour="sunset"),
    _two("clothes", "forest", Wish("pink", "shirt", scarf="blue"), Wish("grey", "sweater")),
    _two("style", "beach", style="pop art"),
    _two(
        "expression",
        "garden",
        Wish("black", "t-shirt", expression="sad"),
        Wish("yellow", "shirt", expression="surprised"),
    ),
)
