"""What a denoiser trains fastest with: the same numbers, another format and attention."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from fdlab.models import fast
from fdlab.models.backbone import Backbone
from tests.worlds.backbones import tiny_backbone


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone()


def test_on_a_cpu_attention_is_plain_and_computes_the_same(backbone: Backbone) -> None:
    unet = backbone.need("unet").to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(0)
    z, ctx = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 32, 32, generator=rng)
    unet.set_attn_processor(AttnProcessor2_0())
    with torch.no_grad():
        before = unet(z, 500, ctx).sample
        fast.suit(unet, torch.device("cpu"))
        after = unet(z, 500, ctx).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor}
    assert all(p.is_contiguous() for p in unet.parameters())


def test_attention_of_its_own_kind_and_large_grids_stay(backbone: Backbone) -> None:
    unet = backbone.need("unet")

    class Capturing(AttnProcessor2_0):
        """As where maps are captured."""

    unet.set_attn_processor(Capturing())
    fast.suit(unet, torch.device("cpu"))
    assert {type(processor) for processor in unet.attn_processors.values()} == {Capturing}
    unet.set_attn_processor(AttnProcessor2_0())
    unet.register_to_config(sample_size=64)
    fast.suit(unet, torch.device("cpu"))
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}
    fast.suit(torch.nn.Conv2d(1, 1, 1), torch.device("cpu"))
