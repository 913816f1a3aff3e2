"""From measured faces to every score of identity: one value a picture, the AUC, and what rows say.

N pictures, M subjects a picture, F faces of a picture, S subjects, D features. Where a picture shows several
subjects, its value is the mean over them; one without a face counts as a miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fdlab.evaluation.measuring import Measured, References
from fdlab.metrics import bootstrap, clusters, identity, matched, matching
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.matched import mean_of_subjects
from fdlab.metrics.matching import Matches

ROWS = (
    "identity_similarity",
    "identity_similarity_min",
    "identity_blending",
    "identity_margin",
    "identity_rank1",
    "identity_heldout",
    "copy_paste",
)
"""Scores that rows leave empty where no face was found."""


@dataclass(frozen=True)
class IdentityScores:
    """Scores of pictures by the record's names, and what they are made of."""

    values: dict[str, np.ndarray]
    """values_N; NaN where a picture does not count."""
    auc: Estimate | None
    similarities: list[np.ndarray]
    """similarity_FS of the faces that count."""
    matches: Matches


def score(
    measured: Measured, known: References, group_NM: np.ndarray, clusters_NK: np.ndarray, seed: int
) -> IdentityScores:
    """Score pictures of the subjects `group_NM`."""
    assert measured.faces is not None and measured.chosen is not None and known.embedding_SD is not None
    num_subjects, size = len(known.embedding_SD), group_NM.shape[1]
    similarities = _similarities(measured, known.embedding_SD)
    found = matching.match(similarities, group_NM, num_subjects)
    values = matched.values_of(found, np.array([len(faces) for faces in measured.faces]))
    similarity, own, detected, rivals = found.flat()
    own_NM = identity.own_similarity(similarity, own, detected).reshape(group_NM.shape)
    heldout_NM, pasted_NM = _heldout(measured, known, found, own_NM)
    values["identity_heldout"], values["copy_paste"] = (
        mean_of_subjects(heldout_NM),
        mean_of_subjects(pasted_NM),
    )

    weights = clusters.auc_weights(group_NM, clusters_NK, seed)
    won, played = identity.auc_table(similarity, own, detected, rivals, np.repeat(weights.group_N, size))
    auc = None
    if played.sum():
        replicates_R = identity.auc_replicates(won, played, weights.subjects_RS, weights.groups_RG)
        value = float(won.sum() / played.sum())
        auc = bootstrap.statistic(value, replicates_R, weights.num_clusters, len(group_NM))
    return IdentityScores(values, auc, similarities, found)


def score_least(measured: Measured, known: References, group_NM: np.ndarray) -> IdentityScores:
    """Score as published evaluations do: faces are matched greedily, the least similar of them is the
    picture's value, clipped at 0; a subject without a face counts 0."""
    assert known.embedding_SD is not None
    similarities = _similarities(measured, known.embedding_SD)
    found = matching.match(similarities, group_NM, len(known.embedding_SD), matching.assign_greedily)
    # Misses are 0 in similarity_NMS.
    own_NM = np.take_along_axis(found.similarity_NMS, group_NM[:, :, None], axis=2)[:, :, 0]
    values = {
        "identity_similarity": np.maximum(own_NM.min(axis=1), 0.0),
        "face_detection_rate": found.detected_NM.mean(axis=1),
    }
    return IdentityScores(values, None, similarities, found)


def row(scores: IdentityScores, measured: Measured, n: int, subjects: list[str]) -> dict[str, Any]:
    """What picture n's row says of its faces: of one subject its face, of several all that count and who is
    who."""
    assert measured.faces is not None and measured.chosen is not None
    faces = [
        (_face(face), [round(float(x), 6) for x in similarity_S])
        for face, similarity_S in zip(measured.chosen[n], scores.similarities[n], strict=True)
    ]
    out: dict[str, Any] = {"num_faces": len(measured.faces[n])}
    if len(subjects) == 1:
        out["face"], out["similarity_to"] = faces[0] if faces else (None, None)
        return out
    out["faces"] = [{**face, "similarity_to": similarity} for face, similarity in faces]
    out["matches"] = [
        {
            "subject": name,
            "face": None if face == matching.UNMATCHED else int(face),
            "identity_similarity": None if face == matching.UNMATCHED else faces[face][1][own],
        }
        for name, face, own in zip(
            subjects, scores.matches.face_NM[n], scores.matches.group_NM[n], strict=True
        )
    ]
    return out


def _similarities(measured: Measured, embedding_SD: np.ndarray) -> list[np.ndarray]:
    """Cosines of the faces that count with every reference."""
    assert measured.embedding_NMD is not None and measured.chosen is not None
    num, size, width = measured.embedding_NMD.shape
    if not width:
        return [np.zeros((0, len(embedding_SD)))] * num
    similarity_NMS = identity.cosine(measured.embedding_NMD.reshape(-1, width), embedding_SD)
    similarity_NMS = similarity_NMS.reshape(num, size, -1)
    return [similarity_NMS[n, : len(faces)] for n, faces in enumerate(measured.chosen)]


def _heldout(
    measured: Measured, known: References, found: Matches, own_NM: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity to the held-out pictures (a miss is 0) and the copy-paste score (detected only), (N, M)."""
    assert measured.embedding_NMD is not None and known.embedding_SD is not None
    heldout_NM, pasted_NM = np.full(own_NM.shape, np.nan), np.full(own_NM.shape, np.nan)
    for (n, m), subject in np.ndenumerate(found.group_NM):
        others_HD = known.heldout[subject]
        if not len(others_HD):
            continue
        face = found.face_NM[n, m]
        if face == matching.UNMATCHED:
            heldout_NM[n, m] = 0.0
            continue
        to_heldout = identity.cosine(measured.embedding_NMD[n, face][None], others_HD)[0]
        apart = identity.cosine(known.embedding_SD[subject : subject + 1], others_HD)[0]
        heldout_NM[n, m] = to_heldout.mean()
        pasted_NM[n, m] = identity.copy_paste(np.full(len(apart), own_NM[n, m]), to_heldout, apart).mean()
    return heldout_NM, pasted_NM


def _face(face: Any) -> dict[str, Any]:
    return {
        "box": [round(float(x), 2) for x in face.box],
        "score": round(float(face.score), 5),
        "landmarks": np.round(np.asarray(face.landmarks_52, float), 2).tolist(),
    }
