from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fdlab.pretraining.contrastive import (
    identity_loss,
    image_text_loss,
    multi_positive_loss,
    retrieval_at_one,
    retrieval_auc,
)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_positive_a_row_is_cross_entropy():
    logits = draws(5, 5)
    assert torch.allclose(
        multi_positive_loss(logits, torch.eye(5, dtype=torch.bool)), F.cross_entropy(logits, torch.arange(5))
    )


def test_several_positives_by_hand_and_rows_without_any():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]))
    positive = torch.tensor([[True, True, False], [False, False, False]])
    assert multi_positive_loss(logits, positive) == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)
    assert multi_positive_loss(logits, torch.zeros(2, 3, dtype=torch.bool)) == 0


def test_equal_captions_are_not_pushed_apart():
    image, text = draws(2, 8), draws(1, 8, seed=1).expand(2, 8)
    scale = torch.tensor(10.0)
    cosines = F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    texts_to_images = float(multi_positive_loss(scale * cosines, torch.ones(2, 2, dtype=torch.bool)))
    as_one = image_text_loss(image, text, torch.tensor([0, 0]), scale)
    assert as_one == pytest.approx((math.log(2) + texts_to_images) / 2)
    aligned = image_text_loss(draws(4, 8), draws(4, 8), torch.arange(4), scale)
    crossed = image_text_loss(draws(4, 8), draws(4, 8).roll(1, 0), torch.arange(4), scale)
    assert aligned < 0.2 < crossed


def test_identity_loss_wants_one_person_together_and_knows_no_strangers():
    who = torch.tensor([0, 0, 1, 1])
    together, mixed = torch.eye(2).repeat_interleave(2, 0), torch.eye(2).repeat(2, 1)
    scale = torch.tensor(10.0)
    assert identity_loss(together, who, scale) == pytest.approx(math.log(1 + 2 * math.exp(-10)), abs=1e-5)
    assert identity_loss(mixed, who, scale) > 9
    assert identity_loss(together, torch.full((4,), -1), scale) == 0


def test_auc_by_counting_pairs():
    embedding, who = draws(30, 4), torch.arange(30) % 6
    unit = F.normalize(embedding.double(), dim=1)
    same, other = [], []
    for i in range(30):
        for j in range(i + 1, 30):
            (same if who[i] == who[j] else other).append(float(unit[i] @ unit[j]))
    expected = sum((a > b) + 0.5 * (a == b) for a in same for b in other) / (len(same) * len(other))
    assert retrieval_auc(embedding, who) == pytest.approx(expected)
    assert retrieval_auc(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])) == 0.5
    assert math.isnan(retrieval_auc(embedding, torch.zeros(30)))


def test_retrieval_at_one():
    gallery = torch.eye(3)
    labels = torch.arange(3)
    assert retrieval_at_one(gallery, gallery, labels, labels) == 1.0
    assert retrieval_at_one(gallery.roll(1, 0), gallery, labels, labels) == 0.0
