"""Data flows from top to bottom: a room imports only from itself and from rooms above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "fdlab"
ORDER = (
    "diffusion",
    "people",
    "assets",
    "transforms",
    "data",
    "caches",
    "layouts",
    "weights",
    "models",
    "exchange",
    "measure",
    "preparation",
    "pipeline",
    "metrics",
    "config",
    "benchmarks",
    "engine",
    "training",
    "diagnosis",
    "pretraining",
    "records",
    "evaluation",
    "leaderboard",
    "publishing",
    "submissions",
    "sampling",
    "demo",
    "sweeps",
)
"""`cli` calls everything and only __main__ imports it; the package's single modules stand above all rooms."""


def imports(path: Path) -> Iterator[str]:
    """Rooms that a module names in its imports, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "fdlab":
            names = [f"fdlab.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("fdlab."))


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_rooms_above(room: str) -> None:
    below = set(ORDER[ORDER.index(room) + 1 :]) | {"cli"}
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if name in below
    }
    assert not wrong


def test_drawing_for_a_person_needs_no_benchmark() -> None:
    for room in ("pipeline", "sampling", "demo"):
        found = {name for path in (PACKAGE / room).rglob("*.py") for name in imports(path)}
        assert not found & {"benchmarks", "evaluation", "metrics", "records"}, room


def test_the_core_knows_no_framework() -> None:
    """`diffusion` computes on tensors: no Lightning, Hydra, wandb or logging."""
    banned = ("lightning", "hydra", "omegaconf", "wandb", "logging")
    for path in (PACKAGE / "diffusion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in banned], path


def num_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_every_module_is_short() -> None:
    assert not {path.name: n for path in PACKAGE.rglob("*.py") if (n := num_lines(path)) > 400}


@pytest.mark.parametrize("room", [*ORDER, "cli"])
def test_no_room_grows_too_large(room: str) -> None:
    assert sum(map(num_lines, (PACKAGE / room).rglob("*.py"))) < (2000 if room == "evaluation" else 3000)


def test_every_function_is_short() -> None:
    """Of at most 60 lines, without signature and docstring."""
    long = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > 60:
                    long[f"{path.relative_to(PACKAGE)}: {node.name}"] = lines
    assert not long
