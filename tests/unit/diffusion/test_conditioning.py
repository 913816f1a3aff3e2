"""Embeddings for a batch, and the noise of its images."""

from __future__ import annotations

import pytest
import torch

from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.initial import latents, step_generators
from fdlab.errors import UserError

NULL, TEXT, AUGMENTED = torch.zeros(1, 5, 3), torch.randn(2, 5, 3), torch.randn(2, 5, 3)


def test_one_null_prompt_serves_the_batch() -> None:
    conditioning = Conditioning(NULL, TEXT, AUGMENTED)
    assert len(conditioning) == 2 and conditioning.get("null").shape == TEXT.shape
    assert conditioning.get("text") is TEXT and conditioning.get("augmented") is AUGMENTED


def test_repeated_and_moved() -> None:
    conditioning = Conditioning(NULL, TEXT, AUGMENTED)
    twice = conditioning.repeat(2)
    assert torch.equal(twice.text_BLD, TEXT[[0, 0, 1, 1]]) and len(twice) == 4
    assert conditioning.to(dtype=torch.bfloat16).get("augmented").dtype == torch.bfloat16
    assert Conditioning(NULL, TEXT).repeat(3).augmented_BLD is None


def test_what_is_missing_or_does_not_fit_is_said() -> None:
    with pytest.raises(UserError, match="needs subjects"):
        Conditioning(NULL, TEXT).get("augmented")
    with pytest.raises(UserError, match="Did you mean 'augmented'"):
        Conditioning(NULL, TEXT).get("augment")
    with pytest.raises(ValueError, match="different shapes"):
        Conditioning(NULL, TEXT, AUGMENTED[:1])


def test_an_image_starts_from_its_own_noise() -> None:
    together = latents([3, 1, 4], (4, 8, 8))
    assert torch.equal(latents([1], (4, 8, 8))[0], together[1])
    assert torch.equal(latents([4, 3], (4, 8, 8)), together[[2, 0]])
    assert len({row.sum().item() for row in together}) == 3
    half = latents([3], (4, 8, 8), dtype=torch.bfloat16)
    assert torch.equal(half[0], together[0].bfloat16())
    many = latents(list(range(64)), (4, 16, 16))
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02


def test_noise_on_the_way_is_another_noise() -> None:
    first = torch.randn(4, 8, 8, generator=step_generators([3])[0])
    assert not torch.equal(first, latents([3], (4, 8, 8))[0])
    assert torch.equal(first, torch.randn(4, 8, 8, generator=step_generators([7, 3])[1]))
