"""From ids and references to embeddings, to a prediction."""

from __future__ import annotations

import pytest
import torch

from fdlab.data import latents
from fdlab.data.latents import decode_in_parts, decode_latents, encode_pixels
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone
from fdlab.models.conditioning import condition, embed_references, encode_text
from fdlab.models.denoiser import UNetDenoiser
from fdlab.models.tokenizer import token_ids


def batch(tiny: Backbone) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = token_ids(tiny.tokenizer, ["a woman in a red sweater", "a man and a woman"], tiny.max_tokens)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    mask[0, 2] = True
    mask[1, [2, 5]] = True
    references = torch.randn(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    return ids, mask, references, torch.tensor([[True, False], [True, True]])


def test_three_embeddings(tiny: Backbone) -> None:
    ids, mask, references, valid = batch(tiny)
    with torch.no_grad():
        null, text, augmented = condition(tiny, ids, mask, references, valid)
        assert torch.equal(text, encode_text(tiny.text_encoder, ids))
        empty = token_ids(tiny.tokenizer, [""], tiny.max_tokens)
        assert torch.equal(null[1:], encode_text(tiny.text_encoder, empty))
        obj = embed_references(tiny.image_encoder, references)
        assert torch.allclose(
            obj[1, 0], tiny.image_encoder(pixel_values=references[1, :1]).image_embeds[0], atol=1e-5
        )
    changed = (augmented != text).any(-1)
    assert torch.equal(changed, mask)
    assert (text[:, :3] != null[:, :3]).any()


def test_matches_diffusion_conditioning(tiny: Backbone) -> None:
    from fdlab.diffusion.conditioning import Conditioning

    ids, mask, references, valid = batch(tiny)
    pieces = condition(tiny, ids, mask, references, valid)
    made = Conditioning(*pieces)
    for name in ("null", "text", "augmented"):
        assert torch.equal(getattr(made, f"{name}_BLD"), getattr(pieces, f"{name}_BLD"))


def test_without_subjects(tiny: Backbone) -> None:
    ids, mask, references, valid = batch(tiny)
    pieces = condition(tiny, ids, mask)
    assert torch.equal(pieces.augmented_BLD, pieces.text_BLD)
    tiny.fusion = None
    with pytest.raises(UserError, match="no fusion"):
        condition(tiny, ids, mask, references, valid)


@pytest.mark.parametrize("valid", [[[1, 0], [1, 1]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]])
def test_padding_is_not_encoded(
    tiny: Backbone, valid: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    references, valid_BN = batch(tiny)[2], torch.tensor(valid, dtype=torch.bool)
    whole = embed_references(tiny.image_encoder, references)
    seen: list[int] = []
    tiny.image_encoder.register_forward_pre_hook(
        lambda _, arguments, named: seen.append(len(named["pixel_values"])), with_kwargs=True
    )
    some = embed_references(tiny.image_encoder, references, valid_BN)
    torch.testing.assert_close(some[valid_BN], whole[valid_BN])
    # One at least: processes that train together wait for each other's gradients.
    assert seen == [max(1, int(valid_BN.sum()))] and some.requires_grad == whole.requires_grad
    assert some.shape == whole.shape and (~some.any(-1)).sum() >= (~valid_BN).sum() - 1


def test_sizes_that_the_encoders_do_not_take(tiny: Backbone) -> None:
    with pytest.raises(UserError, match="33 tokens given; the text encoder takes 32"):
        encode_text(tiny.text_encoder, torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(UserError, match=r"36 x 36 pixels given.*backbone\.reference_size=24"):
        embed_references(tiny.image_encoder, torch.zeros(1, 1, 3, 36, 36))


def test_denoiser_takes_a_scalar_or_a_row_of_timesteps(tiny: Backbone) -> None:
    denoise = UNetDenoiser(tiny.unet)
    z, ctx = torch.ones(2, *tiny.latent_shape_CHW), torch.ones(2, 5, 32)
    with torch.no_grad():
        one = denoise(z, torch.tensor(7), ctx)
        assert one.shape == z.shape
        assert torch.equal(one, denoise(z, 7, ctx)) and torch.equal(
            one, denoise(z, torch.tensor([7, 7]), ctx)
        )
        assert not torch.equal(one, denoise(z, 700, ctx))


def test_latents_are_shifted_and_scaled(tiny: Backbone) -> None:
    tiny.vae.register_to_config(scaling_factor=0.5, shift_factor=2.0)
    x = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with torch.no_grad():
        z = encode_pixels(tiny.vae, x)
        mean = tiny.vae.encode(x).latent_dist.mean
        assert torch.allclose(z, (mean - 2) / 2)
        assert torch.allclose(decode_latents(tiny.vae, z), tiny.vae.decode(mean).sample, atol=1e-5)


def test_large_pictures_are_decoded_a_few_at_a_time(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    z_BCHW = torch.randn(5, *tiny.latent_shape_CHW, generator=torch.manual_seed(0))
    sizes = []
    decode = tiny.vae.decode
    monkeypatch.setattr(tiny.vae, "decode", lambda z: sizes.append(len(z)) or decode(z))
    monkeypatch.setattr(latents, "DECODED", 2 * z_BCHW[0, 0].numel() + 1)
    with torch.no_grad():
        parts = decode_in_parts(tiny.vae, z_BCHW)
        assert sizes == [2, 2, 1]
        torch.testing.assert_close(parts, decode_latents(tiny.vae, z_BCHW))
