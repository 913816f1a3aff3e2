"""Every metric by name: what it is called, its unit, which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """What a metric's name means."""

    label: str
    unit: str
    higher_is_better: bool
    version: str = "1"
    decimals: int = 3


METRICS: dict[str, Spec] = {
    "identity_similarity": Spec("identity", "cosine", True),
    "identity_similarity_detected": Spec("identity, detected", "cosine", True),
    "face_detection_rate": Spec("faces found", "share", True),
    "identity_margin": Spec("identity margin", "cosine", True),
    "identity_rank1": Spec("rank-1", "share", True),
    "identity_auc": Spec("identity AUC", "probability", True),
    "identity_similarity_min": Spec("identity, worst subject", "cosine", True),
    "identity_blending": Spec("blending", "cosine", False),
    "face_count_accuracy": Spec("face count", "share", True),
    "identity_heldout": Spec("identity, held-out", "cosine", True),
    "copy_paste": Spec("copy-paste", "relative angle", False),
    "clip_score": Spec("CLIP score", "cosine", True),
    "fid": Spec("FID", "distance", False, decimals=2),
    "frechet_distance": Spec("Frechet", "distance", False, decimals=2),
    "kernel_distance": Spec("kernel distance", "distance", False),
    "cmmd": Spec("CMMD", "distance", False),
    "prompt_accuracy": Spec("prompt", "share", True),
}
