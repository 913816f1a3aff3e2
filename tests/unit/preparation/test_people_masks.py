"""One matte of everybody, told apart by faces: on rendered people, and on shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from fdlab.errors import UserError
from fdlab.preparation.masks import facing
from fdlab.preparation.people_masks import bounds, expected_iou, tell_apart


def bodies(*columns: tuple[int, int], shape: tuple[int, int] = (60, 100)) -> np.ndarray:
    """A matte of upright slabs between columns, from row 10 to the lower edge."""
    matte_HW = np.zeros(shape, np.float32)
    for left, right in columns:
        matte_HW[10:, left:right] = 1
    return matte_HW


def face(x: float, y: float = 16, half: float = 6) -> list[float]:
    return [x - half, y - half, x + half, y + half]


def test_people_that_do_not_touch_are_their_parts() -> None:
    matte_HW = bodies((5, 30), (60, 90))
    left, right = tell_apart(matte_HW, np.array([face(17), face(75)]))
    assert (left.mask_HW == (bodies((5, 30)) > 0)).all() and (right.mask_HW == (bodies((60, 90)) > 0)).all()
    assert left.box == (5, 10, 30, 60) and right.box == (60, 10, 90, 60)
    assert (left.face, right.face) == (0, 1) and min(left.score, right.score) > 0.9


def test_people_that_touch_are_parted_midway_and_share_no_pixel() -> None:
    matte_HW = bodies((10, 90))
    left, right = tell_apart(matte_HW, np.array([face(30), face(70)]))
    assert not (left.mask_HW & right.mask_HW).any()
    assert (left.mask_HW == right.mask_HW[:, ::-1]).all()
    assert ((left.mask_HW | right.mask_HW) == (matte_HW > 0)).all()
    alone = tell_apart(bodies((10, 50)), np.array([face(30)]))[0]
    assert left.score < alone.score, "the seam is a guess, and the score says so"


def test_what_hangs_on_no_face_is_nobodys_unless_it_is_near() -> None:
    matte_HW = bodies((5, 25))
    matte_HW[12:20, 70:80] = 1  # far away
    matte_HW[28:31, 26:28] = 1  # a hand
    (person,) = tell_apart(matte_HW, np.array([face(15)]))
    assert not person.mask_HW[:, 60:].any() and person.mask_HW[29, 26]


def test_a_face_that_the_matte_does_not_show_has_no_mask() -> None:
    found = tell_apart(bodies((5, 30)), np.array([face(80), face(17), face(-200)]))
    assert [person.face for person in found] == [1]
    assert tell_apart(np.zeros((20, 20)), np.array([face(10)])) == []
    assert tell_apart(bodies((5, 30)), np.zeros((0, 4))) == []


def test_the_score_falls_as_the_matte_wavers() -> None:
    scores = [tell_apart(bodies((10, 50)) * sure, np.array([face(30)]))[0].score for sure in (1.0, 0.8, 0.6)]
    assert scores == pytest.approx([1.0, 0.8, 0.6], abs=1e-6)
    mask_HW = np.array([[True, False]])
    assert expected_iou(mask_HW, np.array([[1.0, 1.0]])) == 0.5
    assert bounds(mask_HW) == (0, 0, 1, 1)


@pytest.mark.parametrize("matte", [np.zeros((4, 4, 1)), np.full((4, 4), np.nan)])
def test_what_is_no_matte_is_refused(matte: np.ndarray) -> None:
    with pytest.raises(UserError, match="matte of shape"):
        tell_apart(matte, np.zeros((1, 4)))


def test_colours_draw_the_seam_towards_where_they_change() -> None:
    matte_HW, boxes_F4 = bodies((10, 90)), np.array([face(30), face(70)])
    image_HW3 = np.zeros((60, 100, 3), np.uint8)
    image_HW3[:, :60], image_HW3[:, 60:] = (200, 40, 40), (40, 40, 200)
    for given, first, last in ((None, 50, 50), (image_HW3, 54, 60)):
        left, right = tell_apart(matte_HW, boxes_F4, given)
        # Below the shoulders; heads are surer of their pixels.
        assert first <= left.mask_HW[55].sum() + 10 <= last
        assert ((left.mask_HW ^ right.mask_HW) == (matte_HW > 0)).all()


def test_the_larger_face_hides_the_other() -> None:
    left, right = tell_apart(bodies((10, 90)), np.array([face(30, half=8), face(70, half=5)]))
    assert left.box[2] > 55 and not (left.mask_HW & right.mask_HW).any()


def test_a_mask_that_misses_its_own_face_is_nobodys() -> None:
    labels_HW = np.zeros((60, 100), np.uint8)
    labels_HW[10:60, 5:35] = 1
    # The second one's mask begins at the chin, the third's has 60 % of the face.
    labels_HW[30:60, 40:60], labels_HW[10:60, 76:100] = 2, 3
    boxes_F4 = np.array([[10, 10, 30, 30], [40, 10, 60, 30], [71, 10, 91, 30]], float)
    kept_HW, scores = facing(labels_HW, {0: 0.9, 1: 0.8, 2: 0.7}, boxes_F4)
    assert scores == {0: 0.9, 2: 0.7} and set(np.unique(kept_HW)) == {0, 1, 3}
    np.testing.assert_array_equal(kept_HW[labels_HW != 2], labels_HW[labels_HW != 2])
