"""Every reader of data against damaged files: a value, or one line; nothing else is written."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fdlab.benchmarks.convert import photos, prompt_lists
from fdlab.caches.prepare import prepare
from fdlab.caches.prepared import Prepared
from fdlab.data import annotation, folder, layout, rendered
from fdlab.data.entry import Shape
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.layouts.choose import open_folder
from fdlab.layouts.convert import Options, convert
from tests.worlds import damage, tiny

NUM = int(os.environ.get("FDLAB_DAMAGED_FILES", "40"))
"""Damaged files a reader."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, one folder with its prepared form, prompts and photos."""
    root = tiny.write_folder(tmp_path_factory.mktemp("damaged") / "people", 4)
    (root / "dataset.json").write_text(json.dumps(rendered.facts("all", 4, 0, 32)))
    shape = Shape(tiny.IMAGE, (4, tiny.LATENT, tiny.LATENT), tiny.REFERENCE, 2)
    made = prepare(root, root.parent / "cache", tiny.vae(), tiny.tokenizer(), shape, show=False)
    made.folder.rename(root / "prepared")
    for to in ("webdataset", "plain"):
        convert(root, root.parent / to, Options(to, shard=2), show=False)
        (root.parent / to).rename(root / to)
    shutil.copy(root / "webdataset/train-000001.tar", root / "alone.tar")
    (root / "prompts.txt").write_text("# place\na {noun} <|image|> on a beach\n\na {noun} in snow\n")
    return root


def everything(root: Path) -> list[object]:
    """All samples of a data set."""
    folder = open_folder(root)
    return [folder.sample(id) for id in folder.ids()]


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "annotation": ("00000/0000001.json", lambda root: layout.read_annotation(root, "0000001", ["person"])),
    "sample": ("00000/0000001.json", lambda root: layout.read_sample(root, "0000001")),
    "label map": ("00000/0000001.npy", lambda root: layout.read_sample(root, "0000001")),
    "picture": ("00000/0000001.png", lambda root: layout.read_sample(root, "0000001")),
    "photo": ("00000/0000001.png", lambda root: photos.look(root / "00000/0000001.png")),
    "ids": ("image_ids.txt", layout.read_ids),
    "card": ("dataset.json", folder.check_complete),
    "mark": ("dataset.json", lambda root: rendered._check_ours(root, rendered.facts("all", 4, 0, 32))),
    "whole": ("dataset.json", lambda root: rendered.is_whole(root, rendered.facts("all", 4, 0, 32))),
    "rows": ("prepared/rows.json", lambda root: Prepared(root / "prepared").entry(0)),
    "masks": ("prepared/00000/masks.npy", lambda root: Prepared(root / "prepared")),
    "latents": ("prepared/00000/latents.npy", lambda root: Prepared(root / "prepared")),
    "shard": ("webdataset/train-000000.tar", lambda root: everything(root / "webdataset")),
    "shard without index": ("alone.tar", lambda root: everything(root / "alone.tar")),
    "index of a shard": ("webdataset/train-000000.index.json", lambda root: everything(root / "webdataset")),
    "captions": ("plain/metadata.jsonl", lambda root: everything(root / "plain")),
    "prompts": ("prompts.txt", lambda root: prompt_lists.read(root / "prompts.txt")),
}


def files(data: bytes, name: str) -> Iterator[bytes]:
    if name.endswith(".json"):
        yield from damage.files(json.loads(data), 0, NUM)
        return
    rng = np.random.default_rng(1)
    for number in range(NUM):
        # Headers break in more ways than what follows them.
        head = data[: 160 if number % 2 else len(data)]
        yield damage.damaged(head, rng) + data[len(head) :]


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_named_in_one_line(root: Path, reader: str) -> None:
    name, read = READERS[reader]
    path = root / name
    whole = path.read_bytes()
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p != path}
    refused = 0
    try:
        read(root)
        for number, data in enumerate(files(whole, name)):
            path.write_bytes(data)
            try:
                read(root)
            except UserError as error:
                refused += 1
                message = str(error)
                assert "\n" not in message and message.isprintable() and len(message) < 800, (number, message)
    finally:
        path.write_bytes(whole)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p != path} == before
    assert refused > NUM // 8 or reader in ("whole", "prompts", "index of a shard"), "the damage does none"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
SEGMENT = st.fixed_dictionaries({}, optional={"id": JSON, "end": JSON, "coco_label": JSON, "bbox": JSON})
PERSON = st.fixed_dictionaries({}, optional={"segment": JSON, "identity": JSON})
SAMPLE = st.fixed_dictionaries(
    {"caption": st.text(max_size=30) | JSON},
    optional={
        "segments": st.lists(SEGMENT | JSON, max_size=5) | JSON,
        "truth": st.fixed_dictionaries({}, optional={"people": st.lists(PERSON | JSON, max_size=3) | JSON})
        | JSON,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SAMPLE | JSON)
def test_an_annotation_of_anything_is_within_its_bounds_or_refused(value: object) -> None:
    try:
        found = annotation.parse("a", value, Path("a.json"), ["person"])  # type: ignore[arg-type]
    except CorruptFile as error:
        assert "\n" not in str(error) and "a.json" in str(error)
        return
    assert isinstance(found.caption, str)
    ends = [subject.end for subject in found.subjects]
    assert ends == sorted(ends) and all(0 < end <= len(found.caption) for end in ends)
    assert all(0 < subject.segment < 2**31 for subject in found.subjects)
    assert all(type(s.identity) is int or s.identity is None for s in found.subjects)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"\x93NUMPY\x01\x00v\x00" + tail))
@example(b"PK\x03\x04")
def test_a_label_map_of_any_bytes_is_refused_or_whole_numbers(tmp_path_factory: object, data: bytes) -> None:
    path = Path(str(tmp_path_factory.getbasetemp())) / "any.npy"  # type: ignore[attr-defined]
    path.write_bytes(data)
    try:
        found = layout.read_segments(path)
    except CorruptFile as error:
        assert "\n" not in str(error)
    else:
        assert found.ndim == 2 and found.dtype.kind in "iu"


@pytest.mark.parametrize("dtype", ["<u2", ">i8", "<f4", "|b1", "<f2"])
@pytest.mark.parametrize("fortran", [False, True])
def test_label_maps_are_read_as_numpy_reads_them(tmp_path: Path, dtype: str, fortran: bool) -> None:
    expected_HW = np.arange(12).reshape(3, 4).astype(dtype)
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(expected_HW) if fortran else expected_HW)
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    np.testing.assert_array_equal(layout.read_segments(tmp_path / "a.npy"), expected_HW.astype(np.int64))


def test_a_pipe_in_a_data_folder_is_named_and_not_waited_for(tmp_path: Path, world: ModuleType) -> None:
    folder = world.write_folder(tmp_path / "people", 2)
    for suffix in (".json", ".png", ".npy"):
        path = folder / f"00000/0000001{suffix}"
        whole = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(CorruptFile, match="0000001"):
            layout.read_sample(folder, "0000001")
        path.unlink()
        path.write_bytes(whole)
