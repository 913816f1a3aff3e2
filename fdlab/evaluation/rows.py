"""The rows of an evaluation's table: what the method is compared with, and the method itself, last.

A row knows how to make its method, and says which weights and how many training steps stand behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.assets import resolve
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.config.instantiate import class_of
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SHARED
from fdlab.errors import UserError
from fdlab.evaluation.generation import Method
from fdlab.files import sha256

if TYPE_CHECKING:
    from fdlab.models.backbone import Backbone

TRAINED_PARTS = ("unet", "image_encoder", "fusion")
LAID_OVER = (*TRAINED_PARTS, "scheduler")
"""A model's folder may say what its denoiser predicts; its other parts are the backbone's."""
TRAINING = "training.json"
"""In a model's folder: {"steps": optimiser steps behind it, ...}."""

SDM_ALONE = {"guider": "sdm", "base": "null"}
TEXT_ALONE = {"guider": "tdm"}
"""Baselines: standard guidance from the empty prompt, with the main sampler's scheduler, steps and scale."""


@dataclass(frozen=True)
class Weights:
    """Where a fine-tuned model's own parts lie."""

    name: str
    """shipped, base, this run, or a path."""
    folder: Path
    overrides: dict[str, Path]
    """Part -> folder, to lay over the backbone's."""

    def describe(self) -> dict[str, Any]:
        """The record's entry: digest of the parts, their origin, and the steps behind them (None where
        unknown)."""
        digest = sha256_of_parts(self.overrides)
        return {
            "sha256": digest,
            "source": self.name,
            "parts": sorted(self.overrides),
            "training_steps": self.steps,
        }

    @property
    def steps(self) -> int | None:
        for folder in (self.folder, self.folder.parent):
            path = folder / TRAINING
            if path.is_file():
                found = json.loads(path.read_text()).get("steps")
                return None if found is None else int(found)
        return None


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


def sha256_of_parts(parts: Mapping[str, Path]) -> str:
    """Digest over the parts' names and files."""
    import hashlib

    return hashlib.sha256(
        "".join(f"{part} {sha256(parts[part])}\n" for part in sorted(parts)).encode()
    ).hexdigest()


def weights(cfg: Any, kind: str, choice: str) -> Weights | None:
    """Find the weights that `choice` means for a "tdm", "sdm" or "base"; None where none ship.

    `choice` is shipped, base, or a folder: a model's, or a run's, whose model/ is taken. Raises: UserError.
    """
    from fdlab.models.backbone import part_folders

    if choice in ("shipped", "base"):
        given = cfg.backbone["base" if choice == "base" else kind]
        if given is None:
            if choice == "shipped":
                return None
            root = resolve(cfg.backbone.path)
            return Weights("base", root, {"unet": resolve(cfg.backbone.unet or root / "unet")})
        try:
            folder = resolve(given)
        except UserError:
            return None
        if not folder.is_dir():
            return None
        name = choice
    else:
        folder, name = Path(choice).expanduser(), str(choice)
        if (folder / "model").is_dir():
            folder = folder / "model"
    found = part_folders(folder)
    return Weights(name, folder, {part: path for part, path in found.items() if part in LAID_OVER})


def load(cfg: Any, found: Weights, kind: str, device: str) -> Backbone:
    """The backbone with a model's parts laid over it. Raises: UserError where a part is missing or does not
    fit."""
    from fdlab.models.backbone import load_backbone

    own = {part: cfg.backbone[part] for part in ("vae", "text_encoder", *TRAINED_PARTS) if cfg.backbone[part]}
    parts = ["vae", "text_encoder", "unet", "tokenizer", "scheduler"]
    parts += ["image_encoder", "fusion"] if kind == "sdm" else []
    overrides = {part: path for part, path in {**own, **found.overrides}.items() if part in parts}
    backbone = load_backbone(
        cfg.backbone.path, overrides, parts, name=cfg.backbone.name, image_size=cfg.backbone.image_size
    )
    return backbone.to(device)


def standard(cfg: Any, benchmark: Benchmark, run_dir: Path, device: str) -> list[Row]:
    """The table of a run: real renders, autoencoder, base, SDM as shipped, SDM of this run, and the sampler
    chosen.

    What the run trained is in `run_dir`/model; without it, `cfg.tdm` and `cfg.sdm` are measured as they are.
    Rows whose weights do not ship are left out; the main sampler's weights must be there. Raises: UserError.
    """
    sampler = plain(cfg.sampler)
    check_group_size(cfg, benchmark.subjects_per_picture)
    trained = trained_kind(cfg) if (run_dir / "model").is_dir() else None
    chosen = {kind: weights(cfg, kind, cfg[kind]) for kind in ("tdm", "sdm")}
    if trained:
        own = weights(cfg, trained, str(run_dir / "model"))
        assert own is not None
        chosen[trained] = Weights("this run", own.folder, own.overrides)
    needed = {kind: _needed(cfg, kind, chosen[kind]) for kind in guiders.needs(sampler["guider"])}
    main = _sampled(cfg, benchmark, main_name(sampler), main_label(sampler, needed), sampler, needed, device)
    if not cfg.benchmark.baselines:
        return [main]
    rows = ceilings(cfg, benchmark, device) if benchmark.real else []
    base = weights(cfg, "base", "base")
    if base is not None:
        text = baseline(sampler, TEXT_ALONE)
        rows.append(
            _sampled(cfg, benchmark, "base", "base, no reference", text, {"tdm": base}, device, shared=True)
        )
    if "sdm" in needed:
        shipped = weights(cfg, "sdm", "shipped")
        alone = baseline(sampler, SDM_ALONE)
        if shipped is not None and needed["sdm"].name != "shipped":
            models = {"sdm": shipped}
            rows.append(
                _sampled(cfg, benchmark, "sdm_shipped", "SDM shipped", alone, models, device, shared=True)
            )
        if sampler["guider"] != "sdm":
            models = {"sdm": needed["sdm"]}
            rows.append(_sampled(cfg, benchmark, "sdm", f"SDM {needed['sdm'].name}", alone, models, device))
    return [*rows, main]


