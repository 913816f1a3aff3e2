"""Contrastive losses and how well an embedding retrieves: pure functions.

Axes: A B items of two sides, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_positive_loss(logits_AB: Tensor, positive_AB: Tensor) -> Tensor:
    """InfoNCE with any number of positives: minus the mean log-softmax of a row's positives.

    Rows without a positive are left out; 0 when none has one. With one positive a row it is the cross-entropy
    of InfoNCE (van den Oord et al. 2018); with several, "out" of Khosla et al. 2020, equation 2.
    """
    count_A = positive_AB.sum(1)
    rows_A = count_A > 0
    if not rows_A.any():
        return logits_AB.sum() * 0.0
    log_probability_AB = logits_AB.float().log_softmax(1)
    mean_A = torch.where(positive_AB, log_probability_AB, 0.0).sum(1) / count_A.clamp(min=1)
    return -mean_A[rows_A].mean()


def image_text_loss(image_BD: Tensor, text_BD: Tensor, label_B: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric InfoNCE over cosines times `scale`; pairs of one label (one caption) are positives."""
    logits_BB = scale * F.normalize(image_BD.float(), dim=1) @ F.normalize(text_BD.float(), dim=1).T
    positive_BB = label_B[:, None] == label_B[None]
    return 0.5 * (multi_positive_loss(logits_BB, positive_BB) + multi_positive_loss(logits_BB.T, positive_BB))


def identity_loss(embedding_BD: Tensor, identity_B: Tensor, scale: Tensor) -> Tensor:
    """Supervised contrastive loss: two pictures of one person are alike, of two persons not.

    An item is not compared with itself; identity -1 (unknown) is nobody's positive.
    """
    unit_BD = F.normalize(embedding_BD.float(), dim=1)
    itself_BB = torch.eye(len(unit_BD), dtype=torch.bool, device=unit_BD.device)
    logits_BB = (scale * unit_BD @ unit_BD.T).masked_fill(itself_BB, -1e4)
    positive_BB = (identity_B[:, None] == identity_B[None]) & ~itself_BB & (identity_B >= 0)[:, None]
    return multi_positive_loss(logits_BB, positive_BB)


@torch.no_grad()
def retrieval_auc(embedding_BD: Tensor, identity_B: Tensor) -> float:
    """Probability that two pictures of one person have a higher cosine than two of two; ties are half."""
    unit_BD = F.normalize(embedding_BD.double(), dim=1)
    above = torch.ones(len(unit_BD), len(unit_BD), dtype=torch.bool).triu(1)
    same = (identity_B[:, None] == identity_B[None])[above]
    scores = (unit_BD @ unit_BD.T)[above]
    positive, negative = scores[same], scores[~same].sort().values
    if not len(positive) or not len(negative):
        return float("nan")
    below = torch.searchsorted(negative, positive, right=False)
    upto = torch.searchsorted(negative, positive, right=True)
    return float((0.5 * (below + upto).double() / len(negative)).mean())


@torch.no_grad()
def retrieval_at_one(query_AD: Tensor, gallery_BD: Tensor, label_A: Tensor, label_B: Tensor) -> float:
    """Share of queries whose nearest gallery item (cosine) carries the query's label."""
    scores_AB = F.normalize(query_AD.double(), dim=1) @ F.normalize(gallery_BD.double(), dim=1).T
    return float((label_B[scores_AB.argmax(1)] == label_A).double().mean())
