"""Checkpoints from elsewhere: the flat files of Face-diffuser and FastComposer, and diffusers folders of
pickled weights.

Both projects saved one flat state dict of their whole module, `pytorch_model.bin`. Only tensors are ever
unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from fdlab.assets import hub, resolve
from fdlab.errors import UserError
from fdlab.exchange.single_file import WRAPPED
from fdlab.files import whole
from fdlab.models.backbone import OPTIONAL, Backbone, check_fit, missing_part
from fdlab.models.fusion import SubjectFusion
from fdlab.models.parts import NETWORKS, load_network, load_part
from fdlab.weights import formats
from fdlab.weights.eight_bits import unrounded
from fdlab.weights.files import (
    DIFFUSERS,
    TRANSFORMERS,
    check_finite,
    fill,
    flat_state,
    hold,
    read_pickled,
    read_stored,
    read_weights,
    write_weights,
)
from fdlab.weights.tensor_names import TEXT_LEVEL, modern, old_attention
from fdlab.weights.unreadable import not_there

PREFIXES = {
    "vae": "vae.",
    "text_encoder": "text_encoder.",
    "image_encoder": "image_encoder.",
    "unet": "unet.",
    "fusion": "postfuse_module.",
}
"""Part -> how its tensors begin in a released file."""

_POSITION_IDS = {
    "text_encoder.embeddings.position_embedding.weight": "text_encoder.embeddings.position_ids",
    "image_encoder.vision_model.embeddings.position_embedding.weight": (
        "image_encoder.vision_model.embeddings.position_ids"
    ),
}
_SHOWN = 4
"""Names of tensors that are said."""
_CLIP_HEAD = 64
"""Channels a head in every published CLIP vision tower; a state dict does not tell."""


def read_flat(file: Path | str) -> dict[str, Tensor]:
    """Tensors of one file, pickled (nothing but tensors is unpickled) or safetensors.

    Raises: UserError when it is missing, corrupt, or holds more than tensors.
    """
    path = resolve(file)
    if not path.exists():
        raise not_there(file)
    if path.suffix == ".safetensors":
        return read_weights(path)
    return flat_state(read_pickled(path), file)


def split(state: Mapping[str, Tensor], source: Path | str = "checkpoint") -> dict[str, dict[str, Tensor]]:
    """A released flat state dict by part. Raises: UserError for a tensor of no known part."""
    parts: dict[str, dict[str, Tensor]] = {}
    if all(name.startswith(WRAPPED) for name in state):
        state = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        part = next((part for part, prefix in PREFIXES.items() if name.startswith(prefix)), None)
        if part is None:
            known = ", ".join(PREFIXES.values())
            raise UserError(f"'{source}': tensor '{name}' belongs to no part; a released file has {known}.")
        parts.setdefault(part, {})[name.removeprefix(PREFIXES[part])] = tensor
    return parts


def check_released(parts: Iterable[str]) -> None:
    """Raise UserError for a part that the released code does not have."""
    for part in parts:
        if part not in PREFIXES:
            raise UserError(f"the released layout is Stable Diffusion 1.5's, and has no {part}.")


def join(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Parts under today's names to the released flat names: the inverse of `split` and of loading. Raises:
    UserError for a part that the released code does not have."""
    check_released(parts)
    flat: dict[str, Tensor] = {}
    for part, state in parts.items():
        for name, tensor in state.items():
            old = name.removeprefix(TEXT_LEVEL) if part == "text_encoder" else name
            flat[PREFIXES[part] + (old_attention(old) if part == "vae" else old)] = tensor
    for weight, ids in _POSITION_IDS.items():
        if weight in flat:
            flat[ids] = torch.arange(flat[weight].shape[0])[None]
    return flat


def import_released(
    file: Path | str,
    base: Path | str,
    image_encoder: Path | str | None = None,
    name: str = "imported",
    to_write: bool = False,
    told: list[str] | None = None,
) -> Backbone:
    """Turn a released `pytorch_model.bin` into a backbone; save it with `save_backbone`.

    `base` is a Stable Diffusion 1.5 folder: the file holds no configs, tokenizer or scheduler, so they are
    taken from there, as are parts that the file lacks. The image encoder's config comes from `image_encoder`,
    else from `base`, else from the tensors' shapes. `to_write` as in `load_network`; `told` gets what became
    of every tensor, in lines. Raises: UserError.
    """
    root = resolve(base)
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        get = f" (get it: {hub.how_to_get(str(base))})" if hub.is_id(str(base)) else ""
        raise UserError(
            f"base folder '{base}' {what}; a Stable Diffusion 1.5 folder in diffusers' layout is needed{get}."
        )
    index = formats.read_index(root)
    parts = split(read_flat(file), file)
    backbone = Backbone(name=name)
    for part in ("tokenizer", "scheduler"):
        if not (root / part).is_dir():
            raise missing_part(part, root)
        setattr(backbone, "scheduler_config" if part == "scheduler" else part, load_part(part, root / part))
    for part in NETWORKS:
        folder = root / part
        if part == "image_encoder" and image_encoder:
            folder = _encoder_folder(image_encoder)
        state = parts.get(part)
        configured = (folder / "config.json").is_file()
        if state is not None and not configured and part in OPTIONAL:
            with torch.device("meta") if to_write else nullcontext():
                network = _from_shapes(part, state)
            (hold if to_write else fill)(network, state, file)
            setattr(backbone, part, network.eval().requires_grad_(False))
        elif configured:
            wrong = (
                None if state is None else f"'{file}' does not fit '{folder / 'config.json'}' in its {part}"
            )
            setattr(backbone, part, load_network(part, folder, index, state, to_write, wrong))
        elif part not in OPTIONAL:
            raise missing_part(part, root)
    check_fit(backbone)
    if told is not None:
        told += _account(file, base, parts, backbone)
    return backbone


