"""Batched suppression against the plain greedy loop."""

from __future__ import annotations

import pytest
import torch

from fdlab.measure.faces.suppression import overlap, suppress
from fdlab.randomness import torch_generator


def greedy(box_N4: torch.Tensor, score_N: torch.Tensor, threshold: float, over: str) -> set[int]:
    ratio = overlap(box_N4[None], over)[0]  # type: ignore[arg-type]
    kept: list[int] = []
    for index in score_N.argsort(descending=True).tolist():
        if all(ratio[index, other] <= threshold for other in kept):
            kept.append(index)
    return set(kept)


@pytest.mark.parametrize("over", ["union", "smaller"])
def test_matches_the_greedy_loop_in_every_group(over: str) -> None:
    rng = torch_generator(0, "boxes")
    corner = torch.rand(300, 2, generator=rng) * 60
    box = torch.cat([corner, corner + 10 + torch.rand(300, 2, generator=rng) * 30], 1)
    score, group = torch.rand(300, generator=rng), torch.randint(0, 4, (300,), generator=rng)
    kept = suppress(box, score, group, 0.4, over)  # type: ignore[arg-type]
    for number in range(4):
        rows = (group == number).nonzero().squeeze(1)
        expected = {int(rows[i]) for i in greedy(box[rows], score[rows], 0.4, over)}
        assert {int(k) for k in kept if group[k] == number} == expected
        assert len(expected) < len(rows)


def test_orders_by_group_then_score() -> None:
    box = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1], [9, 9, 10, 10]])
    kept = suppress(box, torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1, 1, 0, 1]), 0.5)
    assert kept.tolist() == [2, 3, 1, 0]


def test_overlap_by_hand() -> None:
    box = torch.tensor([[[0.0, 0, 4, 4], [2, 0, 4, 2]]])
    assert overlap(box, "union")[0, 0, 1].item() == pytest.approx(0.25)
    assert overlap(box, "smaller")[0, 0, 1].item() == pytest.approx(1.0)


def test_nothing_in_nothing_out() -> None:
    assert suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.5).tolist() == []
