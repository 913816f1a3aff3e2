"""Who somebody is: everything about a person that stays the same from picture to picture.

Drawn from one integer. Shapes are sums of MakeHuman targets kept within what looks human: standard deviations
are small, values are clipped, and left and right differ only a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fdlab.people import body as body_module
from fdlab.randomness import numpy_rng

POPULATION = 1
"""Version of the population; another number is another set of people."""
HELD_OUT = 1_000_000
"""Identities from here on are benchmarks' alone; no dataset contains them."""
PAIRS = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("concave", "convex"),
    ("backward", "forward"),
    ("compress", "uncompress"),
)
SPREAD = {
    "head": 0.30,
    "nose": 0.42,
    "mouth": 0.34,
    "chin": 0.36,
    "cheek": 0.36,
    "forehead": 0.30,
    "eyebrows": 0.34,
    "eye": 0.32,
    "ear": 0.25,
    "neck": 0.20,
    "measure": 0.20,
}
LIMIT = 0.8
STILL = (
    "head-trans",
    "head-age",
    "mouth-trans-in",
    "mouth-trans-out",
    "nose-trans-in",
    "nose-trans-out",
    "neck-trans",
    "neck-double",
    "eye-epicanthus",
    "eyefold-angle",
    "head-angle",
    "head-fat",
    "mouth-trans-forward",
    "mouth-trans-backward",
    "ear-wing",
    "ear-rot",
    "nose-trans",
)
"""Targets that move rather than shape, or soon look wrong."""
HEAD_FORMS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")
HAIR_COLORS = {
    "black": (0.020, 0.016, 0.014),
    "brown": (0.075, 0.038, 0.018),
    "light brown": (0.17, 0.095, 0.045),
    "blond": (0.46, 0.31, 0.13),
    "red": (0.30, 0.075, 0.022),
    "grey": (0.30, 0.30, 0.30),
    "white": (0.62, 0.61, 0.58),
}
EYE_COLORS = {
    "brown": (0.10, 0.045, 0.018),
    "dark": (0.035, 0.018, 0.010),
    "blue": (0.10, 0.24, 0.46),
    "green": (0.11, 0.23, 0.08),
    "grey": (0.22, 0.27, 0.30),
    "hazel": (0.22, 0.14, 0.04),
}
HAIR_STYLES = {
    "woman": ("long", "long", "bob", "bob", "bun", "ponytail", "short", "curly", "afro"),
    "man": (
        "short",
        "short",
        "short",
        "crew",
        "crew",
        "bald",
        "side",
        "side",
        "curly",
        "afro",
        "receding",
        "long",
    ),
}
BEARDS = ("none", "none", "none", "stubble", "stubble", "full", "goatee", "moustache")
GLASSES = ("none", "none", "none", "round", "square")
ADULTS = ("young", "middle-aged", "old")
SKINS = ("dark", "medium", "light")
SKIN_TONES = (0.15, 0.25)
"""Linear luminance between them: a third of the population lies below, between and above."""


@dataclass(frozen=True)
class Identity:
    """One person."""

    number: int
    noun: str
    """woman | man"""
    age: float
    """0 young adult .. 1 old."""
    weights: tuple[tuple[str, float], ...]
    """Target name and value."""
    skin: tuple[float, float, float]
    """Linear RGB albedo."""
    lip: tuple[float, float, float]
    eye_color: str
    hair_style: str
    hair_color: str
    hair_tint: tuple[float, float, float]
    hair_length: float
    hair_volume: float
    fringe: float
    """0 none .. 1 down to the brows."""
    brow_weight: float
    brow_arch: float
    brow_height: float
    beard: str
    glasses: str
    glasses_color: tuple[float, float, float]
    freckles: float
    moles: tuple[tuple[float, float], ...]
    """x, y on the face at rest."""
    makeup: float

    @property
    def age_word(self) -> str:
        """young | middle-aged | old, as captions say it."""
        return ADULTS[int(self.age > 0.4) + int(self.age > 0.72)]

    @property
    def attributes(self) -> dict[str, str]:
        """What can be said of this person in words."""
        hair = "bald" if self.hair_style == "bald" else f"{self.hair_color} hair"
        return {
            "noun": self.noun,
            "age": self.age_word,
            "hair": hair,
            "hair_style": self.hair_style,
            "hair_color": self.hair_color,
            "eyes": self.eye_color,
            "beard": self.beard,
            "glasses": self.glasses,
        }


