"""A backbone: Stable Diffusion's parts, from a folder in diffusers' layout, each replaceable by another
folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fdlab.assets import hub, resolve
from fdlab.data.latents import spatial_factor
from fdlab.errors import UserError, unknown
from fdlab.files import whole_folder, write_json, write_text
from fdlab.models.denoiser import grid_step, is_transformer, is_xl, pooled_width
from fdlab.models.parts import (
    NETWORKS,
    PARTS,
    SECOND,
    folder_name,
    folder_of,
    index_entry,
    load_part,
    save_part,
)
from fdlab.models.text_pair import TextPair, is_projected
from fdlab.weights import formats
from fdlab.weights.files import PICKLED, refuse_pickle

if TYPE_CHECKING:
    import torch

ALL = PARTS
OPTIONAL = ("image_encoder", "fusion", *SECOND.values())
"""Parts that a plain Stable Diffusion folder does not have; None then, unless asked for by name."""

INDEX = "model_index.json"
PIPELINE: Mapping[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}
"""What it says beside the parts, so that plain diffusers asks for no more than is there."""
PIPELINE_XL: Mapping[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "feature_extractor": [None, None],
}
PIPELINE_3: Mapping[str, Any] = {
    "_class_name": "StableDiffusion3Pipeline",
    "text_encoder_3": [None, None],
    "tokenizer_3": [None, None],
    "image_encoder": [None, None],
    "feature_extractor": [None, None],
}
ZERO_EMPTY = "force_zeros_for_empty_prompt"
"""How Stable Diffusion XL's index says that the empty prompt is all zeros."""
_HOW_TO_GET = {
    "image_encoder": "give a folder of CLIP's image encoder (for Stable Diffusion 1.5: ViT-L/14) as"
    f" backbone.image_encoder=FOLDER, or get it: {hub.how_to_get(hub.CLIP_FOLDER)}",
    "fusion": "a subject-augmented model has one: fine-tune it (+exp=sdm), or import a released one with"
    " `python -m fdlab checkpoint import`",
    "scheduler": "copy the whole folder again",
}


@dataclass
class Backbone:
    """The parts that were asked for; None for the others. Networks are frozen, in evaluation mode, fp32."""

    name: str
    vae: Any = None
    text_encoder: Any = None
    text_encoder_2: Any = None
    image_encoder: Any = None
    unet: Any = None
    fusion: Any = None
    tokenizer: Any = None
    tokenizer_2: Any = None
    scheduler_config: dict[str, Any] | None = None
    image_size: int = 0
    """Pixels a side, 0 where no part tells it."""
    latent_shape_CHW: tuple[int, int, int] = (0, 0, 0)
    reference_crop: str = "person"
    """What of a reference the image encoder sees: the person, or the head alone."""
    zero_empty_prompt: bool = False
    """Whether the empty prompt's embedding is all zeros: Stable Diffusion XL's."""
    folders: dict[str, Path] = field(default_factory=dict)
    """Where each part was read from."""
    brought: tuple[str, ...] = ()
    """Text encoders that are not the backbone's but the weights' own: what learns beside them needs them."""

    def networks(self) -> dict[str, nn.Module]:
        """The networks that are there, by part."""
        return {part: getattr(self, part) for part in NETWORKS if getattr(self, part) is not None}

    def need(self, part: str) -> Any:
        """A part that must be there. Raises: UserError that says how to get it."""
        value = self.scheduler_config if part == "scheduler" else getattr(self, part, None)
        if value is None:
            raise missing_part(part, self.folders.get(part) or f"backbone {self.name}")
        return value

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Backbone:
        """Move all networks, in place."""
        # diffusers warns about any dtype that it is handed, None as well.
        target = {"device": device} if dtype is None else {"device": device, "dtype": dtype}
        for network in self.networks().values():
            network.to(**target)
        return self

    def tell_unet_its_size(self) -> None:
        """Write the latents' size into the UNet's config, where whoever draws or saves it looks."""
        side = self.latent_shape_CHW[1]
        if self.unet is not None and side and self.unet.config.sample_size not in (side, [side, side]):
            self.unet.register_to_config(sample_size=side)

    @property
    def text(self) -> Any:
        """What embeds token ids: the text encoder, or a `TextPair`. Raises: UserError for a missing part."""
        first = self.need("text_encoder")
        if self.text_encoder_2 is None:
            return first
        ids = self.need("tokenizer").eos_token_id, self.need("tokenizer_2").pad_token_id
        return TextPair(first, self.text_encoder_2, *ids, self.zero_empty_prompt)

    @property
    def text_encoders(self) -> dict[str, Any]:
        """The text encoders that are there, by part."""
        found = {part: getattr(self, part) for part in ("text_encoder", SECOND["text_encoder"])}
        return {part: encoder for part, encoder in found.items() if encoder is not None}

    @property
    def text_width(self) -> int:
        """Width of a token's embedding."""
        second = self.text_encoder_2.config.hidden_size if self.text_encoder_2 is not None else 0
        return int(self.need("text_encoder").config.hidden_size + second)

    @property
    def max_tokens(self) -> int:
        """Tokens a prompt may have, ends included."""
        config = self.text_encoder.config if self.text_encoder is not None else None
        limits = [self.tokenizer.model_max_length] if self.tokenizer is not None else []
        limits += [config.max_position_embeddings] if config is not None else []
        return min(limits, default=0)

    @property
    def reference_size(self) -> int:
        """Pixels a side of a reference picture."""
        return int(self.need("image_encoder").config.image_size)