def _encoder_folder(given: Path | str) -> Path:
    """The folder of an image encoder's config, or the one above it. Raises: UserError."""
    for folder in (resolve(given), resolve(given) / "image_encoder"):
        if (folder / "config.json").is_file():
            return folder
    raise UserError(f"--image-encoder {given}: there is no config.json of an image encoder.")


def _account(
    file: Path | str, base: Path | str, parts: Mapping[str, Mapping[str, Tensor]], backbone: Backbone
) -> list[str]:
    """What became of every tensor of a file, and what is not of it."""
    networks, lines, dropped = backbone.networks(), [], []
    for part, state in parts.items():
        own = networks[part].state_dict().keys()
        unused = [name for name in state if not modern({name: state[name]}, own)]
        lines.append(f"{part}: {len(state) - len(unused):,} tensors of '{file}'")
        dropped += [PREFIXES[part] + name for name in unused]
    others = [part for part in (*networks, "tokenizer", "scheduler") if part not in parts]
    lines.append(f"{', '.join(others)}: not in it; those of '{base}'")
    if dropped:
        more = f" and {len(dropped) - _SHOWN:,} more" if len(dropped) > _SHOWN else ""
        lines.append(f"left out, as nothing needs them today: {', '.join(dropped[:_SHOWN])}{more}")
    return lines


def _from_shapes(part: str, state: Mapping[str, Tensor]) -> torch.nn.Module:
    """An untrained fusion or image encoder of the size that the tensors show."""

    def shape(name: str, num: int) -> tuple[int, ...]:
        found = tuple(state[name].shape) if name in state else ()
        if len(found) != num or not all(0 < length <= formats.WIDEST for length in found):
            said = f"has '{name}' {found}" if name in state else f"lacks tensor '{name}'"
            raise UserError(f"the checkpoint's {part} {said}; it is of another architecture.")
        return found

    if part == "fusion":
        (width,), (both,) = shape("layer_norm.weight", 1), shape("mlp1.layernorm.weight", 1)
        if both <= width:
            raise UserError(f"the checkpoint's {part} takes {both} of {width}: of another architecture.")
        return SubjectFusion(width, both - width)
    patch = shape("vision_model.embeddings.patch_embedding.weight", 4)
    positions = shape("vision_model.embeddings.position_embedding.weight", 2)[0]
    intermediate = shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0]
    projection = shape("visual_projection.weight", 2)[0]
    if patch[0] % _CLIP_HEAD:
        raise UserError(
            f"the image encoder's width {patch[0]} is no CLIP's; give its config with --image-encoder FOLDER."
        )
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    before = "vision_model.encoder.layers."
    layers = {name.removeprefix(before).partition(".")[0] for name in state if name.startswith(before)}
    config = CLIPVisionConfig(
        hidden_size=patch[0],
        intermediate_size=intermediate,
        projection_dim=projection,
        num_hidden_layers=len(layers),
        num_attention_heads=patch[0] // _CLIP_HEAD,
        image_size=patch[-1] * isqrt(positions - 1),
        patch_size=patch[-1],
    )
    with torch.random.fork_rng(devices=[]):
        return CLIPVisionModelWithProjection(config)


def import_folder(folder: Path | str, name: str = "imported", to_write: bool = False) -> Backbone:
    """Read a diffusers folder whose weights are pickled (`*.bin`), safetensors where there are any;
    `to_write` as in `load_network`. Raises: UserError."""
    root = resolve(folder)
    index = formats.read_index(root)
    backbone = Backbone(name=name)
    for part in ("tokenizer", "scheduler"):
        if (root / part).is_dir():
            setattr(
                backbone, "scheduler_config" if part == "scheduler" else part, load_part(part, root / part)
            )
    for part in NETWORKS:
        if (root / part / "config.json").is_file():
            state = any_weights(root / part, part)
            setattr(backbone, part, load_network(part, root / part, index, state, to_write))
    if not backbone.networks():
        raise UserError(
            f"'{folder}' holds no part of a model; expected folders such as {', '.join(NETWORKS)}."
        )
    check_fit(backbone)
    return backbone


def any_weights(folder: Path, part: str) -> dict[str, Tensor]:
    """A part's tensors, pickled or safetensors, eight bits undone. Raises: UserError."""
    return unrounded(as_stored(folder, part))


def as_stored(folder: Path, part: str) -> dict[str, Tensor]:
    """The same as the files have them, eight bits and their scales included. Raises: UserError."""
    # transformers calls its pickled weights pytorch_model, its safetensors model.
    for stem in (DIFFUSERS, f"pytorch_{TRANSFORMERS}"):
        for variant in ("", ".fp16"):
            if (file := folder / f"{stem}{variant}.bin").is_file():
                return read_flat(file)
    return read_stored(folder, part)


def export_released(file: Path | str, backbone: Backbone) -> None:
    """Write a backbone as a released flat file: safetensors if `file` is named so, else as `torch.save`
    does."""
    flat = join({part: network.state_dict() for part, network in backbone.networks().items()})
    if Path(file).suffix == ".safetensors":
        write_weights(Path(file), flat)
        return
    check_finite(flat, file)
    # Through Python's stream, since torch's own writer does not say that the disk is full.
    with whole(file) as temporary, temporary.open("wb") as stream:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in flat.items()}, stream)
