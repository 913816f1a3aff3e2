"""Cross-attention maps, with gradient, from the UNet's blocks around its middle.

Axes: B batch, H heads, Q positions of the latent grid, L tokens, D width, N tokens that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fdlab.errors import UserError
from fdlab.models import compiling

MIDDLE_FIVE = "middle five"


def attention_blocks(unet: Any) -> list[str]:
    """Names of the UNet's blocks that attend to the text, from input to output, the mid block in their
    middle."""
    order = [f"down_blocks.{i}" for i in range(len(unet.down_blocks))]
    order += ["mid_block"] if getattr(unet, "mid_block", None) is not None else []
    order += [f"up_blocks.{i}" for i in range(len(unet.up_blocks))]
    return [name for name in order if _cross_attentions(unet.get_submodule(name))]


def middle_blocks(unet: Any, num: int = 5) -> list[str]:
    """The `num` blocks around the middle, fewer where there are fewer.

    Of Stable Diffusion's seven these are the released five: down 1 and 2, mid, up 1 and 2 (FastComposer). A
    UNet of three levels has five in all. Raises: UserError when `num` is not odd and positive.
    """
    if num < 1 or num % 2 == 0:
        raise UserError(
            f"{num} middle blocks: an odd number is needed, the mid block and as many on either side."
        )
    found = attention_blocks(unet)
    cut = max(0, (len(found) - num) // 2)
    return found[cut : len(found) - cut]


def _cross_attentions(block: nn.Module) -> list[str]:
    return [
        name for name, module in block.named_modules() if name.endswith("attn2") and hasattr(module, "to_q")
    ]


def token_probabilities(
    q_BHQD: Tensor, k_BHLD: Tensor, index_BN: Tensor, scale: float, bias: Tensor | None = None
) -> Tensor:
    """What each position attends to some tokens with: (B, H, Q, N) fp32 of the softmax over all tokens.

    `bias` is added to the scores. Where a gradient is wanted, the scores of all tokens are computed again for
    it and not kept.
    """
    inputs = (q_BHQD, k_BHLD, index_BN, scale, bias)
    if torch.is_grad_enabled():
        kept: Tensor = checkpoint(
            _token_probabilities, *inputs, use_reentrant=False, preserve_rng_state=False
        )
        return kept
    return _token_probabilities(*inputs)


def _token_probabilities(
    q_BHQD: Tensor, k_BHLD: Tensor, index_BN: Tensor, scale: float, bias: Tensor | None
) -> Tensor:
    scores_BHQL = _scores(q_BHQD, k_BHLD, scale, bias)
    index_BHQN = index_BN[:, None, None].expand(-1, *scores_BHQL.shape[1:3], -1)
    return (scores_BHQL.gather(3, index_BHQN) - scores_BHQL.logsumexp(-1, keepdim=True)).exp()


def _scores(q_BHQD: Tensor, k_BHLD: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    # Scaled first: the plain product may be more than fp16 holds.
    scores_BHQL = ((q_BHQD * scale) @ k_BHLD.transpose(-1, -2)).float()
    return scores_BHQL if bias is None else scores_BHQL + bias


class CaptureProcessor:
    """An attention processor that keeps the softmaxed scores of the last call, in fp32, and computes the same
    result.

    Follows diffusers' AttnProcessor for a UNet's text cross-attention. Of all tokens, the softmax is written
    out, because the fused kernel does not give its probabilities; of the tokens in `index_BN` alone, the
    kernel computes the result, and their probabilities are computed beside it.
    """

    def __init__(self) -> None:
        self.probs_BHQL: Tensor | None = None
        self.index_BN: Tensor | None = None
        """Tokens that are wanted; None: all."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        x_BQD = hidden_states
        ctx_BLD = x_BQD if encoder_hidden_states is None else encoder_hidden_states
        if attn.norm_cross and encoder_hidden_states is not None:
            ctx_BLD = attn.norm_encoder_hidden_states(ctx_BLD)
        q_BHQD, k_BHLD, v_BHLD = (
            y.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for y in (attn.to_q(x_BQD), attn.to_k(ctx_BLD), attn.to_v(ctx_BLD))
        )
        bias = None
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, ctx_BLD.shape[1], x_BQD.shape[0])
            bias = mask.view(x_BQD.shape[0], attn.heads, -1, mask.shape[-1])
        if self.index_BN is None:
            self.probs_BHQL = _scores(q_BHQD, k_BHLD, attn.scale, bias).softmax(-1)
            y_BHQD = self.probs_BHQL.to(v_BHLD.dtype) @ v_BHLD
        else:
            self.probs_BHQL = token_probabilities(q_BHQD, k_BHLD, self.index_BN, attn.scale, bias)
            y_BHQD = F.scaled_dot_product_attention(q_BHQD, k_BHLD, v_BHLD, attn_mask=bias, scale=attn.scale)
        y_BQD = y_BHQD.transpose(1, 2).flatten(2)
        y_BQD = attn.to_out[1](attn.to_out[0](y_BQD))
        if attn.residual_connection:
            y_BQD = y_BQD + hidden_states
        return y_BQD / attn.rescale_output_factor


