"""Identity AUC: the probability that a face is more like its own reference than a face is like another
subject's."""

from __future__ import annotations

import numpy as np

from fdlab.metrics import bootstrap, clusters, identity
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.matching import Matches
from fdlab.metrics.metric import Measurements, Metric


def estimate(found: Matches, clusters_NK: np.ndarray, seed: int) -> Estimate | None:
    """The AUC of matched faces with its interval; None where nothing can be compared. Every subject of the
    gallery must be drawn."""
    weights = clusters.auc_weights(found.group_NM, clusters_NK, seed)
    won, played = identity.auc_table(*found.flat(), np.repeat(weights.group_N, found.group_NM.shape[1]))
    if not played.sum():
        return None
    drawn_R = identity.auc_replicates(won, played, weights.subjects_RS, weights.groups_RG)
    value = float(won.sum() / played.sum())
    return bootstrap.statistic(value, drawn_R, weights.num_clusters, len(found.group_NM))


def _score(seen: Measurements) -> Estimate | None:
    assert seen.matches is not None
    return estimate(seen.matches, seen.clusters_NK, seen.seed)


METRICS = (
    Metric(
        "identity_auc", "identity AUC", "probability", True, _score, ("faces",),
        "probability that a face is more like its own reference than a face is like another subject's",
        place=6, recorded=11, column=4, tile=1, rank=1,
    ),
)  # fmt: skip
