"""One picture that was asked for: checked, as the pipeline's arguments, and as text that gives it again."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fdlab.config.overrides import QUOTES, quoted
from fdlab.data.captions import MARKER, parse
from fdlab.demo import choices
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.measure.faces.photos import Head
from fdlab.pipeline.artist import call_arguments
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.pipeline.inputs import Reference, Scene, check_markers
from fdlab.randomness import derive


@dataclass(frozen=True)
class Models:
    """Which weights draw: names and folders as `fdlab sample` takes them."""

    backbone: str = "nano"
    tdm: str = "shipped"
    sdm: str = "shipped"
    overrides: tuple[str, ...] = ()
    """More of the configuration, as in backbone.fusion=FOLDER."""

    @property
    def changed(self) -> dict[str, str]:
        """What differs from what ships, overrides aside."""
        usual, names = Models(), ("backbone", "tdm", "sdm")
        return {key: value for key in names if (value := getattr(self, key)) != getattr(usual, key)}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture."""

    prompt: str
    photos: tuple[str, ...]
    """As one would type them, in the order of the markers."""
    sampler: SamplerSettings
    seed: int
    models: Models = Models()
    head: Head | None = None
    """How heads are cut out of the photos, where the models take heads alone."""

    @property
    def num(self) -> int:
        """Of the picture's noise: as `fdlab sample` derives it for the first picture of a seed."""
        return derive(self.seed, "sample", 0)

    def scene(self, faces: Sequence[Reference]) -> Scene:
        """As an artist takes it, with the faces that were cut out of the photos."""
        return Scene(self.prompt, self.num, tuple(faces))

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `FaceDiffuserPipeline.__call__`, but for prompt and subjects."""
        return {**call_arguments(self.sampler), "seeds": [self.num]}

    @property
    def _written(self) -> dict[str, Any]:
        """The arguments that a script needs: what is not as usual, and what the page has a field for."""
        arguments, guider = self.arguments, self.sampler.guider
        own = guiders.options(guider)
        given = {
            key: value
            for key, value in arguments.pop("guider_options").items()
            if value != own[key] or key in choices.sliders(guider)
        }
        stages = {key: given.pop(key) for key in ("alpha", "beta") if key in given}
        usual = inspect.signature(FaceDiffuserPipeline.__call__).parameters
        return {
            "guider": guider,
            **stages,
            **({"guider_options": given} if given else {}),
            **{
                key: value
                for key, value in arguments.items()
                if key in ("num_inference_steps", "guidance_scale", "seeds") or value != usual[key].default
            },
        }

    @property
    def command(self) -> str:
        """The `fdlab sample` that draws this picture; what is as usual is left out."""
        usual = choices.defaults(self.sampler.guider).as_dict()
        words = [f"prompt={self.prompt if self.prompt[:1] not in QUOTES else quoted(self.prompt)}"]
        if self.photos:
            words.append(f"subjects=[{','.join(map(quoted, self.photos))}]")
        if len(self.photos) > choices.usual_subjects():
            words.append(f"data.max_subjects={len(self.photos)}")
        words.append(f"sampler={choices.sampler_name(self.sampler.guider)}")
        words += [
            f"sampler.{key}={value}" for key, value in self.sampler.as_dict().items() if value != usual[key]
        ]
        words.append(f"seed={self.seed}")
        words += [f"{key}={quoted(value)}" for key, value in self.models.changed.items()]
        words += self.models.overrides
        return "python -m fdlab sample " + " ".join(map(shlex.quote, words))

    def script(self, device: str = "cpu") -> str:
        """A script that draws this picture with FaceDiffuserPipeline on a kind of device."""
        changed: dict[str, Any] = self.models.changed | ({} if device == "cpu" else {"device": device})
        changed |= {"overrides": list(self.models.overrides)} if self.models.overrides else {}
        made = ", ".join(f"{key}={_literal(value)}" for key, value in changed.items())
        lines = ["from fdlab import FaceDiffuserPipeline"]
        pipe = "FaceDiffuserPipeline.shipped()"
        if made:
            lines, pipe = ["from fdlab.demo.pipeline import load_artist"], f"load_artist({made}).pipeline"
        cutter, shown = self._cutter(ships=not made)
        lines += [cutter] if cutter and self.photos else []
        faces = [f"    [{', '.join(map(shown, self.photos))}],"] if self.photos else []
        options = [f"    {key}={_literal(value)}," for key, value in self._written.items()]
        call = ["picture = pipe(", f"    {_literal(self.prompt)},", *faces, *options, ").images[0]"]
        made_with = []
        if (self.sampler.scheduler, self.sampler.spacing) != ("ddim", None):
            lines.append("from fdlab.diffusion.schedulers import make_scheduler")
            name, spacing = _literal(self.sampler.scheduler), _literal(self.sampler.spacing)
            made_with = [f"pipe.scheduler = make_scheduler({name}, pipe.scheduler.config, {spacing})"]
        return "\n".join([*lines, "", f"pipe = {pipe}", *made_with, *call, 'picture.save("picture.png")'])

    def _cutter(self, ships: bool) -> tuple[str, Callable[[str], str]]:
        """What a script imports to cut faces out of photos, and its words for a photo's."""
        if self.head is None:
            return "from fdlab.measure.faces.photos import cut_face", lambda p: f"cut_face({_literal(p)})"
        if ships:
            # What ships cuts heads out by itself.
            return "", _literal
        head = f", head={self.head!r}"
        return (
            "from fdlab.measure.faces.photos import Head, cut_face",
            lambda p: f"cut_face({_literal(p)}{head})",
        )

    @property
    def as_json(self) -> str:
        """Every setting by its name in the configuration."""
        entry = {
            "prompt": self.prompt,
            "subjects": list(self.photos),
            "sampler": self.sampler.as_dict(),
            "seed": self.seed,
            **vars(self.models),
            "overrides": list(self.models.overrides),
        }
        return json.dumps(entry, indent=2, ensure_ascii=False)


def _literal(value: Any) -> str:
    """Python for a value, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def ask(
    prompt: str,
    photos: Sequence[str],
    guider: str,
    shares: Mapping[str, float],
    num_steps: int,
    guidance_scale: float,
    seed: int | None,
    models: Models = Models(),
) -> Recipe:
    """Check what a page was filled with. `shares` may hold more than the guider takes.

    For a guider that draws no given person, the photos are left out and the markers taken out of the prompt.
    Raises: UserError.
    """
    prompt = " ".join(prompt.split())
    if not prompt:
        raise UserError(f"the prompt is empty; write one, as in: a woman {MARKER} on a beach.")
    if "sdm" not in guiders.needs(guider):
        prompt, photos = parse(prompt)[0], ()
    elif not photos:
        raise UserError(f"no photo is given; add 1 to {choices.MAX_PHOTOS} with faces, or choose guider tdm.")
    elif len(photos) > choices.MAX_PHOTOS:
        raise UserError(f"{len(photos)} photos are given; allowed: 1 to {choices.MAX_PHOTOS}.")
    else:
        check_markers(prompt, len(photos), draws_subjects=True)
    if seed is None or seed < 0:
        raise UserError(f"the seed is {'empty' if seed is None else seed}; give a whole number from 0.")
    usual = choices.defaults(guider)
    chosen = {key: round(float(shares[key]), 4) for key in choices.sliders(guider) if key in shares}
    sampler = replace(
        usual,
        num_steps=int(num_steps),
        guidance_scale=float(guidance_scale),
        options={**usual.options, **chosen},
    )
    sampler.check()
    return Recipe(prompt, tuple(photos), sampler, int(seed), models)
