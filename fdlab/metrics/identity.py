"""Does the drawn face belong to its subject, and to no other? Pure functions over similarities.

N faces that were asked for, one a picture and subject, S subjects. `similarity_NS[i, s]` is the cosine of
face i with the reference of subject s, `own_N[i]` the subject that was asked for, `detected_N[i]` whether a
face was found. Where none was, the row of similarities is ignored and the miss counts as the function says.

Pictures of several subjects come through `fdlab.metrics.matching`: faces i of one picture are then matched
to its subjects, `rivals_NS[i, s]` says which subjects are not in the picture, and only those are compared
with. Without it every subject but the own one is a rival.
"""

from __future__ import annotations

import numpy as np

_LARGEST = 1 << 26
"""Numbers in the largest array of `auc_replicates`."""


def cosine(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    """Cosine similarities (N, M) in [-1, 1], float64; a zero vector has similarity 0 to everything."""
    a, b = (np.asarray(x, np.float64) for x in (a_ND, b_MD))
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    return np.clip(a @ b.T, -1.0, 1.0)


def own_similarity(similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray) -> np.ndarray:
    """Similarity to the own reference, raw (never clipped), a miss is 0."""
    return np.where(detected_N, similarity_NS[np.arange(len(own_N)), own_N], 0.0)


def margin(
    similarity_NS: np.ndarray,
    own_N: np.ndarray,
    detected_N: np.ndarray,
    rivals_NS: np.ndarray | None = None,
) -> np.ndarray:
    """Own similarity minus the mean similarity to the rivals, a miss is 0. ValueError where one has no
    rival."""
    rows = np.arange(len(own_N))
    rivals_NS = _rivals(similarity_NS, own_N, rivals_NS)
    num_rivals_N = rivals_NS.sum(axis=1)
    if not num_rivals_N.all():
        raise ValueError("the margin needs a subject to compare with: two subjects or more")
    compared = rivals_NS.copy()
    compared[rows, own_N] = True
    safe = np.where(detected_N[:, None] & compared & np.isfinite(similarity_NS), similarity_NS, 0.0)
    own = safe[rows, own_N]
    return own - (safe.sum(axis=1) - own) / num_rivals_N


def rank1(
    similarity_NS: np.ndarray,
    own_N: np.ndarray,
    detected_N: np.ndarray,
    rivals_NS: np.ndarray | None = None,
) -> np.ndarray:
    """1.0 where the own reference is nearer than every rival's (a tie is not), a miss is 0."""
    own = similarity_NS[np.arange(len(own_N)), own_N]
    plays = _rivals(similarity_NS, own_N, rivals_NS) & np.isfinite(similarity_NS)
    best = np.where(plays, similarity_NS, -np.inf).max(axis=1)
    return (detected_N & (np.where(detected_N, own, 0.0) > best)).astype(np.float64)


def _rivals(similarity_NS: np.ndarray, own_N: np.ndarray, rivals_NS: np.ndarray | None) -> np.ndarray:
    if rivals_NS is not None:
        return rivals_NS
    return np.arange(similarity_NS.shape[1])[None] != np.asarray(own_N)[:, None]


def auc_table(
    similarity_NS: np.ndarray,
    own_N: np.ndarray,
    detected_N: np.ndarray,
    rivals_NS: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Won and played comparisons behind the AUC, by group of pictures and subject: `won_GGS`, `played_GGS`.

    A comparison sets the own similarity of a face of group a against the similarity of a face of group b to
    the reference of a rival c: entry [a, b, c]. A tie is half a win. Where no face was found there is no
    similarity: as the own side it wins half of its comparisons (chance); as the other side it does not play.
    `group_N` counts from 0 who is drawn together; by default it is the own subject.
    """
    num_subjects = similarity_NS.shape[1]
    own_N = np.asarray(own_N)
    num_groups = num_subjects if group_N is None else int(np.max(group_N)) + 1
    group_N = own_N if group_N is None else np.asarray(group_N)
    plays = detected_N[:, None] & _rivals(similarity_NS, own_N, rivals_NS) & np.isfinite(similarity_NS)
    rows, columns = np.nonzero(plays)
    other = similarity_NS[rows, columns]
    own = similarity_NS[np.arange(len(own_N)), own_N]
    cell = group_N[rows] * num_subjects + columns
    shape, size = (num_groups, num_subjects), num_groups * num_subjects
    played_cell = np.bincount(cell, minlength=size).reshape(shape)
    won = np.zeros((num_groups, *shape))
    played = np.zeros((num_groups, *shape))
    for group in range(num_groups):
        mine = group_N == group
        positives = np.sort(own[mine & detected_N])
        num_missed = int((mine & ~detected_N).sum())
        above = len(positives) - np.searchsorted(positives, other, side="right")
        not_below = len(positives) - np.searchsorted(positives, other, side="left")
        wins = np.bincount(cell, weights=(above + not_below) / 2, minlength=size)
        won[group] = wins.reshape(shape) + num_missed * played_cell / 2
        played[group] = (len(positives) + num_missed) * played_cell
    return won, played


def auc(
    similarity_NS: np.ndarray,
    own_N: np.ndarray,
    detected_N: np.ndarray,
    rivals_NS: np.ndarray | None = None,
) -> float:
    """Probability that an own similarity exceeds one to a rival's reference; NaN if nothing can be
    compared."""
    won, played = auc_table(similarity_NS, own_N, detected_N, rivals_NS)
    return float(won.sum() / played.sum()) if played.sum() else float("nan")


def auc_replicates(
    won_GGS: np.ndarray, played_GGS: np.ndarray, weights_RS: np.ndarray, weights_RG: np.ndarray | None = None
) -> np.ndarray:
    """AUC of every bootstrap replicate that holds subject s `weights_RS[r, s]` times, as probe and in the
    gallery. `weights_RG`, where groups are not single subjects, is how often it holds each group."""
    weights_RS = np.asarray(weights_RS, np.float64)
    weights_RG = weights_RS if weights_RG is None else np.asarray(weights_RG, np.float64)

    def total(table_GGS: np.ndarray, part: slice) -> np.ndarray:
        # Group a first: the largest array is then replicates x G x S.
        table_RGS = np.tensordot(weights_RG[part], table_GGS, axes=(1, 0))
        return np.asarray(
            np.einsum("rbc,rb,rc->r", table_RGS, weights_RG[part], weights_RS[part], optimize=True)
        )

    at_once = max(1, _LARGEST // won_GGS[0].size)
    parts = [slice(start, start + at_once) for start in range(0, len(weights_RS), at_once)]
    won, played = (np.concatenate([total(table, part) for part in parts]) for table in (won_GGS, played_GGS))
    return np.where(played > 0, won / np.maximum(played, 1e-12), np.nan)


def copy_paste(
    to_reference_N: np.ndarray, to_heldout_N: np.ndarray, reference_to_heldout_N: np.ndarray
) -> np.ndarray:
    """How much nearer a face lies to the shown reference than to another picture of the same person, in [-1,
    1].

    `(angle(face, heldout) - angle(face, reference)) / angle(reference, heldout)`: 1 for a copy of the
    reference, 0 for a face as near to both, negative when the held-out picture is nearer. Inputs are cosines.
    After the copy-paste score of WithAnyone (arXiv 2510.14975).
    """
    reference, heldout, apart = (
        np.arccos(np.clip(x, -1.0, 1.0)) for x in (to_reference_N, to_heldout_N, reference_to_heldout_N)
    )
    return np.clip((heldout - reference) / np.maximum(apart, 1e-6), -1.0, 1.0)
