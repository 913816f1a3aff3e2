from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fdlab.data.layout import read_annotation, read_ids, read_sample, write_ids, write_sample
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.layouts import check as checking
from fdlab.layouts.check import Asked
from tests.worlds import tiny

WORDS = tiny.tokenizer()


def check(
    root: Path, words: object, skip_corrupt: bool = False, labels: list[str] | None = None, show: bool = False
) -> SimpleNamespace:
    """Everything that is checked; the first problem is raised, unless they are to be listed."""
    asked = Asked((lambda: words,), labels=None if labels is None else tuple(labels))
    report = checking.check(root, asked, root.parent / "problems.jsonl", show=show)
    reasons = {problem.entry: problem.reason for problem in report.problems}
    for reason in reasons.values() if not skip_corrupt else ():
        raise CorruptFile(reason)
    return SimpleNamespace(num_samples=report.num_samples, num_subjects=report.num_subjects, skipped=reasons)


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
    write_sample(tmp_path, sample)
    base = tmp_path / sample.id[:5] / sample.id
    Image.open(base.with_suffix(".png")).save(base.with_suffix(".jpg"), quality=95)
    base.with_suffix(".png").unlink()
    segment = {"id": 1, "word": "woman", "start": 2, "end": 7, "box": [1.5, 2, 20.2, 30]}
    base.with_suffix(".json").write_text(json.dumps({"caption": sample.caption, "segments": [segment]}))
    read = read_sample(tmp_path, sample.id)
    assert [(s.segment, s.end, s.identity) for s in read.subjects] == [(1, 7, None)]
    assert np.abs(read.image_HW3.astype(int) - sample.image_HW3).mean() < 50
    # That writer names no label: whatever is asked for is meant.
    assert len(read_annotation(tmp_path, sample.id, ["person"]).subjects) == 1


def test_subjects_come_in_the_order_of_the_caption(folder: Path) -> None:
    path = folder / "00000" / "0000001.json"
    edit(path, segments=json.loads(path.read_text())["segments"][::-1])
    assert [s.end for s in read_annotation(folder, "0000001").subjects] == [7, 17]


def test_splits(folder: Path) -> None:
    assert read_ids(folder, "train") + read_ids(folder, "test") == read_ids(folder)
    (folder / "image_ids.txt").unlink()
    assert len(read_ids(folder)) == 6


def test_a_good_folder_passes(folder: Path, world: ModuleType) -> None:
    report = check(folder, world.tokenizer(), show=False)
    assert (report.num_samples, report.num_subjects) == (6, 9)


def test_missing_and_half_written(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        check(tmp_path / "nowhere", WORDS, show=False)
    with pytest.raises(UserError, match=r"has no image_ids\.txt"):
        check(tmp_path, WORDS, show=False)
    write_ids(tmp_path, [])
    with pytest.raises(UserError, match="lists no picture"):
        check(tmp_path, WORDS, show=False)
    (folder / "00000" / "0000003.npy").unlink()
    with pytest.raises(UserError, match=r"0000003\.npy' is missing"):
        check(folder, WORDS, show=False)


def test_a_rendered_folder_without_its_card_is_half_written(folder: Path) -> None:
    from fdlab.data.folder import check_complete

    with pytest.raises(UserError, match=r"half written: it has no dataset\.json"):
        check_complete(folder, rendered=True)
    (folder / "dataset.json").write_text(json.dumps({"kind": "people", "num": 7}))
    with pytest.raises(UserError, match="promises 7 pictures"):
        check_complete(folder, rendered=True)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut short"])
def test_a_corrupt_picture_is_named_and_skipped_on_request_only(folder: Path, content: bytes) -> None:
    (folder / "00000" / "0000002.png").write_bytes(content)
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        check(folder, WORDS, show=False)
    report = check(folder, WORDS, skip_corrupt=True, show=False)
    assert list(report.skipped) == ["0000002"] and report.num_samples == 5


def test_a_truncated_picture_is_corrupt(folder: Path) -> None:
    path = folder / "00000" / "0000002.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        check(folder, WORDS, show=False)


def test_a_mask_without_its_person_and_a_person_without_a_mask(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"kind": "people", "num": 6}))
    path = folder / "00000" / "0000001.json"
    value = json.loads(path.read_text())
    edit(path, segments=value["segments"][:1])
    with pytest.raises(UserError, match="'0000001': mask 2 has no person"):
        check(folder, WORDS, show=False)
    edit(path, segments=[*value["segments"], value["segments"][0] | {"id": 9}])
    with pytest.raises(UserError, match="subject 9 of the caption has no pixel"):
        check(folder, WORDS, show=False)


