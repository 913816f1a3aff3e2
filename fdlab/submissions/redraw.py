"""What a submission says of its method, held against the weights that are here; some pictures drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fdlab.benchmarks import jobs
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.config.compose import compose
from fdlab.data.pictures import read_image
from fdlab.errors import UserError
from fdlab.evaluation.rows import Row, standard
from fdlab.evaluation.settings import MethodSettings
from fdlab.foreign import shown
from fdlab.submissions.claims import FAILS, HOLDS, OPEN, Claim
from fdlab.submissions.packing import Submission
from fdlab.transforms.references import BACKGROUNDS

METHOD, REDRAWN = "method", "pictures, drawn again"
_SAME_PIXELS = 2.0
"""By how much a picture drawn again may differ on average, in 255ths."""
_OF_WEIGHTS = ("training_steps", "people", "taught_by")
"""What a record says of a model, and the model's own folder too: marks rest on it."""


def row_of(
    found: Submission, made: Mapping[str, Any], known: Benchmark, words: Sequence[str], device: str
) -> Row | Claim:
    """The method that a record describes, of weights that ship or that `words`, overrides of the checker's
    own, name; or why there is none."""
    from fdlab.diffusion.settings import SamplerSettings

    sampler, background = made["method"].get("sampler"), made["method"].get("background")
    if not isinstance(sampler, Mapping) or not sampler:
        return Claim(METHOD, OPEN, "the record names no sampler")
    if any(isinstance(value, Mapping | list) for value in sampler.values()):
        return Claim(METHOD, FAILS, "its sampler has settings that are no plain values")
    try:
        SamplerSettings.from_mapping(sampler).check()
    except UserError as error:
        return Claim(METHOD, FAILS, str(error).rstrip("."))
    try:
        method = MethodSettings.read(compose(words, "evaluate"))
        behind = {"background": background} if background in BACKGROUNDS else {}
        method = replace(method, baselines=False, sampler=dict(sampler), **behind)
        rows = {row.name: row for row in standard(method, known, found.folder, device)}
    except UserError as error:
        return Claim(METHOD, OPEN, str(error).rstrip("."))
    row = rows.get(made["method"]["name"])
    if row is None:
        return Claim(METHOD, FAILS, f"its sampler draws no {shown(made['method']['name'])}")
    for kind in ("tdm", "sdm"):
        here, said = row.method.get(kind), made["method"].get(kind)
        if said and (here or {}).get("sha256") != said.get("sha256"):
            return Claim(METHOD, OPEN, f"the {kind.upper()} here is not the one that drew it")
    return row


def of_method(made: Mapping[str, Any], row: Row) -> Claim:
    """Whether a record says of its method what the weights here say of themselves."""
    said = made["method"]
    for key in ("backbone", "background", "reference_crop", "training_steps"):
        if key in row.method and said.get(key) != row.method[key]:
            return _differs(key, said.get(key), row.method[key])
    for kind in ("tdm", "sdm"):
        here = row.method.get(kind) or {}
        if here and not isinstance(said.get(kind), Mapping):
            return _differs(kind, said.get(kind), "weights")
        for key in _OF_WEIGHTS:
            if here and (said[kind].get(key) or None) != (here.get(key) or None):
                return _differs(f"{kind}.{key}", said[kind].get(key), here.get(key))
    return Claim(METHOD, HOLDS, "sampler, weights, their steps, teachers and people")


def _differs(what: str, said: Any, here: Any) -> Claim:
    return Claim(METHOD, FAILS, f"it says {what} {shown(said)}; here it is {shown(here)}")


def drawn_again(found: Submission, known: Benchmark, row: Row, num: int, seed: int) -> Claim:
    """A few pictures drawn again, in places that `seed` decides: whoever knew them could exchange the
    others."""
    todo = jobs.jobs(known)
    places = np.random.default_rng(seed).choice(len(todo), min(num, len(todo)), replace=False)
    chosen = [todo[n] for n in sorted(places)]
    images_BHW3 = row.make()(chosen)
    for job, image_HW3 in zip(chosen, images_BHW3, strict=True):
        path = found.folder / "images" / job.file
        if not path.is_file():
            return Claim(REDRAWN, FAILS, f"picture {job.file} is not there")
        packed_HW3 = read_image(path)
        if packed_HW3.shape != image_HW3.shape:
            return Claim(REDRAWN, FAILS, f"picture {job.id} is of another size")
        off = float(np.abs(packed_HW3.astype(float) - image_HW3.astype(float)).mean())
        if off > _SAME_PIXELS:
            return Claim(REDRAWN, FAILS, f"picture {job.id} differs by {off:.1f} of 255 on average")
    return Claim(REDRAWN, HOLDS, f"{len(chosen)} of {len(todo)}, chosen by --redraw-seed {seed}")
