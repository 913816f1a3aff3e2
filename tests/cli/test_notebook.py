"""The tour runs from the first cell to the last, shows its figures, and is committed without outputs."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "notebooks" / "tour.ipynb"
DRAWN = ("TDM alone", "SDM alone", "SNF")


@pytest.fixture
def tour() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def test_it_is_committed_without_outputs(tour: nbformat.NotebookNode) -> None:
    nbformat.validate(tour)
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert cells
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}
    assert all(not cell.metadata for cell in tour.cells)
    assert tour.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_the_commands_it_ends_with_exist(tour: nbformat.NotebookNode) -> None:
    from fdlab.__main__ import VERBS
    from fdlab.config.compose import compose
    from fdlab.sweeps.grid import expand

    prose = "\n".join(cell.source for cell in tour.cells if cell.cell_type == "markdown")
    lines = re.findall(r"^python -m fdlab (.*)$", prose, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        verb, *rest = shlex.split(line, comments=True)
        assert verb in VERBS
        if verb == "train":
            for overrides, _ in expand([argument for argument in rest if not argument.startswith("-")]):
                compose(overrides)


@pytest.mark.command
@pytest.mark.long
def test_it_runs_at_its_smallest_and_shows_its_figures(
    tour: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FDLAB_TOUR", "smallest")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    # The kernel starts elsewhere; it is to see this fdlab, installed or not.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    elsewhere = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(tour, timeout=240, kernel_name="python3", resources=elsewhere).execute()

    outputs = [list(cell.get("outputs", ())) for cell in tour.cells]
    figures = [
        sum("image/png" in output.get("data", ()) for output in of_cell)
        for of_cell, cell in zip(outputs, tour.cells, strict=True)
        if "show(" in cell.source and "def show" not in cell.source
    ]
    assert len(figures) >= 9
    assert min(figures) >= 1

    said = {"stdout": "", "stderr": ""}
    for output in (output for of_cell in outputs for output in of_cell if output.output_type == "stream"):
        said[output.name] += output.text
    assert "Warning" not in said["stderr"]
    assert "<|image|>" in said["stdout"]
    assert re.search(r"^true render +faces found in 2 of 2 pictures$", said["stdout"], re.MULTILINE)
    for name in DRAWN:
        assert re.search(rf"^{name} +-?\d\.\d\d +-?\d\.\d\d +\d\.\d\d$", said["stdout"], re.MULTILINE)
