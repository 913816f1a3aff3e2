"""Killed at any moment, the drawing of a benchmark goes on and ends with the same pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_killed_ten_times_it_ends_with_the_same_files(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_drawing.py")
    here = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=here, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["killed"] == [True] * 10 and found["end"] == 0
    # They were killed at work: each later, the last before the end.
    progress = found["progress"]
    assert progress == sorted(progress) and len(set(progress)) > 4 and progress[-1] < 32
    # At no time was there a picture that differs from an undisturbed run's, and none was drawn twice.
    assert found["wrong"] == [] and found["drawn_again"] == []
    killed, whole = found["files"]
    assert sum(name.endswith(".png") for name in whole) == 32
    # What was half written when its writer died keeps its temporary, hidden name.
    left = [name for name in killed if name not in whole]
    assert [name for name in killed if name not in left] == whole
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