class CrossAttentionMaps(Sequence[Tensor]):
    """Capture the cross-attention maps of a UNet's middle blocks while it runs.

        with CrossAttentionMaps(unet) as maps:
            eps_BCHW = denoise(z_BCHW, t_B, ctx_BLD)
        loss = noise_loss(...) + localization_loss(list(maps), ...)

    A sequence of the last call's maps, one an attention layer from input to output: (B, heads, positions,
    tokens) fp32. It may be entered again, as often as one likes. `with maps.of_tokens(index_BN):` captures
    those tokens' columns alone, and keeps nothing else: with 77 tokens and 4 subjects a twentieth.

    `blocks`: "middle five", an odd number of middle blocks, "all", or block names (`down_blocks.1`). On
    leaving, the UNet is as it was; the maps stay, with their gradient, and backward may run inside or after.

    Gradient checkpointing goes on: maps are kept, what lies between is computed again with the processors of
    the capture, whether or not it has ended. In a UNet that is compiled, whole or by its blocks, the
    transformers whose maps are kept run without it.
    """

    def __init__(self, unet: nn.Module, blocks: str | int | list[str] = MIDDLE_FIVE) -> None:
        self.unet = unet
        self.blocks = _chosen(unet, blocks)
        self.names = [
            f"{block}.{name}"
            for block in self.blocks
            for name in _cross_attentions(unet.get_submodule(block))
        ]
        # The same ones whenever this is entered: a compiled UNet is compiled anew for every new processor.
        self._captured = [CaptureProcessor() for _ in self.names]
        self._before: list[tuple[Any, Any]] = []
        self._checkpointed: list[tuple[Any, Any]] = []

    def of_tokens(self, index_BN: Tensor) -> CrossAttentionMaps:
        """Let the next entering capture (B, heads, positions, N): these tokens' columns; negative indices
        stand for any."""
        for processor in self._captured:
            processor.index_BN = index_BN.clamp(min=0)
        return self

    def __enter__(self) -> CrossAttentionMaps:
        if self._before:
            raise RuntimeError("CrossAttentionMaps is already capturing; leave it first.")
        is_compiled = compiling.is_compiled(self.unet)
        for name, processor in zip(self.names, self._captured, strict=True):
            processor.probs_BHQL = None
            attn: Any = self.unet.get_submodule(name)
            self._before.append((attn, attn.processor))
            attn.set_processor(processor)
            # Path: <transformer>.transformer_blocks.<i>.attn2
            transformer: Any = self.unet.get_submodule(name.rsplit(".", 3)[0])
            if getattr(transformer, "gradient_checkpointing", False):
                self._checkpointed.append((transformer, transformer._gradient_checkpointing_func))
                transformer._gradient_checkpointing_func = _checkpointed_with_maps
                # What a compiler traces may not exchange processors.
                transformer.gradient_checkpointing = not is_compiled
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for attn, processor in self._before:
            attn.set_processor(processor)
        for captured in self._captured:
            captured.index_BN = None
        # A transformer of several blocks is met several times.
        for transformer, before in reversed(self._checkpointed):
            transformer.gradient_checkpointing, transformer._gradient_checkpointing_func = True, before
        self._before, self._checkpointed = [], []

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        found = [processor.probs_BHQL for processor in self._captured]
        if not found or any(probs is None for probs in found):
            raise RuntimeError("no maps yet: run the UNet inside `with CrossAttentionMaps(unet)`.")
        return [probs for probs in found if probs is not None][index]


def _checkpointed_with_maps(block: Any, *inputs: Any) -> Tensor:
    """A transformer's block with gradient checkpointing, its maps among what it returns, which is kept."""
    attn, processor = block.attn2, block.attn2.processor
    index_BN = processor.index_BN

    def run(*inputs: Any) -> tuple[Tensor, Tensor]:
        # The second time the capture may have ended, or another begun.
        before, state = attn.processor, (processor.index_BN, processor.probs_BHQL)
        attn.set_processor(processor)
        processor.index_BN = index_BN
        try:
            return block(*inputs), processor.probs_BHQL
        finally:
            attn.set_processor(before)
            processor.index_BN, processor.probs_BHQL = state

    y_BQD, probs_BHQL = checkpoint(run, *inputs, use_reentrant=False)
    processor.probs_BHQL = probs_BHQL
    return y_BQD


def _chosen(unet: nn.Module, blocks: str | int | list[str]) -> list[str]:
    if isinstance(blocks, int):
        return middle_blocks(unet, blocks)
    if blocks == MIDDLE_FIVE:
        return middle_blocks(unet, 5)
    known = attention_blocks(unet)
    if blocks == "all":
        return known
    names = [blocks] if isinstance(blocks, str) else list(blocks)
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown block '{name}'; allowed: {MIDDLE_FIVE}, all, an odd number, {', '.join(known)}."
            )
    return names
