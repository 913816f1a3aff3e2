"""Non-maximum suppression of boxes, many pictures at once, in plain torch.

Axes: N boxes, G groups, M most boxes of any group, 4 = x1 y1 x2 y2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def overlap(box_GM4: Tensor, over: Literal["union", "smaller"]) -> Tensor:
    """Pairwise intersection in each group, over the union or the smaller box: (G, M, M) in [0, 1]."""
    low_GMM2 = torch.maximum(box_GM4[:, :, None, :2], box_GM4[:, None, :, :2])
    high_GMM2 = torch.minimum(box_GM4[:, :, None, 2:], box_GM4[:, None, :, 2:])
    shared_GMM = (high_GMM2 - low_GMM2).clamp(min=0).prod(-1)
    area_GM = (box_GM4[..., 2:] - box_GM4[..., :2]).clamp(min=0).prod(-1)
    first, second = area_GM[:, :, None], area_GM[:, None, :]
    whole_GMM = first + second - shared_GMM if over == "union" else torch.minimum(first, second)
    return shared_GMM / whole_GMM.clamp(min=1e-9)


def suppress(
    box_N4: Tensor,
    score_N: Tensor,
    group_N: Tensor,
    threshold: float,
    over: Literal["union", "smaller"] = "union",
) -> Tensor:
    """Greedy non-maximum suppression within each group.

    Returns the indices that stay, ordered by group and then by falling score. A box goes when it overlaps a
    staying box of higher score by more than `threshold`; equal scores keep their order.
    """
    if len(box_N4) == 0:
        return torch.zeros(0, dtype=torch.long, device=box_N4.device)
    order_N = score_N.argsort(descending=True, stable=True)
    order_N = order_N[group_N[order_N].argsort(stable=True)]
    group_N = group_N[order_N]
    _, row_N, count_G = torch.unique_consecutive(group_N, return_inverse=True, return_counts=True)
    first_G = count_G.cumsum(0) - count_G
    column_N = torch.arange(len(group_N), device=group_N.device) - first_G[row_N]

    box_GM4 = box_N4.new_zeros(len(count_G), int(count_G.max()), 4)
    box_GM4[row_N, column_N] = box_N4[order_N]
    beats_GMM = (overlap(box_GM4, over) > threshold).triu(diagonal=1)
    # The greedy answer is the fixed point of "a box stays unless a staying, better one beats it"; each pass
    # settles at least the best box not yet settled, and in practice a handful of passes settle all.
    stays_GM = torch.ones(box_GM4.shape[:2], dtype=torch.bool, device=box_N4.device)
    while True:
        again_GM = ~(beats_GMM & stays_GM[:, :, None]).any(1)
        if torch.equal(again_GM, stays_GM):
            return order_N[stays_GM[row_N, column_N]]
        stays_GM = again_GM
