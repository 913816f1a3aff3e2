"""experiments/nano/make.sh, with a stand-in for Python that trains nothing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STAND_IN = """#!/bin/bash
echo "$*" >> "$LOG"
case "$*" in *train_denoiser.py*) mkdir -p "$3/model" ;; esac
case "$*" in
*make_shards.py*) mkdir -p "$5" && touch "$5/$2-$7.npz" ;;
*${FAIL:-nothing}*) exit 1 ;;
*${HANG:-nothing}*) trap 'echo saved >> "$LOG"; exit 75' TERM; for i in $(seq 200); do sleep 0.1; done ;;
esac
"""


@pytest.fixture
def make(tmp_path: Path):
    """Run the script; (status, what it printed, the stand-in's calls)."""
    python, log = tmp_path / "python", tmp_path / "calls"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(**settings: str) -> tuple[int, str, str]:
        log.write_text("")
        given = {"PYTHON": str(python), "LOG": str(log), "SHIP": "no", "PORTRAITS": "600", "LANES": "2"}
        command = ["bash", str(ROOT / "experiments/nano/make.sh"), str(tmp_path / "out")]
        done = subprocess.run(
            command, env={**os.environ, **given, **settings}, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr, log.read_text()

    return run


def test_makes_every_part_once(make):
    status, said, calls = make(JUDGE="no")
    assert status == 0, said
    assert [calls.count(name) for name in ("reference_encoder.py", "denoiser.py sdm", "denoiser.py tdm")] == [
        1,
        3,
        2,
    ]
    assert "judge" not in calls
    status, said, calls = make(JUDGE="no")
    assert (status, calls) == (0, "")


def test_a_part_that_fails_stops_the_other_lane_which_saves(make):
    status, said, calls = make(FAIL="train_denoiser.py tdm", HANG="reference_encoder")
    assert status == 1
    assert "part 'base' failed with status 1" in said and "saved" in calls
    status, said, calls = make()
    assert status == 0 and "make_shards" not in calls


@pytest.mark.long
def test_the_limit_stops_what_works_and_the_same_command_goes_on(make):
    status, said, calls = make(HANG="denoiser.py sdm", LIMIT="34", GRACE="30")
    assert status == 75, said
    assert "unfinished" in said and "saved" in calls
    status, said, calls = make()
    assert status == 0 and "denoiser.py sdm" in calls and "reference_encoder" not in calls


def test_new_latents_reach_all_that_follows_and_nothing_of_the_old_ones_does(make, tmp_path):
    status, said, calls = make(SHARED="yes", JUDGE="no")
    assert status == 0, said
    new = f"--vae {tmp_path}/out/autoencoder/vae"
    denoisers = [call for call in calls.splitlines() if "denoiser.py" in call]
    shards = [call for call in calls.splitlines() if "make_shards.py" in call]
    assert len(denoisers) == 5 and all(new in call for call in [*denoisers, *shards])
    assert all(f"--text-encoder {tmp_path}/out/clip/text_encoder" in call for call in shards)
    starts = [call.rpartition("--start ")[2].split()[0] for call in denoisers]  # the last counts
    made = [f"{tmp_path}/out/{name}/model" for name in ("base", "sdm")]
    assert sorted(starts) == [*made, "scratch", "scratch", "scratch"]
    # The lengths that weights from scratch have behind them.
    assert "--minutes 210.0000" in calls and "--minutes 78.0000" in calls
    assert "asset:" not in calls and "ship.py" not in calls


def test_new_latents_ship_with_the_encoder_that_knows_people_and_a_new_early(make, tmp_path):
    status, said, calls = make(SHARED="yes", JUDGE="no", SHIP="yes")
    assert status == 0, said
    shipped = dict(pair.split("=") for pair in calls.splitlines()[-1].split()[1:])
    parts = {
        "vae": "autoencoder/vae",
        "text_encoder": "clip/text_encoder",
        "scheduler": "sdm2/model/scheduler",
    }
    parts |= {"base": "base/model", "tdm": "tdm/model", "sdm": "sdm2/model", "early": "early/model"}
    assert shipped == {name: f"{tmp_path}/out/{folder}" for name, folder in parts.items()}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"JUDGE": "0"}, "JUDGE=0: yes or no"),
        ({"SHIP": "YES"}, "SHIP=YES: yes or no"),
        ({"LIMIT": "9m"}, "LIMIT=9m: whole seconds"),
        ({"SECONDS_A_PART": "abc"}, "SECONDS_A_PART=abc: whole seconds"),
        ({"SECONDS_SDM": "0"}, "SECONDS_SDM=0: whole seconds"),
        ({"SECONDS_SMD": "5"}, "SECONDS_SMD: no part is called so"),
        ({"LANES": "3"}, "LANES=3: 1 or 2"),
        ({"JOBS": "0"}, "JOBS=0: a whole number from 1"),
        ({"DEVICE": "gpux"}, "DEVICE=gpux: cpu or cuda"),
        ({"PYTHON": "/nowhere"}, "PYTHON=/nowhere: no such program"),
    ],
)
def test_settings_that_are_none_are_refused_before_anything_is_made(make, settings, said):
    status, printed, calls = make(**settings)
    assert (status, calls) == (2, "") and said in printed


def test_a_run_waits_for_what_another_was_told_to_stop_and_for_no_more(make, tmp_path):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, said, calls = make(JUDGE="no", GRACE="0")
        assert (status, calls) == (2, "") and "another run works" in said
        threading.Timer(0.3, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        assert make(JUDGE="no", GRACE="60")[0] == 0


def test_other_settings_in_the_same_folder_are_refused(make):
    assert make(JUDGE="no")[0] == 0
    status, said, calls = make(JUDGE="no", SECONDS_SDM="9")
    assert (status, calls) == (2, "") and "was begun with other settings" in said
