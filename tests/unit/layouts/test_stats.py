"""Statistics against counts by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdlab.layouts import stats
from fdlab.layouts.convert import Options, convert
from fdlab.layouts.stats import Asked, count, summary
from fdlab.records import data_page
from tests.worlds import tiny

WORDS = tiny.tokenizer()
FRONT = np.array([[0, 0], [10, 0], [5, 6], [2, 10], [8, 10]], np.float32)
"""Eyes, nose and corners of the mouth of who looks ahead."""


class Finder:
    """Finds the disc of the first person, and something in the corner."""

    def __call__(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        first, second = (
            SimpleNamespace(box=box, landmarks_52=FRONT + box[:2])
            for box in ((4, 10, 14, 22), (-2, -1, 3, 2))
        )
        return [[first, second] for _ in images_BHW3]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Eight pictures: four of a woman, and four of a woman and a man."""
    root = tiny.write_folder(tmp_path / "people", 8)
    path = root / "00000/0000003.json"
    value = json.loads(path.read_text())
    tail = " where it's <b>snowing</b>, x x x x x"
    path.write_text(json.dumps(value | {"caption": value["caption"] + tail}))
    return root


@pytest.mark.parametrize("look", [8, 3])
def test_everything_is_counted(people: Path, look: int) -> None:
    found = count(people, Asked((lambda: WORDS,), look=look, faces=(Finder,)), show=False)
    n = summary(found)
    captions = [json.loads(path.read_text())["caption"] for path in people.glob("*/*.json")]
    assert (n["layout"], n["pictures"], n["subjects"], n["unreadable"]) == ("fastcomposer", 8, 12, 0)
    assert n["pictures_by_subjects"] == {"1": 4, "2": 4}
    assert n["nouns"] == {"woman": 8, "man": 4}
    lengths = [5] * 4 + [8] * 3 + [8 + 4 + 2 + 4]
    assert n["captions"]["words_mean"] == round(sum(lengths) / 8, 2) and n["captions"]["words_median"] == 5
    assert n["captions"]["words_max"] == 18 and n["captions"]["most_frequent"]["it's"] == 1
    tokens = [len(WORDS(caption).input_ids) for caption in captions]
    assert n["captions"]["tokens_max"] == max(tokens) and n["captions"]["tokens_read"] == tiny.LENGTH
    assert n["captions"]["cut"] == sum(length > tiny.LENGTH for length in tokens)
    people_of = Counter(i for k in range(8) for i in {k % 3, *([(k + 1) % 3] if k % 2 else [])})
    assert n["identities"]["known"] == 3 and n["identities"]["pictures_max"] == max(people_of.values())
    assert found.counts.identities == people_of
    assert n["looked_at"] == look == sum(n["pictures_by_shorter_side"].values())
    assert n["most_frequent_sizes"] == {"32 x 32": look}
    assert n["faces"]["found"] == 2 * look and n["faces"]["by_side"]["0-15"] == 2 * look
    assert n["faces"]["by_turn"]["0-9"] == n["faces"]["by_tilt"]["0-4"] == 2 * look
    assert n["faces"]["subjects_looked_at"] == sum(n["subjects_by_share_of_height"].values())
    if look == 8:
        # Alone, she stands in the middle, where no face is; of two, the first has hers.
        assert n["faces"]["subjects_without"] == 8
        # Discs of a third of the height: 11 rows of 32.
        assert n["subjects_by_share_of_height"]["30-39"] == 12
    assert "woman (8), man (4)" in stats.text(n)
    assert json.loads(json.dumps(n)) == n


@pytest.mark.parametrize("tilt", [0, 20, -35])
@pytest.mark.parametrize(("nose", "turn"), [((5, 6), 0), ((7.5, 6), 25), ((0, 6), 50), ((25, 6), 100)])
def test_a_pose_is_of_the_face_not_of_the_picture(nose: tuple[float, float], turn: int, tilt: int) -> None:
    points = FRONT.copy()
    points[2] = nose
    angle = np.radians(tilt)
    turned = points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert stats.pose_of(3 * turned + 7) == (turn, abs(tilt))


def test_shards_and_plain_folders_are_counted_too(people: Path, tmp_path: Path) -> None:
    asked = Asked((lambda: WORDS,))
    expected = summary(count(people, asked, show=False))
    for to in ("webdataset", "plain"):
        convert(people, tmp_path / to, Options(to), show=False)
        found = summary(count(tmp_path / to, asked, show=False))
        assert found["captions"] == expected["captions"]
        if to == "webdataset":
            assert {k: v for k, v in found.items() if k not in ("folder", "layout")} == {
                k: v for k, v in expected.items() if k not in ("folder", "layout")
            }
        else:
            assert found["pictures_by_subjects"] == {"0": 8} and not found["nouns"]


def test_what_cannot_be_read_is_told(people: Path) -> None:
    (people / "00000/0000001.json").write_text("{")
    n = summary(count(people, Asked((lambda: WORDS,)), show=False))
    assert n["unreadable"] == 1 and n["looked_at"] == 7
    assert "data check" in stats.text(n)


@given(st.lists(st.integers(0, 60), min_size=1), st.floats(0.01, 1))
def test_quantiles_and_bins(values: list[int], share: float) -> None:
    counter = Counter(values)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert stats.quantile(counter, share) == expected
    bins = (0, 5, 6, 40)
    numbers, _ = np.histogram(values, [*bins, 1000])
    assert stats.binned(counter, bins) == dict(zip(["0-4", "5", "6-39", "40+"], numbers, strict=True))


def test_the_page_shows_all_and_asks_nobody(people: Path, tmp_path: Path) -> None:
    found = count(people, Asked((lambda: WORDS,), faces=(Finder,)), show=False)
    samples = stats.samples_of(found, 5)
    assert [sample.id for sample in samples] == [f"000000{n}" for n in (0, 1, 3, 4, 6)]
    data_page.write(tmp_path / "page.html", found, samples)
    page = (tmp_path / "page.html").read_text()
    assert (
        page.count("data:image/webp;base64,") == 5
        and "http:" not in page
        and "https:" not in page
        and "<script" not in page
    )
    assert "&lt;b&gt;snowing" in page and "<b>snowing" not in page
    assert ">woman</u>" in page and 'title="man">man</span>' in page


def test_masks_are_outlined_in_the_colours_of_their_nouns() -> None:
    sample = tiny.sample(1, 2)
    made_HW3 = data_page.tinted(sample).astype(int)
    for n, subject in enumerate(sample.subjects):
        mask_HW = np.pad(sample.segments_HW == subject.segment, 1)
        above, below, left, right = mask_HW[:-2], mask_HW[2:], mask_HW[1:-1, :-2], mask_HW[1:-1, 2:]
        inside_HW = mask_HW[1:-1, 1:-1] & above[:, 1:-1] & below[:, 1:-1] & left & right
        edge_HW = mask_HW[1:-1, 1:-1] & ~inside_HW
        colour = np.asarray(data_page.COLOURS[n])
        assert (made_HW3[edge_HW] == colour).all() and edge_HW.sum() > 10
        before = sample.image_HW3[inside_HW].astype(int)
        np.testing.assert_allclose(made_HW3[inside_HW] - before, 0.12 * (colour - before), atol=1)
    outside = sample.segments_HW == 0
    np.testing.assert_array_equal(made_HW3[outside], sample.image_HW3[outside])
