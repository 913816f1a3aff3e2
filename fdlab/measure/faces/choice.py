"""Which recogniser measures: chosen by name, with weights that ship or that the user brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fdlab.assets import resolve
from fdlab.errors import UserError, unknown
from fdlab.measure.faces import own_weights, recogniser
from fdlab.measure.faces.recogniser import Recogniser


@dataclass(frozen=True)
class Choice:
    """One recogniser by name."""

    make: Callable[..., Recogniser]
    """(device) where its weights ship, else (path, device)."""
    source: str = ""
    """Which file to get, and where from; empty where the weights ship."""

    @property
    def ships(self) -> bool:
        return not self.source


CHOICES: dict[str, Choice] = {
    "dlib": Choice(recogniser.FaceRecogniser),
    "faceres": Choice(recogniser.FaceresRecogniser),
    "facenet": Choice(
        own_weights.FacenetRecogniser,
        "20180402-114759-vggface2.pt from https://github.com/timesler/facenet-pytorch/releases/tag/v2.2.9",
    ),
    "arcface": Choice(
        own_weights.ArcfaceRecogniser,
        "w600k_r50.onnx (in buffalo_l.zip, https://github.com/deepinsight/insightface/releases/tag/v0.7), "
        "or an iresnet's state dict",
    ),
    "adaface": Choice(
        own_weights.AdafaceRecogniser,
        "adaface_ir101_webface12m.ckpt from https://github.com/mk-minchul/AdaFace, or an ONNX export of it",
    ),
}


def missing(name: str, weights: str | None, key: str) -> str:
    """What stands in the way of a recogniser, one line; empty: nothing. `key` is the configuration's for
    `weights`."""
    if name not in CHOICES:
        return str(unknown("recogniser", name, CHOICES))
    choice = CHOICES[name]
    if choice.ships:
        return f"{key}={weights}: recogniser '{name}' ships; leave its weights null." if weights else ""
    how = f"download {choice.source}, then give {key}=FILE."
    if not weights:
        return f"recogniser '{name}' does not ship: {how}"
    if resolve(weights).is_file():
        return ""
    return f"{key}={weights}: no such file; for '{name}' download {choice.source}, and put it there."


def recogniser_of(
    name: str, weights: str | None, device: str, key: str = "evaluation.recogniser_weights"
) -> Recogniser:
    """Load the recogniser `name`. Raises: UserError naming the file that is missing or does not fit."""
    problem = missing(name, weights, key)
    if problem:
        raise UserError(problem)
    choice = CHOICES[name]
    return choice.make(device) if choice.ships else choice.make(Path(resolve(str(weights))), device)
