"""One of several processes that torchrun or srun starts: `python meet.py OUT [refused]`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from fdlab.config.directory import is_main_process
from fdlab.config.meeting import settled_by_first
from fdlab.errors import EndedElsewhere, UserError

out, *how = sys.argv[1:]
cfg = SimpleNamespace(name="a")


def settle() -> str:
    if is_main_process():
        time.sleep(1)
        if how:
            raise UserError("it holds another run")
        cfg.name = "a-2"
    return f"in {cfg.name}"


try:
    found = settled_by_first(cfg, settle)
except (UserError, EndedElsewhere) as error:
    found = str(error)
rank = os.environ.get("RANK") or os.environ["SLURM_PROCID"]
Path(out, f"{rank}.txt").write_text(found)
