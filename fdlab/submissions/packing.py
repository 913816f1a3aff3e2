"""A run packed for others to check: record, scores of single pictures, how it was made, and a manifest of
digests; the pictures where wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fdlab import foreign
from fdlab.config import provenance
from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.pooling import CONFIG, run_folder
from fdlab.leaderboard.runs import ENVIRONMENT
from fdlab.records import per_sample
from fdlab.records.breakdown import BREAKDOWN
from fdlab.records.record import PER_SAMPLE, RECORD
from fdlab.submissions import archive

MANIFEST, OVERRIDES = "manifest.json", "overrides.yaml"
KIND, VERSION = "fdlab submission", 1
OF_RECORD = (RECORD, PER_SAMPLE, BREAKDOWN)
OF_RUN = (CONFIG, OVERRIDES, ENVIRONMENT)
_PNG = b"\x89PNG\r\n\x1a\n"
KNOWN = (MANIFEST, *OF_RECORD, *OF_RUN)


@dataclass(frozen=True)
class Submission:
    """An unpacked archive."""

    folder: Path
    names: list[str]
    manifest: dict[str, Any]

    @property
    def record(self) -> Path:
        return self.folder / RECORD

    def config(self) -> Any:
        """The configuration. Raises: UserError where there is none, or it is damaged, or asks for values of
        the machine that reads it: a run's own are resolved, and an environment variable may be a secret."""
        path = self.folder / CONFIG
        # YAML may write it with escapes, so what counts is what a reader gets.
        if path.is_file():
            if any("${" in scalar for scalar in foreign.check_config(path, "configuration")):
                raise UserError(f"{CONFIG} asks for values of the machine that reads it (${{...}}).")
            foreign.read_yaml(path, "configuration")
        return provenance.load(path)

    @property
    def pictures(self) -> list[str]:
        return [name for name in self.names if name.startswith(archive.PICTURES)]


def pack(entry: Entry, out: Path, pictures: bool = False) -> list[str]:
    """Pack a record and what lies beside it into `out`; returns the names.

    Raises: UserError for a record without scores of single pictures, or whose pictures are wanted and not
    there.
    """
    beside = entry.path.parent
    scored = per_sample.load(entry.path, entry.record)
    files: dict[str, Path | bytes] = {name: beside / name for name in OF_RECORD if (beside / name).is_file()}
    packed = per_sample.kept(beside)
    if packed is not None and packed.name != PER_SAMPLE:
        files[PER_SAMPLE] = per_sample.text(packed).encode()
    run = run_folder(entry.path)
    if run is not None:
        files |= {name: run / name for name in OF_RUN if (run / name).is_file()}
    if pictures:
        files |= _pictures(scored.pictures, beside)
    listed = {name: _listed(files[name]) for name in sorted(files)}
    manifest = {"kind": KIND, "schema_version": VERSION, "files": listed}
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    archive.write(out, files)
    return sorted(files)


def _listed(source: Path | bytes) -> dict[str, Any]:
    if isinstance(source, Path):
        return {"sha256": sha256(source), "size": source.stat().st_size}
    return {"sha256": hashlib.sha256(source).hexdigest(), "size": len(source)}


def _pictures(listed: list[dict[str, Any]], beside: Path) -> dict[str, Path | bytes]:
    found: dict[str, Path | bytes] = {}
    for picture in listed:
        name = f"{picture['id']}.png"
        path = beside / (per_sample.file_of(picture) if "file" in picture else f"{archive.PICTURES}{name}")
        if not archive.is_picture_name(name):
            raise UserError(
                f"picture {foreign.shown(picture['id'])} cannot be packed: its name is none of a file."
            )
        if path.is_file() and not _is_own_picture(path, beside):
            raise UserError(f"picture {name} is a link that leads elsewhere, or no PNG; it is not packed.")
        if not path.is_file():
            raise UserError(f"no picture {name} beside the record; leave out --pictures, or draw it again.")
        found[archive.PICTURES + name] = path
    return found


def _is_own_picture(path: Path, beside: Path) -> bool:
    """Whether a file is a PNG that lies with its record: a run of somebody else's may hold links."""
    inside = path.resolve().is_relative_to(beside.parent.resolve())
    with path.open("rb") as stream:
        return inside and stream.read(len(_PNG)) == _PNG


@contextmanager
def opened(path: Path) -> Iterator[Submission]:
    """An archive, unpacked for as long as the block lasts. Raises: UserError for what is no submission."""
    with TemporaryDirectory(prefix="fdlab-verify-") as temporary:
        folder = Path(temporary)
        names = archive.unpack(path, folder, KNOWN)
        for name in (MANIFEST, RECORD):
            if name not in names:
                raise UserError(f"'{path}' is no submission: it has no {name}.")
        manifest = foreign.read_json(folder / MANIFEST, "manifest")
        if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
            raise UserError(f"'{path}' is no submission: its {MANIFEST} does not say '{KIND}'.")
        if manifest.get("schema_version") != VERSION:
            found = foreign.shown(manifest.get("schema_version"))
            raise UserError(f"'{path}' has manifest version {found}; this fdlab reads {VERSION}.")
        yield Submission(folder, names, manifest)


def damaged(found: Submission) -> Iterator[str]:
    """Every file that is not the one that the manifest lists, one line each."""
    listed = found.manifest.get("files")
    if not isinstance(listed, dict):
        yield "the manifest lists no files"
        return
    there = [name for name in found.names if name != MANIFEST]
    yield from (f"{foreign.shown(name)} is listed and not there" for name in listed if name not in there)
    for name in there:
        entry = listed.get(name)
        if not isinstance(entry, dict):
            yield f"{name} is not listed"
        elif sha256(found.folder / name) != entry.get("sha256"):
            yield f"{name} is not the file that was packed"
