"""Fine-tuned weights: found, described, counted and loaded alike for training, evaluation, sampling, demo.

Where a part is read from, everywhere: the folder that the user names (backbone.unet=FOLDER and its like),
else the model's own, else the backbone's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdlab.assets import resolve
from fdlab.diffusion.flow import predicts
from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.models.backbone import Backbone, load_backbone, missing_part, part_folders
from fdlab.models.family import check_denoiser
from fdlab.models.parts import PARTS as ALL
from fdlab.models.parts import SECOND, folder_of, load_part
from fdlab.weights import formats
from fdlab.weights.lora_files import PARTS as LORA_PARTS
from fdlab.weights.lora_files import LoraChoice
from fdlab.weights.lora_files import apply as merge_all

FACTS = "training.json"
"""Beside a model's parts: {"steps": optimiser steps behind it, "kind": tdm or sdm, ...}."""
COMMON = ("vae", "text_encoder", "unet", "tokenizer", "scheduler")
PARTS = {"tdm": COMMON, "sdm": (*COMMON, "image_encoder", "fusion")}
"""What a model of a kind is made of; second text encoders and tokenizers come with the first."""
SHARED = ("vae", "text_encoder", "text_encoder_2", "image_encoder", "tokenizer", "tokenizer_2")
"""Parts that are the backbone's, unless a model brings its own."""


@dataclass(frozen=True)
class BackboneSettings:
    """conf/backbone, as far as weights are concerned."""

    name: str
    path: str
    shipped: Mapping[str, str] = field(default_factory=dict)
    """`tdm`, `sdm` and `base`: the folders of those that ship."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Part -> folder that the user names, which wins over every model's own."""
    own_image_encoder: str | None = None
    """The backbone's image encoder, where it does not lie in `path`."""
    image_size: int | None = None
    reference_crop: str = "person"
    """What a reference shows: the person, or the head alone."""
    prediction_type: str | None = None
    """What a single file predicts, which says nothing of it itself."""
    loras: tuple[LoraChoice, ...] = ()
    """Files merged into the backbone's own denoiser and text encoder; a model's own is as it was trained."""

    @classmethod
    def from_mapping(cls, node: Mapping[str, Any]) -> BackboneSettings:
        """Read `cfg.backbone`."""
        return cls(
            name=str(node["name"]),
            path=str(node["path"]),
            shipped={kind: str(node[kind]) for kind in ("tdm", "sdm", "base") if node.get(kind)},
            named={part: str(node[part]) for part in ALL if part != "scheduler" and node.get(part)},
            own_image_encoder=node.get("own_image_encoder"),
            image_size=node.get("image_size"),
            reference_crop=str(node.get("reference_crop", "person")),
            prediction_type=node.get("prediction_type"),
            loras=tuple(LoraChoice.read(each) for each in node.get("loras") or ()),
        )

    def overrides(self, own: Mapping[str, Path] | None = None) -> dict[str, Path | str]:
        """Part -> folder to take in place of that in `path`, for a model with `own` parts: the one
        precedence."""
        backbones = {"image_encoder": self.own_image_encoder} if self.own_image_encoder else {}
        return {**backbones, **(own or {}), **self.named}

    def folder(self, part: str, own: Mapping[str, Path] | None = None) -> Path:
        """Where a part is read from."""
        chosen = self.overrides(own).get(part)
        # Not resolve(path/part): of what ships, a part that is not there is an error, and here a question.
        return resolve(chosen) if chosen else folder_of(resolve(self.path), part)

    def merged_into(self, folders: Mapping[str, Path]) -> list[str]:
        """Of parts read from `folders`, those that are the backbone's own, and so get its LoRA files."""
        own = {part: self.folder(part) for part in LORA_PARTS} if self.loras else {}
        return [part for part, folder in own.items() if folders.get(part) == folder]

    def shared_parts(self) -> dict[str, Path]:
        """Parts that decide pictures beside a model's own, as far as they are there."""
        folders = {part: self.folder(part) for part in SHARED}
        return {part: folder for part, folder in folders.items() if folder.is_dir()}


@dataclass(frozen=True)
class Weights:
    """A model of a kind, found but not loaded."""

    name: str
    """shipped, base, this run, or a path."""
    folder: Path
    parts: dict[str, Path]
    """Part -> folder: the model's own, and those named in their place."""
    loras: tuple[LoraChoice, ...] = ()
    """Files merged into what of it is the backbone's."""

    def describe(self) -> dict[str, Any]:
        """A record's entry: digest of the parts, their origin, and the steps behind them (None where
        unknown)."""
        told: dict[str, Any] = {
            "sha256": sha256_of_parts(self.parts),
            "source": self.name,
            "parts": sorted(self.parts),
            "training_steps": self.steps,
        }
        if self.loras:
            told["loras"] = [{"sha256": sha256(each.path), "weight": each.weight} for each in self.loras]
        known = facts(self.folder)
        more = ("pictures_a_step", "lr", "text_encoder_lr", "prior_weight", "taught_by", "people")
        return told | {key: known[key] for key in more if known.get(key)}

    @property
    def steps(self) -> int | None:
        """Optimiser steps behind the weights; None where nothing says so."""
        return facts(self.folder).get("steps")

    @property
    def taught_by(self) -> tuple[str, ...]:
        """Recognisers whose opinion these weights were trained for."""
        return tuple(facts(self.folder).get("taught_by") or ())

    @property
    def people(self) -> tuple[dict[str, Any], ...]:
        """Whom these weights were shown in training, as far as that is known; see `data.whom`."""
        return tuple(facts(self.folder).get("people") or ())


def facts(folder: Path) -> dict[str, Any]:
    """What training.json says of a model's folder; empty where there is none. Raises: UserError."""
    file = folder / FACTS
    return formats.read(file, formats.TRAINING) if file.exists() else {}