def test_a_subject_past_the_last_token(folder: Path, world: ModuleType) -> None:
    caption = "x " * 20 + "a woman"
    segments = [{"id": 1, "end": len(caption)}]
    edit(folder / "00000" / "0000004.json", caption=caption, segments=segments)
    with pytest.raises(CorruptFile, match=r"sample '0000004': .* past the text encoder's last"):
        check(folder, world.tokenizer(), show=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": [{"id": 1, "end": 99}]}, "ends at character 99"),
        ({"segments": [{"id": 1, "end": 0}]}, "ends at character 0"),
        ({"segments": [{"id": 1}]}, "not a FastComposer annotation: a segment has no 'end'"),
        ({"segments": [{"end": 7}]}, "not a FastComposer annotation: a segment has no 'id'"),
        ({"segments": [{"id": 0, "end": 7}]}, "'id' is 0, which is the background"),
        ({"segments": [{"id": 1.5, "end": 7}]}, "'id' of a segment is 1.5, a whole number"),
        ({"segments": [{"id": True, "end": 7}]}, "'id' of a segment is True"),
        ({"segments": [{"id": 2**40, "end": 7}]}, "'id' of a segment is 1099511627776"),
        ({"segments": [{"id": float("inf"), "end": 7}]}, "not valid JSON: Infinity is no JSON number"),
        ({"segments": [{"id": float("nan"), "end": 7}]}, "not valid JSON: NaN is no JSON number"),
        ({"segments": [{"id": 1, "end": -3}]}, "'end' of a segment is -3"),
        ({"segments": [{"id": 1, "end": [7]}]}, r"'end' of a segment is \[7\]"),
        ({"segments": [7]}, "a segment is 7, an object is needed"),
        ({"segments": {"id": 1}}, "'segments' of the annotation is .*, a list is needed"),
        ({"segments": [{"id": 1, "end": 7}] * 1001}, "it has 1001 segments"),
        ({"segments": [{"id": 1, "end": 7, "coco_label": 3}]}, "'coco_label' of a segment is 3"),
        ({"caption": None}, "has no 'caption'"),
        ({"caption": ["a woman"]}, "'caption' of the annotation is .*, a str is needed"),
        ({"caption": "a woman \ud83d on a beach"}, "holds text that is no Unicode"),
        ({"caption": "a woman <|image|> on a beach"}, r"its caption holds a marker <\|image\|>"),
        ({"truth": []}, "'truth' of the annotation is"),
        ({"truth": {"people": [{"segment": "a"}]}}, "'segment' of a person of 'truth' is 'a'"),
        ({"truth": {"people": [{"segment": 1, "identity": [2]}]}}, "'identity' of a person of 'truth' is"),
    ],
)
def test_a_broken_annotation_is_named(folder: Path, changes: dict, message: str) -> None:
    edit(folder / "00000" / "0000004.json", **changes)
    with pytest.raises(CorruptFile, match=rf"0000004\.json'.*{message}"):
        check(folder, WORDS, show=False)
    assert list(check(folder, WORDS, skip_corrupt=True, show=False).skipped) == ["0000004"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"[]", "holds a list; it must hold an object"),
        (b"3", "holds a int"),
        (b"nul", "is not valid JSON"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"caption": ' + b"9" * 5000, "is not valid JSON"),
    ],
)
def test_a_file_that_is_no_object_of_json(folder: Path, content: bytes, message: str) -> None:
    (folder / "00000" / "0000004.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"0000004\.json' {message}"):
        check(folder, WORDS, show=False)


def test_the_bounds_of_an_annotation_are_allowed(folder: Path) -> None:
    path = folder / "00000" / "0000004.json"
    people = [{"segment": 1, "identity": None}, {"segment": 2**31 - 1, "identity": 2**31 - 1}]
    segments = [{"id": 1, "end": 1}, {"id": 2**31 - 1, "end": 7}]
    edit(path, caption="a woman", segments=segments, truth={"people": people})
    subjects = read_annotation(folder, "0000004").subjects
    assert [(s.segment, s.end, s.identity) for s in subjects] == [(1, 1, None), (2**31 - 1, 7, 2**31 - 1)]
    edit(path, segments=[{"id": 2**31, "end": 7}])
    with pytest.raises(CorruptFile, match="'id' of a segment is 2147483648"):
        read_annotation(folder, "0000004")


def test_an_unknown_split(folder: Path) -> None:
    with pytest.raises(UserError, match=r"unknown split 'tset'.*Did you mean 'test'"):
        read_ids(folder, "tset")


def test_boxes_enclose_what_is_marked(world: ModuleType, tmp_path: Path) -> None:
    sample = world.sample(1, 2)
    write_sample(tmp_path, sample)
    value = json.loads((tmp_path / sample.id[:5] / f"{sample.id}.json").read_text())
    for segment in value["segments"]:
        x1, y1, x2, y2 = segment["bbox"]
        marked_HW = sample.segments_HW == segment["id"]
        assert marked_HW[y1:y2, x1:x2].sum() == marked_HW.sum()
        for edge in (marked_HW[y1], marked_HW[y2 - 1], marked_HW[:, x1], marked_HW[:, x2 - 1]):
            assert edge.any()


def test_only_labels_asked_for_are_subjects(folder: Path) -> None:
    path = folder / "00000" / "0000001.json"
    woman, man = json.loads(path.read_text())["segments"]
    edit(path, segments=[woman, man | {"coco_label": "dog"}, {"id": 8, "end": 3, "coco_label": "kite"}])
    kept = read_annotation(folder, "0000001", ["person"])
    assert [s.segment for s in kept.subjects] == [1] and kept.others == {2, 8}
    assert [s.segment for s in read_annotation(folder, "0000001", ["person", "dog"]).subjects] == [1, 2]
    # The kite has no pixel, which counts only where kites are asked for.
    assert check(folder, WORDS, labels=["person"], show=False).num_subjects == 8
    with pytest.raises(CorruptFile, match="subject 8 of the caption has no pixel"):
        check(folder, WORDS, show=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.where(a == 1, np.nan, a.astype(float)), "not whole"),
        (lambda a: np.where(a == 1, np.inf, a.astype(float)), "not whole"),
        (lambda a: a + 0.5, "not whole"),
        (lambda a: a.astype(complex), "is complex128"),
        (lambda a: a.astype(str), "<U11' are no numbers"),
        (lambda a: a.astype("datetime64[s]"), r"M8\[s\]' are no numbers"),
        (lambda a: a[None], r"is int32 \(1, 32, 32\); H x W numbers"),
        (lambda a: a[..., None], r"is int32 \(32, 32, 1\)"),
        (lambda a: a.ravel(), r"is int32 \(1024,\)"),
        (lambda a: a[:0], "its label map 32 x 0"),
        (lambda a: a[:-1], "is 32 x 32 but its label map 32 x 31"),
    ],
)
def test_a_label_map_that_is_none(folder: Path, change: Callable[..., np.ndarray], message: str) -> None:
    path = folder / "00000" / "0000004.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(CorruptFile, match=message):
        check(folder, WORDS, show=False)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, ">i4", np.uint64])
