"""One picture: who is in it, how they look, where they are; drawn from a generator, then rendered.

Axes: H W pixels.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from fdlab.people import appearance, camera, captions, figure, scenes, styles
from fdlab.people.appearance import Appearance
from fdlab.people.identity import Identity, identity
from fdlab.randomness import numpy_rng

VERSION = 1
"""Of the renderer: raised when the same seed gives other bytes."""
SUPERSAMPLING = 2
EYES_ABOVE_NECK = 1.33
"""Decimetres from the neck's pivot to the eyes at rest."""
EYES_BEFORE_NECK = 1.0
"""Decimetres from the neck's pivot forward to the eyes."""


@dataclass(frozen=True)
class Framing:
    """Pixels a decimetre at 128 px, and where the eyes of a single person lie, 0 top .. 1 bottom."""

    scale: float
    eyes: float
    right: float = 0.0


@dataclass(frozen=True)
class Spec:
    """Everything that decides a picture."""

    people: tuple[tuple[int, Appearance], ...]
    scene: str
    hour: str
    style: str
    framing: Framing
    seed: int
    """Of what is random in the scene, the light and the grain."""


@dataclass(frozen=True)
class Picture:
    """A rendered picture: uint8 RGB and uint8 instance mask (0 background, 1.. people in order)."""

    image_HW3: np.ndarray
    segments_HW: np.ndarray


@dataclass(frozen=True)
class Mix:
    """What a collection of pictures is rich in; probabilities by name."""

    scenes: dict[str, float]
    styles: dict[str, float]
    count: tuple[float, ...]
    """Probability of one, two, three, four people."""
    scale: tuple[float, float]
    """Pixels a decimetre at 128 px for one person."""
    frontal: float
    sunset: float = 0.25
    eyes: tuple[float, float] = (0.38, 0.46)
    """Where the eyes of one person lie, 0 top .. 1 bottom."""
    aside: float = 0.22
    """Standard deviation in decimetres of where one person stands, to the right."""
    steady: float = 1.0
    """Factor on the angles of head and body; below 1 the eyes of one person also stay in the middle."""


EVERYWHERE = dict.fromkeys(scenes.SCENES, 1.0)
MIXES = {
    "all": Mix(
        EVERYWHERE,
        {
            "photograph": 0.56,
            "black-and-white photograph": 0.11,
            "pencil drawing": 0.11,
            "watercolor": 0.11,
            "pop art": 0.11,
        },
        (0.80, 0.15, 0.04, 0.01),
        (24, 38),
        0.6,
    ),
    "scenes": Mix(
        {**EVERYWHERE, "studio": 0.2},
        {
            "photograph": 0.48,
            "black-and-white photograph": 0.13,
            "pencil drawing": 0.13,
            "watercolor": 0.13,
            "pop art": 0.13,
        },
        (0.82, 0.14, 0.03, 0.01),
        (20, 36),
        0.5,
    ),
    "portraits": Mix(
        {"studio": 0.5, "library": 0.15, "city": 0.2, "garden": 0.15},
        {"photograph": 1.0},
        (0.88, 0.12, 0.0, 0.0),
        (30, 38),
        0.7,
        sunset=0.1,
    ),
    "drawings": Mix(
        {"studio": 0.5, "library": 0.15, "city": 0.2, "garden": 0.15},
        {"pencil drawing": 0.4, "watercolor": 0.3, "pop art": 0.3},
        (0.88, 0.12, 0.0, 0.0),
        (30, 38),
        0.7,
        sunset=0.1,
    ),
}
ALIGNED: dict[str, Any] = {
    "count": (1.0,),
    "scale": (35.0, 35.0),
    "frontal": 1.0,
    "eyes": (0.42, 0.42),
    "aside": 0.0,
    "steady": 0.45,
}
"""One person a picture, nearly frontal, the eyes always at the same place: as aligned face data sets."""
MIXES |= {
    f"aligned-{name}": replace(MIXES[name], **ALIGNED) for name in ("all", "scenes", "portraits", "drawings")
}
SPACING = {2: (20.0, 25.0), 3: (15.5, 18.0), 4: (12.5, 14.0)}
"""Pixels a decimetre at 128 px for several people."""


def _steadied(look: Appearance, factor: float) -> Appearance:
    """The look with all angles of head and body multiplied."""
    if factor == 1.0:
        return look
    angles = ("yaw", "pitch", "roll", "turn")
    return replace(look, **{name: factor * getattr(look, name) for name in angles})


def _choice(rng: np.random.Generator, weights: dict[str, float]) -> str:
    p = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(p), p=p / p.sum())]


