"""Rendered people on disk: the same bytes however they come about, and nobody's files harmed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fdlab.__main__ import main
from fdlab.data import layout, rendered
from fdlab.errors import UserError
from fdlab.people import picture

MIX = ("portraits", 18, 4)
"""Mix, number and seed of the small data set here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    return rendered.ensure_people(root, *MIX, 32, workers=1, progress=False)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that may be harmed."""
    copy = tmp_path / made.name
    for path, data in content(made).items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    return copy


def content(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def again(folder: Path) -> Path:
    return rendered.ensure_people(folder.parent, *MIX, 32, workers=1, progress=False)


def test_bytes_do_not_depend_on_workers_or_interruption(made: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(rendered.facts(*MIX, 32)))
    for index in (17, 3):
        rendered.write_one(tmp_path, *MIX, index, 32)
    rendered.render(tmp_path, *MIX, size=32, workers=2, progress=False)
    assert content(tmp_path) == content(made)


def test_what_is_written_is_true(made: Path) -> None:
    for id in layout.read_ids(made):
        sample = layout.read_sample(made, id)
        assert sample.image_HW3.shape == (32, 32, 3)
        value = json.loads(layout.stem(made, id).with_suffix(".json").read_text())
        assert {segment["coco_label"] for segment in value["segments"]} == {"person"}
        for segment in value["segments"]:
            x1, y1, x2, y2 = segment["bbox"]
            rows, columns = np.nonzero(sample.segments_HW == segment["id"])
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)


def test_splits_share_no_person(tmp_path: Path) -> None:
    rendered.render(tmp_path, "all", 40, 4, size=16, workers=1, progress=False)
    people = {}
    for split in ("train", "test"):
        ids = (tmp_path / f"image_ids_{split}.txt").read_text().split()
        records = [json.loads((tmp_path / i[:5] / f"{i}.json").read_text()) for i in ids]
        people[split] = {p["identity"] for r in records for p in r["truth"]["people"]}
    held = {n for n in people["test"] if n % rendered.TEST_EVERY == rendered.TEST_EVERY - 1}
    assert not held & people["train"]


def test_another_dataset_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    for changed in (("portraits", 3, 4), ("all", 18, 4), ("portraits", 18, 5)):
        with pytest.raises(UserError, match="holds another dataset"):
            rendered.render(folder, *changed, size=32, workers=1, progress=False)
    with pytest.raises(UserError, match="Did you mean 'portraits'"):
        rendered.render(tmp_path / "x", "portrait", 3, 4)


@pytest.mark.parametrize(
    "name", ["image_ids.txt", "image_ids_train.txt", "00000/000000001.json", "notes.txt"]
)
def test_files_of_somebody_else_are_left_alone(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs" / name
    path.parent.mkdir(parents=True)
    path.write_text("0001\n")
    before = content(tmp_path)
    assert (
        main(["data", "render", str(tmp_path / "theirs"), "--num", "2", "--size", "16", "--workers", "1"])
        == 2
    )
    error = capsys.readouterr().err
    assert "holds files of another origin" in error and error.count("\n") == 1
    assert content(tmp_path) == before


def test_an_empty_folder_and_hidden_files_are_free(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    rendered.render(tmp_path, "portraits", 1, 0, size=16, workers=1, progress=False)
    assert len(layout.read_ids(tmp_path)) == 1


@pytest.mark.parametrize(
    "name",
    ["dataset.json", "image_ids.txt", "image_ids_train.txt"]
    + [f"00000/000000003{suffix}" for suffix in (".png", ".npy", ".json")],
)
@pytest.mark.parametrize("harm", ["emptied", "removed", "torn"])
def test_a_damaged_cache_heals(made: Path, folder: Path, name: str, harm: str) -> None:
    path = folder / name
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9] if harm == "torn" else b"")
    if harm == "torn" and name.startswith("0"):
        # Not looked into before it is read; what reads it says what to remove, or has it mended.
        assert again(folder) == folder and rendered.mend(folder) == ["000000003"]
    assert again(folder) == folder
    assert content(folder) == content(made)


def test_a_damaged_mark_of_the_user_s_folder_is_one_line(folder: Path, tmp_path: Path) -> None:
    mine = folder.rename(tmp_path / "mine")
    (mine / "dataset.json").write_text("")
    with pytest.raises(UserError, match=r"dataset\.json' is not valid JSON: .* Remove '.*mine' to have"):
        rendered.render(mine, *MIX, size=32, workers=1, progress=False)


def test_a_whole_cache_is_not_written_to(folder: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in [folder.parent, folder, *folder.rglob("*")]}
    assert again(folder) == folder
    assert {p: p.stat().st_mtime_ns for p in [folder.parent, folder, *folder.rglob("*")]} == before
    assert not list(folder.parent.glob("*.lock"))


def test_a_killed_worker_ends_the_command_and_the_same_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does when memory is short."""
    arguments = ["data", "render", str(tmp_path / "a"), "--num", "48", "--size", "16", "--workers", "2"]

    def kill_one() -> None:
        while not list((tmp_path / "a").rglob("*.json")) or not children():
            time.sleep(0.01)
        os.kill(children()[0], signal.SIGKILL)

    killer = Thread(target=kill_one)
    killer.start()
    assert main(arguments) == 1
    killer.join()
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        error.startswith("error: worker process")
        and "by SIGKILL" in error
        and "the same command goes on" in error
    )
    assert not children()
    kept = set((tmp_path / "a").rglob("*.png"))
    assert not (tmp_path / "a/dataset.json").exists()
    assert main([*arguments[:-1], "1"]) == 0
    assert kept <= set((tmp_path / "a").rglob("*.png")) and len(layout.read_ids(tmp_path / "a")) == 48


def children() -> list[int]:
    """Processes that this one started and that still run."""
    import multiprocessing

    return [p.pid for p in multiprocessing.active_children() if p.pid is not None]


def test_the_version_is_in_the_folder_s_name(made: Path) -> None:
    assert made.name == f"portraits-18-seed4-32px-v{picture.VERSION}"
