"""Which state a run goes on from when its newest is gone or torn, and that nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fdlab.engine import checkpoints
from fdlab.engine.continuing import find_checkpoint
from fdlab.errors import UserError
from tests.worlds.line import Line, train


def tear(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    path.unlink()
    path.touch()


def another(path: Path) -> None:
    path.unlink()
    path.write_text("no checkpoint at all")


HARM: list[Callable[[Path], None]] = [Path.unlink, tear, empty, another]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Six steps, of which those after 2, 4 and 6 were kept."""
    train(tmp_path / "run", Line(), keep_checkpoints=3)
    return tmp_path / "run"


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("harm", HARM)
def test_the_newest_readable_state_is_taken_and_told(
    run_dir: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None]
) -> None:
    states = run_dir / "checkpoints"
    harm(states / "last.ckpt")
    train(run_dir, Line(), max_steps=8, keep_checkpoints=9)
    said = capsys.readouterr().err
    assert f"going on from '{states / 'step-6.ckpt'}' (step 6): " in said and "last.ckpt" in said
    assert kept(states) == ["last.ckpt", *(f"step-{n}.ckpt" for n in (2, 4, 6, 8))]
    assert checkpoints.read(states / "last.ckpt")["step"] == 8


@pytest.mark.parametrize("harm", HARM[1:])
def test_torn_ones_are_passed_over_and_moved_not_removed(
    run_dir: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None]
) -> None:
    states = run_dir / "checkpoints"
    harm(states / "last.ckpt")
    harm(states / "step-6.ckpt")
    train(run_dir, Line(), keep_checkpoints=9)
    assert "step-4.ckpt' (step 4)" in capsys.readouterr().err
    assert kept(states) == ["last.ckpt", "step-2.ckpt", "step-4.ckpt", "step-6.ckpt"]
    assert kept(run_dir / "before-1/checkpoints") == ["step-6.ckpt"]


def test_the_best_state_serves_where_no_other_is_left(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = run_dir / "checkpoints"
    (states / "step-4.ckpt").rename(states / "best.ckpt")
    for name in ("last.ckpt", "step-2.ckpt", "step-6.ckpt"):
        (states / name).unlink()
    train(run_dir, Line())
    assert "best.ckpt' (step 4): last.ckpt is missing" in capsys.readouterr().err
    assert "best.ckpt" in kept(states)


def test_where_nothing_can_be_read_nothing_starts_and_nothing_goes(run_dir: Path) -> None:
    states = run_dir / "checkpoints"
    for path in states.iterdir():
        tear(path)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read .*resume=never"):
        train(run_dir, Line())
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_a_start_anew_moves_the_earlier_training_aside(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p.relative_to(run_dir): p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    train(run_dir, Line(), resume="never", max_steps=2)
    assert f"moved to '{run_dir / 'before-1'}'" in capsys.readouterr().err
    place = run_dir / "before-1"
    assert {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
    assert kept(run_dir / "checkpoints") == ["last.ckpt", "step-2.ckpt"]


def test_going_back_and_coming_from_elsewhere_lose_nothing(run_dir: Path, tmp_path: Path) -> None:
    states = run_dir / "checkpoints"
    train(run_dir, Line(), resume=str(states / "step-2.ckpt"), max_steps=3)
    assert kept(run_dir / "before-1/checkpoints") == ["step-4.ckpt", "step-6.ckpt"]
    train(tmp_path / "other", Line(), max_steps=5)
    train(run_dir, Line(), resume=str(tmp_path / "other"), max_steps=6)
    assert kept(run_dir / "before-2/checkpoints") == ["last.ckpt", "step-2.ckpt", "step-3.ckpt"]
    assert kept(states) == ["last.ckpt", "step-6.ckpt"]


def test_a_torn_state_that_was_asked_for_is_refused_with_the_one_to_take(run_dir: Path) -> None:
    path = run_dir / "checkpoints/last.ckpt"
    tear(path)
    with pytest.raises(UserError, match=r"last\.ckpt' cannot be read: .*resume=.*step-6\.ckpt"):
        train(run_dir, Line(), resume=str(path))


def test_names_that_are_no_numbers_are_left_alone(run_dir: Path) -> None:
    states = run_dir / "checkpoints"
    (states / "step-mine.ckpt").write_text("a note")
    train(run_dir, Line(), max_steps=12, keep_checkpoints=1)
    assert kept(states) == ["last.ckpt", "step-12.ckpt", "step-mine.ckpt"]
    assert find_checkpoint(run_dir, "auto") == states / "last.ckpt"
