"""The rows of an evaluation's table: what the method is compared with, and the method itself, last.

A row knows how to make its method, and says which weights and how many training steps stand behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.data.captions import parse, unseen
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SHARED, SamplerSettings
from fdlab.errors import UserError
from fdlab.evaluation.generation import Method
from fdlab.evaluation.settings import MethodSettings
from fdlab.files import sha256
from fdlab.models import finetuned
from fdlab.models.finetuned import BackboneSettings, Weights

SDM_ALONE = {"guider": "sdm", "base": "null"}
TEXT_ALONE = {"guider": "tdm"}
"""Baselines: standard guidance from the empty prompt, with the main sampler's scheduler, steps and scale."""


@dataclass(frozen=True)
class Row:
    """One method of the table."""

    name: str
    label: str
    make: Callable[[], Method]
    """Loads what the method needs; called once, when its turn comes."""
    method: Mapping[str, Any] = field(default_factory=dict)
    """The record's `method` entry without name and label."""
    is_real: bool = False
    """True pictures: no distance to themselves."""
    shared: bool = False
    """The pictures do not depend on the run: other runs may reuse them."""
    drawn_with: str = ""
    """Digest of what else decides the pictures: the backbone's shared parts."""


@dataclass(frozen=True)
class _Unlabelled:
    """A row that models draw, before it has its label."""

    name: str
    sampler: Mapping[str, Any]
    models: Mapping[str, Weights]
    label: str | None = None
    """None: made of models and guider."""
    shared: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the sampler, defaults included."""
        return SamplerSettings.from_mapping(self.sampler).as_dict()

    @property
    def digests(self) -> dict[str, str]:
        """Which weights, by their content."""
        return {kind: finetuned.sha256_of_parts(found.parts) for kind, found in self.models.items()}


def standard(method: MethodSettings, benchmark: Benchmark, run_dir: Path, device: str) -> list[Row]:
    """The table of a run: real renders, autoencoder, base, SDM as shipped, SDM of this run, and the sampler
    chosen.

    What the run trained is in `run_dir`/model; without it, the weights that `method` names are measured as
    they are.
    Rows whose weights do not ship are left out, and so are rows of the same weights and sampler as a later
    one; the main sampler's weights must be there. Raises: UserError.
    """
    sampler, backbone = method.sampler, method.backbone
    check_group_size(method, benchmark)
    trained = method.trained if (run_dir / "model").is_dir() else None
    needed = {}
    for kind in method.needs:
        own = kind == trained
        found = finetuned.need(backbone, kind, str(run_dir / "model") if own else method.weights[kind])
        needed[kind] = replace(found, name="this run") if own else found
    finetuned.check(backbone, needed)
    found_rows = [_Unlabelled(main_name(sampler), sampler, needed)]
    rows: list[Row] = []
    if method.baselines:
        rows = ceilings(backbone, benchmark, device) if benchmark.real else []
        compared = method.weights["sdm"] if trained == "sdm" else "shipped"
        start = method.init if trained == "sdm" else None
        found_rows = [*_baselines(backbone, sampler, needed, compared, start), *found_rows]
    distinct = _distinct(found_rows)
    labels = _labels(distinct)
    return rows + [
        _sampled(method, benchmark, row, label, device) for row, label in zip(distinct, labels, strict=True)
    ]


def _baselines(
    backbone: BackboneSettings,
    sampler: Mapping[str, Any],
    needed: Mapping[str, Weights],
    compared: str,
    start: str | None = None,
) -> list[_Unlabelled]:
    """What the method stands beside: the base, the SDM that the run began with, the SDM that `compared`
    names, and the method's SDM alone."""
    text, alone = baseline(sampler, TEXT_ALONE), baseline(sampler, SDM_ALONE)
    base = finetuned.need(backbone, "tdm", "base")
    rows = [_Unlabelled("base", text, {"tdm": base}, "base, no reference", shared=True)]
    if "sdm" in needed:
        if start not in (None, "shipped", "base", "scratch", compared):
            first = finetuned.find(backbone, "sdm", str(start), "init")
            if first is not None and finetuned.is_whole(backbone, "sdm", first):
                rows.append(
                    _Unlabelled("sdm_start", alone, {"sdm": replace(first, name="start")}, shared=True)
                )
        # A base has no fusion and draws nobody.
        other = finetuned.find(backbone, "sdm", compared) if compared != "base" else None
        if other is not None and needed["sdm"].name != compared:
            name = "sdm_shipped" if compared == "shipped" else "sdm_before"
            rows.append(_Unlabelled(name, alone, {"sdm": other}, shared=True))
        if sampler["guider"] != "sdm":
            rows.append(_Unlabelled("sdm", alone, {"sdm": needed["sdm"]}))
    return rows


def _distinct(rows: Sequence[_Unlabelled]) -> list[_Unlabelled]:
    """The same weights and sampler are one row, the last; the same weights have one name."""
    keys = [(row.settings, row.digests) for row in rows]
    words = {
        digest: row.models[kind].name
        for row in rows
        for kind, digest in row.digests.items()
        if row.models[kind].name in ("base", "shipped")
    }

    def named(row: _Unlabelled) -> _Unlabelled:
        names = {kind: words.get(row.digests[kind], found.name) for kind, found in row.models.items()}
        models = {kind: replace(found, name=names[kind]) for kind, found in row.models.items()}
        return replace(row, models=models)

    return [named(row) for i, row in enumerate(rows) if keys[i] not in keys[i + 1 :]]


