"""Captured cross-attention maps: the right layers, true probabilities, a gradient, and no trace left
behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from fdlab.errors import UserError
from fdlab.models.attention import (
    CrossAttentionMaps,
    attention_blocks,
    middle_blocks,
    token_probabilities,
)
from fdlab.models.nano import build_unet
from tests.worlds.backbones import tiny_backbone, tiny_sd15

RELEASED = ["down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.1", "up_blocks.2"]


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_sd15().unet


def call(unet: UNet2DConditionModel, ctx: torch.Tensor | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 7, 32, generator=generator) if ctx is None else ctx
    return unet(z, torch.tensor([10, 500]), encoder_hidden_states=text).sample


def test_which_blocks(unet: UNet2DConditionModel) -> None:
    assert len(attention_blocks(unet)) == 7
    assert middle_blocks(unet) == RELEASED
    assert middle_blocks(unet, 1) == ["mid_block"]
    with torch.device("meta"):
        nano = build_unet()
    assert middle_blocks(nano) == [
        "down_blocks.0",
        "down_blocks.1",
        "mid_block",
        "up_blocks.1",
        "up_blocks.2",
    ]
    assert middle_blocks(nano, 3) == ["down_blocks.1", "mid_block", "up_blocks.1"]
    with pytest.raises(UserError, match="odd number"):
        middle_blocks(unet, 4)
    with pytest.raises(UserError, match=r"unknown block 'down_blocks\.3'"):
        CrossAttentionMaps(unet, ["down_blocks.3"])


def test_maps_are_probabilities_and_the_result_is_the_same(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    with torch.no_grad():
        plain = call(unet)
        with CrossAttentionMaps(unet) as maps:
            captured = call(unet)
    assert torch.allclose(plain, captured, atol=1e-5)
    # SD has 2 transformers in a down block, 1 in the middle, 3 in an up block; grids halve from block to
    # block.
    assert [tuple(m.shape) for m in maps] == [
        (2, 2, positions, 7) for positions in (16, 16, 4, 4, 1, 4, 4, 4, 16, 16, 16)
    ]
    for m in maps:
        assert m.dtype == torch.float32 and torch.allclose(m.sum(-1), torch.ones(()), atol=1e-5)
    assert dict(unet.attn_processors) == before


def test_the_map_is_softmax_of_q_k(unet: UNet2DConditionModel) -> None:
    attn = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    seen = {}
    handle = attn.to_q.register_forward_hook(lambda _, args, out: seen.update(q=out))
    other = attn.to_k.register_forward_hook(lambda _, args, out: seen.update(k=out))
    with torch.no_grad(), CrossAttentionMaps(unet, ["mid_block"]) as maps:
        call(unet)
    handle.remove()
    other.remove()
    head = seen["q"].shape[-1] // 2
    for h in range(2):
        q, k = seen["q"][..., h * head : (h + 1) * head], seen["k"][..., h * head : (h + 1) * head]
        assert torch.allclose(maps[0][:, h], (q @ k.transpose(1, 2) / head**0.5).softmax(-1), atol=1e-6)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("columns", [True, False])
def test_gradient_with_and_without_checkpointing(inside: bool, columns: bool) -> None:
    gradients, kept = [], []
    for checkpointing in (False, True):
        unet = tiny_backbone().unet.train().requires_grad_(True)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        flags = {
            name: m.gradient_checkpointing
            for name, m in unet.named_modules()
            if hasattr(m, "gradient_checkpointing")
        }
        ctx = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        sizes: list[int] = []

        def save(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        maps = CrossAttentionMaps(unet, 3)
        with maps.of_tokens(torch.full((2, 3), 2)) if columns else maps:
            with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
                eps = call(unet, ctx)
            loss = eps.square().mean() + sum(m[..., 2].square().sum() for m in maps)
            seen = list(maps)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert all(one is other for one, other in zip(seen, maps, strict=True))
        kept.append(sum(sizes))
        after = {
            name: m.gradient_checkpointing
            for name, m in unet.named_modules()
            if hasattr(m, "gradient_checkpointing")
        }
        assert after == flags and any(flags.values()) == checkpointing
        assert ctx.grad is not None
        gradients.append([ctx.grad, *(p.grad for p in unet.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(gradients[1]) > 100
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-5)
    assert kept[1] < 0.25 * kept[0]


def test_transformers_of_two_blocks_are_as_before() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, norm_num_groups=4,
            attention_head_dim=2, cross_attention_dim=8, transformer_layers_per_block=2,
        )  # fmt: skip
    unet.enable_gradient_checkpointing()

    def state() -> list[tuple[bool, object]]:
        found = [m for m in unet.modules() if hasattr(m, "gradient_checkpointing")]
        return [(m.gradient_checkpointing, m._gradient_checkpointing_func) for m in found]

    before = state()
    block = next(m for m in unet.modules() if type(m).__name__ == "BasicTransformerBlock")
    for compiled in (None, unet, block):
        if compiled is not None:
            compiled._compiled_call_impl = compiled.forward
        with CrossAttentionMaps(unet, 3) as maps:
            assert len(maps) == 2 * 4
            assert all(flag for flag, _ in state()) == (compiled is None) and state() != before
        assert state() == before
        if compiled is not None:
            compiled._compiled_call_impl = None


def test_maps_alone_teach_the_keys(unet: UNet2DConditionModel) -> None:
    unet.requires_grad_(True)
    with CrossAttentionMaps(unet) as maps:
        call(unet)
    maps[0][..., 3].sum().backward()
    attn = unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    assert attn.to_k.weight.grad.abs().max() > 0
    assert attn.to_v.weight.grad is None
    unet.requires_grad_(False)
    unet.zero_grad()


def test_processors_come_back_after_an_error(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(KeyError), CrossAttentionMaps(unet):
        raise KeyError
    assert dict(unet.attn_processors) == before
    with pytest.raises(RuntimeError, match="no maps yet"):
        CrossAttentionMaps(unet)[0]


def test_entered_again_it_brings_the_same_processors(unet: UNet2DConditionModel) -> None:
    maps = CrossAttentionMaps(unet, 3)
    seen = []
    for _ in range(2):
        with torch.no_grad(), maps:
            with pytest.raises(RuntimeError, match="no maps yet"):
                maps[0]
            call(unet)
            seen.append(list(unet.attn_processors.values()))
        assert len(list(maps)) == len(maps) > 0
    assert all(one is other for one, other in zip(*seen, strict=True))


def test_bf16_keeps_fp32_maps(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), CrossAttentionMaps(unet) as maps:
        call(unet)
    assert {m.dtype for m in maps} == {torch.float32}
    assert all((m.sum(-1) - 1).abs().max() < 1e-5 for m in maps)


def test_columns_are_those_of_the_whole_map_and_teach_the_same() -> None:
    index_BN = torch.tensor([[2, 5, -1], [1, 1, 6]])
    found, kept = [], []
    for whole in (True, False):
        unet = tiny_backbone().unet.train().requires_grad_(True)
        maps = CrossAttentionMaps(unet, 3)
        sizes: list[int] = []

        def save(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            with maps if whole else maps.of_tokens(index_BN):
                eps = call(unet)
            places = index_BN.clamp(min=0)[:, None, None]
            columns = [m.gather(3, places.expand(-1, *m.shape[1:3], -1)) if whole else m for m in maps]
            loss = eps.square().mean() + sum(m.square().sum() for m in columns)
        gradients = torch.autograd.grad(loss, list(unet.parameters()), allow_unused=True)
        found.append([eps, *columns, *(g for g in gradients if g is not None)])
        kept.append(sum(sizes))
        assert [m.shape[-1] for m in maps] == [7 if whole else 3] * len(maps)
    assert len(found[0]) == len(found[1]) > 100
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert kept[1] < kept[0], "all the probabilities are not kept"
    with torch.no_grad(), maps:
        call(unet)
    assert maps[0].shape[-1] == 7, "asked for once, not for good"


def test_scores_that_half_precision_cannot_hold_unscaled_are_kept() -> None:
    """256 products of 20 x 20 are 102,400, more than fp16 holds; scaled they are 6,400."""
    q, k = (torch.full((1, 1, 3, 256), 20.0, dtype=torch.float16) for _ in range(2))
    k[:, :, 1] = 0
    index = torch.tensor([[0, 1]])
    probs = token_probabilities(q, k, index, 256**-0.5, None)
    assert torch.allclose(probs, torch.tensor([0.5, 0.0]).expand(1, 1, 3, 2), atol=1e-3)
