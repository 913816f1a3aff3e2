"""From what all stages found to what the data set holds: which pictures, with whom, in which words, and why
not the others. Pure: nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fdlab.errors import UserError
from fdlab.preparation import identities as who
from fdlab.preparation.corrections import Corrections
from fdlab.preparation.faces import FoundFace
from fdlab.preparation.likeness import duplicates
from fdlab.preparation.matching import How, matched
from fdlab.preparation.nouns import mentions
from fdlab.preparation.parsed import Mentions
from fdlab.preparation.settings import Settings
from fdlab.preparation.split import held_out


@dataclass(frozen=True)
class Seen:
    """A photo and all that the stages found in it."""

    name: str
    """Its path from the folder of photos."""
    unreadable: str = ""
    """Why it cannot be used; then there is nothing else."""
    key: str = ""
    photo: tuple[int, int] = (0, 0)
    """Width and height."""
    picture: tuple[int, int] = (0, 0)
    """The same of what was made of it."""
    look: str = ""
    faces: tuple[FoundFace, ...] = ()
    scores: Mapping[int, float] = field(default_factory=dict)
    """Of the masks, by face; a face that is not here has no mask."""
    caption: str | None = None


@dataclass(frozen=True)
class Person:
    """A person in a picture of the data set."""

    face: int
    """Number among the faces found, from left to right."""
    score: float
    """Of the mask."""
    end: int | None = None
    """Where the noun ends; None: the caption does not name this person."""
    identity: int = 0


@dataclass(frozen=True)
class Chosen:
    """A picture of the data set."""

    id: str
    seen: Seen
    people: tuple[Person, ...]
    """From left to right."""
    blurred: tuple[int, ...]
    """Faces that nobody shall recognise."""
    caption: str
    how: How
    """Where the nouns come from."""
    held_out: bool = False


@dataclass(frozen=True)
class Plan:
    """What is written."""

    chosen: tuple[Chosen, ...]
    dropped: Mapping[str, str]
    """Photo's name -> why."""
    unused: tuple[str, ...] = ()
    """Corrections of pictures that are not there."""


def plan(
    found: Sequence[Seen], settings: Settings, corrections: Corrections, find: Mentions = mentions
) -> Plan:
    """Decide. `found` by name; `find` finds whom captions name."""
    dropped: dict[str, str] = {}
    usable = _usable(found, settings, corrections, dropped)
    unique = _unique(usable, settings.pictures.duplicate_bits, dropped)
    chosen = []
    for seen in unique:
        made = _peopled(seen, settings, corrections, find)
        if isinstance(made, str):
            dropped[seen.name] = made
        else:
            chosen.append(made)
    chosen = _named(chosen, settings, corrections)
    held = held_out(
        [[person.identity for person in some.people] for some in chosen],
        settings.split.test_share,
        settings.split.seed,
    )
    numbered = tuple(replace(some, id=f"{n:09d}", held_out=n in held) for n, some in enumerate(chosen))
    there = {seen.key for seen in found}
    told = [*corrections.drop, *corrections.captions, *(key for key, _ in corrections.identities)]
    unused = tuple(sorted({key for key in told if key not in there}))
    in_order = {seen.name: dropped[seen.name] for seen in found if seen.name in dropped}
    return Plan(numbered, in_order, unused)


def _usable(
    found: Sequence[Seen], settings: Settings, corrections: Corrections, dropped: dict[str, str]
) -> list[Seen]:
    kept = []
    for seen in found:
        shortest = min(seen.photo)
        if seen.unreadable:
            dropped[seen.name] = f"unreadable: {seen.unreadable}"
        elif shortest < settings.pictures.shortest_side:
            dropped[seen.name] = f"too small: {seen.photo[0]} x {seen.photo[1]}"
        elif seen.key in corrections.drop:
            dropped[seen.name] = "by hand"
        else:
            kept.append(seen)
    return kept


def _unique(found: Sequence[Seen], most_bits: int, dropped: dict[str, str]) -> list[Seen]:
    """One of each set of duplicates: one with a caption, of these the largest, of equals the first by
    name."""
    preferred = sorted(
        found, key=lambda seen: (seen.caption is None, -seen.photo[0] * seen.photo[1], seen.name)
    )
    first: dict[str, Seen] = {}
    kept: list[Seen] = []
    for seen in preferred:
        if (other := first.setdefault(seen.key, seen)) is not seen:
            dropped[seen.name] = f"duplicate: a copy of {other.name}"
        else:
            kept.append(seen)
    if most_bits >= 0:
        for seen, of in zip(kept, duplicates([seen.look for seen in kept], most_bits), strict=True):
            if of is not None:
                dropped[seen.name] = f"duplicate: looks like {kept[of].name}"
    return sorted((seen for seen in kept if seen.name not in dropped), key=lambda seen: seen.name)


def _peopled(seen: Seen, settings: Settings, corrections: Corrections, find: Mentions) -> Chosen | str:
    """The picture with its people and their nouns; or why it is not used."""
    small = [n for n, face in enumerate(seen.faces) if face.side < settings.faces.small]
    if small and settings.faces.small_faces == "drop":
        return f"small face: {len(small)} below {settings.faces.small:g} pixels"
    large = [n for n in range(len(seen.faces)) if n not in small]
    if not large:
        return f"no face of at least {settings.faces.small:g} pixels" if small else "no face"
    if len(large) > settings.faces.most:
        return f"too many people: {len(large)}"
    people = [
        Person(n, seen.scores[n])
        for n in large
        if n in seen.scores and seen.scores[n] >= settings.masks.min_score
    ]
    if not people:
        return "no mask good enough"
    sides = [seen.faces[person.face].side for person in people]
    given = corrections.captions.get(seen.key, seen.caption)
    try:
        made = matched(given, sides, settings.captions.noun, find)
    except UserError as error:
        return f"caption: {error}"
    ended = tuple(replace(person, end=end) for person, end in zip(people, made.ends, strict=True))
    how: How = "by hand" if seen.key in corrections.captions else made.how
    blurred = tuple(small) if settings.faces.small_faces == "blur" else ()
    return Chosen("", seen, ended, blurred, made.caption, how)


def _named(chosen: Sequence[Chosen], settings: Settings, corrections: Corrections) -> list[Chosen]:
    """The same with identities, of those whom captions name and of the others alike."""
    places = [(n, person) for n, some in enumerate(chosen) for person in some.people]
    if not places:
        return list(chosen)
    embedding_ND = np.stack([chosen[n].seen.faces[person.face].embedding_D for n, person in places])
    labels = who.grouped(embedding_ND, [n for n, _ in places], settings.identities.threshold)
    given = {
        place: corrections.identities[key]
        for place, (n, person) in enumerate(places)
        if (key := (chosen[n].seen.key, person.face)) in corrections.identities
    }
    numbers = iter(who.corrected(labels, given))
    return [
        replace(some, people=tuple(replace(person, identity=next(numbers)) for person in some.people))
        for some in chosen
    ]
