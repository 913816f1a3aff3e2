"""The same request finds the same directory, another request never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fdlab.config import directory, naming, provenance
from fdlab.config.compose import compose
from fdlab.errors import UserError


def test_a_name_says_what_was_changed() -> None:
    assert compose(["+exp=sdm"]).name == "seed0"
    assert compose(["+exp=sdm", "seed=3", "model.lr=3e-4"]).name == "seed3_model.lr-0.0003"
    assert compose(["trainer=smoke"]).name == "seed0_trainer-smoke"


def test_a_home_written_short_is_the_same_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FDLAB_CACHE")
    assert compose(["+exp=sdm"]).name == "seed0"
    assert compose(["paths.cache=~/elsewhere"], config_name="evaluate").name == "seed0"


def test_a_name_does_not_depend_on_spelling_order_or_where_things_go() -> None:
    same = [
        ["model.lr=1e-3", "trainer=smoke", "seed=1"],
        ["seed=1", "++model.lr=0.001", "trainer=smoke", "logger=wandb", "resume=never"],
        ["model.clip=1.0", "trainer=smoke", "model.lr=1e-3", "seed=1", "paths.runs=/x"],
        ["seed=1", "model.lr=1e-3", "trainer=smoke", "paths.cache=/elsewhere"],
    ]
    assert len({compose(overrides).name for overrides in same}) == 1


def test_a_digest_does_not_depend_on_where_things_lie() -> None:
    def digest(*overrides: str) -> str:
        resolved: Any = OmegaConf.to_container(compose(list(overrides)), resolve=True)
        return provenance.config_sha256({**resolved, "name": ""})

    assert digest("paths.cache=/a", "paths.runs=/b") == digest() != digest("data.root=/a/people")


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_cleaned_names_are_safe_and_stay_apart(one: str, other: str) -> None:
    default = {"seed": 0, "x": {"y": ""}}
    names = [naming.run_name({"seed": 0, "x": {"y": text}}, default) for text in (one, other)]
    for name in names:
        naming.check(name)
        assert len(name) <= 120
    assert (names[0] == names[1]) == (one == other)


def test_where_a_run_goes() -> None:
    cfg = compose(["+exp=tdm", "paths.runs=/r", "name=first"])
    assert naming.run_dir(cfg) == Path("/r/tdm/first")


def begun(tmp_path: Path, *overrides: str) -> Path:
    """A run of these overrides that has left a checkpoint."""
    cfg = compose([f"paths.runs={tmp_path}", *overrides])
    folder = directory.settle(cfg)
    directory.save(cfg, list(overrides))
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_auto_finds_the_run_that_was_begun_and_never_takes_a_new_directory(tmp_path: Path) -> None:
    first = begun(tmp_path)
    assert begun(tmp_path) == first
    assert begun(tmp_path, "resume=never") == first.with_name("seed0-2")
    assert begun(tmp_path, "resume=never") == first.with_name("seed0-3")


def test_another_configuration_under_a_name_in_use_is_refused(tmp_path: Path) -> None:
    begun(tmp_path, "name=x")
    with pytest.raises(UserError, match=r"holds a run with model\.lr=0\.0001, not 0\.001; choose another"):
        begun(tmp_path, "name=x", "model.lr=1e-3")


def test_a_run_may_be_made_longer_but_not_shorter(tmp_path: Path) -> None:
    folder = begun(tmp_path, "name=x", "trainer.max_steps=10")
    lean = ("model.ema_device=cpu", "model.frozen=auto", "model.offload=false")
    assert begun(tmp_path, "name=x", "trainer.max_steps=20", "trainer.num_workers=1", *lean) == folder
    with pytest.raises(UserError, match="max_steps=20, not 10"):
        begun(tmp_path, "name=x", "trainer.max_steps=10")


def test_further_processes_use_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begun(tmp_path, "resume=never")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert directory.settle(compose([f"paths.runs={tmp_path}", "resume=never"])) == first


def test_what_a_run_was_made_of_is_saved_and_read_back(tmp_path: Path) -> None:
    folder = begun(tmp_path, "seed=7")
    assert provenance.load(folder).seed == 7
    assert (folder / "overrides.yaml").read_text() == "- seed=7\n"
    assert '"torch"' in (folder / "environment.json").read_text()
    with pytest.raises(UserError, match="no configuration at"):
        provenance.load(tmp_path / "nothing")


def test_the_digest_of_a_configuration_forgets_folders_only() -> None:
    def sha256(*overrides: str) -> str:
        return provenance.config_sha256(OmegaConf.to_container(compose(list(overrides)), resolve=True))

    digest = sha256()
    assert sha256("paths.runs=/x") == digest
    assert sha256("seed=1") != digest
