"""What a picture shows of its prompt: cosines and shares, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fdlab.metrics.clip_score import clip_score
from fdlab.metrics.prompt_accuracy import correct, prompt_accuracy


def test_clip_score_is_the_raw_cosine() -> None:
    image_ND = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    text_ND = np.array([[5.0, 0.0], [1.0, 0.0], [0.0, 7.0], [2.0, 0.0], [1.0, 0.0]])
    assert clip_score(image_ND, text_ND).tolist() == pytest.approx([1.0, 0.0, np.sqrt(0.5), -1.0, 0.0])
    many = np.random.default_rng(0).normal(size=(2000, 8)) * 1e-3
    assert np.abs(clip_score(many, many)).max() <= 1.0 and np.abs(clip_score(many, -many)).max() <= 1.0
    with pytest.raises(ValueError, match="one text for each image"):
        clip_score(image_ND, text_ND[:2])


def test_shares_of_what_was_asked_for() -> None:
    judged = {"scene": ["beach", "forest", "beach"], "hair": ["red", "red", "black"]}
    truth = [{"scene": "beach", "hair": "black"}, {"scene": "forest"}, {"hat": "top"}]
    right = correct(judged, truth)
    assert right == [{"scene": True, "hair": False}, {"scene": True}, {}]
    shares = prompt_accuracy(right)
    assert shares[:2].tolist() == [0.5, 1.0] and np.isnan(shares[2])
    with pytest.raises(ValueError, match="gave 3 answers for 'scene', not 2"):
        correct(judged, truth[:2])