def groups(number: int) -> dict[str, str]:
    """Which groups of people somebody belongs to, by attribute: for whom a method may be worse."""
    person = identity(number)
    luminance = float(np.dot(person.skin, (0.2126, 0.7152, 0.0722)))
    return {
        "age": person.age_word,
        "sex": person.noun,
        "skin": SKINS[int(luminance > SKIN_TONES[0]) + int(luminance > SKIN_TONES[1])],
        "glasses": "without" if person.glasses == "none" else "with",
    }


@lru_cache(maxsize=1)
def _detail_pairs() -> tuple[tuple[str, str | None, str | None], ...]:
    """(spread key, positive target or None, negative one or None) of every varying detail, left side only."""
    names = set(body_module.load().target_names)
    found, seen = [], set()
    for name in sorted(names):
        if name.startswith(("macro-", "unit-", "r-")) or any(s in name for s in STILL) or name in seen:
            continue
        key = name.removeprefix("l-").split("-")[0]
        if key not in SPREAD:
            continue
        for low, high in PAIRS:
            if name.endswith(f"-{low}") or name.endswith(f"-{high}"):
                stem = name.rsplit("-", 1)[0]
                negative, positive = f"{stem}-{low}", f"{stem}-{high}"
                seen |= {negative, positive}
                known = [target if target in names else None for target in (positive, negative)]
                found.append((key, known[0], known[1]))
                break
    return tuple(found)


def _shape(rng: np.random.Generator, female: float, age: float) -> dict[str, float]:
    weights: dict[str, float] = {}
    race = rng.dirichlet((0.35, 0.35, 0.45))
    for r, value in zip(("african", "asian", "caucasian"), race, strict=True):
        for g, share in (("female", female), ("male", 1 - female)):
            weights[f"macro-{r}-{g}-young"] = value * share * (1 - age)
            weights[f"macro-{r}-{g}-old"] = value * share * age
    muscle, weight = np.clip(rng.normal(0, 0.28, 2), -0.6, 0.7)
    for g, share in (("female", female), ("male", 1 - female)):
        for a, part in (("young", 1 - age), ("old", age)):
            for value, high, low in (
                (muscle, "maxmuscle-averageweight", "minmuscle-averageweight"),
                (weight, "averagemuscle-maxweight", "averagemuscle-minweight"),
            ):
                name = f"macro-universal-{g}-{a}-{high if value > 0 else low}"
                if name in body_module._target_index():
                    weights[name] = abs(value) * share * part
    form = HEAD_FORMS[rng.integers(len(HEAD_FORMS))]
    weights[f"head-{form}"] = rng.uniform(0.2, 0.75)
    for key, positive, negative in _detail_pairs():
        value = float(np.clip(rng.normal(0, SPREAD[key]), -LIMIT, LIMIT))
        chosen = positive if value > 0 else negative
        if chosen is None:
            continue
        weights[chosen] = abs(value)
        if chosen.startswith("l-"):
            weights["r-" + chosen[2:]] = float(np.clip(abs(value) + rng.normal(0, 0.03), 0, LIMIT))
    return weights


