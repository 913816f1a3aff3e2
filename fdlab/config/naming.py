"""Names of runs: the same request gives the same name, so that a second run finds the first."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab.config.schema import leaves
from fdlab.errors import UserError

_MAX_LENGTH = 120
_UNNAMED = ("name", "seed", "resume", "experiment", "paths.", "logger.", "shard")
"""Keys that do not change the result, or have a place of their own in the path."""


def run_name(given: dict[str, Any], reference: dict[str, Any], choices: Sequence[str] = ()) -> str:
    """Name a run by its seed, the groups chosen and the leaves that differ from their defaults.

    No equals sign: Hydra would want it quoted where the folder is given as a value, as in tdm=runs/...
    """
    parts = [f"seed{given['seed']}"]
    parts += sorted(c.replace("=", "-") for c in choices if not c.startswith(("+exp=", "logger=")))
    default = dict(leaves(without_folders(reference)))
    parts += sorted(
        f"{key}-{value}"
        for key, value in leaves(without_folders(given))
        if not key.startswith(_UNNAMED) and value != default.get(key)
    )
    return _safe("_".join(parts))


def without_folders(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration in which values below a folder of `paths` begin with that folder's key: where
    a machine keeps its files changes no result."""
    paths = resolved.get("paths") or {}
    folders = sorted(((_in_full(str(path)), key) for key, path in paths.items() if path), reverse=True)

    def said(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: said(inner) for key, inner in value.items()}
        if not isinstance(value, str):
            return value
        # One may be written with ~, and another, taken from it, be in full.
        full = _in_full(value)
        for path, key in folders:
            if full.startswith(path.rstrip("/") + "/"):
                return f"<{key}>{full[len(path.rstrip('/')) :]}"
        return value

    return {key: inner if key == "paths" else said(inner) for key, inner in resolved.items()}


def _in_full(path: str) -> str:
    return f"{Path.home()}{path[1:]}" if path.startswith("~/") else path


def check(name: str) -> None:
    """Refuse a name that is no single, plain folder name. Raises: UserError."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.,+-]*", name) or len(name) > 200:
        raise UserError(f"name={name}: allowed are letters, digits and . , _ + -, a letter or digit first.")


def run_dir(resolved: Mapping[str, Any]) -> Path:
    """The run directory of a resolved configuration, `<paths.runs>/<experiment>/<name>`; not created here."""
    return Path(resolved["paths"]["runs"], resolved["experiment"], resolved["name"])


def _safe(name: str) -> str:
    plain = re.sub(r"[^\w.+-]+", "-", name, flags=re.ASCII).strip("-")
    if plain == name and len(name) <= _MAX_LENGTH:
        return name
    # Two names may become alike once cleaned or cut: the hash of the original keeps them apart.
    return f"{plain[: _MAX_LENGTH - 9]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
