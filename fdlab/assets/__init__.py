"""What ships with fdlab: weights and data, listed in MANIFEST.json with their digest, source, licence and
maker."""

from __future__ import annotations

import json
from pathlib import Path

from fdlab.assets import hub
from fdlab.errors import UserError, nearest
from fdlab.files import sha256

ROOT = Path(__file__).resolve().parent
PREFIX = "asset:"
"""How a configuration names a file or folder that ships: `asset:nano/base`."""


def asset_path(name: str) -> Path:
    """Path of a file or folder that ships; `name` is relative to the assets' folder, with or without
    `asset:`.

    Raises: UserError when there is none of that name, or when it points outside.
    """
    relative = name.removeprefix(PREFIX).strip("/")
    path = (ROOT / relative).resolve()
    if not path.is_relative_to(ROOT):
        raise UserError(f"'{name}' points outside the assets' folder '{ROOT}'.")
    if not path.exists():
        known = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if "__pycache__" not in p.parts]
        guess = nearest(relative, known)
        hint = f" Did you mean 'asset:{guess}'?" if guess else ""
        raise UserError(f"no asset '{name}': '{path}' is not there; reinstall fdlab.{hint}")
    return path


def named_like(name: str) -> str:
    """What ships under a folder's or file's last name alone, as a user may say it (`early` for
    `asset:nano/early`); "" where nothing does."""
    found = [path for path in sorted(ROOT.glob("*/*")) if path.suffix != ".py" and path.name == name]
    return f"{PREFIX}{found[0].relative_to(ROOT).as_posix()}" if found else ""


def models() -> list[str]:
    """Every model that ships, as a configuration names it."""
    indexes = sorted(ROOT.glob("*/*/model_index.json"))
    return [f"{PREFIX}{path.parent.relative_to(ROOT).as_posix()}" for path in indexes]


def resolve(path: Path | str) -> Path:
    """A path as a user gives it: `asset:...` within the package, `~` as home, a repository's name in the
    hub's cache (`openai/clip-vit-large-patch14`) where no such path is here, anything else as it is."""
    text = str(path)
    if text.startswith(PREFIX):
        return asset_path(text)
    found = Path(text).expanduser()
    if hub.is_id(text) and not found.exists():
        return hub.cached(text) or found
    return found


def manifest(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """MANIFEST.json: {relative path of a file or folder: {sha256, source, licence, made_by}}."""
    file = root / "MANIFEST.json"
    entries: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.is_file() else {}
    return entries


def verify(root: Path = ROOT) -> list[str]:
    """Compare the assets with the manifest; one line for each that is missing, changed or unlisted. Empty:
    all well."""
    entries = manifest(root)
    problems = []
    for name, entry in entries.items():
        path = root / name
        if not path.exists():
            problems.append(f"{name}: listed, but missing")
        elif sha256(path) != entry.get("sha256"):
            problems.append(f"{name}: changed; its sha256 is not the manifest's")
        problems += [
            f"{name}: its '{key}' is not said"
            for key in ("source", "licence", "made_by")
            if not entry.get(key)
        ]
    listed = [root / name for name in entries]
    for file in sorted(root.rglob("*")):
        own = (
            file.suffix == ".py"
            or "__pycache__" in file.parts
            or file == root / "MANIFEST.json"
            or file.is_dir()
        )
        if not own and not any(file == path or file.is_relative_to(path) for path in listed):
            problems.append(f"{file.relative_to(root).as_posix()}: not in the manifest")
    return problems
