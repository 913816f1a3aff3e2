"""What only evaluation reads may be corrected without losing the training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fdlab.config import directory, provenance
from fdlab.config.compose import compose
from fdlab.config.seen import FILE, Seen, load
from fdlab.errors import UserError

CORRECTED = [
    "sampler.alpha=0.1", "sampler=tdm", "sampler.num_steps=7", "benchmark=people_multi",
    "benchmark.max_prompts=3",
    "evaluation.clip=vit_l14", "evaluate=false", "tdm=base", "trainer.benchmark_subjects=5",
    "trainer.sampler_steps=9",
]  # fmt: skip


def begun(tmp_path: Path, *overrides: str, data: Seen | None = None) -> Path:
    """A run of these overrides, with what a training leaves."""
    cfg = compose([f"paths.runs={tmp_path}", *overrides])
    folder = directory.settle(cfg, data)
    directory.save(cfg, list(overrides), data)
    if not (folder / "checkpoints").exists():
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/last.ckpt").write_text(" ".join(overrides))
        (folder / "metrics.csv").write_text("step,loss\n")
    return folder


def state(folder: Path) -> str:
    return (folder / "checkpoints/last.ckpt").read_text()


@pytest.mark.parametrize("key", CORRECTED)
def test_a_corrected_command_goes_on_where_it_was(key: str, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    first = begun(tmp_path, "+exp=sdm", "seed=3")
    second = begun(tmp_path, "+exp=sdm", "seed=3", key)
    assert second != first and state(second) == "+exp=sdm seed=3"
    assert (second / "metrics.csv").read_text() == "step,loss\n"
    assert f"'{first}' trained the same" in capsys.readouterr().err
    # What the second run writes from here on is its own.
    (second / "checkpoints/last.ckpt").unlink()
    (second / "checkpoints/last.ckpt").write_text("mine")
    assert state(first) == "+exp=sdm seed=3"


@pytest.mark.parametrize(
    "keys",
    [
        ["seed=4"], ["seed=3", "model.lr=1e-3"], ["seed=3", "trainer.max_steps=9"], ["seed=3", "data.num=9",
        "tdm=base"],
        ["seed=3", "resume=never", "tdm=base"], ["seed=3", "validation.every=5", "sampler=tdm"], ["seed=3",
        "name=again"],
    ],
)  # fmt: skip
def test_another_training_is_a_training_of_its_own(keys: list[str], tmp_path: Path) -> None:
    begun(tmp_path, "+exp=sdm", "seed=3")
    assert state(begun(tmp_path, "+exp=sdm", *keys)) == " ".join(["+exp=sdm", *keys])


def test_what_validation_reads_belongs_to_the_training(tmp_path: Path) -> None:
    begun(tmp_path, "validation.every=5")
    keys = ["validation.every=5", "sampler.num_steps=7"]
    assert state(begun(tmp_path, *keys)) == " ".join(keys)


def test_under_one_name_evaluation_may_be_corrected_until_there_is_a_record(tmp_path: Path) -> None:
    folder = begun(tmp_path, "name=x")
    assert begun(tmp_path, "name=x", "sampler=tdm") == folder
    (folder / "evaluation").mkdir()
    (folder / "evaluation/record.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a run with sampler\.guider=tdm, not snf"):
        begun(tmp_path, "name=x")


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00", "a: ${b}", "a: ${", "[]"])
def test_a_damaged_neighbour_is_passed_over_and_a_damaged_run_is_told(text: str, tmp_path: Path) -> None:
    (folder := tmp_path / "sdm" / "seed0").mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").touch()
    assert state(begun(tmp_path, "tdm=base")) == "tdm=base"
    with pytest.raises(UserError, match="is damaged"):
        begun(tmp_path)
    shutil.rmtree(folder)
    assert provenance.load(begun(tmp_path)).seed == 0


def seen(pieces: bool = False, key: str = "data.root", **digests: str) -> Seen:
    return Seen(pieces, {"data.prior.root": {}, key: digests})


THEN = seen(a="1", b="2", c="3")
DATA = ["data=folder", "data.root=/d"]


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (seen(a="1", b="x", c="y"), ("data.root", "of 3 samples 2 changed (first 'b')")),
        (seen(a="1", b="2", d="4", e="5"), ("data.root", "of 3 samples 1 gone ('c'), 2 new (first 'd')")),
        (seen(b="2", a="1", c="3"), ("data.root", "the samples have another order")),
        (Seen(False, {"data.prior.root": {"z": "1"}}), ("data.prior.root", "of 0 samples 1 new ('z')")),
        (seen(a="1", b="2", c="3"), None),
        # As far as is known.
        (seen(True, z="0"), None),
        (seen(key="data.other", z="0"), None),
    ],
)
def test_what_has_changed_is_counted_and_the_first_is_named(
    now: Seen, change: object, tmp_path: Path
) -> None:
    THEN.save(tmp_path)
    read = load(tmp_path)
    assert read == THEN and read.change(now) == change


def test_over_other_data_nothing_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, now = begun(tmp_path, "name=x", *DATA, data=THEN), seen(b="2", c="3")
    said = r"x' was trained on other data: in data\.root=/d, of 3 samples 1 gone \('a'\); put .*resume=never"
    with pytest.raises(UserError, match=said):
        begun(tmp_path, "name=x", "trainer.max_steps=9999", *DATA, data=now)
    assert state(begun(tmp_path, "name=y", "sampler=tdm", *DATA, data=now)).startswith("name=y")
    what = "in data.root, of 3 samples 1 gone ('a')"
    note = f"note: '{first}' trained the same on other data ({what}); training anew.\n"
    assert capsys.readouterr().err == note
    begun(tmp_path, "name=w", f"resume={first}", *DATA, data=now)
    assert capsys.readouterr().err == f"note: '{first}' was trained on other data ({what}).\n"
    # Not from the latest, but from that on these data.
    assert state(begun(tmp_path, "name=z", "sampler=snf_test", *DATA, data=THEN)).startswith("name=x")
    assert begun(tmp_path, "name=x", "trainer.max_steps=9999", *DATA, data=THEN) == first


def test_a_run_that_does_not_say_what_it_was_trained_on_goes_on(tmp_path: Path) -> None:
    folder = begun(tmp_path, *DATA)
    assert not (folder / FILE).exists()
    assert state(begun(tmp_path, "sampler=tdm", *DATA, data=THEN)) == " ".join(DATA)
    assert begun(tmp_path, *DATA, data=THEN) == folder and load(folder) == THEN


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "pieces": true, "samples": {}}',
        '{"version": 1, "pieces": true, "samples": {"a": 1}}',
        '{"version": 1, "pieces": true, "samples": {"a": {"s": 1}}}',
        '{"version": 1, "pieces": null, "samples": {"a": {"s": "1"}}}',
    ],
)
def test_a_damaged_list_of_samples_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"version": 2}')
    assert load(tmp_path) is None
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=rf"{FILE}', of what .* is damaged; remove it to go on"):
        load(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match="is damaged"):
        load(tmp_path)


def test_what_is_refused_leaves_nothing_where_its_process_ends_from_within(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "sdm" / "x"
    with directory.unless_refused(folder) as let_go:
        folder.mkdir(parents=True)
        (folder / directory.ENDED).write_text("2")
        let_go(1)
        assert folder.is_dir()
        let_go(2)
    assert not list(tmp_path.iterdir())