def missing_part(part: str, where: Path | str) -> UserError:
    """Make the error for a part that is not there: which, where it was looked for, how to get it."""
    hint = _HOW_TO_GET.get(part, f"copy the whole folder again, or give another as backbone.{part}=FOLDER")
    return UserError(f"no {part} in '{where}'{hub.how_to_complete(where) or f'; {hint}'}.")


def part_folders(folder: Path | str) -> dict[str, Path]:
    """Parts that lie below a folder, as `overrides` takes them: `asset:nano/sdm` -> unet, image_encoder,
    fusion.

    Raises: UserError when the folder is missing or holds no part.
    """
    root = _existing(folder)
    found = {part: folder_of(root, part) for part in PARTS if folder_of(root, part).is_dir()}
    both = [name for name in ("tdm_unet", "sdm_unet") if (root / name).is_dir()]
    if both and "unet" not in found:
        raise UserError(
            f"'{folder}' is a pipeline's folder ({', '.join(both)}), which FaceDiffuserPipeline reads alone;"
            " give a run's folder, or a model's, which has a unet."
        )
    if not found:
        raise UserError(
            f"'{folder}' holds no part of a model; expected folders such as {', '.join(NETWORKS)}"
            f"{hub.how_to_complete(root)}."
        )
    return found


def load_backbone(
    folder: Path | str,
    overrides: Mapping[str, Path | str | None] | None = None,
    parts: Iterable[str] = ALL,
    *,
    name: str | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Read a backbone from diffusers' folder layout: safetensors only, fp16 or fp32 on disk, fp32 in memory.

    A second text encoder and tokenizer come with the first ones, where they are there. `overrides` gives
    parts folders of their own (None: not overridden); both take `asset:NAME` for what
    ships. `parts` are those to read: of ALL, an absent image encoder or fusion is None; a part asked for by
    name must be there. `image_size` in pixels replaces the size the UNet was made for.
    Raises: UserError for a folder or part that is missing, weights that are not safetensors or corrupt, a
    class or architecture that is not what it should be, and parts that do not fit each other.
    """
    wanted = tuple(dict.fromkeys(parts))
    given = {part: path for part, path in (overrides or {}).items() if path is not None}
    for part in (*wanted, *given):
        if part not in PARTS:
            raise unknown("part of a backbone", part, PARTS)
    root = _existing(folder)
    index = formats.read_index(root)
    # An override of a part that is not asked for may be absent: a TDM needs no image encoder.
    needed = {part: _existing(given[part], part) for part in wanted if part in given}
    folders = {part: needed.get(part) or resolve(given.get(part) or folder_of(root, part)) for part in PARTS}

    backbone = Backbone(name=name or root.name)
    everything = set(wanted) == set(ALL)
    seconds = [SECOND[part] for part in wanted if part in SECOND and folders[SECOND[part]].is_dir()]
    wanted = tuple(dict.fromkeys([*wanted, *seconds]))
    for part in wanted:
        if not folders[part].is_dir():
            if everything and part in OPTIONAL:
                continue
            raise missing_part(part, root)
        value = load_part(part, folders[part], index)
        setattr(backbone, "scheduler_config" if part == "scheduler" else part, value)
        backbone.folders[part] = folders[part]
    backbone.image_size, backbone.latent_shape_CHW = _sizes(folders, image_size)
    backbone.tell_unet_its_size()
    if backbone.text_encoder_2 is not None and is_xl(formats.read_config("unet", folders["unet"])):
        backbone.zero_empty_prompt = formats.read_flag(root, ZERO_EMPTY, True)
    check_fit(backbone)
    return backbone


def save_backbone(
    folder: Path | str, backbone: Backbone, half: bool = False, card: str | None = None
) -> None:
    """Write all parts that are there in diffusers' layout, and a `card`, the whole folder or nothing; `half`
    stores fp16."""
    with whole_folder(folder) as temporary:
        index: dict[str, Any] = {**_pipeline(backbone), "_diffusers_version": _diffusers_version()}
        for part in PARTS:
            value = backbone.scheduler_config if part == "scheduler" else getattr(backbone, part)
            if value is not None:
                name = folder_name(part, value)
                save_part(temporary / name, part, value, half)
                index[name] = index_entry(part, value)
        write_json(temporary / INDEX, index)
        if card is not None:
            write_text(temporary / "README.md", card)


def _pipeline(backbone: Backbone) -> dict[str, Any]:
    """What model_index.json says beside the parts."""
    config = backbone.unet.config if backbone.unet is not None else {}
    if is_transformer(config):
        return dict(PIPELINE_3)
    if not is_xl(config):
        return dict(PIPELINE)
    return {**PIPELINE_XL, ZERO_EMPTY: backbone.zero_empty_prompt}


def check_fit(backbone: Backbone) -> None:
    """Check that the parts were made for each other. Raises: UserError naming both parts and both numbers."""
    b = backbone
    text = b.text_width if b.text_encoder is not None else None
    if b.unet is not None and text is not None:
        _check_pooled(b)
    if b.unet is not None and b.vae is not None:
        _same(
            "unet",
            "in_channels",
            b.unet.config.in_channels,
            "vae",
            "latent_channels",
            b.vae.config.latent_channels,
        )
    if b.unet is not None and text is not None:
        if not is_transformer(b.unet.config):
            taken = b.unet.config.cross_attention_dim
            _same("unet", "cross_attention_dim", taken, "text_encoder", "hidden_size", text)
        elif text > b.unet.config.joint_attention_dim:
            # Narrower ones are filled up with zeros.
            taken = b.unet.config.joint_attention_dim
            _same("transformer", "joint_attention_dim", taken, "text encoders", "hidden_size", text)
    if b.fusion is not None and text is not None:
        _same("fusion", "width", b.fusion.config.width, "text_encoder", "hidden_size", text)
    if b.fusion is not None and b.image_encoder is not None:
        width = b.fusion.config.object_width or b.fusion.config.width
        projection = b.image_encoder.config.projection_dim
        _same("fusion", "object_width", width, "image_encoder", "projection_dim", projection)
    both = b.tokenizer is not None and b.tokenizer_2 is not None
    if both and b.tokenizer.get_vocab() != b.tokenizer_2.get_vocab():
        raise UserError("tokenizer and tokenizer_2 have different tokens; take both from one model.")
    if b.tokenizer is not None and b.text_encoder is not None:
        num, room = len(b.tokenizer), b.text_encoder.config.vocab_size
        if num > room:
            raise UserError(
                f"the tokenizer has {num} tokens, the text encoder only {room}; take both from one model."
            )


def _check_pooled(backbone: Backbone) -> None:
    """That the denoiser takes the pooled embedding that the text encoders make."""
    second, taken = backbone.text_encoder_2, pooled_width(backbone.unet.config)
    if taken and second is None:
        raise missing_part("text_encoder_2", backbone.folders.get("unet") or f"backbone {backbone.name}")
    if second is None:
        return
    encoders = [encoder for encoder in (backbone.text_encoder, second) if is_projected(encoder)]
    made = sum(encoder.config.projection_dim for encoder in encoders)
    _same("unet", "width of its pooled embedding", taken, "text encoders", "theirs", made)


def _same(part: str, key: str, value: Any, other: str, other_key: str, other_value: Any) -> None:
    if value != other_value:
        raise UserError(
            f"the {part} does not fit the {other}: {key} is {value}, {other_key} is {other_value};"
            " it is a checkpoint of another architecture."
        )


def _existing(path: Path | str, part: str | None = None) -> Path:
    folder = resolve(path)
    if folder.is_dir():
        return folder
    if folder.is_file():
        if folder.suffix in PICKLED:
            raise refuse_pickle(folder)
        raise UserError(f"'{path}' is a file; a model is a folder in diffusers' layout.")
    how = f", or get it: {hub.how_to_get(str(path))}" if hub.is_id(str(path)) else hub.how_to_complete(path)
    layout = "with its config.json and weights" if part else "in diffusers' layout (unet/, vae/, ...)"
    raise UserError(f"{part or 'model'} folder '{path}' does not exist; give one {layout}{how}.")


def _sizes(folders: Mapping[str, Path], image_size: int | None) -> tuple[int, tuple[int, int, int]]:
    """Picture and latent size from the configs on disk, whether or not the networks were loaded."""
    unet, vae = (formats.read_config(part, folders[part]) for part in ("unet", "vae"))
    factor = spatial_factor(vae)
    sides = [formats.side(config.get("sample_size")) for config in (unet, vae)]
    pixels = image_size or sides[0] * factor or sides[1]
    channels = unet.get("in_channels") or vae.get("latent_channels") or 0
    step = factor * grid_step(unet)
    if pixels % step:
        raise UserError(f"image_size={pixels}: must be a multiple of {step} for this backbone.")
    return pixels, (channels, pixels // factor, pixels // factor)


def _diffusers_version() -> str:
    import diffusers

    return diffusers.__version__
