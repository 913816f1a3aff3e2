"""Array files, against NumPy's own writer and reader."""

from __future__ import annotations

import ast
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fdlab.data.arrays import array_of, map_array
from fdlab.data.sample import CorruptFile


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def headed(head: str, values: bytes = bytes(8)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + values


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "?", "<f4", "<f2", ">c8"])
@pytest.mark.parametrize("shape", [(), (0, 4), (7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_arrays_are_read_as_numpy_reads_them(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], version: tuple[int, int]
) -> None:
    expected = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for array in (expected, np.asfortranarray(expected)):
        data = saved(array, version)
        (tmp_path / "a.npy").write_bytes(data)
        for found in (array_of(data, "it"), map_array(tmp_path / "a.npy")):
            assert (found.dtype, found.shape or (1,)) == (array.dtype, shape or (1,))
            np.testing.assert_array_equal(found, expected)


def test_what_is_mapped_for_writing_is_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.int16))
    found = map_array(tmp_path / "a.npy", mode="r+")
    found[1, 2] = 7
    found.flush()
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 0, 0], [0, 0, 7]]


def test_no_head_is_parsed_as_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing is not safe beside another thread that parses."""
    data = saved(np.arange(6).reshape(2, 3))
    (tmp_path / "a.npy").write_bytes(data)

    def fail(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    with monkeypatch.context() as patched:
        for name in ("parse", "literal_eval"):
            patched.setattr(ast, name, fail)
        assert (
            array_of(data, "it").tolist() == map_array(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
        )


def test_a_head_of_python_2_is_read() -> None:
    head = "{'descr': '<i2', 'fortran_order': True, 'shape': (2L, 1), }\n"
    assert array_of(headed(head, b"\1\0\2\0"), "it").tolist() == [[1], [2]]


HEAD = "{'descr': '|u1', 'fortran_order': False, 'shape': (8,), }\n"


@pytest.mark.parametrize(
    "was, is_now, message",
    [
        ("'|u1'", "'|O'", "'|O' are no numbers"),
        ("'|u1'", "'<i3'", "'<i3' are no numbers"),
        ("'|u1'", "[('a', '<i2'), ('b', '<i2')]", "no numbers"),
        ("(8,)", "(9,)", "cut short, or no uint8 (9,)"),
        ("(8,)", "(-8,)", "it cannot be (-8,)"),
        ("(8,)", "(0, 100000000000000000, 100000000000000000)", "corrupt"),
        ("(8,)", f"({'9' * 18},)", "cut short"),
        ("(8,)", f"({'9' * 5000},)", "it cannot be"),
        ("False", "0", "fortran_order cannot be 0"),
        (", }", ", 'more': 1}", "its head is damaged"),
        ("'shape': (8,), ", "", "its head is damaged"),
        ("}", "", "its head is damaged"),
        ("}", "}" + " " * 20_000, "its head would have"),
    ],
)
def test_a_head_that_promises_something_else_is_refused(
    tmp_path: Path, was: str, is_now: str, message: str
) -> None:
    assert was in HEAD and array_of(headed(HEAD), "it").shape == (8,)
    data = headed(HEAD.replace(was, is_now))
    (tmp_path / "a.npy").write_bytes(data)
    for read in (lambda: array_of(data, "it"), lambda: map_array(tmp_path / "a.npy")):
        with pytest.raises(CorruptFile) as caught:
            read()
        assert message in str(caught.value) and "\n" not in str(caught.value)


NEGATIVE = headed("{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}\n", b"ab")


@example(NEGATIVE)
@example(b"PK\x03\x04")
@given(st.binary(max_size=200).map(lambda tail: b"\x93NUMPY\x01\x00v\x00" + tail) | st.binary(max_size=90))
def test_bytes_that_are_no_array_are_named(data: bytes) -> None:
    with pytest.raises(CorruptFile, match=r"^it is corrupt: [^\n]*$"):
        array_of(data, "it")


@given(st.integers(0, 127), st.integers(0, 255))
@example(8, 0)
def test_a_damaged_byte_is_refused_or_read_as_numpy_reads_it(at: int, byte: int) -> None:
    data = bytearray(saved(np.arange(12, dtype=np.int32).reshape(3, 4)))
    data[at] = byte
    try:
        found = array_of(bytes(data), "it")
    except CorruptFile as error:
        assert "\n" not in str(error)
        return
    expected = np.lib.format.read_array(io.BytesIO(bytes(data)))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
