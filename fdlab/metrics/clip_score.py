"""Does the picture show what the prompt says? The raw cosine of image and text features, neither clipped nor
scaled."""

from __future__ import annotations

import numpy as np

from fdlab.metrics.metric import Measurements, Metric


def clip_score(image_ND: np.ndarray, text_ND: np.ndarray) -> np.ndarray:
    """Cosine (N) of each picture with its own prompt, in [-1, 1], float64."""
    image, text = np.asarray(image_ND, np.float64), np.asarray(text_ND, np.float64)
    if image.shape != text.shape:
        raise ValueError(f"one text for each image: {image.shape} and {text.shape}")
    norms = np.linalg.norm(image, axis=1) * np.linalg.norm(text, axis=1)
    return np.clip((image * text).sum(axis=1) / np.maximum(norms, 1e-12), -1.0, 1.0)


def _score(seen: Measurements) -> np.ndarray:
    assert seen.clip_ND is not None and seen.text_ND is not None
    return clip_score(seen.clip_ND, seen.text_ND)


def _truncated(seen: Measurements) -> dict[str, int]:
    assert seen.truncated_P is not None
    return {"num_truncated_prompts": int(seen.truncated_P.sum())}


METRICS = (
    Metric(
        "clip_score", "CLIP score", "cosine", True, _score, ("clip",),
        "cosine of a picture and its prompt",
        place=12, recorded=12, column=9, tile=6, rank=4, more=_truncated,
    ),
)  # fmt: skip