def sha256_of_parts(parts: Mapping[str, Path]) -> str:
    """Digest over the parts' names and files."""
    lines = "".join(f"{part} {sha256(parts[part])}\n" for part in sorted(parts))
    return hashlib.sha256(lines.encode()).hexdigest()


def find(backbone: BackboneSettings, kind: str, choice: str, option: str | None = None) -> Weights | None:
    """The weights that `choice` means for a `kind` "tdm" or "sdm"; None where it is shipped, and none ship.

    `choice` is shipped, base, or a folder: a model's, or a run's, whose model/ is taken. `option` is how the
    user said it (`tdm=`, `init=`), for errors. Raises: UserError for a folder that is missing or of the wrong
    kind.
    """
    if choice in ("shipped", "base"):
        given = backbone.shipped.get("base" if choice == "base" else kind)
        if given is not None:
            return _with_named(backbone, kind, choice, resolve(given), part_folders(given))
        if choice == "shipped":
            return None
        own = {"unet": backbone.folder("unet")}
        return _with_named(backbone, kind, choice, resolve(backbone.path), own)
    folder = model_folder(choice)
    own = part_folders(folder)
    said = facts(folder).get("kind")
    # A base is trained as a TDM is: an SDM may well begin there.
    if said is not None and said != kind and not (option == "init" and said == "tdm"):
        raise UserError(
            f"{option or kind}={choice}: these are the weights of a {said.upper()}, says '{folder / FACTS}';"
            f" a {kind.upper()}'s are needed here."
        )
    return _with_named(backbone, kind, str(choice), folder, own)


def model_folder(choice: Path | str) -> Path:
    """The folder of a model: of a run's folder its model/. Raises: UserError for a run that has none yet."""
    folder = resolve(choice)
    if (folder / "model").is_dir():
        return folder / "model"
    if (folder / "checkpoints").is_dir():
        raise UserError(f"'{folder}' is a run whose training has not ended: it has no model/ yet.")
    return folder


def need(backbone: BackboneSettings, kind: str, choice: str, option: str | None = None) -> Weights:
    """The same, which must be there. Raises: UserError that says how to get them."""
    found = find(backbone, kind, choice, option)
    if found is None:
        option = option or kind
        base = find(backbone, kind, "base")
        # A training makes the fusion that it does not find.
        lacking = [] if base is None else _lacking(backbone, kind, base)
        works = all(part == "fusion" and option == "init" for part in lacking)
        raise UserError(
            f"backbone '{backbone.name}' ships no {kind.upper()};"
            f" give {option}=FOLDER (a run of +exp={kind}){f', or {option}=base' if works else ''}."
        )
    return found


def need_all(
    backbone: BackboneSettings, choices: Mapping[str, str], predicts: str | None = None
) -> dict[str, Weights]:
    """The weights that `choices` (kind -> choice) mean, with all their parts, and which go together. Raises:
    UserError."""
    found = {kind: need(backbone, kind, choice) for kind, choice in choices.items()}
    check(backbone, found, predicts)
    return found


def check(backbone: BackboneSettings, models: Mapping[str, Weights], predicts: str | None = None) -> None:
    """That models are of the backbone's family, have all their parts and predict the same (and as another
    model, which `predicts` that).

    `models`: kind -> weights. Raises: UserError, before anything is loaded.
    """
    kinds = {predicts} if predicts else set()
    for kind, found in models.items():
        if "unet" in found.parts:
            own = backbone.folder("unet")
            check_denoiser(backbone.name, found.parts["unet"], f"{kind}={found.name}", own)
        for part in _lacking(backbone, kind, found):
            raise missing_part(part, found.folder)
        kinds.add(prediction_type(backbone, found))
    if len(kinds) > 1:
        raise UserError(
            f"TDM and SDM predict different things ({', '.join(sorted(kinds))}); they cannot be fused."
        )


def is_whole(backbone: BackboneSettings, kind: str, found: Weights) -> bool:
    """Whether a model has all parts that drawing needs: a training makes a fusion that its start lacks."""
    return not _lacking(backbone, kind, found)


def _lacking(backbone: BackboneSettings, kind: str, found: Weights) -> list[str]:
    return [part for part in PARTS[kind] if not backbone.folder(part, found.parts).is_dir()]


def prediction_type(backbone: BackboneSettings, found: Weights | None) -> str:
    """What a model (None: the plain backbone) predicts, as its scheduler says. Raises: UserError."""
    config = load_part("scheduler", backbone.folder("scheduler", found.parts if found else None))
    return predicts(config)


def load(
    backbone: BackboneSettings, found: Weights | None, parts: Iterable[str], device: str = "cpu"
) -> Backbone:
    """Those `parts` of a model (None: of the plain backbone), each from where it counts. Raises: UserError
    where one is missing or does not fit."""
    wanted = tuple(parts)
    taken = {*wanted, *(SECOND[part] for part in wanted if part in SECOND)}
    overrides = backbone.overrides(found.parts if found else None)
    loaded = load_backbone(
        backbone.path,
        {part: folder for part, folder in overrides.items() if part in taken},
        wanted,
        name=backbone.name,
        image_size=backbone.image_size,
    )
    merge_all(backbone.loras, {part: getattr(loaded, part) for part in backbone.merged_into(loaded.folders)})
    loaded.reference_crop = backbone.reference_crop
    return loaded.to(device)


def _with_named(
    backbone: BackboneSettings, kind: str, name: str, folder: Path, own: Mapping[str, Path]
) -> Weights:
    known = {*PARTS[kind], *SECOND.values()}
    named = {part: resolve(path) for part, path in backbone.named.items() if part in known}
    return Weights(name, folder, {**own, **named}, backbone.loras)
