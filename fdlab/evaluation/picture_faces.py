"""What per_sample.jsonl says of a picture's faces. F faces and M subjects of it, S subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdlab.metrics import matching


def of_picture(
    num_found: int,
    counted: Sequence[Any],
    similarity_FS: np.ndarray,
    subjects: Sequence[str],
    face_M: np.ndarray,
    group_M: np.ndarray,
) -> dict[str, Any]:
    """How many faces were found and, of those that count, box, score, landmarks and likeness to everybody.

    Of several subjects also who is who: `face_M` is the face matched to each, `group_M` its place in S.
    """
    found = [
        (_face(face), [round(float(x), 6) for x in similarity_S])
        for face, similarity_S in zip(counted, similarity_FS, strict=True)
    ]
    out: dict[str, Any] = {"num_faces": num_found}
    if len(subjects) == 1:
        out["face"], out["similarity_to"] = found[0] if found else (None, None)
        return out
    out["faces"] = [{**face, "similarity_to": similarity} for face, similarity in found]
    out["matches"] = [
        {
            "subject": name,
            "face": None if face == matching.UNMATCHED else int(face),
            "identity_similarity": None if face == matching.UNMATCHED else found[face][1][own],
        }
        for name, face, own in zip(subjects, face_M, group_M, strict=True)
    ]
    return out


def _face(face: Any) -> dict[str, Any]:
    return {
        "box": [round(float(x), 2) for x in face.box],
        "score": round(float(face.score), 5),
        "landmarks": np.round(np.asarray(face.landmarks_52, float), 2).tolist(),
    }
