"""Kept keys and values of the text: the same result, computed once, and no trace left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fdlab.models.attention import attention_blocks
from fdlab.models.denoiser import UNetDenoiser
from fdlab.models.text_cache import TextCache
from tests.worlds.backbones import tiny_backbone, tiny_sd15


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", [tiny_backbone, tiny_sd15])
@torch.no_grad()
def test_the_same_result_and_no_trace(make: object) -> None:
    unet = make().unet  # type: ignore[operator]
    z, first, second = some(2, 4, 8, 8, seed=0), some(2, 9, 32, seed=1), some(2, 9, 32, seed=2)
    plain = UNetDenoiser(unet)
    before = dict(unet.attn_processors)
    wanted = [plain(z, 10, first), plain(z, 500, second)]
    with UNetDenoiser(unet) as kept:
        found = [kept(z, 10, first), kept(z, 500, second)]
        assert torch.equal(kept(z, 10, first), found[0])
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert unet.attn_processors == before
    with pytest.raises(RuntimeError, match="leave it first"), TextCache(unet) as cache:
        cache.__enter__()


@torch.no_grad()
def test_every_text_layer_computes_once_per_embedding() -> None:
    unet = tiny_sd15().unet
    calls: list[str] = []
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("attn2.to_k", "attn2.to_v"))
    }
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    z, ctx = some(2, 4, 8, 8, seed=0), some(2, 9, 32, seed=1)
    with UNetDenoiser(unet) as denoise:
        for t in (900, 500, 100):
            denoise(z, t, ctx)
    assert sorted(calls) == sorted(layers) and len(attention_blocks(unet)) == 7


@torch.no_grad()
def test_attention_on_the_latents_grid() -> None:
    """The mean of each layer's probabilities: a distribution over tokens at each place."""
    unet = tiny_sd15().unet
    z, ctx = some(2, 4, 8, 8, seed=0), some(2, 9, 32, seed=1)
    with UNetDenoiser(unet) as denoise:
        output, looks = denoise.attend(z, 10, ctx)
        torch.testing.assert_close(output, denoise(z, 10, ctx), rtol=0, atol=1e-5)
    assert looks.shape == (2, 9, 8, 8)
    torch.testing.assert_close(looks.sum(1), torch.ones(2, 8, 8))
    wide = some(1, 4, 8, 16, seed=0)
    assert UNetDenoiser(unet).attend(wide, 10, ctx[:1])[1].shape == (1, 9, 8, 16)
