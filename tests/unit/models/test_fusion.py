"""Fusion at the subjects' tokens, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from fdlab.models.nano import build_fusion

B, L, N, D = 3, 10, 3, 16


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    text_BLD = torch.randn(B, L, D, generator=generator)
    obj_BND = torch.randn(B, N, D, generator=generator)
    mask_BL = torch.zeros(B, L, dtype=torch.bool)
    mask_BL[0, [2, 5, 7]] = True
    mask_BL[1, 4] = True
    valid_BN = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    return text_BLD, obj_BND, mask_BL, valid_BN


def test_each_subject_lands_at_its_own_token_and_all_else_is_untouched() -> None:
    fusion = build_fusion(D)
    text, obj, mask, valid = inputs()
    out = fusion(text, obj, mask, valid)
    for row, positions in ((0, [2, 5, 7]), (1, [4]), (2, [])):
        for n, position in enumerate(positions):
            alone = fusion.fuse(text[row, position][None, None], obj[row, n][None, None])[0, 0]
            assert torch.allclose(out[row, position], alone, atol=1e-6)
    assert torch.equal(out[~mask], text[~mask])
    assert torch.equal(out[2], text[2])


def test_a_subject_that_is_not_valid_leaves_its_token() -> None:
    fusion = build_fusion(D)
    text, obj, mask, valid = inputs()
    whole = fusion(text, obj, mask, valid)
    valid[0, 1] = False
    out = fusion(text, obj, mask, valid)
    assert torch.equal(out[0, 5], text[0, 5])
    assert torch.equal(out[0, [2, 7]], whole[0, [2, 7]])


def test_padding_changes_nothing_and_gets_no_gradient() -> None:
    fusion = build_fusion(D)
    text, obj, mask, valid = inputs()
    text.requires_grad_(True)
    obj.requires_grad_(True)
    more = torch.cat([obj, torch.full((B, 2, D), 7.0)], dim=1)
    none = torch.zeros(B, 2, dtype=torch.bool)
    assert torch.equal(fusion(text, obj, mask, valid), fusion(text, more, mask, torch.cat([valid, none], 1)))
    fusion(text, obj, mask, valid).square().sum().backward()
    assert obj.grad is not None and text.grad is not None
    assert (obj.grad[valid].abs().amax(-1) > 0).all()
    assert (obj.grad[~valid] == 0).all()
    assert torch.isfinite(text.grad).all() and (text.grad[2] == 2 * text[2]).all()


@pytest.mark.parametrize("num", [0, 12])
def test_any_number_of_subjects(num: int) -> None:
    fusion = build_fusion(D)
    text = inputs()[0]
    mask = torch.zeros(B, L, dtype=torch.bool)
    mask[:, : min(num, L)] = True
    out = fusion(text, torch.ones(B, num, D), mask, torch.ones(B, num, dtype=torch.bool))
    assert torch.equal(out, text) if num == 0 else not torch.isclose(out, text).all(-1).any()


def test_object_width_may_differ() -> None:
    fusion = build_fusion(D, object_width=8)
    text, obj, mask, valid = inputs()
    assert fusion(text, obj[..., :8], mask, valid).shape == text.shape
    assert sorted(name.split(".")[0] for name in fusion.state_dict() if name.endswith("fc1.weight")) == [
        "mlp1",
        "mlp2",
    ]
