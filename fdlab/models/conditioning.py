"""From token ids and reference pictures to what the denoiser is conditioned on.

Axes: B batch, L tokens, N subjects (padded), D text width, E width of a subject's embedding, 3 H W reference
pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from fdlab.errors import UserError
from fdlab.models.text_pair import TextPair, check_length
from fdlab.models.tokenizer import token_ids

if TYPE_CHECKING:
    from fdlab.models.backbone import Backbone


class Embeddings(NamedTuple):
    """The three embeddings a guider chooses from, in the order of
    `fdlab.diffusion.conditioning.Conditioning`."""

    null_BLD: Tensor
    """The empty prompt."""
    text_BLD: Tensor
    """The prompt without markers."""
    augmented_BLD: Tensor
    """The prompt with subjects fused in; equal to the text where there are none."""


def encode_text(text_encoder: Any, input_ids_BL: Tensor) -> Tensor:
    """Token ids to the text encoder's last hidden state, final norm included: ctx_BLD; of a `TextPair`, to
    its packed context. No mask, as in SD.

    Raises: UserError when there are more tokens than the encoder takes.
    """
    if isinstance(text_encoder, TextPair):
        return text_encoder(input_ids_BL)
    check_length(text_encoder, input_ids_BL)
    return text_encoder(input_ids_BL).last_hidden_state


def add_subjects(
    fusion: Any, ctx_BLD: Tensor, obj_BNE: Tensor, subject_token_BL: Tensor, valid_BN: Tensor
) -> Tensor:
    """A context with subjects fused into their tokens; a packed one's pooled row is no token, and stays."""
    marked_BL = F.pad(subject_token_BL, (0, ctx_BLD.shape[1] - subject_token_BL.shape[1]))
    return fusion(ctx_BLD, obj_BNE, marked_BL, valid_BN)


def embed_references(image_encoder: Any, references_BN3HW: Tensor, valid_BN: Tensor | None = None) -> Tensor:
    """Reference pictures, CLIP-normalised, to projected image embeddings: obj_BNE.

    With `valid_BN` only those are encoded (but at least one, so that every step computes with the encoder);
    the others' embeddings are zeros. Raises: UserError when they are not of the encoder's size.
    """
    batch, num = references_BN3HW.shape[:2]
    size, given = image_encoder.config.image_size, tuple(references_BN3HW.shape[-2:])
    if given != (size, size):
        raise UserError(
            f"references of {given[0]} x {given[1]} pixels given; the image encoder takes {size} x {size}:"
            f" set backbone.reference_size={size}."
        )
    pixels_M3HW = references_BN3HW.flatten(0, 1)
    if valid_BN is None:
        return image_encoder(pixel_values=pixels_M3HW).image_embeds.unflatten(0, (batch, num))
    chosen_K = valid_BN.flatten().nonzero().flatten()
    if not len(chosen_K):
        chosen_K = chosen_K.new_zeros(1)
    embeds_KE = image_encoder(pixel_values=pixels_M3HW[chosen_K]).image_embeds
    obj_ME = embeds_KE.new_zeros(batch * num, embeds_KE.shape[1]).index_copy(0, chosen_K, embeds_KE)
    return obj_ME.unflatten(0, (batch, num))


def null_ids(tokenizer: Any, max_tokens: int) -> Tensor:
    """Token ids of the empty prompt: input_ids_1L."""
    return token_ids(tokenizer, [""], max_tokens)


def condition(
    backbone: Backbone,
    input_ids_BL: Tensor,
    subject_token_BL: Tensor,
    references_BN3HW: Tensor | None = None,
    valid_BN: Tensor | None = None,
) -> Embeddings:
    """Everything a guider needs: `Conditioning(*condition(...))`.

    Without references the augmented embedding is the text's. Gradient flows where it is enabled and a part is
    not frozen. Raises: UserError when references are given to a backbone without an image encoder or fusion.
    """
    batch, length = input_ids_BL.shape
    empty_BL = null_ids(backbone.tokenizer, length).to(input_ids_BL.device).expand(batch, -1)
    encoder = backbone.text
    # One row is enough for the empty prompt; and a batch of one keeps it the same whatever it is computed
    # with.
    null_BLD = encode_text(encoder, empty_BL[:1]).expand(batch, -1, -1)
    text_BLD = encode_text(encoder, input_ids_BL)
    if references_BN3HW is None or valid_BN is None:
        return Embeddings(null_BLD, text_BLD, text_BLD)
    obj_BNE = embed_references(backbone.need("image_encoder"), references_BN3HW)
    augmented_BLD = add_subjects(backbone.need("fusion"), text_BLD, obj_BNE, subject_token_BL, valid_BN)
    return Embeddings(null_BLD, text_BLD, augmented_BLD)
