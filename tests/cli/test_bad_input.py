"""Data, weights and disks that are not as they should be: one line, status 2, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdlab import files
from fdlab.__main__ import main
from fdlab.data.layout import write_ids, write_sample
from fdlab.data.sample import PersonSample, ShownSubject

CAPTION = "a woman and a man on a beach"
ENDS = (7, 17)
NUM = 6
NAMED = "s00003"

Break = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound data folder: pictures of two people each."""
    root = tmp_path / "data"
    for index in range(NUM):
        image_HW3 = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
        segments_HW = np.zeros((64, 64), np.uint8)
        segments_HW[10:50, 4:28], segments_HW[10:50, 36:60] = 1, 2
        subjects = (ShownSubject(1, ENDS[0]), ShownSubject(2, ENDS[1]))
        write_sample(root, PersonSample(f"s{index:05d}", CAPTION, image_HW3, segments_HW, subjects))
    write_ids(root, [f"s{index:05d}" for index in range(NUM)])
    return root


def command(tiny: list[str], folder: Path, *more: str) -> list[str]:
    keys = [key for key in tiny if not key.startswith("data.num=")]
    mine = ["data=fastcomposer", f"data.root={folder}", "data.cache_latents=true", "name=x"]
    mine += ["trainer.max_steps=1", "trainer.sample_every=0", f"paths.runs={folder.parent / 'runs'}"]
    return ["train", "+exp=sdm", *keys, *mine, f"paths.cache={folder.parent / 'cache'}", *more]


def file(folder: Path, suffix: str) -> Path:
    return folder / NAMED[:5] / f"{NAMED}{suffix}"


def cut_picture(folder: Path) -> None:
    path = file(folder, ".png")
    path.write_bytes(path.read_bytes()[:200])


def no_person(folder: Path) -> None:
    segments_HW = np.load(file(folder, ".npy"))
    segments_HW[segments_HW == 2] = 0
    np.save(file(folder, ".npy"), segments_HW)


def no_json_entry(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"kind": "people", "num": 6}')
    value = json.loads(file(folder, ".json").read_text())
    file(folder, ".json").write_text(json.dumps({**value, "segments": value["segments"][:1]}))


def long_caption(folder: Path) -> None:
    value = json.loads(file(folder, ".json").read_text())
    before = "a picture with " + "very " * 60
    for segment in value["segments"]:
        segment["end"] += len(before)
    file(folder, ".json").write_text(json.dumps({**value, "caption": before + value["caption"]}))


def marked_caption(folder: Path) -> None:
    value = json.loads(file(folder, ".json").read_text())
    file(folder, ".json").write_text(json.dumps({**value, "caption": value["caption"] + " <|image|>"}))


FAULTS: list[tuple[str, Break, str]] = [
    ("a corrupt picture", cut_picture, f"{NAMED}.png' cannot be read"),
    ("a picture that is not there", lambda d: file(d, ".png").unlink(), f"picture '{NAMED}' is missing"),
    ("a mask that is not there", lambda d: file(d, ".npy").unlink(), f"{NAMED}.npy' is missing"),
    ("half a json", lambda d: file(d, ".json").write_text('{"caption"'), f"{NAMED}.json' is not valid JSON"),
    ("a json that is a list", lambda d: file(d, ".json").write_text("[1]"), f"{NAMED}.json' holds a list"),
    ("no list of ids", lambda d: (d / "image_ids_train.txt").unlink(), "only half written"),
    ("a person without pixels", no_person, "subject 2 of the caption has no pixel"),
    ("a mask without its person", no_json_entry, f"'{NAMED}': mask 2 has no person"),
    ("a subject past the last token", long_caption, f"sample '{NAMED}'"),
    ("a marker in the caption", marked_caption, f"{NAMED}.json': its caption holds a marker"),
    ("a mask of NaN", lambda d: np.save(file(d, ".npy"), np.full((64, 64), np.nan)), f"{NAMED}.npy' holds"),
    (
        "a complex mask",
        lambda d: np.save(file(d, ".npy"), np.ones((64, 64)) * 1j),
        f"{NAMED}.npy' is complex",
    ),
    (
        "a mask of another shape",
        lambda d: np.save(file(d, ".npy"), np.ones((64, 64, 1))),
        f"{NAMED}.npy' is f",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_bad_data_are_named(
    spoil: Break, said: str, tiny: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training refuses, and `data check` says the same before."""
    spoil(folder)
    assert main(command(tiny, folder)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error
    assert not (folder.parent / "runs").exists()
    status = main(["data", "check", str(folder), "--split", "train"])
    told = capsys.readouterr()
    assert (status, said in told.out) == (1, True) or (status, said in told.err) == (2, True)


def test_a_corrupt_picture_is_skipped_where_the_user_says_so(
    tiny: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_picture(folder)
    assert main(command(tiny, folder, "data.skip_corrupt=true")) == 0
    assert (folder.parent / "runs" / "sdm" / "x" / "model").is_dir()
    # What was prepared with permission does not pass without it.
    assert main(command(tiny, folder, "name=y")) == 2
    assert f"{NAMED}.png' cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("cached", ["true", "false"])
def test_more_subjects_than_a_step_shows_and_data_that_change_under_a_run(
    tiny: list[str], folder: Path, cached: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    keys = ["data.max_subjects=1", f"data.cache_latents={cached}"]
    assert main(command(tiny, folder, *keys)) == 0
    capsys.readouterr()
    segments_HW = np.load(file(folder, ".npy"))
    np.save(file(folder, ".npy"), segments_HW[:, ::-1])
    runs = folder.parent / "runs" / "sdm"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    monkeypatch.setattr("fdlab.training.initial.load_start", pytest.fail)
    assert main(command(tiny, folder, *keys, "trainer.max_steps=2")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"'{runs / 'x'}' was trained on other data: in data.root={folder}, of 6 samples" in error
    assert f"1 changed ('{NAMED}'); put back" in error and "resume=never" in error
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


@pytest.mark.parametrize("kind", ["webdatset", "peopl", "null"])
def test_an_unknown_kind_of_data(
    tiny: list[str], folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny, folder, f"data.kind={kind}")) == 2
    error = capsys.readouterr().err
    assert f"data.kind={kind}: " in error and error.count("\n") == 1
    assert "allowed: people, fastcomposer, webdataset, plain, folder" in error or kind == "null"


def test_a_data_folder_that_is_a_file(
    tiny: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny, folder / "image_ids.txt")) == 2
    assert "image_ids.txt' does not exist" in capsys.readouterr().err


def test_pickled_weights_are_refused(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    assert main(["train", "+exp=tdm", *tiny, f"backbone.unet={tmp_path / 'unet'}", "--dry"]) == 2
    assert "pickled weights are never loaded" in capsys.readouterr().err


def test_a_full_disk_keeps_the_checkpoint_before(
    tiny: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny, folder)) == 0
    checkpoints = folder.parent / "runs" / "sdm" / "x" / "checkpoints"
    before = (checkpoints / "last.ckpt").read_bytes()
    full = files._beside(checkpoints / "step-2.ckpt", "tmp")
    real = type(full).open

    def opened(path: Path, *arguments: object, **named: object) -> object:
        return real(Path("/dev/full") if path == full else path, *arguments, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(full), "open", opened)
        assert main(command(tiny, folder, "trainer.max_steps=2")) == 2
    assert "no space left to write" in capsys.readouterr().err
    assert (checkpoints / "last.ckpt").read_bytes() == before
    assert main(command(tiny, folder, "trainer.max_steps=2")) == 0
