"""Three layouts: what fdlab writes is read by readers of these tests' own, and the other way round."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.data.folder import FastComposerFolder
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.layouts.choose import check_teaches, open_folder
from fdlab.layouts.convert import Options, convert
from fdlab.layouts.tars import index_path
from tests.worlds import tiny

BOX = [1.5, 2, 20.25, 30]


def theirs(root: Path, split: str) -> Iterator[SimpleNamespace]:
    """FastComposer's layout as it is described, read by nothing of fdlab's."""
    for id in (root / f"image_ids_{split}.txt").read_text().split("\n")[:-1]:
        stem = root / id[:5] / id
        annotation = json.loads(Path(f"{stem}.json").read_text())
        picture = next(p for p in root.glob(f"{id[:5]}/{id}.*") if p.suffix in (".jpg", ".png"))
        yield SimpleNamespace(
            id=id,
            caption=annotation["caption"],
            segments=[(s["id"], s["coco_label"], s["end"], s["bbox"]) for s in annotation["segments"]],
            image=np.asarray(Image.open(picture)),
            map=np.load(f"{stem}.npy"),
        )


def webdataset(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """WebDataset's convention: neighbours of one key, up to the first dot, are a sample."""
    for path in paths:
        with tarfile.open(path) as tar:
            sample: dict[str, Any] = {}
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if sample and sample["key"] != key:
                    yield sample
                    sample = {}
                stream = tar.extractfile(member)
                assert stream is not None
                sample |= {"key": key, suffix: stream.read()}
            yield sample


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """FastComposer's layout as others write it: JPEGs, one of them turned by its EXIF; ids that are no
    numbers; maps of several types; boxes of either name; no labels; the place where it was taken."""
    root, rng = tmp_path / "theirs", np.random.default_rng(0)
    ids = ["a.b-c", "00000042", "x y", "é"]
    for index, (id, dtype) in enumerate(zip(ids, ["u1", ">i8", "<u2", "i4"], strict=True)):
        stem = root / id[:5] / id
        stem.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0110] = "a camera of Ada's"
        if index == 1:
            exif[0x0112] = 6
        image = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
        image.save(f"{stem}.jpg", quality=90, exif=exif, comment=b"Ada's garden")
        shape = (32, 24) if index == 1 else (24, 32)
        map_HW = np.zeros(shape, dtype)
        map_HW[4:9, 3:20], map_HW[12:20, 3:11], map_HW[:2] = 7, 3, 9
        np.save(f"{stem}.npy", map_HW)
        segments = [
            {"id": 3, "end": 17, "box" if index % 2 else "bbox": BOX},
            {"id": 7, "end": 7, "word": "woman", "start": 2},
            *([{"id": 9, "end": 29, "coco_label": "kite", "bbox": [0, 0, 32, 2]}] if index == 2 else []),
        ]
        value = {"caption": "a woman and a man under a kite", "segments": segments}
        Path(f"{stem}.json").write_text(json.dumps(value))
    for name, chosen in {"": ids, "_train": ids[:3], "_test": ids[3:]}.items():
        (root / f"image_ids{name}.txt").write_text("".join(f"{id}\n" for id in chosen))
    return root


