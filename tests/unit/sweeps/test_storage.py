"""Workers of one search on a journal file and on real servers: none dies with its trial, none runs
twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdlab.errors import UserError
from fdlab.sweeps import storage
from fdlab.sweeps.asked import read
from tests.unit.sweeps.test_search import ALPHA, GUIDANCE, study_of, work
from tests.worlds.databases import SERVERS, free_port

pytest.importorskip("optuna")
ROOT = Path(__file__).resolve().parents[3]
TRIALS = int(os.environ.get("FDLAB_TRIALS", "12"))
"""Trials on the database; `FDLAB_TRIALS=40` takes longer and finds rarer races."""
STORAGES = os.environ.get("FDLAB_STORAGES", "postgresql").split(",")
"""Kinds of servers to try: postgresql, mysql, grpc; those that are not installed are skipped."""
SEARCH = (ALPHA, GUIDANCE, "sweep=random", "sweep.name=shared")


@pytest.fixture(scope="module", params=STORAGES)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of this test's own; its address."""
    with SERVERS[request.param]() as address:
        yield address


def run_workers(folder: Path, num: int, trials: int, *more: str) -> None:
    words = [*SEARCH, f"sweep.trials={trials}", f"paths.runs={folder / 'runs'}", *more]
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.sweeps.workers", str(folder), str(num), *words],
        capture_output=True, text=True, timeout=100 + 5 * trials, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str([-9, *[0] * (num - 1)]), done.stderr
    study = read(words)[1]
    # A lock's trial that the killed worker had begun may be left to whoever comes next.
    work(study)
    found = study.trials()
    assert len(found) == trials and {trial.state.name for trial in found} == {"COMPLETE"}
    begun = (folder / "started").read_text().split()
    again = [name for name in set(begun) if begun.count(name) > 1]
    # Only the trial in which the worker was killed may have been begun twice.
    assert len(set(begun)) >= trials - 1 and len(again) <= 1
    assert len({str(sorted(trial.params.items())) for trial in found}) == trials


@pytest.mark.long
def test_workers_on_a_journal_lose_no_trial_and_run_none_twice(tmp_path: Path) -> None:
    run_workers(tmp_path, 2, 8)


@pytest.mark.services
def test_workers_on_a_database_lose_no_trial_and_run_none_twice(tmp_path: Path, database: str) -> None:
    run_workers(tmp_path, 4, TRIALS, f"sweep.storage={database}")


@pytest.mark.services
def test_a_database_holds_several_searches(tmp_path: Path, database: str) -> None:
    for name, alpha in (("one", "0.1,0.2"), ("two", "0.3,0.4")):
        words = [f"sampler.alpha={alpha}", GUIDANCE, f"sweep.name={name}", f"sweep.storage={database}"]
        assert work(study_of(tmp_path, *words, "sweep=random", "sweep.trials=2")) == 2
    words = ["sampler.alpha=0.1,0.3", GUIDANCE, "sweep.name=one", f"sweep.storage={database}"]
    with pytest.raises(UserError, match="holds another search"):
        study_of(tmp_path, *words, "sweep=random").open()


def test_what_storages_are_said_wrong(tmp_path: Path) -> None:
    for where, said in (
        ("postgres://a", r"unknown sweep\.storage 'postgres://a'; allowed: grpc://HOST:PORT, journal, mysql"),
        ("journl", "Did you mean 'journal'"),
        ("grpc://here", "give host and port, as in grpc://node0:13000"),
    ):
        with pytest.raises(UserError, match=said):
            study_of(tmp_path, ALPHA, f"sweep.storage={where}")


def test_a_server_that_is_not_there_is_one_line_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(storage, "SECONDS", 1)
    where = f"postgresql://me:secret@127.0.0.1:{free_port()}/x"
    with pytest.raises(UserError, match="cannot be used") as raised:
        study_of(tmp_path, ALPHA, f"sweep.storage={where}").open()
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_driver_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package pymysql: pip install 'fdlab\[sweep-database\]'"):
        storage.check("mysql://me:secret@host/x")
