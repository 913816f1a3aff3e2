"""Processes that render: results in any order, and none of them lost to a death unnoticed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numba
import pytest

from fdlab import workers
from fdlab.benchmarks.benchmark import load
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.errors import Failure, UserError
from fdlab.people import benchmark, compiled
from fdlab.workers import in_processes


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    if number == 3:
        raise UserError("three is refused.")
    return number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("num", [1, 2])
def test_every_job_is_done_once(num: int) -> None:
    assert sorted(in_processes(double, range(3), num)) == [0, 2, 4]
    assert list(in_processes(double, [], num)) == []


@pytest.mark.parametrize("num", [1, 2])
def test_what_a_job_raises_is_raised(num: int) -> None:
    with pytest.raises(UserError, match=r"^three is refused\."):
        list(in_processes(refuse, range(6), num))
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_named_and_nothing_waits() -> None:
    done = []
    said = r"^worker process \d+ ended by SIGKILL, as the kernel .*the same command goes on"
    with pytest.raises(Failure, match=said):
        for number in in_processes(die, range(8), 2):
            done.append(number)
    assert 3 not in done and not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("exitcode", "said"),
    [(-9, "by SIGKILL, as"), (-11, "by SIGSEGV"), (7, "with status 7"), (0, "with status 0")],
)
def test_every_end_has_a_name(exitcode: int, said: str) -> None:
    assert workers._why(exitcode).startswith(said)


def test_who_stops_listening_ends_the_processes() -> None:
    running = in_processes(double, range(100), 2)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    made = benchmark.Embedded(2, benchmark.embedded("people_multi").prompts[:1], size=2)
    monkeypatch.setitem(benchmark.EMBEDDED, "small", made)
    monkeypatch.setattr(benchmark, "SIZE", 32)
    return "small"


@pytest.mark.parametrize(
    "name",
    ["benchmark.json", "references/s00.png", "heldout/s01.png", "masks/s01.png", "real/s00-s01-p00-0.png"],
)
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_benchmark_heals(tmp_path: Path, small: str, name: str, harm: object) -> None:
    benchmark.render(tmp_path, small, workers=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    harm(tmp_path / name)  # type: ignore[operator]
    benchmark.render(tmp_path, small, workers=1)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before


def test_a_whole_benchmark_is_not_written_to(tmp_path: Path, small: str) -> None:
    benchmark.render(tmp_path, small, workers=1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    time.sleep(0.01)
    benchmark.render(tmp_path, small, workers=1)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_part_of_a_benchmark_is_that_part_of_the_whole(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = benchmark.Embedded(3, benchmark.embedded("people_multi").prompts[:3], size=2)
    monkeypatch.setitem(benchmark.EMBEDDED, small, made)
    benchmark.render(tmp_path / "whole", small, workers=1)
    part = tmp_path / "part"
    benchmark.render(part, small, ["s00", "s02"], ["p01"], workers=1)
    found = {str(p.relative_to(part)) for p in part.rglob("*.*")}
    people = {f"{kind}/{who}.png" for kind in ("references", "heldout", "masks") for who in ("s00", "s02")}
    # No manifest: as a folder of its own it is no benchmark yet.
    assert found == {"real/s00-s02-p01-0.png", *people}
    benchmark.render(part, small, workers=1)
    whole = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in (tmp_path / "whole").rglob("*.*")}
    assert {p.relative_to(part): p.read_bytes() for p in part.rglob("*.*")} == whole


def test_a_limited_choice_renders_no_more_than_it_names(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = benchmark.Embedded(3, benchmark.embedded("people_single").prompts[:4])
    monkeypatch.setitem(benchmark.EMBEDDED, small, made)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    asked = BenchmarkSettings("people", small, tmp_path, max_subjects=1, max_prompts=2)
    opened = asked.open()
    there = sorted(p.relative_to(opened.folder).as_posix() for p in tmp_path.rglob("*.*") if p.is_file())
    assert there == sorted(opened.files()) and len(there) == 5
    # The whole one, limited afterwards, is the same benchmark.
    replace(asked, max_subjects=0, max_prompts=0).open()
    assert load(opened.folder).limited(1, 2).sha256 == opened.sha256


def test_a_killed_process_ends_the_rendering_of_a_benchmark(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_write", die_at_once)
    with pytest.raises(Failure, match="by SIGKILL"):
        benchmark.render(tmp_path, small, workers=2)
    assert not (tmp_path / "benchmark.json").exists()


def die_at_once(job: object) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_compiled_code_is_kept_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What numba finds for itself, then FDLAB_CACHE, then nothing: rendering never fails for it."""
    places: list[str] = []

    def finds() -> bool:
        places.append(str(numba.config.CACHE_DIR))
        return bool(places[-1]) and Path(places[-1]).is_relative_to(tmp_path)

    monkeypatch.setattr(compiled, "_finds_a_place", finds)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("FDLAB_CACHE", raising=False)
    keeps = compiled._keeps.__wrapped__
    with caplog.at_level(logging.WARNING):
        assert not keeps()
    assert "FDLAB_CACHE=DIR names a folder" in caplog.text
    monkeypatch.setenv("FDLAB_CACHE", str(tmp_path))
    assert keeps() and places[-1] == str(tmp_path / "numba")


def test_code_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_keeps", lambda: False)
    assert compiled.compiled(double)(21) == 42


def test_numba_is_asked_whether_it_finds_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> object:
        def refuse(function: object) -> None:
            raise RuntimeError("cannot cache function: no locator available")

        return refuse

    monkeypatch.setattr(compiled, "njit", none)
    assert not compiled._finds_a_place()


@pytest.mark.long
def test_a_torn_picture_is_rendered_again(tmp_path: Path, small: str) -> None:
    benchmark.render(tmp_path, small, workers=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    for name in ("references/s00.png", "real/s00-s01-p00-0.png"):
        (tmp_path / name).write_bytes(before[tmp_path / name][:-20])
    benchmark.render(tmp_path, small, workers=1)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before
