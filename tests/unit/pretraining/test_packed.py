from __future__ import annotations

import numpy as np
import pytest

from fdlab.data import layout
from fdlab.errors import UserError
from fdlab.pretraining.packed import load_array, load_list, person_phrases, pixel_weights


def test_each_person_gets_what_is_said_of_them():
    caption = (
        "a photo of an old woman with glasses in a red shirt, a man with black hair and a beard"
        " and a man smiling on a beach at sunset"
    )
    ends = [caption.index("woman") + 5, caption.index("a man with") + 5, caption.index("man smiling") + 3]
    assert person_phrases(caption, ends, "on a beach") == [
        "an old woman with glasses in a red shirt",
        "a man with black hair and a beard",
        "a man smiling",
    ]
    assert person_phrases("a woman sitting outside", [7]) == ["a woman sitting outside"]
    assert person_phrases("Woman", [5]) == ["Woman"]
    assert person_phrases("nobody", []) == []


def test_heads_count_most_and_the_background_least():
    segments = np.zeros((40, 20), np.uint8)
    segments[10:40, 5:15] = 2
    known = pixel_weights(segments, pixels_a_decimetre=5.0)
    assert known[0, 0] == 1 and known[10, 5] == known[23, 10] == 4 and known[24, 10] == known[39, 10] == 2
    guessed = pixel_weights(segments, None)
    assert guessed[25, 10] == 4 and guessed[27, 10] == 2


def test_packed_arrays_hold_what_was_rendered(people, packed):
    images, weights = load_array(packed, "images.npy"), load_array(packed, "weights.npy")
    assert (
        images.shape == (96, 32, 32, 3)
        and weights.shape == (96, 32, 32)
        and set(np.unique(weights)) == {1, 2, 4}
    )
    sample = layout.read_sample(people, "000000005")
    assert np.abs(images[5].astype(int).mean((0, 1)) - sample.image_HW3.mean((0, 1))).max() < 3
    crops, who = load_array(packed, "crops.npy"), load_array(packed, "crop_identity.npy")
    assert crops.shape == (96, 24, 24, 4) and np.array_equal(who, np.arange(96) % 24)
    assert crops[5, 12, 12, 3] == 255 and crops[5, 0, 0, 3] == 0
    assert load_list(packed, "crop_caption.json")[5] in load_list(packed, "captions.json")[5]
    assert load_list(packed, "truths.json")[5]["people"][0]["identity"] == 5
    assert not list(packed.glob(".*"))


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(UserError, match=r"crops\.npy"):
        load_array(tmp_path, "crops.npy")
    with pytest.raises(UserError, match=r"truths\.json"):
        load_list(tmp_path, "truths.json")
