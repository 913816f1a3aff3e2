"""experiments/nano/make_shards.py: what was cut off goes on with the pictures that it has."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fdlab.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[3] / "experiments/nano"))
import make_shards
import shards


@pytest.fixture
def rendered(monkeypatch):
    """The ranges rendered, a picture of one person drawn as its number."""
    ranges = []
    monkeypatch.setattr(shards, "spec_of", lambda mix, num, seed, index: Spec(index))
    monkeypatch.setattr(shards.picture, "describe", lambda spec: (f"picture {spec.index}", 7))
    monkeypatch.setattr(shards.picture, "render", Made)
    plain = shards.render

    def render(*given):
        ranges.append(given[3:5])
        return plain(*given)

    monkeypatch.setattr(shards, "render", render)
    return ranges


class Spec:
    """One person; two where the number ends in 9."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.people = [(index, None), (index + 1, None)][: 2 if index % 10 == 9 else 1]


class Made:
    """A picture that its number decides."""

    def __init__(self, spec: Spec, size: int) -> None:
        rng = np.random.default_rng(spec.index)
        self.image_HW3 = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        self.segments_HW = rng.integers(0, 2, (size, size))


@pytest.mark.parametrize("each", [1, 2])
def test_a_shard_cut_off_goes_on_and_is_the_same(tmp_path, rendered, each):
    folder, which = tmp_path / "pieces", ("mix", 100, 5, 3, 50, each)
    whole = shards.render(*which)
    made = make_shards.rendered(folder, *which)
    rendered.clear()
    (folder / "000023.npz").unlink()
    again = make_shards.rendered(folder, *which)
    assert rendered == [(23, 43)]
    for found in (made, again):
        assert found.keys() == whole.keys() and found["captions"] == whole["captions"]
        for name in whole.keys() - {"captions"}:
            assert found[name].dtype == whole[name].dtype
            np.testing.assert_array_equal(found[name], whole[name])


def test_pictures_of_which_none_fits_are_refused(tmp_path, rendered):
    with pytest.raises(UserError, match=r"of the pictures 0 to 8 of 'mix' none shows 2 people"):
        make_shards.rendered(tmp_path / "pieces", "mix", 100, 5, 0, 9, 2)
