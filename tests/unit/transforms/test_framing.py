"""Windows hold the subjects, and picture and labels stay one."""

from __future__ import annotations

import numpy as np
import pytest

from fdlab.transforms.framing import Framing, framed, resize, resize_labels, window

COLOURS = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)


def painted(height: int, width: int, *boxes: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A picture in which each label (box: top, bottom, left, right) has a colour of its own."""
    segments_HW = np.zeros((height, width), np.uint8)
    for number, (top, bottom, left, right) in enumerate(boxes, 1):
        segments_HW[top:bottom, left:right] = number
    return COLOURS[segments_HW], segments_HW


def some_boxes(rng: np.random.Generator, height: int, width: int) -> list[tuple[int, int, int, int]]:
    found = []
    for _ in range(int(rng.integers(1, 4))):
        top, left = int(rng.integers(height - 4)), int(rng.integers(width - 4))
        bottom, right = int(rng.integers(top + 2, height)), int(rng.integers(left + 2, width))
        found.append((top, bottom, left, right))
    return found


def shown_of_the_least(segments_HW: np.ndarray, top: int, left: int, height: int, width: int) -> float:
    """Of whoever is shown least, which share."""
    inside_HW = segments_HW[top : top + height, left : left + width]
    numbers = [n for n in np.unique(segments_HW) if n]
    return min((inside_HW == n).sum() / (segments_HW == n).sum() for n in numbers)


@pytest.mark.parametrize("aspect", [(1, 1), (3, 2), (5, 8)])
@pytest.mark.parametrize("is_drawn", [False, True])
def test_a_window_shows_everybody_or_as_much_as_any_can(aspect: tuple[int, int], is_drawn: bool) -> None:
    """Held to a search through every place of the largest window."""
    rng, everybody = np.random.default_rng(0), 0
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(12, 40, 2))
        _, segments_HW = painted(height, width, *some_boxes(rng, height, width))
        rows, columns = window(segments_HW, aspect, rng=rng if is_drawn else None, least=0.3)
        scale = min(height / aspect[0], width / aspect[1])
        largest = round(aspect[0] * scale), round(aspect[1] * scale)
        best = max(
            shown_of_the_least(segments_HW, top, left, *largest)
            for top in range(height - largest[0] + 1)
            for left in range(width - largest[1] + 1)
        )
        sides = rows.stop - rows.start, columns.stop - columns.start
        assert rows.start >= 0 and rows.stop <= height and columns.start >= 0 and columns.stop <= width
        assert abs(sides[0] / aspect[0] - sides[1] / aspect[1]) < 2 / min(aspect)
        assert sides == largest or (is_drawn and sides[0] >= 0.3 * largest[0] - 1)
        found = shown_of_the_least(segments_HW, rows.start, columns.start, *sides)
        assert found == pytest.approx(best), (segments_HW.shape, sides)
        everybody += found == 1
    assert 10 < everybody < 60, "both cases are met"


def test_the_largest_window_lies_about_the_people() -> None:
    _, segments_HW = painted(40, 100, (5, 35, 20, 30))
    assert window(segments_HW) == (slice(0, 40), slice(5, 45))
    _, segments_HW = painted(40, 100, (5, 35, 90, 100))
    assert window(segments_HW) == (slice(0, 40), slice(60, 100))
    assert window(np.zeros((40, 100), int)) == (slice(0, 40), slice(30, 70))


def test_subjects_stay_in_view_though_others_stand_elsewhere() -> None:
    _, segments_HW = painted(20, 100, (2, 18, 0, 8), (2, 18, 92, 100))
    for wanted, start in ((1, 0), (2, 80)):
        _, columns = window(segments_HW, subjects=[wanted])
        assert columns.start <= start + 12 and columns.stop >= start + 8
        assert (segments_HW[:, columns] == wanted).sum() == 16 * 8


def test_drawn_windows_are_drawn_from_the_generator_alone() -> None:
    _, segments_HW = painted(60, 90, (20, 40, 30, 50))
    drawn = [window(segments_HW, rng=np.random.default_rng(seed), least=0.4) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1] and len({(r.start, c.start, r.stop) for r, c in drawn}) == 4
    sides = [window(segments_HW, rng=np.random.default_rng(seed), least=0.4)[0] for seed in range(300)]
    lengths = np.array([side.stop - side.start for side in sides])
    assert lengths.min() <= 26 and lengths.max() >= 58 and abs(lengths.mean() - 42) < 3
    assert Framing().drawn(np.random.default_rng()) is None


def test_picture_and_labels_stay_one() -> None:
    """Labels are told from colours, after frames of any kind, and mirrored."""
    rng = np.random.default_rng(5)
    for size in ((48, 48), (32, 64), (80, 40)):
        for _ in range(6):
            image_HW3, segments_HW = painted(90, 120, (10, 80, 10, 50), (30, 90, 60, 110))
            mirrored = bool(rng.integers(2))
            if mirrored:
                image_HW3, segments_HW = image_HW3[:, ::-1].copy(), segments_HW[:, ::-1]
            shown_HW3, labels_HW = framed(image_HW3, segments_HW, size, [1, 2], rng, 0.5)
            assert shown_HW3.shape == (*size, 3) and labels_HW.shape == size
            told_HW = np.where(shown_HW3.max(-1) > 125, shown_HW3.argmax(-1) + 1, 0)
            assert (told_HW == labels_HW).mean() > 0.94
            for number in (1, 2):
                told, said = told_HW == number, labels_HW == number
                assert (told & said).sum() / (told | said).sum() > 0.9
                # Half a pixel to one side would show here.
                middles = [np.argwhere(mask).mean(0) for mask in (told, said)]
                assert np.abs(middles[0] - middles[1]).max() < 0.5
            first = np.argwhere(labels_HW == 1)[:, 1].mean() < np.argwhere(labels_HW == 2)[:, 1].mean()
            assert first is not mirrored


def test_sizes_need_not_be_square() -> None:
    stripes = np.repeat((np.arange(80) % 2 * 255).astype(np.uint8)[None], 30, 0)
    smooth = resize(stripes, (10, 20))
    assert smooth.shape == (10, 20) and np.abs(smooth[:, 1:-1].astype(int) - 127).max() <= 4
    labels = np.arange(24).reshape(4, 6)
    assert (resize_labels(labels, (8, 3)) == labels[np.repeat(np.arange(4), 2)][:, [1, 3, 5]]).all()
