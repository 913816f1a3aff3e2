"""Files of others: whatever they are, one line."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdlab import foreign
from fdlab.errors import UserError, unknown


def refused(path: Path, read: Any = foreign.read_json) -> str:
    with pytest.raises(UserError) as caught:
        read(path, "thing")
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 600 and path.name in message
    return message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'"\xff"', "not text in UTF-8"),
        (b"NaN", "NaN is no JSON number"),
        (b"[1e999]", "not finite"),
        (b"9" * 5000, "not valid JSON"),
        (b"1" + b"0" * 30, "a number of 31 digits"),
        (b'"\\ud800"', "no Unicode"),
        (b'{"\\udfff": 1}', "no Unicode"),
        (b"[" * 41 + b"]" * 41, None),
        (b"[" * 42 + b"]" * 42, "nested more than 40 deep"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_json_that_is_none(tmp_path: Path, data: bytes, said: str | None) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    if said is None:
        assert foreign.read_json(path, "thing") == json.loads(data)
    else:
        assert said in refused(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("!!python/object:os.system x", "not valid YAML"),
        ("!!timestamp x", "does not fit its tag"),
        ("!!int x", "does not fit its tag"),
        ("!!bool x", "does not fit its tag"),
        ("2026-99-99", "does not fit its tag"),
        (".nan", "not finite"),
        ("9" * 400, "a number of 400 digits"),
        ("[" * 3000, "nested too deeply"),
        ("&a [*a]", None),
    ],
)
def test_yaml_that_is_none(tmp_path: Path, text: str, said: str | None) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    if said is None:
        assert len(foreign.shown(foreign.read_yaml(path, "thing"))) < 100
    else:
        assert said in refused(path, foreign.read_yaml)


def test_laughs_by_the_billion_are_looked_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    assert len(foreign.shown(foreign.read_yaml(tmp_path / "a.yaml", "thing"))) < 1000


def test_what_is_no_file_is_neither_read_nor_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no thing" in refused(tmp_path / "gone.json")
    assert "it is no file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    assert "it is no file" in refused(tmp_path / "pipe.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    assert "it is no file" in refused(tmp_path / "endless.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    assert "a link that leads nowhere" in refused(tmp_path / "loop.json")
    with socket.socket(socket.AF_UNIX) as made:
        monkeypatch.chdir(tmp_path)
        made.bind("socket.json")
        assert "it is no file" in refused(Path("socket.json"))
    monkeypatch.setattr(foreign, "MOST_BYTES", 10)
    (tmp_path / "large.json").write_text("[" + " " * 10 + "]")
    assert "more than 10 bytes" in refused(tmp_path / "large.json")


def test_numbers_and_counts() -> None:
    assert foreign.is_number(1, 0, 1) and foreign.is_number(0.5, 0, 1) and not foreign.is_number(1.01, 0, 1)
    for odd in (True, "1", None, float("nan"), float("inf"), [1]):
        assert not foreign.is_number(odd)
    assert foreign.is_number(10**300) and not foreign.is_number(-1, 0)
    assert foreign.is_count(1) and foreign.is_count(0, 0) and not foreign.is_count(0)
    for odd in (True, 1.0, "1", None, 2**65):
        assert not foreign.is_count(odd)
    assert foreign.is_texts([]) and foreign.is_texts(["a"])
    assert not foreign.is_texts("ab") and not foreign.is_texts(["a", 1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    for read in (foreign.read_json, foreign.read_yaml):
        try:
            json.dumps(foreign.shown(read(path, "thing")), allow_nan=False).encode()
        except UserError as error:
            assert str(error).isprintable()


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_an_error_is_one_line_whatever_was_given(text: str) -> None:
    for error in (UserError(f"no '{text}'"), unknown("name", text * 50, ["a", text])):
        str(error).encode()
        assert str(error).isprintable()
    assert len(str(unknown("name", text * 500, ["a"]))) < 2000


@pytest.mark.parametrize("digits", [400, 5000])
def test_yaml_may_write_a_number_in_hex(digits: int, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: 0x{'f' * digits}\n")
    assert "holds a number of" in refused(path, foreign.read_yaml)
