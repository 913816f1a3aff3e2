"""Do several pictures of one prompt differ? A method that draws one picture again and again scores 0.

N images, D features.
"""

from __future__ import annotations

import numpy as np

from fdlab.metrics.identity import cosine
from fdlab.metrics.metric import Measurements, Metric


def diversity(features_ND: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """Mean cosine distance of each picture to the others of its group, (N) in [0, 2]; NaN for one alone.

    A group is what was drawn for one subject and prompt. The mean over a group is its mean pairwise
    distance, so this goes through the same clustered interval as every other score of a picture.
    """
    features, groups = np.asarray(features_ND), np.asarray(group_N)
    if len(features) != len(groups):
        raise ValueError(f"{len(features)} pictures, but {len(groups)} groups")
    values = np.full(len(groups), np.nan)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            similarity = cosine(features[members], features[members])
            np.fill_diagonal(similarity, 0.0)
            values[members] = 1.0 - similarity.sum(axis=1) / (len(members) - 1)
    return values


def _score(seen: Measurements) -> np.ndarray:
    assert seen.features_ND is not None and seen.cell_N is not None
    return diversity(seen.features_ND, seen.cell_N)


METRICS = (
    # Of pictures only: the record's names are a contract, and this is none of them.
    Metric(
        "diversity", "diversity", "cosine distance", True, _score, ("features", "several images"),
        "how far the pictures of one subject and prompt differ", place=18, recorded=None,
    ),
)  # fmt: skip
