"""Names in the original (LDM) layout of what diffusers' layout holds: the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fdlab.diffusion.flow import is_flow
from fdlab.errors import UserError
from fdlab.exchange.ldm_configs import ZERO_SNR_MARK
from fdlab.exchange.sd3_names import transformer_state
from fdlab.exchange.single_file import OPENCLIP, TEXTS, UNET, VAE, Kind
from fdlab.models.backbone import Backbone
from fdlab.models.denoiser import is_xl
from fdlab.weights.original_names import original_names, with_beginning
from fdlab.weights.tensor_names import TEXT_LEVEL

_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPENCLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final", "encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1",
    "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj", "text_projection.weight": "text_projection",
}  # fmt: skip
PROJECTION = "text_projection.weight"
"""A text encoder's last step, by transformers' name."""
V_MARK = "v_pred"
"""An empty tensor by which a file says that its denoiser predicts v."""


def original(backbone: Backbone) -> dict[str, Tensor]:
    """All tensors of a Stable Diffusion by their original names.

    Raises: UserError for another architecture.
    """
    kind = _kind(backbone)
    unet, vae, scheduler = (backbone.need(part) for part in ("unet", "vae", "scheduler"))
    denoiser = transformer_state if kind == "sd3" else unet_state
    state = denoiser(unet.state_dict(), unet.config) | vae_state(vae.state_dict(), vae.config)
    for part in TEXTS[kind]:
        state |= text_state(backbone.need(part).state_dict(), kind, part)
    if scheduler.get("prediction_type") == "v_prediction":
        state[V_MARK] = torch.empty(0)
    if scheduler.get("rescale_betas_zero_snr"):
        state[ZERO_SNR_MARK] = torch.empty(0)
    return state


def _kind(backbone: Backbone) -> Kind:
    """Which Stable Diffusion this is, by what its tensors do not show and readers take for granted."""
    text, unet = backbone.need("text_encoder").config, backbone.need("unet").config
    second = backbone.text_encoder_2.config.hidden_act if backbone.text_encoder_2 is not None else None
    classes = (type(backbone.unet).__name__, type(backbone.vae).__name__)
    if classes == ("SD3Transformer2DModel", "AutoencoderKL"):
        heads, of_64 = unet.num_attention_heads, unet.attention_head_dim == 64
        is_flow_3 = is_flow(backbone.need("scheduler"))
        if (text.hidden_act, second) == ("quick_gelu", "gelu") and of_64 and is_flow_3:
            _check_unprojected(backbone)
            return "sd3"
    else:
        widths, heads = list(unet.get("block_out_channels", ())), unet.get("attention_head_dim")
        heads = [heads] * len(widths) if isinstance(heads, int) else list(heads or ())
        if classes == ("UNet2DConditionModel", "AutoencoderKL"):
            of_64 = heads == [width // 64 for width in widths]
            if (text.hidden_act, second) == ("quick_gelu", "gelu") and of_64 and is_xl(unet):
                return "sdxl"
            if (text.hidden_act, second) == ("quick_gelu", None) and heads == [8] * len(widths):
                return "sd1"
            if (text.hidden_act, second) == ("gelu", None) and of_64:
                return "sd2"
    acts = text.hidden_act if second is None else f"{text.hidden_act} and {second}"
    raise UserError(
        f"backbone '{backbone.name}' ({classes[0]}, {classes[1]}, heads {heads}, {acts}) is"
        " no Stable Diffusion 1, 2, XL or 3, and only these have a file in the original layout."
    )


def _check_unprojected(backbone: Backbone) -> None:
    """Raise UserError where Stable Diffusion 3's first encoder projects its pooled embedding: the original
    has none there, and readers put in the identity."""
    weight = backbone.need("text_encoder").text_projection.weight
    if weight.shape[0] != weight.shape[1] or not torch.equal(weight, torch.eye(len(weight))):
        raise UserError(
            f"backbone '{backbone.name}': its text_encoder's projection is not the identity, for which a file"
            " in the original layout has no place; use --layout diffusers."
        )


def unet_state(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The denoiser's tensors by their original names."""
    return {UNET + new: state[name] for name, new in original_names(state, config).items()}


def vae_state(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The autoencoder's tensors by their original names; its attention is a convolution there."""
    last = len(config.block_out_channels) - 1
    renamed = {}
    for name, tensor in state.items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{last - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if ".mid_block.attentions.0." in new:
            coder, _, inner = new.partition(".mid_block.attentions.0.")
            new = f"{coder}.mid.attn_1.{with_beginning(inner, _VAE_ATTENTION)}"
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        renamed[VAE + new] = tensor
    return renamed


def text_state(state: Mapping[str, Tensor], kind: Kind, part: str) -> dict[str, Tensor]:
    """A text encoder's tensors by their original names."""
    prefix = TEXTS[kind][part]
    plain = {name.removeprefix(TEXT_LEVEL): tensor for name, tensor in state.items()}
    plain = {name: tensor for name, tensor in plain.items() if not name.endswith("position_ids")}
    if not prefix.endswith(OPENCLIP):
        projected = {prefix + name: tensor for name, tensor in plain.items() if name == PROJECTION}
        named = {
            f"{prefix}{TEXT_LEVEL}{name}": tensor for name, tensor in plain.items() if name != PROJECTION
        }
        if kind == "sd3":
            return named if part == "text_encoder" else named | projected
        length = len(plain["embeddings.position_embedding.weight"])
        return {**named, f"{prefix}{TEXT_LEVEL}embeddings.position_ids": torch.arange(length)[None]}
    renamed = {prefix + name: tensor for name, tensor in _openclip_state(plain).items()}
    return renamed if kind == "sdxl" else renamed | _layer_to_leave_out(renamed, prefix)


def _openclip_state(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's names; query, key and value are one there, and the projection lies on its side."""
    renamed = {}
    for name, tensor in plain.items():
        match = re.fullmatch(r"(encoder\.layers\.\d+\.)self_attn\.([qkv])_proj\.(weight|bias)", name)
        if match is None:
            renamed[_openclip(name)] = tensor.T if name == PROJECTION else tensor
        elif match[2] == "q":
            three = [plain[f"{match[1]}self_attn.{each}_proj.{match[3]}"] for each in "qkv"]
            renamed[f"{_openclip(match[1])}attn.in_proj_{match[3]}"] = torch.cat(three)
    return renamed


def _layer_to_leave_out(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A layer more: readers of Stable Diffusion 2 leave the last one out, so something has to be there."""
    blocks = f"{prefix}transformer.resblocks."
    num = 1 + max(int(name.removeprefix(blocks).split(".")[0]) for name in named if name.startswith(blocks))
    last = f"{blocks}{num - 1}."
    return {
        f"{blocks}{num}.{n.removeprefix(last)}": t.clone() for n, t in named.items() if n.startswith(last)
    }


def _openclip(name: str) -> str:
    for ours, theirs in _OPENCLIP.items():
        name = name.replace(ours, theirs)
    return name