def draw(mix: Mix, rng: np.random.Generator, identities: int, first: int = 0) -> Spec:
    """Draw a picture's spec; people come from identities `first` .. `first + identities - 1`."""
    count = 1 + int(rng.choice(len(mix.count), p=mix.count))
    numbers = first + rng.choice(identities, min(count, identities), replace=False)
    people = tuple(
        (int(number), _steadied(appearance.draw(rng, mix.frontal), mix.steady)) for number in numbers
    )
    scale = rng.uniform(*(mix.scale if count == 1 else SPACING[count]))
    scene = _choice(rng, mix.scenes)
    hour = "sunset" if scenes.SCENES[scene][2] and rng.random() < mix.sunset else "day"
    eyes = float(rng.uniform(*mix.eyes))
    right = float(rng.normal(0, mix.aside)) if count == 1 else 0.0
    if mix.steady < 1 and count == 1:
        right -= EYES_BEFORE_NECK * float(np.sin(np.radians(people[0][1].yaw)))
    framing = Framing(float(scale), eyes, right)
    return Spec(people, scene, hour, _choice(rng, mix.styles), framing, int(rng.integers(2**31)))


def _places(spec: Spec, rng: np.random.Generator) -> list[camera.Place]:
    n, wide = len(spec.people), 128 / spec.framing.scale
    up = (0.5 - spec.framing.eyes) * wide - EYES_ABOVE_NECK
    if n == 1:
        return [camera.Place(spec.framing.right, up)]
    step = wide / n
    offsets = (np.arange(n) - (n - 1) / 2) * step * 0.96 + rng.normal(0, 0.05 * step, n)
    return [
        camera.Place(float(x), float(up + rng.normal(0, 0.22)), float(rng.uniform(-1.2, 1.2)))
        for x in offsets
    ]


def _to_light(display: np.ndarray) -> np.ndarray:
    """Display colours to the linear light that `_to_display` turns back into them."""
    linear = np.where(display <= 0.04045, display / 12.92, ((np.clip(display, 0, 1) + 0.055) / 1.055) ** 2.4)
    rest = 1 - np.minimum(linear, 0.999)
    return 2 * (-rest + np.sqrt(rest**2 + linear))


def _to_display(light: np.ndarray) -> np.ndarray:
    """Filmic shoulder (Reinhard et al. 2002, with white at 2), then the sRGB curve."""
    light = np.clip(light, 0, None)
    x = np.clip(light * (1 + light / 4) / (1 + light), 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055)


def _halve(picture: np.ndarray) -> np.ndarray:
    height, width, *rest = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, *rest).mean((1, 3))


def _majority(who: np.ndarray) -> np.ndarray:
    """Instance of the most of each 2 x 2 pixels; ties go to the person."""
    blocks = who.reshape(who.shape[0] // 2, 2, who.shape[1] // 2, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
    counts = np.stack([(blocks == k).sum(1) + 0.1 * (k > 0) for k in range(int(who.max()) + 1)], 1)
    return counts.argmax(1).reshape(who.shape[0] // 2, who.shape[1] // 2).astype(np.uint8)


def render(spec: Spec, size: int = 128) -> Picture:
    """Render a picture, `size` pixels square, with 2 x 2 supersampling."""
    rng = numpy_rng(spec.seed, "render")
    inner = size * SUPERSAMPLING
    scene = scenes.draw(rng, spec.scene, spec.hour, size)
    small = Image.fromarray((scene.picture_HW3 * 255).astype(np.uint8))
    wide = small.resize((inner, inner), Image.Resampling.BICUBIC)
    background = _to_light(np.asarray(wide, np.float32) / 255).astype(np.float64)
    people = [figure.build(identity(number), look) for number, look in spec.people]
    places, scale = _places(spec, rng), spec.framing.scale * inner / 128
    light, who = camera.photograph(people, places, scene.light, scale, background)
    picture = styles.STYLES[spec.style][0](rng, _halve(_to_display(light)).astype(np.float32))
    return Picture((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), _majority(who))


def describe(spec: Spec, share: float = 0.3) -> tuple[str, list[int]]:
    """Caption of a picture and the end of each person's noun phrase; a spec is always described alike."""
    pairs: list[tuple[Identity, Appearance]] = [(identity(number), look) for number, look in spec.people]
    return captions.caption(numpy_rng(spec.seed, "caption"), pairs, spec.scene, spec.hour, spec.style, share)


def png_bytes(image: np.ndarray) -> bytes:
    """Encode uint8 pixels as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def truth(spec: Spec) -> dict[str, Any]:
    """What is known to be true of a picture, for its JSON."""
    people = []
    for k, (number, look) in enumerate(spec.people):
        person = identity(number)
        attributes = {
            **person.attributes,
            "expression": look.expression,
            "garment": look.garment,
            "clothes_color": look.color,
            "pattern": look.pattern,
            "hat": look.hat,
            "scarf": look.scarf,
            "yaw": round(look.yaw, 1),
        }
        people.append({"segment": k + 1, "identity": number, "noun": person.noun, "attributes": attributes})
    return {
        "scene": spec.scene,
        "hour": spec.hour,
        "style": spec.style,
        "people": people,
        "framing": asdict(spec.framing),
    }