def _skin(rng: np.random.Generator, race_dark: float) -> tuple[np.ndarray, np.ndarray]:
    light, dark = np.array([0.62, 0.40, 0.30]), np.array([0.085, 0.042, 0.024])
    t = np.clip(race_dark + rng.normal(0, 0.10), 0, 1)
    skin = np.exp((1 - t) * np.log(light) + t * np.log(dark))
    skin *= np.exp(rng.normal(0, [0.05, 0.06, 0.09]))
    lip = skin * np.array([0.86, 0.52, 0.52]) * np.exp(rng.normal(0, 0.12, 3))
    return np.clip(skin, 0.015, 0.75), np.clip(lip, 0.012, 0.7)


@lru_cache(maxsize=4096)
def identity(number: int) -> Identity:
    """Draw the person with this number; the same number is the same person for ever."""
    rng = numpy_rng(POPULATION, "identity", number)
    noun = "woman" if rng.random() < 0.5 else "man"
    female = rng.uniform(0.82, 1.0) if noun == "woman" else rng.uniform(0.0, 0.15)
    age = float(np.clip(rng.beta(1.1, 1.7), 0, 0.95))
    weights = _shape(rng, female, age)
    african = sum(v for k, v in weights.items() if k.startswith("macro-african"))
    asian = sum(v for k, v in weights.items() if k.startswith("macro-asian"))
    skin, lip = _skin(rng, 0.10 + 0.75 * african + 0.22 * asian)
    fair = african + 0.9 * asian < 0.45
    colors = ["black", "black", "black", "brown"]
    if fair:
        colors = ["black", "brown", "light brown", "blond", "red"]
    color = colors[rng.integers(len(colors))]
    if age > 0.55 and rng.random() < (age - 0.35):
        color = "white" if rng.random() < 0.4 else "grey"
    styles = HAIR_STYLES[noun]
    style = styles[rng.integers(len(styles))]
    if style == "afro" and african < 0.4:
        style = "curly"
    if style == "receding" and age < 0.3:
        style = "short"
    eyes = ["brown", "blue", "green", "grey", "hazel"] if fair else ["brown", "dark", "dark"]
    beard = BEARDS[rng.integers(len(BEARDS))] if noun == "man" else "none"
    moles = rng.uniform((-0.55, 6.3), (0.55, 7.1), (3, 2))[: rng.choice([0, 0, 1, 1, 2, 3])]
    frames = (
        (0.02, 0.02, 0.02),
        (0.02, 0.02, 0.02),
        (0.12, 0.03, 0.02),
        (0.02, 0.03, 0.12),
        (0.35, 0.27, 0.12),
    )
    tint = np.array(HAIR_COLORS[color]) * np.exp(rng.normal(0, 0.05, 3) + rng.normal(0, 0.22))
    return Identity(
        number=number,
        noun=noun,
        age=age,
        weights=tuple(weights.items()),
        skin=tuple(skin),
        lip=tuple(lip),
        eye_color=eyes[rng.integers(len(eyes))],
        hair_style=style,
        hair_color=color,
        hair_tint=tuple(np.clip(tint, 0.008, 0.75)),
        hair_length=float(rng.uniform(0, 1)),
        hair_volume=float(rng.uniform(0.6, 1.4)),
        fringe=float(rng.uniform(0.5, 1) if rng.random() < (0.4 if noun == "woman" else 0.15) else 0.0),
        brow_weight=float(rng.uniform(0.5, 1.0) if noun == "woman" else rng.uniform(0.8, 1.6)),
        brow_arch=float(rng.uniform(0, 1)),
        brow_height=float(rng.normal(0, 0.03)),
        beard=beard,
        glasses=GLASSES[rng.integers(len(GLASSES))],
        glasses_color=frames[rng.integers(len(frames))],
        freckles=float(rng.uniform(0.5, 1) if fair and skin[0] > 0.4 and rng.random() < 0.25 else 0.0),
        moles=tuple((float(x), float(y)) for x, y in moles),
        makeup=float(rng.uniform(0.2, 1) if noun == "woman" and rng.random() < 0.5 else 0.0),
    )
