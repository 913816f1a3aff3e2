"""How somebody looks in one picture: pose, expression, clothes. Everything that is not identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fdlab.people.clothes import COLORS, GARMENTS, PATTERNS

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smiling": {"mouthSmile*": 0.75, "cheekSquint*": 0.4, "eyeSquint*": 0.2, "mouthUpperUp*": 0.15},
    "laughing": {
        "mouthSmile*": 0.85,
        "jawOpen": 0.28,
        "cheekSquint*": 0.7,
        "eyeSquint*": 0.5,
        "mouthUpperUp*": 0.3,
    },
    "sad": {"mouthFrown*": 0.75, "browInnerUp": 0.75, "mouthShrugLower": 0.3, "eyeLookDown*": 0.25},
    "surprised": {
        "jawOpen": 0.38,
        "eyeWide*": 0.8,
        "browInnerUp": 0.6,
        "browOuterUp*": 0.75,
        "mouthFunnel": 0.25,
    },
    "angry": {
        "browDown*": 0.95,
        "noseSneer*": 0.5,
        "mouthPress*": 0.5,
        "eyeSquint*": 0.35,
        "mouthFrown*": 0.3,
    },
}
"""Strengths of the body's expression units; a star stands for both sides."""


@dataclass(frozen=True)
class Appearance:
    """One person's look in one picture. Degrees: yaw to the person's left, pitch up, roll clockwise."""

    yaw: float
    pitch: float
    roll: float
    turn: float
    """Yaw of the whole body, of which the head's yaw is counted on top."""
    expression: str
    strength: float
    gaze: tuple[float, float]
    garment: str
    color: str
    second: str
    pattern: str
    hat: str | None = None
    """Colour of a woollen hat."""
    scarf: str | None = None
    """Colour of a scarf."""

    def units(self, names: set[str]) -> dict[str, float]:
        """Expression as weights of the body's `unit-*` targets."""
        found: dict[str, float] = {}
        for name, value in EXPRESSIONS[self.expression].items():
            for full in (name.replace("*", "Left"), name.replace("*", "Right")):
                if f"unit-{full}" in names:
                    found[f"unit-{full}"] = value * self.strength
        return found


def draw(rng: np.random.Generator, frontal: float = 0.5) -> Appearance:
    """Draw a look; a share `frontal` has the benchmark's narrow poses (yaw mostly within 20 degrees)."""
    near = rng.random() < frontal
    yaw = float(np.clip(rng.normal(0, 9), -20, 20) if near else rng.uniform(-40, 40))
    colors = list(COLORS)
    color, second = (str(c) for c in rng.choice(colors, 2, replace=False))
    marked = [name for name in EXPRESSIONS if name != "neutral"]
    expression = "neutral" if rng.random() < 0.35 else str(rng.choice(marked))
    return Appearance(
        yaw=yaw,
        pitch=float(np.clip(rng.normal(0, 5 if near else 8), -16, 16)),
        roll=float(rng.normal(0, 3)),
        turn=float(np.clip(yaw * rng.uniform(0.1, 0.6) + rng.normal(0, 4), -30, 30)),
        expression=expression,
        strength=float(rng.uniform(0.75, 1.1)),
        gaze=(float(rng.normal(0, 5)), float(rng.normal(0, 3))),
        garment=str(rng.choice(GARMENTS)),
        color=color,
        second=second,
        pattern=str(rng.choice(PATTERNS, p=(0.5, 0.2, 0.15, 0.15))),
        hat=str(rng.choice(colors)) if rng.random() < 0.08 else None,
        scarf=str(rng.choice(colors)) if rng.random() < 0.08 else None,
    )
