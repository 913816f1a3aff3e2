"""Which found face is which subject of the picture, and how like the others. Pure functions.

N pictures, F faces of a picture, M subjects a picture, S subjects. `similarity_FS` holds cosines of faces
with references. A prompt does not say who stands where, so faces are matched to subjects one to one by
likeness: two people who change places are no fault, a stranger in the place of one is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

UNMATCHED = -1


def assign(similarity_FM: np.ndarray) -> np.ndarray:
    """Match faces to subjects one to one so that the sum of similarities is largest: face_M, -1 for none.

    As many are matched as there are faces and subjects, however unlike: similarities are never clipped.
    """
    face_M = np.full(similarity_FM.shape[1], UNMATCHED)
    faces, subjects = linear_sum_assignment(similarity_FM, maximize=True)
    face_M[subjects] = faces
    return face_M


def assign_greedily(similarity_FM: np.ndarray) -> np.ndarray:
    """Match the most similar face and subject, then the most similar of what is left: face_M, -1 for none.

    As published evaluations do; its sum of similarities is often less than `assign`'s.
    """
    face_M = np.full(similarity_FM.shape[1], UNMATCHED)
    left_FM = np.array(similarity_FM, np.float64)
    for _ in range(min(left_FM.shape)):
        face, subject = np.unravel_index(left_FM.argmax(), left_FM.shape)
        face_M[subject] = face
        left_FM[face], left_FM[:, subject] = -np.inf, -np.inf
    return face_M


@dataclass(frozen=True)
class Matches:
    """Faces matched to the subjects of each picture."""

    group_NM: np.ndarray
    """Whom each picture was asked to show."""
    face_NM: np.ndarray
    """The face matched to each, -1 for none."""
    similarity_NMS: np.ndarray
    """See `match`; NaN where the one compared with gets no face, all 0 where the subject itself gets none."""
    blending_N: np.ndarray
    """See `blending`."""

    @property
    def detected_NM(self) -> np.ndarray:
        return self.face_NM != UNMATCHED

    @property
    def rivals_NMS(self) -> np.ndarray:
        """Subjects that are not in the picture."""
        rivals_NS = np.ones((len(self.group_NM), self.similarity_NMS.shape[2]), bool)
        np.put_along_axis(rivals_NS, self.group_NM, False, axis=1)
        return np.repeat(rivals_NS[:, None], self.group_NM.shape[1], axis=1)

    def take(self, pictures_N: np.ndarray) -> Matches:
        """The same of some pictures, by mask or by index."""
        return Matches(
            self.group_NM[pictures_N],
            self.face_NM[pictures_N],
            self.similarity_NMS[pictures_N],
            self.blending_N[pictures_N],
        )

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One line a subject asked for, as `identity` takes it: similarities, own, detected, rivals."""
        num_subjects = self.similarity_NMS.shape[2]
        return (
            self.similarity_NMS.reshape(-1, num_subjects),
            self.group_NM.reshape(-1),
            self.detected_NM.reshape(-1),
            self.rivals_NMS.reshape(-1, num_subjects),
        )


def match(
    similarities: Sequence[np.ndarray],
    group_NM: np.ndarray,
    num_subjects: int,
    assign: Callable[[np.ndarray], np.ndarray] = assign,
) -> Matches:
    """Match the faces of every picture (one `similarity_FS` a picture).

    `similarity_NMS[n, m, s]` is the matched face's for s the subject itself and for those beside it. For any
    other s it is that of the face which s gets when s takes the place of subject m and faces are matched
    again: the match favours whoever is asked for, so that who is not must be favoured alike. With this, a
    method that ignores its references has an AUC of one half, as with one subject a picture.
    """
    num_pictures, size = group_NM.shape
    face_NM = np.full((num_pictures, size), UNMATCHED)
    similarity_NMS = np.zeros((num_pictures, size, num_subjects))
    blending_N = np.full(num_pictures, np.nan)
    for n, (similarity_FS, group_M) in enumerate(zip(similarities, group_NM, strict=True)):
        face_NM[n] = assign(similarity_FS[:, group_M])
        blending_N[n] = blending(similarity_FS, group_M, face_NM[n])
        for m, face in enumerate(face_NM[n]):
            if face == UNMATCHED:
                continue
            similarity_NMS[n, m] = similarity_FS[face]
            if size > 1:
                for s in np.setdiff1d(np.arange(num_subjects), group_M):
                    other = assign(similarity_FS[:, [*group_M[:m], s, *group_M[m + 1 :]]])[m]
                    similarity_NMS[n, m, s] = np.nan if other == UNMATCHED else similarity_FS[other, s]
    return Matches(group_NM, face_NM, similarity_NMS, blending_N)


def blending(similarity_FS: np.ndarray, group_M: np.ndarray, face_M: np.ndarray) -> float:
    """Mean similarity of the matched faces to the *other* subjects of their picture; NaN without any.

    Raw cosines off the diagonal of faces and subjects, lower is better. The floor is not 0 but how alike the
    subjects are: what true pictures of them score. Faces like nobody lie a little lower still, as matching
    gives each subject the face that is more like it.
    """
    own = [m for m, face in enumerate(face_M) if face != UNMATCHED]
    values = [similarity_FS[face_M[m], group_M[k]] for m in own for k in range(len(group_M)) if k != m]
    return float(np.mean(values)) if values else float("nan")