def test_what_is_written_is_what_others_read(foreign: Path, tmp_path: Path) -> None:
    """Through shards and back: captions, boxes and maps are the same, byte for byte; and the pixels."""
    convert(foreign, tmp_path / "shards", Options("webdataset", shard=2), show=False)
    convert(tmp_path / "shards", tmp_path / "ours", Options("fastcomposer"), show=False)
    for split, num in (("train", 3), ("test", 1)):
        made = {sample.id: sample for sample in theirs(tmp_path / "ours", split)}
        assert len(made) == num
        for id, sample in made.items():
            stem = foreign / id[:5] / id
            given = json.loads(Path(f"{stem}.json").read_text())
            assert sample.caption == given["caption"]
            box = {7: [3, 4, 20, 9], 3: BOX, 9: [0, 0, 32, 2]}
            expected = [(7, "person", 7, box[7]), (3, "person", 17, box[3]), (9, "kite", 29, box[9])]
            assert sample.segments == expected[: len(given["segments"])]
            map_HW = np.load(f"{stem}.npy")
            assert sample.map.dtype == map_HW.dtype and sample.map.tobytes() == map_HW.tobytes()
            image = np.asarray(Image.open(f"{stem}.jpg"))
            np.testing.assert_array_equal(sample.image, np.rot90(image, -1) if id == "00000042" else image)
    for path in [*(tmp_path / "ours").rglob("*"), *(tmp_path / "shards").iterdir()]:
        assert path.is_dir() or b"Ada" not in path.read_bytes(), path
    # What lies upright keeps its coded data.
    assert (tmp_path / "ours/x y/x y.jpg").stat().st_size < (foreign / "x y/x y.jpg").stat().st_size


def test_as_jpeg_for_those_who_read_nothing_else(foreign: Path, tmp_path: Path) -> None:
    convert(foreign, tmp_path / "ours", Options("fastcomposer", jpeg=True), show=False)
    assert {p.suffix for p in (tmp_path / "ours").rglob("*.*p*g")} == {".jpg"}
    assert next(theirs(tmp_path / "ours", "train")).segments[0] == (7, "person", 7, [3, 4, 20, 9])


def test_shards_are_webdatasets(foreign: Path, tmp_path: Path) -> None:
    convert(foreign, tmp_path / "shards", Options("webdataset", shard=2), show=False)
    paths = sorted((tmp_path / "shards").glob("*.tar"))
    assert [p.name for p in paths] == ["test-000000.tar", "train-000000.tar", "train-000001.tar"]
    read = {sample["key"]: sample for sample in webdataset(paths)}
    assert list(read) == ["é", "a%2Eb-c", "00000042", "x y"]
    for key, sample in read.items():
        stem = foreign / key.replace("%2E", ".")[:5] / key.replace("%2E", ".")
        assert (
            json.loads(sample["json"])["caption"] == json.loads(Path(f"{stem}.json").read_text())["caption"]
        )
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["npy"])), np.load(f"{stem}.npy"))


def test_others_shards_are_read(tmp_path: Path) -> None:
    """Without an index; folders in names; captions in .txt; any kind of picture; no masks in some."""
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), 90, np.uint8)).save(stream, "WEBP", lossless=True)
    labels = io.BytesIO()
    np.save(labels, np.asfortranarray(np.ones((8, 6), np.uint16)))
    files = {
        "set/0001.webp": stream.getvalue(),
        "set/0001.txt": "\ufeffa woman <|image|>\nin  snow\n".encode(),
        "set/0002.JPG": stream.getvalue(),
        "set/0002.json": b'{"caption": "a man", "segments": [{"id": 1, "end": 5}], "url": "x"}',
        "set/0002.npy": labels.getvalue(),
        "set/0003.webp": stream.getvalue(),
    }
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    for root in (tmp_path / "in", tmp_path / "in/00000.tar"):
        folder = pickle.loads(pickle.dumps(open_folder(root)))
        assert folder.kind == "webdataset" and folder.ids("train") == [f"set%2F000{n}" for n in (1, 2, 3)]
        first, second = (folder.sample(id) for id in folder.ids()[:2])
        assert (first.caption, first.subjects, first.image_HW3.shape) == ("a woman in snow", (), (8, 6, 3))
        assert [(s.segment, s.end, s.label) for s in second.subjects] == [(1, 5, None)]
        assert (second.segments_HW == 1).all() and (second.image_HW3 == 90).all()
        with pytest.raises(CorruptFile, match=r"0003' has neither a \.json nor a \.txt"):
            folder.sample("set%2F0003")
        with pytest.raises(UserError, match="no sample of split 'test'"):
            folder.ids("test")


