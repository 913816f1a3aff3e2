"""Records in Weights & Biases: a board logged there, and records collected from the runs of a project."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.data.pictures import read_image
from fdlab.errors import UserError
from fdlab.foreign import said
from fdlab.leaderboard.evidence import Look
from fdlab.leaderboard.tables import Board, Row, Table
from fdlab.publishing import words
from fdlab.records import table as records_table
from fdlab.records.per_sample import file_of
from fdlab.records.wandb_table import FILES

PICTURES = 8
"""Of each method, spread over the benchmark, on one sheet."""
MOST_BYTES = 1 << 30
"""Of a file that is fetched."""
_PROJECT = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def fetch(project: str, folder: Path, api: Any = None) -> tuple[Path, list[str]]:
    """Fetch the records of a project's runs below `folder`: where they lie, and a line for each run that has
    none.

    `project` is ENTITY/PROJECT. Raises: UserError for another form, without a login, or where wandb answers
    with an error.
    """
    if not _PROJECT.fullmatch(project):
        raise UserError(f"--from-wandb {project}: allowed is ENTITY/PROJECT, such as me/fdlab.")
    where = folder / project.replace("/", "-")
    without = []
    # What an earlier call fetched may be gone there.
    shutil.rmtree(where, ignore_errors=True)
    with _refused(f"--from-wandb {project}"):
        api = api or _api()
        for run in api.runs(project):
            if not _fetch_run(run, where / _safe(str(run.id))):
                without.append(f"run '{run.name}' ({run.id}) has no record")
    return where, without


def _fetch_run(run: Any, folder: Path) -> bool:
    found = {file.name: file for file in run.files(names=list(FILES))}
    if FILES[0] not in found:
        return False
    for name in FILES:
        if name not in found:
            continue
        if int(found[name].size or 0) > MOST_BYTES:
            raise UserError(f"'{name}' of run {run.id} has more than {MOST_BYTES:,} bytes.")
        folder.mkdir(parents=True, exist_ok=True)
        found[name].download(root=str(folder), replace=True)
    return True


def log(board: Board, project: str, look: Look, entity: str | None = None) -> str:
    """Log every table of a board with its pictures to a new run; returns where it is to be found.

    WANDB_MODE=offline keeps it here. Raises: UserError where wandb refuses.
    """
    with _refused(f"--to-wandb {project}"):
        import wandb

        run = wandb.init(project=project, entity=entity, job_type="leaderboard", name="leaderboard")
        for table in board.tables:
            name = f"leaderboard/{table.number}-{table.benchmark['name']}"
            sheets = {row.label: sheet_of(row, look) for row in table.rows}
            shown = [wandb.Image(s, caption=label) for label, s in sheets.items() if s is not None]
            header, lines = rows_of(table, sheets)
            run.log({name: wandb.Table(header, lines), **({f"{name}-pictures": shown} if shown else {})})
        where = str(run.url or run.dir)
        run.finish()
    return where


def rows_of(table: Table, sheets: Mapping[str, np.ndarray | None]) -> tuple[list[str], list[list[Any]]]:
    """Header and lines of a table, a sheet of pictures last where any row (by label) has one."""
    import wandb

    names = table.metrics
    header = ["rank", "method", "training steps", *names, "marks", "pictures"]
    lines = []
    for row in table.rows:
        values = [row.cells[name].value if name in row.cells else None for name in names]
        sheet = sheets.get(row.label)
        image = None if sheet is None else wandb.Image(sheet, caption=row.label)
        first = [words.rank(row), row.label, records_table.steps(row.record)]
        lines.append([*first, *values, words.marks(row), image])
    if all(line[-1] is None for line in lines):
        return header[:-1], [line[:-1] for line in lines]
    return header, lines


def sheet_of(row: Row, look: Look) -> np.ndarray | None:
    """Some of a row's pictures beside one another; None where they are not there."""
    scored = look(row.entry).scored
    if scored is None:
        return None
    places = np.linspace(0, len(scored.pictures) - 1, min(PICTURES, len(scored.pictures))).astype(int)
    paths = [row.entry.path.parent / file_of(scored.pictures[n]) for n in places]
    if not all(path.is_file() for path in paths):
        return None
    images = [read_image(path) for path in paths]
    if len({image.shape for image in images}) != 1:
        return None
    return np.concatenate(images, axis=1)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn what wandb raises into one line."""
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"{what} needs the package wandb: pip install wandb.") from error
    try:
        yield
    except (wandb.errors.Error, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what}: {said(error)}; run `wandb login`, or set WANDB_API_KEY.") from error


def _api() -> Any:
    import wandb

    return wandb.Api(timeout=30)


def _safe(name: str) -> str:
    """A run's id as a folder's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100] or "_"
