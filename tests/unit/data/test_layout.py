from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from fdlab.data.check import check
from fdlab.data.layout import read_annotation, read_ids, read_sample, write_ids, write_sample
from fdlab.errors import UserError


@pytest.fixture
def folder(world: ModuleType, tmp_path: Path) -> Path:
    return world.write_folder(tmp_path / "people", 6)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read(world: ModuleType, tmp_path: Path) -> None:
    written = world.sample(1, 2)
    write_sample(tmp_path, written)
    read = read_sample(tmp_path, written.id)
    assert (read.id, read.caption, read.subjects, read.truth) == (
        written.id,
        written.caption,
        written.subjects,
        written.truth,
    )
    np.testing.assert_array_equal(read.image_HW3, written.image_HW3)
    np.testing.assert_array_equal(read.segments_HW, written.segments_HW)


def test_jpeg_and_the_other_writers_box(world: ModuleType, tmp_path: Path) -> None:
    sample = world.sample(0, 1)
    write_sample(tmp_path, sample, suffix=".jpg")
    path = tmp_path / sample.id[:5] / f"{sample.id}.json"
    segment = {"id": 1, "word": "woman", "start": 2, "end": 7, "box": [1.5, 2, 20.2, 30]}
    path.write_text(json.dumps({"caption": sample.caption, "segments": [segment]}))
    read = read_sample(tmp_path, sample.id)
    assert read.subjects[0].bbox == (1, 2, 21, 30)
    assert read.subjects[0].identity is None
    assert np.abs(read.image_HW3.astype(int) - sample.image_HW3).mean() < 50


def test_subjects_come_in_the_order_of_the_caption(folder: Path) -> None:
    path = folder / "00000" / "0000001.json"
    edit(path, segments=json.loads(path.read_text())["segments"][::-1])
    assert [s.end for s in read_annotation(folder, "0000001").subjects] == [7, 17]


def test_splits(folder: Path) -> None:
    assert read_ids(folder, "train") + read_ids(folder, "test") == read_ids(folder)
    (folder / "image_ids.txt").unlink()
    assert len(read_ids(folder)) == 6


def test_a_good_folder_passes(folder: Path, world: ModuleType) -> None:
    report = check(folder, max_subjects=2, tokenizer=world.tokenizer(), show=False)
    assert (report.num_samples, report.num_subjects) == (6, 9)


def test_missing_and_half_written(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        check(tmp_path / "nowhere", show=False)
    with pytest.raises(UserError, match=r"has no image_ids\.txt"):
        check(tmp_path, show=False)
    write_ids(tmp_path, [])
    with pytest.raises(UserError, match="lists no picture"):
        check(tmp_path, show=False)
    (folder / "00000" / "0000003.npy").unlink()
    with pytest.raises(UserError, match=r"0000003\.npy' is missing: the data folder is half written"):
        check(folder, show=False)


def test_a_rendered_folder_without_its_card_is_half_written(folder: Path) -> None:
    from fdlab.data.check import check_complete

    with pytest.raises(UserError, match=r"half written: it has no dataset\.json"):
        check_complete(folder, rendered=True)
    (folder / "dataset.json").write_text(json.dumps({"kind": "people", "num": 7}))
    with pytest.raises(UserError, match="promises 7 pictures"):
        check_complete(folder, rendered=True)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut short"])
def test_a_corrupt_picture_is_named_and_skipped_on_request_only(folder: Path, content: bytes) -> None:
    (folder / "00000" / "0000002.png").write_bytes(content)
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        check(folder, show=False)
    report = check(folder, skip_corrupt=True, show=False)
    assert list(report.skipped) == ["0000002"] and report.num_samples == 5


def test_a_truncated_picture_is_corrupt(folder: Path) -> None:
    path = folder / "00000" / "0000002.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        check(folder, show=False)


def test_a_mask_without_its_person_and_a_person_without_a_mask(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"kind": "people", "num": 6}))
    path = folder / "00000" / "0000001.json"
    value = json.loads(path.read_text())
    edit(path, segments=value["segments"][:1])
    with pytest.raises(UserError, match="'0000001': mask 2 has no person"):
        check(folder, show=False)
    edit(path, segments=[*value["segments"], value["segments"][0] | {"id": 9}])
    with pytest.raises(UserError, match="subject 9 of the caption has no pixel"):
        check(folder, show=False)


def test_too_many_subjects(folder: Path) -> None:
    with pytest.raises(UserError, match="'0000001' has 2 subjects; at most 1"):
        check(folder, max_subjects=1, show=False)


def test_a_subject_past_the_last_token(folder: Path, world: ModuleType) -> None:
    caption = "x " * 20 + "a woman"
    segments = [{"id": 1, "end": len(caption), "bbox": [0, 0, 9, 9]}]
    edit(folder / "00000" / "0000004.json", caption=caption, segments=segments)
    with pytest.raises(UserError, match="past the text encoder's last"):
        check(folder, tokenizer=world.tokenizer(), show=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": [{"id": 1, "end": 99, "bbox": [0, 0, 9, 9]}]}, "ends at character 99"),
        ({"segments": [{"id": 1, "end": 7}]}, "not a FastComposer annotation"),
        ({"segments": [{"id": 1, "end": 7, "bbox": [0, 0, 9]}]}, "not a FastComposer annotation"),
    ],
)
def test_a_broken_annotation_is_named(folder: Path, changes: dict, message: str) -> None:
    edit(folder / "00000" / "0000004.json", **changes)
    with pytest.raises(UserError, match=rf"0000004\.json'.*{message}"):
        check(folder, show=False)


def test_sizes_must_agree(folder: Path) -> None:
    Image.new("RGB", (20, 30)).save(folder / "00000" / "0000004.png")
    with pytest.raises(UserError, match="is 20 x 30 but its label map 32 x 32"):
        check(folder, show=False)
