"""The detector's edges: empty pictures, odd sizes, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fdlab.errors import UserError
from fdlab.measure.faces import Face, FaceDetector, FaceRecogniser, by_size, largest


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 11, 40, 3), (1, 40, 300, 3), (0, 64, 64, 3)])
def test_pictures_without_a_face_give_empty_lists(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    assert detector(np.zeros(shape, np.uint8)) == [[] for _ in range(shape[0])]


def test_lists_may_mix_sizes(detector: FaceDetector) -> None:
    assert detector([np.zeros((20, 30, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]) == [[], []]


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8), np.uint8)]
)
def test_other_layouts_are_refused(detector: FaceDetector, bad: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"uint8 \(B, H, W, 3\)"):
        detector(bad)


def test_min_face_is_checked() -> None:
    with pytest.raises(UserError, match="min_face"):
        FaceDetector(min_face=0)


def test_smallest_face_bounds_the_pyramid(detector: FaceDetector) -> None:
    scales = detector.cascade.scales(200, 100)
    assert scales[0] == pytest.approx(12 / 12) and min(scales) * 100 >= 12
    assert detector.cascade.scales(1000, 2000)[0] == pytest.approx(12 / 120)


def test_largest_goes_by_area() -> None:
    points = np.zeros((5, 2), np.float32)
    small, big = Face((0, 0, 5, 5), 0.99, points), Face((0, 0, 9, 4), 0.8, points)
    assert largest([small, big]) is big and largest([]) is None


def test_no_faces_no_rows_and_names_say_what_is_measured() -> None:
    recogniser = FaceRecogniser()
    assert recogniser.embed(np.zeros((2, 32, 32, 3), np.uint8), [[], []]).shape == (0, 128)
    plain = FaceRecogniser(centered=False)
    assert (recogniser.name, plain.name) == ("dlib_resnet_centered", "dlib_resnet")
    assert recogniser.sha256 != plain.sha256 and len(recogniser.sha256) == len(plain.sha256) == 64
    assert not recogniser.network.training
    row = torch.ones(1, 128)
    assert torch.allclose(plain.normalised(row).norm(), torch.tensor(1.0))


def test_faces_come_by_area_and_equals_in_their_order() -> None:
    def face(*box: float) -> Face:
        return Face(box, 0.9, np.zeros((5, 2), np.float32))  # type: ignore[arg-type]

    small, wide, tall, turned = face(0, 0, 1, 1), face(0, 0, 6, 1), face(0, 0, 2, 3), face(3, 3, 1, 9)
    assert by_size([small, tall, turned, wide]) == [tall, wide, small, turned]
    assert by_size([small, wide, tall]) == [wide, tall, small] and by_size([]) == []