def check_weights(cfg: Any) -> None:
    """Look for the weights that the sampler needs beside those that the run trains. Raises: UserError."""
    for kind in guiders.needs(cfg.sampler.guider):
        if kind != trained_kind(cfg):
            _needed(cfg, kind, weights(cfg, kind, cfg[kind]))


def check_group_size(cfg: Any, size: int) -> None:
    """That models can tell apart as many subjects as a benchmark draws together. Raises: UserError."""
    if "sdm" in guiders.needs(cfg.sampler.guider) and size > cfg.data.max_subjects:
        raise UserError(
            f"benchmark '{cfg.benchmark.name}' draws {size} subjects together; data.max_subjects is "
            f"{cfg.data.max_subjects}, as many as the models learnt to tell apart."
        )


def baseline(sampler: Mapping[str, Any], guider: Mapping[str, Any]) -> dict[str, Any]:
    """The main sampler's settings with another guider and its options."""
    return {**{key: sampler[key] for key in SHARED if key in sampler}, **guider}


def main_name(sampler: Mapping[str, Any]) -> str:
    """The main row's name: its guider's."""
    return str(sampler["guider"])


def main_label(sampler: Mapping[str, Any], models: Mapping[str, Weights]) -> str:
    """The main row as a person names it: `SNF: TDM shipped + SDM this run`."""
    parts = " + ".join(f"{kind.upper()} {found.name}" for kind, found in models.items())
    return parts if len(models) == 1 else f"{sampler['guider'].upper()}: {parts}"


def trained_kind(cfg: Any) -> str:
    """Which model an experiment trains: "sdm" or "tdm"."""
    return str(class_of(str(cfg.model._target_)).KIND)  # type: ignore[attr-defined]


def plain(node: Any) -> dict[str, Any]:
    """A configuration node as plain Python, without keys for building objects."""
    from omegaconf import OmegaConf

    found = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else dict(node)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if not str(key).startswith("_")}


def ceilings(cfg: Any, benchmark: Benchmark, device: str) -> list[Row]:
    """The benchmark's true pictures, and these through the autoencoder."""
    from fdlab.evaluation.methods import AutoencoderOnly, RealPictures

    def autoencoder() -> Method:
        from fdlab.models.backbone import load_backbone

        overrides = {"vae": cfg.backbone.vae} if cfg.backbone.vae else {}
        backbone = load_backbone(cfg.backbone.path, overrides, ("vae",), name=cfg.backbone.name)
        return AutoencoderOnly(benchmark, backbone.to(device), device)

    vae = resolve(cfg.backbone.vae or f"{cfg.backbone.path}/vae")
    common = {"backbone": cfg.backbone.name, "sampler": {}}
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


def _needed(cfg: Any, kind: str, found: Weights | None) -> Weights:
    if found is None:
        raise UserError(
            f"backbone '{cfg.backbone.name}' ships no {kind.upper()}; "
            f"give {kind}=FOLDER (a run of +exp={kind}), "
            f"or {kind}=base."
        )
    return found


def _sampled(
    cfg: Any,
    benchmark: Benchmark,
    name: str,
    label: str,
    sampler: Mapping[str, Any],
    models: Mapping[str, Weights],
    device: str,
    shared: bool = False,
) -> Row:
    def make() -> Method:
        from fdlab.evaluation.methods import Sampled

        loaded = {kind: load(cfg, found, kind, device) for kind, found in models.items()}
        return Sampled(
            benchmark,
            sampler,
            loaded.get("tdm"),
            loaded.get("sdm"),
            background=cfg.data.background,
            device=device,
        )

    described = {kind: found.describe() for kind, found in models.items()}
    counts = [(kind, entry["training_steps"]) for kind, entry in described.items()]
    steps = " + ".join(f"{'?' if count is None else format(count, ',')}" for _, count in counts)
    method = {
        "backbone": cfg.backbone.name,
        "sampler": dict(sampler),
        "training_steps": steps,
        "background": cfg.data.background,
        **described,
    }
    return Row(name, label, make, method, shared=shared)