def test_a_shard_that_is_cut_short_is_named(foreign: Path, tmp_path: Path) -> None:
    convert(foreign, tmp_path / "shards", Options("webdataset"), show=False)
    path = tmp_path / "shards/train-000000.tar"
    whole = path.read_bytes()
    index_path(path).unlink()
    assert open_folder(tmp_path / "shards").ids("train") == ["a.b-c", "00000042", "x y"]
    for cut in (len(whole) - 10240, 3000, 600):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"train-000000\.tar' is damaged or cut short at byte"):
            open_folder(tmp_path / "shards").ids()
    for content in (b"", b"no tar", b"\x1f\x8b" + bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"train-000000\.tar' cannot be read"):
            open_folder(tmp_path / "shards")


def test_plain_folders_of_either_habit(tmp_path: Path) -> None:
    def picture(name: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), 40, np.uint8)).save(tmp_path / name)

    for name in ("train/1.png", "train/10_woman/2.jpg", "test/3.webp", "train/4.png"):
        picture(name)
    (tmp_path / "train/1.txt").write_text("a woman\n")
    (tmp_path / "train/10_woman/2.caption").write_text("a man in snow")
    line = {"file_name": "3.webp", "text": "a woman <|image|> on a beach"}
    (tmp_path / "test/metadata.jsonl").write_text(json.dumps(line) + "\n\n")
    folder = open_folder(tmp_path)
    assert folder.kind == "plain" and not folder.has_masks
    assert sorted(folder.ids("train")) == ["1", "10_woman%2F2", "4"] and folder.ids("test") == ["3"]
    captions = [folder.annotation(id).caption for id in ("1", "10_woman%2F2", "3")]
    assert captions == ["a woman", "a man in snow", "a woman on a beach"]
    sample = folder.sample("1")
    assert sample.image_HW3.shape == (6, 8, 3) and not sample.segments_HW.any() and sample.subjects == ()
    with pytest.raises(CorruptFile, match=r"4\.png' has no caption"):
        folder.sample("4")
    with pytest.raises(UserError, match="masks: a TDM learns from it"):
        check_teaches(folder, subjects=True)
    (tmp_path / "test/metadata.jsonl").write_text(json.dumps(line | {"file_name": "5.png"}))
    with pytest.raises(UserError, match=r"metadata\.jsonl', line 1: there is no picture"):
        open_folder(tmp_path).ids()


def test_into_a_plain_folder(foreign: Path, tmp_path: Path) -> None:
    made = convert(foreign, tmp_path / "plain", Options("plain"), show=False)
    assert (made.pictures, made.subjects_lost) == (4, 9)
    lines = [json.loads(line) for line in (tmp_path / "plain/metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == [
        *("train/a.b-c.jpg", "train/00000042.png", "train/x y.jpg"),
        "test/é.jpg",
    ]
    for line in lines:
        beside = (tmp_path / "plain" / line["file_name"]).with_suffix(".txt")
        assert beside.read_text() == line["text"] + "\n" == "a woman and a man under a kite\n"
    assert open_folder(tmp_path / "plain").ids("test") == ["é"]


def test_which_layout_a_path_has(foreign: Path, tmp_path: Path) -> None:
    assert isinstance(open_folder(foreign), FastComposerFolder)
    with pytest.raises(UserError, match=r"has the layout 'fastcomposer'.*take data\.kind=fastcomposer"):
        open_folder(foreign, "webdataset")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither"):
        open_folder(tmp_path / "empty")
    with pytest.raises(UserError, match="does not exist"):
        open_folder(tmp_path / "nowhere")
    # Its lists are missing, but that is what it is.
    for path in tiny.write_folder(tmp_path / "half", 1).glob("image_ids*.txt"):
        path.unlink()
    with pytest.raises(UserError, match=r"has no image_ids\.txt"):
        open_folder(tmp_path / "half").ids()
