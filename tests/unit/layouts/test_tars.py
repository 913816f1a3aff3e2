"""Tars: keys, and arrays in bytes, against NumPy."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fdlab.data.arrays import array_of
from fdlab.data.sample import CorruptFile
from fdlab.layouts.tars import id_of, index_path, key_of, open_tar, write_tar


@given(st.text(st.sampled_from("a.%2E5F"), min_size=1, max_size=12))
def test_an_id_and_its_key_are_one(id: str) -> None:
    key = key_of(id)
    assert "." not in key and id_of(key) == id


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "?", "<f4"])
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 5), (2, 3, 4)])
def test_arrays_are_read_as_numpy_reads_them(dtype: str, shape: tuple[int, ...]) -> None:
    expected = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for array in (expected, np.asfortranarray(expected)):
        stream = io.BytesIO()
        np.save(stream, array)
        found = array_of(stream.getvalue(), "it")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, expected)


NEGATIVE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}\n"


@settings(max_examples=60, deadline=None)
@example(b"\x93NUMPY\x01\x00" + len(NEGATIVE).to_bytes(2, "little") + NEGATIVE + b"ab")
@given(st.binary(max_size=200).map(lambda tail: b"\x93NUMPY\x01\x00v\x00" + tail) | st.binary(max_size=90))
def test_bytes_that_are_no_array_are_named(data: bytes) -> None:
    with pytest.raises(CorruptFile, match=r"^it is corrupt: [^\n]*$"):
        array_of(data, "it")


def test_an_index_says_what_a_walk_finds(tmp_path: Path) -> None:
    """Long names, empty files and sizes about a block's among them."""
    rng = np.random.default_rng(0)
    sizes = [0, 1, 511, 512, 513, 5000]
    samples = [(f"{'é' * n}{n}.x", {".a": rng.bytes(n), ".b": b"b"}) for n in sizes[:3]]
    samples += [(f"{'n' * (n // 30)}{n}", {".a": rng.bytes(n), ".json": b"{}"}) for n in sizes[3:]]
    path = tmp_path / "a.tar"
    assert write_tar(path, samples) == 6
    by_index = open_tar(path)
    index_path(path).unlink()
    by_walk = open_tar(path)
    assert by_index.samples == by_walk.samples and not by_walk.faults
    for id, files in samples:
        for suffix, content in files.items():
            assert by_walk.read(id, suffix) == content


def test_a_header_that_leads_back_ends_the_walk(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("1.txt", "2.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            info.pax_headers = {"size": "-2048"} if name == "2.txt" else {}
            tar.addfile(info, io.BytesIO(b"abc"))
    found = open_tar(path)
    assert list(found.samples) == ["1"] and "damaged" in found.faults["a.tar"]
