"""Classifier-free guidance and its rescaling."""

from __future__ import annotations

import pytest
import torch

from fdlab.diffusion.guidance import Guidance, classifier_free, rescale
from fdlab.errors import UserError

BASE = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
TARGET = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))


def test_scale_moves_along_the_line_through_base_and_target() -> None:
    torch.testing.assert_close(classifier_free(BASE, TARGET, 0.0), BASE)
    torch.testing.assert_close(classifier_free(BASE, TARGET, 1.0), TARGET)
    torch.testing.assert_close(classifier_free(BASE, TARGET, 5.0), 5 * TARGET - 4 * BASE)


def test_rescale_brings_back_each_samples_contrast() -> None:
    guided = classifier_free(BASE, TARGET, 7.0)
    for i in range(3):
        assert rescale(guided, TARGET, 1.0)[i].std() == pytest.approx(TARGET[i].std().item(), rel=1e-4)
        half = 0.5 * TARGET[i].std() + 0.5 * guided[i].std()
        assert rescale(guided, TARGET, 0.5)[i].std() == pytest.approx(half.item(), rel=1e-4)
    assert rescale(guided, TARGET, 0.0) is guided
    torch.testing.assert_close(rescale(guided, TARGET, 0.7)[1:2], rescale(guided[1:2], TARGET[1:2], 0.7))


def test_guidance_is_computed_in_float32() -> None:
    guided = Guidance(5.0)(BASE.bfloat16(), TARGET.bfloat16())
    expected = classifier_free(BASE.bfloat16().float(), TARGET.bfloat16().float(), 5.0)
    assert guided.dtype == torch.float32 and torch.equal(guided, expected)
    assert Guidance(5.0)(BASE.double(), TARGET.double()).dtype == torch.float64


def test_bad_settings() -> None:
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="guidance_scale"):
            Guidance(scale)
    with pytest.raises(UserError, match="guidance_rescale"):
        Guidance(5.0, 1.2)
    assert not Guidance(1.0).needs_base and Guidance(5.0).needs_base
