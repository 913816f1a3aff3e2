"""Every identity score that follows from matched faces. N pictures, M subjects a picture, S subjects."""

from __future__ import annotations

import numpy as np

from fdlab.metrics import identity
from fdlab.metrics.matching import Matches


def values_of(found: Matches, num_found_N: np.ndarray) -> dict[str, np.ndarray]:
    """Every score that follows from matched faces and the number of faces found: values_N by name."""
    (size, num_subjects), group_NM = found.similarity_NMS.shape[1:], found.group_NM
    detected_NM, (similarity, own, detected, rivals) = found.detected_NM, found.flat()
    own_NM = identity.own_similarity(similarity, own, detected).reshape(group_NM.shape)
    values = {
        "identity_similarity": own_NM.mean(axis=1),
        "identity_similarity_detected": mean_of_subjects(np.where(detected_NM, own_NM, np.nan)),
        "face_detection_rate": detected_NM.mean(axis=1),
        "face_count_accuracy": (num_found_N == size).astype(np.float64),
    }
    if size > 1:
        values["identity_similarity_min"] = own_NM.min(axis=1)
        values["identity_blending"] = found.blending_N
    if num_subjects > size:
        margin = identity.margin(similarity, own, detected, rivals)
        rank1 = identity.rank1(similarity, own, detected, rivals)
        values["identity_margin"] = mean_of_subjects(margin.reshape(group_NM.shape))
        values["identity_rank1"] = mean_of_subjects(rank1.reshape(group_NM.shape))
    return values


def mean_of_subjects(values_NM: np.ndarray) -> np.ndarray:
    """Mean over a picture's subjects that are not NaN; NaN where all are."""
    here = np.isfinite(values_NM)
    total, num = np.where(here, values_NM, 0.0).sum(axis=1), here.sum(axis=1)
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)
