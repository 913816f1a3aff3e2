"""The extractors that a configuration's `evaluation` names, wired to what measuring asks for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fdlab.assets import ROOT, hub, resolve
from fdlab.errors import UserError, nearest
from fdlab.measure.networks import Extractors

T = TypeVar("T")

JUDGES = ("judge", "nano/judge")
"""Where the judge ships: a CLIP model of its own with heads for what rendered people show."""
EMBEDDED, VIT_L14 = "embedded", "vit_l14"


@dataclass(frozen=True)
class ExtractorSettings:
    """conf/evaluation. The defaults are what ships."""

    recogniser: str = "dlib"
    recogniser_weights: str | None = None
    second: str | None = None
    second_weights: str | None = None
    clip: str = EMBEDDED
    inception: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> ExtractorSettings:
        """From the configuration's `evaluation`; what ships where it has none."""
        return cls(**{str(key): given[key] for key in given}) if given is not None else cls()


class Faces:
    """The shipped detector and a recogniser as one extractor; its digest covers both.

    recogniser: one of `faces.choice.CHOICES`; weights: its file, where it does not ship; key: what the
    configuration calls that file; min_face: smallest face looked for, None for the detector's own choice.
    """

    def __init__(
        self,
        device: str = "cpu",
        recogniser: str = "dlib",
        weights: str | None = None,
        key: str = "evaluation.recogniser_weights",
        min_face: float | None = None,
    ) -> None:
        from fdlab.measure.faces import FaceDetector
        from fdlab.measure.faces.choice import recogniser_of

        self.detector = FaceDetector(device) if min_face is None else FaceDetector(device, min_face)
        self.recogniser = recogniser_of(recogniser, weights, device, key)
        self.name = f"{self.detector.name}+{self.recogniser.name}"
        both = f"{self.detector.sha256} {self.recogniser.sha256}"
        self.sha256 = hashlib.sha256(both.encode()).hexdigest()

    def detect(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        """All faces of every picture."""
        return self.detector(images_BHW3)

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        """Unit-length embedding of one face a picture: (B, D)."""
        return np.asarray(self.recogniser.embed(images_BHW3, [[face] for face in faces]).cpu().numpy())


def problems(settings: ExtractorSettings) -> Iterator[str]:
    """What `settings` lack, one line each: which file, where from, where to put it."""
    from fdlab.measure.extractors.inception import HOW
    from fdlab.measure.faces.choice import missing

    line = missing(settings.recogniser, settings.recogniser_weights, "evaluation.recogniser_weights")
    if line:
        yield line
    if settings.second is not None:
        same = (settings.recogniser, settings.recogniser_weights)
        if (settings.second, settings.second_weights) == same:
            yield f"evaluation.second={settings.second} is the first recogniser; name another, or null."
        line = missing(settings.second, settings.second_weights, "evaluation.second_weights")
        if line:
            yield line
    elif settings.second_weights is not None:
        file = settings.second_weights
        yield f"evaluation.second_weights={file}: name the recogniser, as in evaluation.second=facenet."
    if settings.clip == VIT_L14:
        if not Path(hub.CLIP_FOLDER).is_dir() and _in_hub_cache() is None:
            how = hub.how_to_get(hub.CLIP_FOLDER)
            yield f"evaluation.clip={VIT_L14}: '{hub.CLIP_FOLDER}' is not there; get it: {how}"
    elif settings.clip != EMBEDDED and not resolve(settings.clip).is_dir():
        guess = nearest(settings.clip, (EMBEDDED, VIT_L14))
        hint = f" Did you mean '{guess}'?" if guess else ""
        yield f"evaluation.clip={settings.clip}: allowed: {EMBEDDED}, {VIT_L14}, a folder that exists.{hint}"
    if settings.inception is not None and not resolve(settings.inception).is_file():
        yield f"evaluation.inception={settings.inception}: no such file. {HOW}"


def check(settings: ExtractorSettings) -> None:
    """Look for every file that `settings` name, before anything is drawn. Raises: UserError."""
    problem = next(problems(settings), None)
    if problem:
        raise UserError(problem)


def load_extractors(
    settings: ExtractorSettings, device: str = "cpu", min_face: float | None = None
) -> Extractors:
    """The extractors that `settings` name. What ships but is not here costs a line on stderr, what was asked
    for and is not here an error. Raises: UserError."""
    from fdlab.measure.extractors import ClipExtractor

    check(settings)
    faces = Faces(device, settings.recogniser, settings.recogniser_weights, min_face=min_face)
    embedded = shipped(device, faces, settings.inception)
    if settings.clip == EMBEDDED:
        return embedded
    if settings.clip == VIT_L14:
        # The hub's cache calls the folder by a commit, which is no name for a record.
        clip: Any = ClipExtractor(_vit_l14(), device, name=Path(hub.CLIP_FOLDER).name)
    else:
        clip = clip_of(resolve(settings.clip), device)
    return Extractors(embedded.faces, clip, embedded.features, embedded.judge)


def second(settings: ExtractorSettings, device: str = "cpu") -> Extractors | None:
    """Faces alone, by the second recogniser; None where none is asked for. Raises: UserError."""
    if settings.second is None:
        return None
    return Extractors(Faces(device, settings.second, settings.second_weights, "evaluation.second_weights"))


def shipped(device: str = "cpu", faces: Faces | None = None, inception: str | None = None) -> Extractors:
    """Every extractor that ships; one line on stderr for each that is not there, and what is lost by that.

    faces stands in for the shipped one, the file of an Inception for the shipped features.
    """
    from fdlab.measure.extractors import EfficientNetExtractor, InceptionExtractor

    faces = faces or Faces(device)
    features: Any
    if inception is not None:
        features = InceptionExtractor(resolve(inception), device)
    else:
        features = _optional(lambda: EfficientNetExtractor(device), "no metric that needs features")
    folder = _optional(_judge_folder, "no metric that needs CLIP or the judge")
    if folder is None:
        return Extractors(faces=faces, features=features)
    from fdlab.measure.extractors import ClipExtractor
    from fdlab.models.judge import JudgeExtractor

    return Extractors(faces, ClipExtractor(folder, device), features, JudgeExtractor(folder, device))


def clip_of(folder: Path, device: str = "cpu") -> Any:
    """The CLIP model in a folder of transformers' format or open_clip's. Raises: UserError."""
    from fdlab.measure.extractors import ClipExtractor, OpenClipExtractor
    from fdlab.measure.extractors.open_clip import CONFIG

    kind = OpenClipExtractor if (folder / CONFIG).is_file() else ClipExtractor
    return kind(folder, device)


def _vit_l14() -> Path:
    folder = Path(hub.CLIP_FOLDER)
    return folder if folder.is_dir() else Path(str(_in_hub_cache()))


def _in_hub_cache() -> Path | None:
    """The snapshot of ViT-L/14 that the hub's own client keeps, whole; None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
    found = [try_to_load_from_cache(hub.CLIP, name) for name in files]
    return Path(str(found[0])).parent if all(isinstance(path, str) for path in found) else None


def _judge_folder() -> Path:
    for name in JUDGES:
        if (ROOT / name / "judge.json").is_file():
            return ROOT / name
    raise UserError(
        f"the judge does not ship with this copy of fdlab (asset:{JUDGES[0]}; experiments/nano makes it)"
    )


def _optional(load: Callable[[], T], lost: str) -> T | None:
    try:
        return load()
    except UserError as error:
        print(f"note: {lost}, for {error}".rstrip(".") + ".", file=sys.stderr)
        return None
