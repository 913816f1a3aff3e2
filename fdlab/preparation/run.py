"""The preparation: stages over a share of the photos, and at the end, where all is done, the data set.

Beside DST lies DST.work with each stage's notes, the report and the page to correct by hand. DST may be given
to others; DST.work names your files and holds embeddings of faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.lock import exclusive
from fdlab.preparation import captioners, corrections, faces, find, masks, parsed, report, write
from fdlab.preparation.captions import Beside
from fdlab.preparation.plan import Plan, Seen, plan
from fdlab.preparation.settings import Settings
from fdlab.preparation.work import Stage, missing
from fdlab.workers import share_of

VERSION = 1
REPORT = "report.json"


@dataclass(frozen=True)
class Stages:
    """Every stage, in order."""

    pictures: Stage
    faces: Stage
    masks: Stage
    captions: Stage | None
    """None where no network writes captions."""

    @classmethod
    def of(cls, source: Path, work: Path, settings: Settings) -> Stages:
        """As the settings have them. Raises: UserError for what is not there, before anything is loaded."""
        pictures = find.stage_of(source, work, settings.pictures)
        found = faces.stage_of(pictures, work, settings.faces, settings.identities)
        by_model = settings.captions.source == "model"
        return cls(
            pictures,
            found,
            masks.stage_of(pictures, found, work, settings.masks),
            captioners.stage_of(pictures, work, settings.captions) if by_model else None,
        )

    @property
    def later(self) -> list[Stage]:
        """Those that look at pictures."""
        return [self.faces, self.masks, *([self.captions] if self.captions else [])]


@dataclass(frozen=True)
class Prepared:
    """What came of a call."""

    numbers: dict[str, Any]
    """The report."""
    plan: Plan
    stages: Stages
    work: Path
    given: corrections.Corrections
    """What was corrected by hand."""


def work_of(folder: Path) -> Path:
    """Where stages keep what they found."""
    return folder.with_name(f"{folder.name}.work")


def prepare(
    source: Path,
    folder: Path,
    settings: Settings,
    shard: str | None = None,
    workers: int = 0,
    show: bool = True,
) -> Prepared | str:
    """Make the photos below `source` a data set in `folder`; what earlier calls found is kept.

    shard: "I/N" does every N-th photo alone, and whoever finishes last writes the data set; a line that says
    what is left where others have not. Raises: UserError.
    """
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    _check_apart(source, folder)
    write.check_ours(folder)
    index, count = share_of(shard)
    work = work_of(folder)
    given = _corrections(work, settings)
    nouns_by, mentions = parsed.finder(settings.captions.nouns, settings.captions.spacy_model)
    stages = Stages.of(source, work, settings)
    there = find.sources(source)
    photos = there.photos
    mine = photos[index::count]
    stages.pictures.run([photo.key for photo in mine], workers, show)
    keys = _keys(stages.pictures, mine)
    for stage in stages.later:
        stage.run(keys, workers, show)
    left = list(missing([stages.pictures], [photo.key for photo in photos]))
    left = left or list(missing(stages.later, _keys(stages.pictures, photos)))
    if left:
        name, num = left[0]
        return f"shard {shard} is done; {num:,} pictures of others are left in stage '{name}'"
    with exclusive(work / "lock"):
        beside = Beside(source)
        made = plan(_seen(beside, photos, stages, settings), settings, given, mentions)
        if not made.chosen:
            raise UserError(f"no photo below '{source}' can be used: {next(iter(made.dropped.values()))}.")
        some = made.chosen[0].seen.key
        networks = {
            "faces": stages.faces.note(some)["extractor"],
            "masks": stages.masks.note(some)["network"],
        }
        unreadable = list(dict.fromkeys(beside.unreadable))
        numbers = report.summary(made, there, settings, networks, unreadable)
        numbers["nouns_by"] = nouns_by
        told = {k: v for k, v in asdict(settings).items() if k != "corrections"}
        facts = {"version": VERSION, "settings": told, "networks": networks, "nouns_by": nouns_by}
        digest = write.digest_of(made, facts)
        if not write.is_written(folder, digest):
            card = {**facts, "digest": digest, "corrections": len(given), "report": _public(numbers)}
            write.write(folder, made, stages.pictures, stages.masks, card, workers, show)
        dropped = [{"photo": name, "reason": reason} for name, reason in made.dropped.items()]
        write_json(work / REPORT, {**numbers, "dropped_photos": dropped})
    return Prepared(numbers, made, stages, work, given)


def _public(numbers: dict[str, Any]) -> dict[str, Any]:
    """What of the report says nothing of a single photo."""
    of_photos = ("unused_corrections", "unreadable_captions")
    return {key: value for key, value in numbers.items() if key not in of_photos}


def _check_apart(source: Path, folder: Path) -> None:
    inside, above = folder.resolve(), source.resolve()
    if inside == above or above in inside.parents or inside in above.parents:
        raise UserError(f"'{folder}' and '{source}' lie in each other; choose another folder.")


def _corrections(work: Path, settings: Settings) -> corrections.Corrections:
    path = Path(settings.corrections or work / corrections.FILE).expanduser()
    if settings.corrections is None and not path.is_file():
        return corrections.Corrections()
    return corrections.read(path)


def _keys(pictures: Stage, photos: Sequence[find.Source]) -> list[str]:
    """Keys of the pictures' contents."""
    found = (pictures.note(photo.key).get("key") for photo in photos)
    return list(dict.fromkeys(key for key in found if key))


def _seen(beside: Beside, photos: Sequence[find.Source], stages: Stages, settings: Settings) -> list[Seen]:
    found = []
    for photo in photos:
        note = stages.pictures.note(photo.key)
        if "unreadable" in note:
            found.append(Seen(photo.name, note["unreadable"]))
            continue
        key = note["key"]
        seen = Seen(
            photo.name,
            key=key,
            photo=tuple(note["photo"]),
            picture=tuple(note["picture"]),
            look=note["look"],
            faces=tuple(faces.faces_in(stages.faces.note(key))),
            scores={person["face"]: person["score"] for person in stages.masks.note(key)["people"]},
        )
        if settings.captions.source == "beside":
            seen = replace(seen, caption=beside(photo.name))
        elif stages.captions is not None:
            seen = replace(seen, caption=stages.captions.note(key)["caption"])
        found.append(seen)
    return found
