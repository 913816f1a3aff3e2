"""Does the picture show what the prompt says? The raw cosine of image and text features, neither clipped nor
scaled."""

from __future__ import annotations

import numpy as np


def clip_score(image_ND: np.ndarray, text_ND: np.ndarray) -> np.ndarray:
    """Cosine (N) of each picture with its own prompt, in [-1, 1], float64."""
    image, text = np.asarray(image_ND, np.float64), np.asarray(text_ND, np.float64)
    if image.shape != text.shape:
        raise ValueError(f"one text for each image: {image.shape} and {text.shape}")
    norms = np.linalg.norm(image, axis=1) * np.linalg.norm(text, axis=1)
    return np.clip((image * text).sum(axis=1) / np.maximum(norms, 1e-12), -1.0, 1.0)
