"""Every identity metric of matched faces. N pictures, M subjects a picture, S subjects.

Where a picture shows several subjects, its value is the mean over them; one without a face counts as a miss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fdlab.metrics import identity
from fdlab.metrics.matching import Matches
from fdlab.metrics.metric import Measurements, Metric


def mean_of_subjects(values_NM: np.ndarray) -> np.ndarray:
    """Mean over a picture's subjects that are not NaN; NaN where all are."""
    here = np.isfinite(values_NM)
    total, num = np.where(here, values_NM, 0.0).sum(axis=1), here.sum(axis=1)
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)


def _found(seen: Measurements) -> Matches:
    assert seen.matches is not None
    return seen.matches


def _similarity(seen: Measurements) -> np.ndarray:
    if seen.least_of_group:
        return np.maximum(seen.own_NM.min(axis=1), 0.0)
    return np.asarray(seen.own_NM.mean(axis=1))


def _detected(seen: Measurements) -> np.ndarray:
    return mean_of_subjects(np.where(_found(seen).detected_NM, seen.own_NM, np.nan))


def _detected_in(picture: Mapping[str, Any]) -> float:
    if "matches" not in picture:
        value = picture.get("identity_similarity")
        return float("nan") if value is None else float(value)
    found = [m["identity_similarity"] for m in picture["matches"] if m["identity_similarity"] is not None]
    return float(np.mean(found)) if found else float("nan")


def _rate(seen: Measurements) -> np.ndarray:
    return np.asarray(_found(seen).detected_NM.mean(axis=1))


def _rate_in(picture: Mapping[str, Any]) -> float:
    if "matches" in picture:
        return float(np.mean([match["face"] is not None for match in picture["matches"]]))
    if "face" not in picture and "faces" not in picture:
        return float("nan")
    return float(bool(picture.get("faces") or picture.get("face")))


def _count(seen: Measurements) -> np.ndarray:
    assert seen.num_faces_N is not None
    return (seen.num_faces_N == seen.group_NM.shape[1]).astype(np.float64)


def _least(seen: Measurements) -> np.ndarray:
    return np.asarray(seen.own_NM.min(axis=1))


def _blending(seen: Measurements) -> np.ndarray:
    return _found(seen).blending_N


def _margin(seen: Measurements) -> np.ndarray:
    return mean_of_subjects(identity.margin(*_found(seen).flat()).reshape(seen.group_NM.shape))


def _rank1(seen: Measurements) -> np.ndarray:
    return mean_of_subjects(identity.rank1(*_found(seen).flat()).reshape(seen.group_NM.shape))


METRICS = (
    Metric(
        "identity_similarity", "identity", "cosine", True, _similarity, ("faces",),
        "likeness to the own reference; a subject without a face counts 0",
        place=1, recorded=1, column=1, tile=2, rank=2, empty_without_face=True,
    ),
    Metric(
        "identity_similarity_detected", "identity, detected", "cosine", True, _detected, ("faces",),
        "the same over the subjects that got a face",
        place=2, recorded=2, kept=False, detected_only=True, from_picture=_detected_in,
    ),
    Metric(
        "face_detection_rate", "faces found", "share", True, _rate, ("faces",),
        "share of subjects that got a face",
        place=3, recorded=3, column=6, tile=4, kept=False, from_picture=_rate_in,
    ),
    Metric(
        "identity_margin", "identity margin", "cosine", True, _margin, ("faces", "other subjects"),
        "likeness to the own reference minus the mean likeness to the other subjects'",
        range=(-2.0, 2.0), place=4, recorded=7, empty_without_face=True,
    ),
    Metric(
        "identity_rank1", "rank-1", "share", True, _rank1, ("faces", "other subjects"),
        "share of faces that are nearest to their own reference",
        place=5, recorded=8, column=5, tile=3, empty_without_face=True,
    ),
    Metric(
        "identity_similarity_min", "identity, worst subject", "cosine", True, _least,
        ("faces", "several subjects"), "likeness of the picture's least like subject",
        place=7, recorded=5, column=2, empty_without_face=True,
    ),
    Metric(
        "identity_blending", "blending", "cosine", False, _blending, ("faces", "several subjects"),
        "likeness of faces to the other subjects of their picture",
        place=8, recorded=6, column=3, empty_without_face=True, detected_only=True,
    ),
    Metric(
        "face_count_accuracy", "face count", "share", True, _count, ("faces",),
        "share of pictures with as many faces as subjects",
        place=9, recorded=4, column=7,
    ),
)  # fmt: skip
