"""Tars: keys, and what an index and a walk find."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fdlab.layouts.tars import id_of, index_path, key_of, open_tar, write_tar


@given(st.text(st.sampled_from("a.%2E5F"), min_size=1, max_size=12))
def test_an_id_and_its_key_are_one(id: str) -> None:
    key = key_of(id)
    assert "." not in key and id_of(key) == id


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
