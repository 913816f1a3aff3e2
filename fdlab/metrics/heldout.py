"""Likeness to pictures of the same people that no method saw, and how much of the likeness is a copy.

N pictures, M subjects a picture, H held-out pictures of a subject, D features.
"""

from __future__ import annotations

import numpy as np

from fdlab.metrics import identity
from fdlab.metrics.matched import mean_of_subjects
from fdlab.metrics.matching import UNMATCHED
from fdlab.metrics.metric import Measurements, Metric


def _similarity_and_copies(seen: Measurements) -> tuple[np.ndarray, np.ndarray]:
    """Similarity to the held-out pictures (a miss is 0) and the copy-paste score (detected only), (N, M)."""
    found = seen.matches
    assert found is not None and seen.embedding_NMD is not None and seen.reference_SD is not None
    heldout_NM, pasted_NM = np.full(seen.own_NM.shape, np.nan), np.full(seen.own_NM.shape, np.nan)
    for (n, m), subject in np.ndenumerate(found.group_NM):
        others_HD = seen.heldout[subject]
        if not len(others_HD):
            continue
        face = found.face_NM[n, m]
        if face == UNMATCHED:
            heldout_NM[n, m] = 0.0
            continue
        to_heldout = identity.cosine(seen.embedding_NMD[n, face][None], others_HD)[0]
        apart = identity.cosine(seen.reference_SD[subject : subject + 1], others_HD)[0]
        heldout_NM[n, m] = to_heldout.mean()
        own = np.full(len(apart), seen.own_NM[n, m])
        pasted_NM[n, m] = identity.copy_paste(own, to_heldout, apart).mean()
    return heldout_NM, pasted_NM


METRICS = (
    Metric(
        "identity_heldout", "identity, held-out", "cosine", True,
        lambda seen: mean_of_subjects(_similarity_and_copies(seen)[0]), ("faces",),
        "likeness to other pictures of the subject, never shown to the method",
        place=10, recorded=9, empty_without_face=True,
    ),
    Metric(
        "copy_paste", "copy-paste", "relative angle", False,
        lambda seen: mean_of_subjects(_similarity_and_copies(seen)[1]), ("faces",),
        "1 for a copy of the reference, 0 for a face as near to other pictures of the subject",
        place=11, recorded=10, empty_without_face=True, detected_only=True,
    ),
)  # fmt: skip
