"""Preparations that really die, by SIGKILL at moments that nobody chose: started again, they end with the
same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.data.rendered import spec_of
from fdlab.files import sha256
from fdlab.people import picture
from tests.worlds import album

ROOT = Path(__file__).parents[3]
STRIKE = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from fdlab import files
from fdlab.files import sha256
from fdlab.preparation import faces, run
from fdlab.preparation.settings import FaceSettings, MaskSettings, PictureSettings, Settings
from tests.worlds import album

SETTINGS = Settings(PictureSettings(shortest_side=48), FaceSettings(small=8), MaskSettings("boxes"))
faces.FaceFinder, files._flush = album.Finder, lambda path: None
photos, out = Path(sys.argv[1]), Path(sys.argv[2])
rng = np.random.default_rng(int(sys.argv[3]))


def child(folder):
    if not (pid := os.fork()):
        files._cleared.clear()
        run.prepare(photos, folder, SETTINGS, workers=1, show=False)
        os._exit(0)
    return pid


begun = time.monotonic()
assert os.waitpid(child(out / "whole"), 0)[1] == 0
lasts = time.monotonic() - begun
deaths = number = 0
while deaths < 8 and number < 60:
    # The first death at moments that are spread over the whole, the second at any.
    for share in np.linspace(0.1, 1.0, 10):
        folder, number = out / f"killed{number}", number + 1
        for at in (share, rng.uniform(0.02, 0.6)):
            pid = child(folder)
            time.sleep(lasts * at)
            os.kill(pid, signal.SIGKILL)
            deaths += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            assert not folder.exists() or sha256(folder) == sha256(out / "whole"), "half a data set"
        assert os.waitpid(child(folder), 0)[1] == 0
        assert sha256(folder) == sha256(out / "whole"), folder
    # The very first took longer than the others do, or the machine has less to do by now.
    lasts *= 0.7
print(deaths)
"""
"""One interpreter that forks: starting one takes longer than all it does."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.long
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    album.fill(tmp_path / "photos")
    command = [sys.executable, "-c", STRIKE, str(tmp_path / "photos"), str(tmp_path), "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200)
    assert not done.returncode, done.stderr
    assert int(done.stdout) >= 8, "hardly anything was killed"


def renders(folder: Path) -> None:
    """Four people, and their captions."""
    folder.mkdir()
    for index in range(4):
        spec = spec_of("aligned-portraits", 4, 0, index)
        Image.fromarray(picture.render(spec, 128).image_HW3).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(picture.describe(spec)[0])


@pytest.mark.long
def test_the_command_with_its_networks_and_processes_is_killed_and_goes_on(tmp_path: Path) -> None:
    renders(tmp_path / "photos")
    rng = np.random.default_rng(1)

    def start(folder: str) -> subprocess.Popen[bytes]:
        words = ("data", "prepare", str(tmp_path / "photos"), str(tmp_path / folder), "workers=2")
        command = [sys.executable, "-m", "fdlab", *words, "prepare.pictures.shortest_side=128"]
        # A group of its own, so that workers die with it as when a machine goes down.
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True)

    begun = time.monotonic()
    assert start("whole").wait(250) == 0
    lasts, deaths = time.monotonic() - begun, 0
    for at in rng.uniform(0.3, 0.9, 4):
        process = start("killed")
        time.sleep(lasts * at)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            deaths += process.wait() == -signal.SIGKILL
    assert deaths, "nothing was killed in the middle"
    assert start("killed").wait(250) == 0
    assert sha256(tmp_path / "killed") == sha256(tmp_path / "whole")
    assert len(list((tmp_path / "whole").rglob("*.jpg"))) == 4