def _labels(rows: Sequence[_Unlabelled]) -> list[str]:
    """A label a row, that says all in which rows of the table differ: guider, weights, the guider's
    options."""
    labels = []
    for row in rows:
        guider, options = row.settings["guider"], guiders.options(row.settings["guider"])
        alike = [other.settings for other in rows if other.settings["guider"] == guider]
        differing = [key for key in options if len({str(settings[key]) for settings in alike}) > 1]
        said = ", ".join(f"{key}={row.settings[key]}" for key in differing)
        labels.append((row.label or main_label(row.sampler, row.models)) + (f" ({said})" if said else ""))
    return labels


def check_weights(method: MethodSettings) -> None:
    """Look for the weights that the sampler needs beside those that the run trains, and whether they go
    together. Raises: UserError."""
    backbone, trained, predicts = method.backbone, method.trained, method.model.get("prediction_type")
    if trained in method.needs and predicts is None:
        init = method.init
        start = None if init == "scratch" else finetuned.need(backbone, trained, init, "init")
        predicts = finetuned.prediction_type(backbone, start)
    others = {kind: choice for kind, choice in method.weights.items() if kind in method.needs}
    compared = others.pop(trained, None)
    finetuned.need_all(backbone, others, predicts if trained in method.needs else None)
    if trained == "sdm" and compared not in (None, "shipped", "base"):
        finetuned.need_all(backbone, {"sdm": compared})


def check_group_size(method: MethodSettings, benchmark: Benchmark) -> None:
    """That models can tell apart as many subjects as a benchmark draws together. Raises: UserError."""
    size = benchmark.subjects_per_picture
    if "sdm" in method.needs and size > method.max_subjects:
        raise UserError(
            f"benchmark '{benchmark.name}' draws {size} subjects together; data.max_subjects is "
            f"{method.max_subjects}, as many as the models learnt to tell apart."
        )


def baseline(sampler: Mapping[str, Any], guider: Mapping[str, Any]) -> dict[str, Any]:
    """The main sampler's settings with another guider and its options."""
    return {**{key: sampler[key] for key in SHARED if key in sampler}, **guider}


def main_name(sampler: Mapping[str, Any]) -> str:
    """The main row's name: its guider's."""
    return str(sampler["guider"])


def main_label(sampler: Mapping[str, Any], models: Mapping[str, Weights]) -> str:
    """A row as a person names it: `SDM this run` where it draws alone, else `SNF: TDM base + SDM base`."""
    parts = " + ".join(f"{kind.upper()} {found.name}" for kind, found in models.items())
    return parts if sampler["guider"] in models else f"{sampler['guider'].upper()}: {parts}"


def ceilings(backbone: BackboneSettings, benchmark: Benchmark, device: str) -> list[Row]:
    """The benchmark's true pictures, and these through the autoencoder."""
    from fdlab.evaluation.methods import AutoencoderOnly, RealPictures

    def autoencoder() -> Method:
        return AutoencoderOnly(benchmark, finetuned.load(backbone, None, ("vae",), device), device)

    vae = backbone.folder("vae")
    common = {"backbone": backbone.name, "sampler": {}}
    folder = {"sha256": sha256(vae)} if vae.is_dir() else None
    return [
        Row(
            "real",
            "real renders",
            lambda: RealPictures(benchmark),
            {**common, "backbone": None},
            is_real=True,
            shared=True,
        ),
        Row("autoencoder", "autoencoder only", autoencoder, {**common, "vae": folder}, shared=True),
    ]


def _sampled(method: MethodSettings, benchmark: Benchmark, row: _Unlabelled, label: str, device: str) -> Row:
    backbone, background = method.backbone, method.background

    def make() -> Method:
        from fdlab.evaluation.methods import Sampled
        from fdlab.pipeline.artist import Artist

        settings = SamplerSettings.from_mapping(row.sampler)
        artist = Artist.load(backbone, row.models, settings, background=background, device=device)
        return Sampled(benchmark, artist)

    described = {kind: found.describe() for kind, found in row.models.items()}
    counts = [found["training_steps"] for found in described.values()]
    steps = " + ".join("?" if count is None else format(count, ",") for count in counts)
    entry = {
        "backbone": backbone.name,
        "sampler": dict(row.sampler),
        "training_steps": steps,
        "background": background,
        **described,
    }
    if backbone.reference_crop != "person" and "sdm" in row.models:
        entry["reference_crop"] = backbone.reference_crop
    left_out = _left_out(backbone, benchmark)
    if left_out:
        entry["prompts_left_out"] = left_out
    drawn_with = finetuned.sha256_of_parts(backbone.shared_parts())
    return Row(row.name, label, make, entry, shared=row.shared, drawn_with=drawn_with)


def _left_out(backbone: BackboneSettings, benchmark: Benchmark) -> dict[str, str]:
    """Prompt -> what of it lies past the text encoder's last token, for those that are too long."""
    tokenizer = finetuned.load(backbone, None, ("tokenizer",)).tokenizer
    prompts = dict.fromkeys(prompt.of(group) for group, prompt, _ in benchmark.cells())
    found = {prompt: unseen(tokenizer, parse(prompt)[0]) for prompt in prompts}
    return {prompt: cut for prompt, cut in found.items() if cut}
