"""The command line as a program sees it: status, one line, no traceback, no heavy import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdlab import __main__ as program
from fdlab import __version__
from fdlab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def fdlab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fdlab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_help_lists_the_verbs_that_exist_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fdlab.__main__ import main; main(['--help']); "
        "print([m for m in ('torch', 'hydra', 'omegaconf', 'numpy', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *shown, heavy = done.stdout.splitlines()
    assert heavy == "[]", done.stderr
    for verb in program.VERBS:
        assert any(line.strip().startswith(verb) for line in shown)


@pytest.mark.parametrize("verb", sorted(program.VERBS))
def test_every_verb_has_help_without_torch(verb: str) -> None:
    code = (
        f"import sys; from fdlab.__main__ import main\ntry:\n    main(['{verb}', '--help'])\n"
        "except SystemExit as e:\n    assert not e.code\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr
    assert verb in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fdlab {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "unknown command 'trian'; allowed: .*Did you mean 'train'?"),
        (["train", "+exp=sdx"], "unknown experiment 'sdx'"),
        (["train", "--dri"], "unknown option '--dri'; allowed: .* Did you mean '--dry'?"),
        (["train", "--cfg", "hydra"], "unknown --cfg 'hydra'; allowed: job"),
        (["train", "-m", "model.lr=1e-4,x"], "model.lr=x: a number is needed"),
    ],
)
def test_wrong_input_ends_with_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert program.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(said.replace("?", r"\?"), error), error


def test_wrong_input_leaves_a_process_with_status_2_and_no_traceback(tmp_path: Path) -> None:
    done = fdlab("train", "+exp=sdx", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def verb_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    import fdlab.cli.train

    def main(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(fdlab.cli.train, "main", main)


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_raising(KeyboardInterrupt(), monkeypatch)
    assert program.main(["train", "+exp=sdm"]) == 130
    assert "goes on where this one stopped: python -m fdlab train +exp=sdm" in capsys.readouterr().err


def test_a_folder_that_refuses_is_the_users_to_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_raising(PermissionError(13, "Permission denied", "/there/x"), monkeypatch)
    assert program.main(["train"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: cannot use '/there/x': Permission denied; see to its rights, or choose another"
    )


def test_our_own_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    verb_raising(ZeroDivisionError("ours"), monkeypatch)
    monkeypatch.setenv(program.ERROR_FILE, str(tmp_path / "reason"))
    with pytest.raises(ZeroDivisionError):
        program.main(["train"])
    assert (tmp_path / "reason").read_text() == "ZeroDivisionError: ours\n"


def test_a_reason_of_several_lines_is_left_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    verb_raising(UserError("first\nsecond"), monkeypatch)
    monkeypatch.setenv(program.ERROR_FILE, str(tmp_path / "reason"))
    assert program.main(["train"]) == 2
    assert (tmp_path / "reason").read_text() == "error: first\\nsecond\n"


def test_cfg_prints_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert program.main(["train", "+exp=tdm", "--cfg", "job", "seed=5"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["experiment"], printed["seed"], printed["name"]) == ("tdm", 5, "seed5")


def test_a_grid_can_be_shown_without_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["train", "-m", "--dry", "+exp=sdm", "seed=1,2"]) == 0
    shown = [line.split(" -> ")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["+exp=sdm seed=1", "+exp=sdm seed=2"]


def test_whoever_has_read_enough_gets_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m fdlab train +exp=sdm --cfg job | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1
