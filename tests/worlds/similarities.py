"""Records with pictures, made of random similarities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fdlab.metrics import bootstrap, identity
from fdlab.records import record

SUBJECTS, PROMPTS = 6, 4
FACES, CLIP = {"name": "faces", "sha256": "1" * 64}, {"name": "clip", "sha256": "2" * 64}


def build(
    name: str, strength: float, seed: int, missed: tuple[int, ...] = ()
) -> tuple[dict[str, Any], list[Any]]:
    """A record and its rows; `strength` is how like their subject faces are, `missed` has none."""
    rng = np.random.default_rng(seed)
    own_N = np.repeat(np.arange(SUBJECTS), PROMPTS)
    similarity_NS = rng.normal(0, 0.2, (len(own_N), SUBJECTS)).round(6)
    similarity_NS[np.arange(len(own_N)), own_N] += strength
    similarity_NS = similarity_NS.clip(-1, 1).round(6)
    detected_N = ~np.isin(np.arange(len(own_N)), missed)
    own = identity.own_similarity(similarity_NS, own_N, detected_N)
    clip = rng.normal(0.2, 0.05, len(own_N)).round(6)
    rows = []
    for n, subject in enumerate(own_N):
        who, prompt = f"s{subject:02d}", f"p{n % PROMPTS:02d}"
        face = {"box": [0, 0, 8, 8], "score": 1.0, "landmarks": []} if detected_N[n] else None
        rows.append({
            "id": f"{who}-{prompt}-0", "subject": who, "subjects": [who], "prompt": prompt, "index": 0,
            "category": "c", "seed": n, "text": "a man", "file": "x.png", "face": face,
            "similarity_to": similarity_NS[n].tolist() if detected_N[n] else None,
            "identity_similarity": float(own[n]) if detected_N[n] else None, "clip_score": float(clip[n]),
        })  # fmt: skip

    def mean(values: np.ndarray) -> bootstrap.Estimate:
        found = bootstrap.mean(values, own_N, 0)
        assert found
        return found

    auc = bootstrap.Estimate(identity.auc(similarity_NS, own_N, detected_N), None, None, len(own_N))
    distance = bootstrap.Estimate(12.0, None, None, len(own_N))
    metrics = {
        "identity_similarity": record.metric("identity_similarity", mean(own), FACES),
        "identity_similarity_detected": record.metric(
            "identity_similarity_detected", mean(np.where(detected_N, own, np.nan)), FACES
        ),
        "face_detection_rate": record.metric("face_detection_rate", mean(detected_N.astype(float)), FACES),
        "identity_auc": record.metric("identity_auc", auc, FACES),
        "clip_score": record.metric("clip_score", mean(clip), CLIP),
        "frechet_distance": record.metric("frechet_distance", distance, CLIP),
    }
    about = {
        "name": "faces", "version": "1", "sha256": "a" * 64, "num_subjects": SUBJECTS,
        "num_prompts": PROMPTS, "images_per_prompt": 1,
    }  # fmt: skip
    return record.build(about, {"name": name}, metrics, {"kind": "measured", "created": "now"}), rows


def write(
    folder: Path, strength: float = 0.3, seed: int = 0, missed: tuple[int, ...] = (), edit: Any = None
) -> Path:
    """Write a run of that name with a record and rows; `edit` may change both first. Returns `folder`."""
    made, rows = build(folder.name, strength, seed, missed)
    if edit:
        edit(made, rows)
    record.write(folder / "evaluation", made, rows)
    return folder
