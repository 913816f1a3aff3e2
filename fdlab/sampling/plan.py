"""Which pictures a call is about, and where they lie: each is named by what decides it.

So other prompts or settings give other names, nothing is overwritten, and what is there need not be drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fdlab import __version__
from fdlab.data.pictures import is_readable
from fdlab.errors import UserError
from fdlab.files import fingerprint
from fdlab.foreign import read_json
from fdlab.models.finetuned import Weights, sha256_of_parts
from fdlab.pipeline.inputs import Scene
from fdlab.randomness import derive
from fdlab.sampling.references import Cut
from fdlab.sampling.requests import Request
from fdlab.sampling.settings import SampleSettings

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
)
"""How IPTC's metadata say that a model made a picture, for programs that know nothing of fdlab."""


@dataclass(frozen=True)
class PlannedPicture:
    """One picture of a request."""

    request: Request
    cuts: tuple[Cut, ...]
    index: int
    settings: Mapping[str, Any]
    """What all pictures of a call share: sampler, models, background, size."""

    @cached_property
    def seed(self) -> int:
        """Of the noise, which is the same for all prompts: so they can be compared."""
        return derive(self.request.seed, "sample", self.index)

    @cached_property
    def decided_by(self) -> dict[str, Any]:
        """All that the picture depends on, and nothing else."""
        subjects = [cut.sha256 for cut in self.cuts]
        return {"prompt": self.request.prompt, "seed": self.seed, "subjects": subjects, **self.settings}

    def is_told_by(self, said: Mapping[str, Any]) -> bool:
        """Whether a JSON tells of this picture, and of nothing else."""
        known = json.loads(json.dumps(self.decided_by))
        shown = said.get("subjects")
        subjects = shown if isinstance(shown, list) else [None]
        same = [s.get("sha256") if isinstance(s, dict) else None for s in subjects] == known.pop("subjects")
        return same and "file" in said and all(said.get(key) == value for key, value in known.items())

    @cached_property
    def name(self) -> str:
        """Its files' name: words of the prompt, and a digest of what decides it."""
        text = self.request.prompt.lower().replace("<|image|>", "")
        words = "".join(c if c.isascii() and c.isalnum() else " " for c in text).split()
        slug = "-".join(words)[:48].strip("-") or "picture"
        return f"{slug}-{fingerprint(self.decided_by)[:10]}"

    @property
    def scene(self) -> Scene:
        """As an artist takes it."""
        return Scene(self.request.prompt, self.seed, tuple(cut.image_HW3 for cut in self.cuts))

    @property
    def label(self) -> str:
        """For a caption."""
        return f"seed {self.request.seed}, picture {self.index}"

    def png_text(self) -> dict[str, str]:
        """What its PNG says of it, that it is generated first of all."""
        return {
            "Software": f"fdlab {__version__} (generated image)",
            "prompt": self.request.prompt,
            "seed": str(self.seed),
            "settings": json.dumps(self.decided_by, sort_keys=True),
            "XML:com.adobe.xmp": XMP,
        }


@dataclass(frozen=True)
class Folder:
    """Where the files of a call lie."""

    root: Path

    @property
    def grid(self) -> Path:
        return self.root / "grid.png"

    @property
    def manifest(self) -> Path:
        return self.root / "samples.json"

    def image(self, picture: PlannedPicture) -> Path:
        return self.root / "images" / f"{picture.name}.png"

    def json(self, picture: PlannedPicture) -> Path:
        return self.root / "images" / f"{picture.name}.json"

    def traces(self, picture: PlannedPicture) -> tuple[Path, Path]:
        """The figure of some steps, and the animation of all."""
        return self.root / "traces" / f"{picture.name}.png", self.root / "traces" / f"{picture.name}.webp"

    def relative(self, path: Path) -> str:
        """As a JSON names it."""
        return path.relative_to(self.root).as_posix()

    def read(self, picture: PlannedPicture) -> dict[str, Any]:
        """A picture's JSON; empty where it is missing, broken, or of another picture."""
        try:
            found = read_json(self.json(picture), "file")
        except UserError:
            return {}
        return found if isinstance(found, dict) and picture.is_told_by(found) else {}

    def has(self, picture: PlannedPicture, trace: bool, steps: Sequence[int] | None) -> bool:
        """Whether all files of a picture are there, its trace's with the `steps` asked for."""
        # The JSON is written last, so it vouches for the others; but a person may have removed one.
        said = self.read(picture)
        files = [self.image(picture), *(self.traces(picture) if trace else ())]
        traced = said.get("trace")
        same_steps = not trace or (isinstance(traced, dict) and traced.get("asked") == steps)
        return bool(said) and same_steps and all(is_readable(path) for path in files)


def settings(asked: SampleSettings, found: Mapping[str, Weights]) -> dict[str, Any]:
    """What decides all pictures of a call, the digests of all weights included."""
    backbone, parts = asked.backbone, asked.backbone.shared_parts()
    return {
        "sampler": asked.sampler.as_dict(),
        "backbone": {"name": backbone.name, "sha256": sha256_of_parts(parts), "parts": sorted(parts)},
        **{kind: model.describe() for kind, model in found.items()},
        "background": asked.background,
        "size": backbone.image_size,
    }
