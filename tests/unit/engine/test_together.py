"""Of processes that train together the first that fails speaks, and all end with its status."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fdlab import __main__ as shell
from fdlab.engine.together import ending
from fdlab.errors import EndedElsewhere, UserError


def fail(folder: Path, error: Exception) -> None:
    with ending(folder):
        raise error


def test_what_breaks_as_another_process_ends_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Alone, every failure is one's own.
    with pytest.raises(RuntimeError, match="mine"):
        fail(tmp_path, RuntimeError("mine"))
    assert not list(tmp_path.iterdir())

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="torn"):
        fail(tmp_path, UserError("picture 7 is torn"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(EndedElsewhere) as ended:
        fail(tmp_path, RuntimeError("connection closed by peer"))
    monkeypatch.setattr(shell, "_run", lambda _: (_ for _ in ()).throw(ended.value))
    assert shell.main(["train"]) == 2
    assert capsys.readouterr().err == ""

    # A new go begins without the note, and a crash ends with status 1.
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(RuntimeError, match="crash"):
        fail(tmp_path, RuntimeError("crash"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(EndedElsewhere) as ended:
        fail(tmp_path, RuntimeError("connection closed by peer"))
    assert ended.value.status == 1