def test_label_maps_of_whole_numbers_are_read(folder: Path, dtype: str) -> None:
    path = folder / "00000" / "0000004.npy"
    expected_HW = np.load(path)
    np.save(path, expected_HW.astype(dtype))
    read_HW = read_sample(folder, "0000004").segments_HW
    assert read_HW.dtype.kind in "iu"
    np.testing.assert_array_equal(read_HW, expected_HW)


def npy(shape: str, dtype: str = "'<i4'", data: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy("(32, 32)"),
        npy("(1000000, 1000000)"),
        npy("(" * 200 + "32"),
        npy("(32, 32)", "'O'", b"cos\nsystem\n"),
        npy("(32, 32)", "[('a', '<i4')]", bytes(4096)),
        npy("(32, -32)", data=bytes(4096)),
        npy("32", data=bytes(4096)),
        b"PK\x05\x06" + bytes(18),
        b"\x80\x04.",
    ],
)
def test_a_damaged_label_map_is_named(folder: Path, content: bytes) -> None:
    (folder / "00000" / "0000004.npy").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"0000004\.npy' is "):
        check(folder, WORDS, show=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"../../secret\n", "an id is a file's name"),
        (b"/etc/passwd\n", "an id is a file's name"),
        (b"..\n", "an id is a file's name"),
        (b"a\x00b\n", "an id is a file's name"),
        (b"a" * 300, "an id is a file's name"),
        (b"\xff\xfe\n", "not text in UTF-8"),
        (b"1\n2\n1\n", "lists id '1' twice"),
        (b" \n\n", "lists no picture"),
    ],
)
def test_a_list_of_ids_that_is_none(folder: Path, text: bytes, message: str) -> None:
    (folder / "image_ids.txt").write_bytes(text)
    with pytest.raises(UserError, match=message):
        read_ids(folder)


def test_a_list_of_ids_from_another_system(folder: Path) -> None:
    (folder / "image_ids.txt").write_bytes("\ufeff0000003\r\n0000001\r\n".encode())
    assert read_ids(folder) == ["0000003", "0000001"]


def test_sizes_must_agree(folder: Path) -> None:
    Image.new("RGB", (20, 30)).save(folder / "00000" / "0000004.png")
    with pytest.raises(UserError, match="is 20 x 30 but its label map 32 x 32"):
        check(folder, WORDS, show=False)
