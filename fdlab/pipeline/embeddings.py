"""What a call is conditioned on: embedded from prompts and pictures, or given. Axes: B prompts, L tokens, D
width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fdlab.diffusion.conditioning import Conditioning
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone
from fdlab.models.conditioning import Embeddings, condition
from fdlab.pipeline.inputs import Reference, as_lists, check_markers, references, tokens
from fdlab.transforms.references import Background


def embed(
    parts: Backbone,
    prompts: Sequence[str],
    subjects: Sequence[Sequence[Reference]],
    negative_prompt: str | Sequence[str] | None,
    background: Background,
    device: torch.device,
) -> Embeddings:
    """Embed prompts with their subjects; the null embedding is the negative prompt's where there is one.

    Raises: UserError for a part that is missing, or a subject past the last token.
    """
    ids_BL, token_BL = (x.to(device) for x in tokens(parts.need("tokenizer"), prompts))
    shown: tuple[Tensor, ...] = ()
    if any(subjects):
        references_BN3SS, valid_BN = references(
            subjects, parts.reference_size, background, parts.reference_crop
        )
        shown = references_BN3SS.to(device, parts.image_encoder.dtype), valid_BN.to(device)
    embeddings = condition(parts, ids_BL, token_BL, *shown)
    if negative_prompt is None:
        return embeddings
    negative = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
    if len(negative) != len(prompts):
        raise UserError(f"{len(prompts)} prompts, but {len(negative)} negative prompts.")
    null_BLD = condition(parts, *(x.to(device) for x in tokens(parts.tokenizer, negative))).text_BLD
    return embeddings._replace(null_BLD=null_BLD)


def conditioning_of(
    encode: Callable[..., Embeddings],
    readers: Sequence[str],
    with_subjects: bool,
    prompt: str | Sequence[str] | None,
    subjects: Reference | Sequence[Any] | None,
    negative_prompt: str | Sequence[str] | None,
    embeds: tuple[Tensor | None, Tensor | None, Tensor | None],
    background: Background,
) -> dict[str, Conditioning]:
    """Embeddings of prompts and subjects, or those that were given, for each model of `readers`, which read
    prompts by themselves; `encode` is `FaceDiffuserPipeline.encode_prompt`. Raises: UserError."""
    if prompt is None:
        if subjects is not None or negative_prompt is not None:
            raise UserError("subjects and negative_prompt belong to a prompt; prompt_embeds need none.")
        if len(readers) > 1:
            raise UserError(
                "TDM and SDM have text encoders of their own here: give a prompt; prompt_embeds would be"
                " one model's alone."
            )
        return {readers[0]: given(*embeds, with_subjects=with_subjects)}
    if any(tensor is not None for tensor in embeds):
        raise UserError("give either prompt and subjects, or prompt_embeds; not both.")
    prompts, lists = as_lists(prompt, subjects)
    for text, some in zip(prompts, lists, strict=True):
        check_markers(text, len(some), draws_subjects=with_subjects)
    asked = prompts, lists, negative_prompt, background
    return {name: Conditioning(*encode(*asked, model=name)) for name in readers}


def given(
    null_BLD: Tensor | None, text_BLD: Tensor | None, augmented_BLD: Tensor | None, with_subjects: bool
) -> Conditioning:
    """Check embeddings that a caller made. Raises: UserError for one that is missing or does not fit."""
    if text_BLD is None:
        raise UserError("give a prompt, or prompt_embeds.")
    if null_BLD is None:
        raise UserError("give negative_prompt_embeds (of the empty prompt) beside prompt_embeds.")
    if with_subjects and augmented_BLD is None:
        raise UserError("this guider draws given subjects: give subject_prompt_embeds beside prompt_embeds.")
    for name, other in (("negative_prompt_embeds", null_BLD), ("subject_prompt_embeds", augmented_BLD)):
        if other is None or other.shape == text_BLD.shape:
            continue
        if name == "negative_prompt_embeds" and other.shape == (1, *text_BLD.shape[1:]):
            continue
        raise UserError(
            f"{name} have shape {tuple(other.shape)}, prompt_embeds {tuple(text_BLD.shape)}; they must agree."
        )
    return Conditioning(null_BLD, text_BLD, augmented_BLD)
