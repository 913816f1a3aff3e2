"""Does the drawn face belong to its subject, and to no other? Pure functions over similarities.

N images, S subjects. `similarity_NS[i, s]` is the cosine between the face of image i and the reference of
subject s, `own_N[i]` the subject image i was drawn for, `detected_N[i]` whether a face was found. Where none
was, the row of similarities is ignored and the miss counts as the function says.
"""

from __future__ import annotations

import numpy as np


def cosine(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    """Cosine similarities (N, M) in [-1, 1], float64; a zero vector has similarity 0 to everything."""
    a, b = (np.asarray(x, np.float64) for x in (a_ND, b_MD))
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    return np.clip(a @ b.T, -1.0, 1.0)


def own_similarity(similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray) -> np.ndarray:
    """Similarity to the own reference, raw (never clipped), a miss is 0."""
    return np.where(detected_N, similarity_NS[np.arange(len(own_N)), own_N], 0.0)


def margin(similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray) -> np.ndarray:
    """Own similarity minus the mean similarity to the other subjects, a miss is 0. ValueError for one
    subject."""
    num_subjects = similarity_NS.shape[1]
    if num_subjects < 2:
        raise ValueError("the margin needs two subjects or more")
    safe = np.where(detected_N[:, None], similarity_NS, 0.0)
    own = safe[np.arange(len(own_N)), own_N]
    return own - (safe.sum(axis=1) - own) / (num_subjects - 1)


def rank1(similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray) -> np.ndarray:
    """1.0 where the own reference is nearer than every other subject's (a tie is not), a miss is 0."""
    rows = np.arange(len(own_N))
    safe = np.where(detected_N[:, None], similarity_NS, 0.0)
    own = safe[rows, own_N]
    others = safe.copy()
    others[rows, own_N] = -np.inf
    return ((own > others.max(axis=1)) & detected_N).astype(np.float64)


def auc_table(
    similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Won and played comparisons behind the AUC, by subject: `won_SSS`, `played_SSS`.

    A comparison sets the own similarity of an image of subject a against the similarity of an image of
    subject b to the reference of another subject c: entry [a, b, c], c != b. A tie is half a win. An image
    without a face has no similarity: as the own side it wins half of its comparisons (chance); as the other
    side it does not play.
    """
    num_subjects = similarity_NS.shape[1]
    own_N = np.asarray(own_N)
    rows, columns = np.nonzero(detected_N[:, None] & (np.arange(num_subjects)[None] != own_N[:, None]))
    other = similarity_NS[rows, columns]
    group = own_N[rows] * num_subjects + columns
    played_group = np.bincount(group, minlength=num_subjects**2).reshape(num_subjects, num_subjects)
    won = np.zeros((num_subjects,) * 3)
    played = np.zeros((num_subjects,) * 3)
    for subject in range(num_subjects):
        mine = own_N == subject
        positives = np.sort(similarity_NS[mine & detected_N, subject])
        num_missed = int((mine & ~detected_N).sum())
        above = len(positives) - np.searchsorted(positives, other, side="right")
        not_below = len(positives) - np.searchsorted(positives, other, side="left")
        wins = np.bincount(group, weights=(above + not_below) / 2, minlength=num_subjects**2)
        won[subject] = wins.reshape(num_subjects, num_subjects) + num_missed * played_group / 2
        played[subject] = (len(positives) + num_missed) * played_group
    return won, played


def auc(similarity_NS: np.ndarray, own_N: np.ndarray, detected_N: np.ndarray) -> float:
    """Probability that an own similarity exceeds one to another subject's reference; NaN if nothing can be
    compared."""
    won, played = auc_table(similarity_NS, own_N, detected_N)
    return float(won.sum() / played.sum()) if played.sum() else float("nan")


def auc_replicates(won_SSS: np.ndarray, played_SSS: np.ndarray, weights_RS: np.ndarray) -> np.ndarray:
    """AUC of every bootstrap replicate that holds subject s `weights_RS[r, s]` times, as probe and in the
    gallery."""
    weights = np.asarray(weights_RS, np.float64)

    def total(table_SSS: np.ndarray) -> np.ndarray:
        # Subject a first: the largest array is then replicates x S x S.
        table_RSS = np.tensordot(weights, table_SSS, axes=(1, 0))
        return np.asarray(np.einsum("rbc,rb,rc->r", table_RSS, weights, weights, optimize=True))

    won, played = total(won_SSS), total(played_SSS)
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
