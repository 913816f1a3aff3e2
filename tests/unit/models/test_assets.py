"""The manifest of what ships: checked against the files, both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fdlab.assets import ROOT, asset_path, resolve, verify
from fdlab.errors import UserError
from fdlab.files import sha256

ENTRY = {"source": "made here", "licence": "Apache-2.0", "made_by": "a script"}


def test_paths(tmp_path: Path) -> None:
    assert asset_path("asset:__init__.py") == ROOT / "__init__.py"
    assert resolve(tmp_path) == tmp_path and resolve("asset:__init__.py") == ROOT / "__init__.py"
    with pytest.raises(UserError, match=r"no asset '__init_.py'.*Did you mean 'asset:__init__.py'"):
        asset_path("__init_.py")
    with pytest.raises(UserError, match="outside"):
        asset_path("asset:../errors.py")


def test_what_ships_is_small() -> None:
    files = [path for path in ROOT.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 80e6


def test_verify_names_missing_changed_and_unlisted(tmp_path: Path) -> None:
    for name in ("good", "changed", "unlisted", "folder/inside"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    entries = {name: {**ENTRY, "sha256": sha256(tmp_path / name)} for name in ("good", "changed", "folder")}
    entries["gone"] = {**ENTRY, "sha256": ""}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(entries))
    (tmp_path / "changed").write_text("otherwise")
    lines = verify(tmp_path)
    assert sorted(line.split(":")[0] for line in lines) == ["changed", "gone", "unlisted"]
    entries = {name: {"sha256": sha256(tmp_path / name)} for name in ("good",)}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(entries))
    assert any("'licence' is not said" in line for line in verify(tmp_path))
