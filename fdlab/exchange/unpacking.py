"""A single file as a folder in diffusers' layout, made once: what everything else reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fdlab.assets import hub, resolve
from fdlab.diffusion.flow import FLOW
from fdlab.errors import UserError
from fdlab.exchange import ldm_configs
from fdlab.exchange.ldm_names import PROJECTION, V_MARK
from fdlab.exchange.single_file import (
    NAMES,
    OPENCLIP,
    SUFFIXES,
    TEXTS,
    THIRD,
    VAE,
    Kind,
    SingleFile,
    kind_of,
    look_into,
    prefixes,
)
from fdlab.files import fingerprint, whole_folder, write_json
from fdlab.lock import exclusive
from fdlab.models.backbone import INDEX, PIPELINE, PIPELINE_3, PIPELINE_XL, ZERO_EMPTY
from fdlab.models.family import check_family, check_title
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.parts import ROLES, TRANSFORMER, check_network, index_entry, save_part
from fdlab.models.tokenizer import load_tokenizer
from fdlab.progress import bar
from fdlab.weights.files import DIFFUSERS, TRANSFORMERS, check_finite, write_weights
from fdlab.weights.tensor_names import TEXT_LEVEL
from fdlab.weights.unreadable import not_there

VERSION = 1
"""Of what unpacking makes: another number makes it anew."""
VOCABULARY = ("vocab.json", "merges.txt")
_V_FROM = 768
"""Pixels from which Stable Diffusion 2 is taken for one that predicts v: those published of 512 predict
noise."""
_FAMILY: Mapping[Kind, str] = {"sd1": "sd15", "sd2": "sd15", "sdxl": "sdxl", "sd3": "sd3"}
_PIXELS: Mapping[Kind, int] = {"sd1": 512, "sd2": 512, "sdxl": 1024, "sd3": 1024}
"""A side of a picture, where nothing says it."""
_OPENCLIP_PAD = "!"
"""What fills a prompt up for OpenCLIP: its token 0."""
_PIPELINES: Mapping[Kind, Mapping[str, Any]] = {
    "sd1": PIPELINE,
    "sd2": PIPELINE,
    "sdxl": {**PIPELINE_XL, ZERO_EMPTY: True},
    "sd3": PIPELINE_3,
}
"""What model_index.json says beside the parts."""


def read_backbone(node: Mapping[str, Any], cache: Path | str) -> BackboneSettings:
    """Read `cfg.backbone`, with a folder in place of a single file: unpacked below `cache` once, and told so.

    Raises: UserError for a file that is no Stable Diffusion, and where the tokenizer's files are nowhere.
    """
    backbone = BackboneSettings.from_mapping(node)
    path = resolve(backbone.path)
    if path.suffix in SUFFIXES and not path.exists():
        raise not_there(backbone.path, "backbone.path=FOLDER in diffusers' layout, or a single file")
    if not path.is_file():
        if backbone.prediction_type is not None:
            raise UserError(
                f"backbone.prediction_type={backbone.prediction_type}: only a single file needs it;"
                f" of '{backbone.path}' the scheduler says what it predicts."
            )
        check_family(node, path)
        return backbone
    if path.suffix not in SUFFIXES:
        raise UserError(f"backbone.path={backbone.path}: a folder, or a file named {', '.join(SUFFIXES)}.")
    try:
        tokenizer = find_tokenizer(backbone.named.get("tokenizer"), path, backbone.own_image_encoder)
    except UserError:
        # What is no such file needs none.
        kind_of(look_into(path))
        raise
    size, stat = backbone.image_size or 0, path.stat()
    made_of = {
        "version": VERSION, "file": str(path.resolve()), "bytes": stat.st_size, "time": stat.st_mtime_ns,
        "tokenizer": str(tokenizer), "image_size": size, "prediction_type": backbone.prediction_type,
    }  # fmt: skip
    folder = Path(cache).expanduser() / "backbones" / f"{path.stem}-{fingerprint(made_of)[:12]}"
    with exclusive(folder.parent / f".{folder.name}.lock", is_passing=True):
        if not (folder / INDEX).is_file():
            file = look_into(path)
            kind = kind_of(file)
            check_title(str(node["name"]), _FAMILY[kind], f"backbone.path={backbone.path}")
            if not file.below(VAE) and "vae" not in backbone.named:
                raise UserError(f"'{path}' holds no autoencoder; give one as backbone.vae=FOLDER.")
            prediction = prediction_of(
                file, kind, size, backbone.prediction_type, "backbone.prediction_type="
            )
            is_sure = backbone.prediction_type or kind == "sd3"
            without = " without its T5" if file.below(THIRD) else ""
            print(f"'{path}': {NAMES[kind]}{without}, read as predicting {prediction}"
                  f"{'' if is_sure else ' (else: backbone.prediction_type=)'};"
                  f" being unpacked, once, into '{folder}'", file=sys.stderr, flush=True)  # fmt: skip
            unpack(file, folder, tokenizer, size, prediction)
    check_family(node, folder)
    named = {part: place for part, place in backbone.named.items() if part != "tokenizer"}
    return replace(backbone, path=str(folder), named=named, prediction_type=None)


def prediction_of(file: SingleFile, kind: Kind, image_size: int, said: str | None, option: str) -> str:
    """What a model of a kind predicts: as the user `said` by an `option`, else as `predicts` finds.

    Raises: UserError for what a kind never does.
    """
    if said and kind == "sd3":
        raise UserError(
            f"{option}{said}: '{file.path}' is Stable Diffusion 3, which predicts velocities alone."
        )
    return said or predicts(file, kind, image_size)


def predicts(file: SingleFile, kind: Kind, image_size: int) -> str:
    """What a model of a kind predicts, where the user does not say it: its weights do not show it, but some
    files are marked by an empty tensor."""
    if kind == "sd3":
        return FLOW
    marked = V_MARK in file.shapes
    return "v_prediction" if marked or (kind == "sd2" and image_size >= _V_FROM) else "epsilon"


def find_tokenizer(
    named: str | None, file: Path, image_encoder: str | None = None, option: str = "backbone.tokenizer="
) -> Path:
    """The folder of CLIP's vocabulary, which no single file holds: as named, else beside the file
    (tokenizer/), else with CLIP's image encoder, else in the hub's cache. `option` is how the user names it.

    Raises: UserError that says how to get it.
    """
    if named is not None:
        if not _has_vocabulary(resolve(named)):
            raise UserError(f"{option}{named}: no {' and '.join(VOCABULARY)} there.")
        return resolve(named)
    cached = hub.cached(hub.CLIP)
    places = [file.parent / "tokenizer", *([resolve(image_encoder)] if image_encoder else [])]
    for place in [*places, *([cached] if cached else [])]:
        if _has_vocabulary(place):
            return place
    patterns = " ".join(f"--include '{name}'" for name in (*VOCABULARY, "*token*.json"))
    raise UserError(
        f"'{file}' holds no tokenizer, as no single file does; give CLIP's as {option}FOLDER, or"
        f" get it: hf download {hub.CLIP} {patterns} --local-dir {file.parent / 'tokenizer'}."
    )


def _has_vocabulary(folder: Path) -> bool:
    files = {name for name in (*VOCABULARY, "tokenizer.json") if (folder / name).is_file()}
    return "tokenizer.json" in files or set(VOCABULARY) <= files


def unpack(
    file: SingleFile, folder: Path, tokenizer: Path, image_size: int, prediction_type: str, half: bool = False
) -> list[str]:
    """Write a file's parts as a folder in diffusers' layout, the whole folder or nothing; tells their names.

    Each tensor keeps its precision (`half`: fp16), and one part at a time is in memory. `image_size` 0: as
    models of its kind have it. Raises: UserError.
    """
    kind = kind_of(file)
    size = image_size or (_V_FROM if (kind, prediction_type) == ("sd2", "v_prediction") else _PIXELS[kind])
    config = ldm_configs.configs(file, kind, size, prediction_type)
    networks = [part for part in ("text_encoder", "text_encoder_2", "vae", "unet") if part in config]
    index: dict[str, Any] = dict(_PIPELINES[kind])
    with whole_folder(folder) as temporary, bar(f"unpacking {file.path.name}", 1 + len(networks)) as progress:
        small = {"scheduler": config["scheduler"]}
        small |= {
            part.replace("text_encoder", "tokenizer"): _tokenizer(tokenizer, config[part])
            for part in TEXTS[kind]
        }
        for part, value in small.items():
            save_part(temporary / part, part, value)
            index[part] = index_entry(part, value)
        progress.advance()
        for part in networks:
            name = TRANSFORMER if (part, kind) == ("unet", "sd3") else part
            state = converted(part, file, kind, config[part])
            write_json(temporary / name / "config.json", config[part])
            _check(part, temporary / name, state, file)
            is_text = ROLES.get(part, part) == "text_encoder"
            stem = TRANSFORMERS if is_text else DIFFUSERS
            write_weights(temporary / name / f"{stem}.safetensors", state, half)
            said = config[part]
            index[name] = (
                ["transformers", said["architectures"][0]] if is_text else ["diffusers", said["_class_name"]]
            )
            progress.advance()
        write_json(temporary / INDEX, index)
    return [*networks, *small]


def converted(part: str, file: SingleFile, kind: Kind, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A part's tensors by diffusers' names, through diffusers' own conversion.

    Raises: UserError where that leaves any out.
    """
    prefix = prefixes(kind)[part]
    names = [name for name in file.below(prefix) if not _is_no_weight(name, kind, config)]
    given = file.read(names)
    check_finite(given, file.path)
    try:
        state = _convert(part, given, kind, config)
    except KeyError as error:
        raise UserError(f"'{file.path}' is no whole {NAMES[kind]}: it lacks tensor {error}.") from error
    # Query, key and value are one in OpenCLIP and in Stable Diffusion 3's transformer.
    joined = (".in_proj_weight", ".in_proj_bias", ".qkv.weight", ".qkv.bias")
    parts = sum(3 if name.endswith(joined) else 1 for name in names)
    if len(state) != parts or any(tensor is None for tensor in state.values()):
        raise UserError(
            f"'{file.path}': of the {part}'s {parts} tensors {len(state)} have a place in diffusers' layout;"
            " it is of another architecture."
        )
    if kind == "sd3" and part == "text_encoder":
        # Its pooled embedding is not projected, says the original; transformers has no class without that.
        width = int(config["hidden_size"])
        state[PROJECTION] = torch.eye(width, dtype=next(iter(state.values())).dtype)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _convert(part: str, given: dict[str, Tensor], kind: Kind, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same from tensors."""
    from diffusers.loaders import single_file_utils as theirs

    prefix = prefixes(kind)[part]
    if part == "vae":
        return dict(theirs.convert_ldm_vae_checkpoint(given, config))
    if part == "unet" and kind == "sd3":
        return dict(theirs.convert_sd3_transformer_checkpoint_to_diffusers(given))
    if part == "unet":
        return dict(theirs.convert_ldm_unet_checkpoint(given, config))
    if prefix.endswith(OPENCLIP):
        width = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
        return dict(theirs.convert_open_clip_checkpoint(width, given, prefix))
    state = theirs.convert_ldm_clip_checkpoint(given, prefix)
    own = (TEXT_LEVEL, PROJECTION)
    return {name if name.startswith(own) else TEXT_LEVEL + name: tensor for name, tensor in state.items()}


def _is_no_weight(name: str, kind: Kind, config: Mapping[str, Any]) -> bool:
    """Of the tensors below a part's name: what no network of today has."""
    if kind == "sd3" and name == TEXTS["sd3"]["text_encoder"] + PROJECTION:
        return True
    if kind == "sd2" and name.startswith(TEXTS["sd2"]["text_encoder"]):
        last = f"{TEXTS['sd2']['text_encoder']}transformer.resblocks.{config.get('num_hidden_layers')}."
        if name.endswith(".text_projection") or name.startswith(last):
            return True
    return name.startswith(f"{VAE}loss.") or name.endswith(("position_ids", ".logit_scale", ".attn_mask"))


def _tokenizer(folder: Path, text: Mapping[str, Any]) -> Any:
    """CLIP's tokenizer, as the text encoder of a config was trained with it."""
    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = text["max_position_embeddings"]
    if text["hidden_act"] == "gelu":  # OpenCLIP's, whichever names it goes by
        tokenizer.pad_token = _OPENCLIP_PAD
    if len(tokenizer) > text["vocab_size"]:
        raise UserError(
            f"the tokenizer in '{folder}' has {len(tokenizer)} tokens, the text encoder only"
            f" {text['vocab_size']}; give CLIP's as backbone.tokenizer=FOLDER."
        )
    return tokenizer


def _check(part: str, folder: Path, state: Mapping[str, Tensor], file: SingleFile) -> None:
    try:
        check_network(part, folder, {}, state)
    except UserError as error:
        raise UserError(str(error).replace(str(folder), str(file.path))) from error
