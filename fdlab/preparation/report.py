"""What came of it, in numbers: what was found, dropped and why, named, grouped and held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.measure.choose import ExtractorSettings
from fdlab.preparation.find import Sources
from fdlab.preparation.plan import Plan
from fdlab.preparation.settings import BOXES, Settings

EVALUATION = ExtractorSettings().recogniser
"""The recogniser that evaluation uses unless told otherwise."""


def summary(
    plan: Plan,
    sources: Sources,
    settings: Settings,
    networks: Mapping[str, Any],
    unreadable: Sequence[str] = (),
) -> dict[str, Any]:
    """The report as plain JSON. `networks`: what found faces, told them apart and made masks, by name and
    digest; `unreadable`: what is wrong with captions beside photos, a line each."""
    chosen = plan.chosen
    people = [person for some in chosen for person in some.people]
    subjects = [person for person in people if person.end is not None]
    pictures = Counter(person.identity for person in people)
    scores = [person.score for person in people]
    return {
        "photos": len(sources.photos),
        "other_files": sources.others,
        "linked_folders": sources.linked,
        "pictures": len(chosen),
        "dropped": dict(Counter(reason.partition(":")[0] for reason in plan.dropped.values())),
        "people": len(people),
        "subjects": len(subjects),
        "faces_without_mask": sum(
            face.side >= settings.faces.small for some in chosen for face in some.seen.faces
        )
        - len(people),
        "people_without_noun": len(people) - len(subjects),
        "pictures_by_people": {
            str(n): num for n, num in sorted(Counter(len(c.people) for c in chosen).items())
        },
        "nouns_from": dict(Counter(some.how for some in chosen)),
        "blurred_faces": sum(len(some.blurred) for some in chosen),
        "masks": {
            "source": settings.masks.source,
            "score": None
            if settings.masks.source == BOXES or not scores
            else {
                name: round(float(np.quantile(scores, q)), 3) for name, q in (("p05", 0.05), ("median", 0.5))
            },
        },
        "identities": {
            "number": len(pictures),
            "in_one_picture": sum(num == 1 for num in pictures.values()),
            "recogniser": settings.identities.recogniser,
        },
        "networks": dict(networks),
        "split": {
            "train": sum(not some.held_out for some in chosen),
            "test": sum(some.held_out for some in chosen),
        },
        "unused_corrections": list(plan.unused),
        "unreadable_captions": list(unreadable),
        "notes": notes(plan, settings, len(unreadable), sources.linked),
    }


def notes(plan: Plan, settings: Settings, num_unreadable: int = 0, num_linked: int = 0) -> list[str]:
    """What somebody should know before training on this."""
    found = []
    if num_linked:
        found.append(f"{num_linked:,} linked folders were not entered; prepare them by themselves.")
    if num_unreadable:
        found.append(f"{num_unreadable:,} captions beside photos cannot be read: report.json lists them.")
    if settings.identities.recogniser == EVALUATION:
        found.append(
            f"people were told apart by {EVALUATION}, which scores benchmarks too unless "
            "evaluation.recogniser names another."
        )
    if settings.masks.source == BOXES:
        found.append("masks are rectangles, not outlines: background counts as people.")
    foreign = sum(some.how == "no English" for some in plan.chosen)
    if foreign:
        found.append(
            f"{foreign:,} captions are not in English, whose person nouns alone are known: a phrase was put "
            "before them. Better: <|image|> behind each person's noun in them, or "
            "prepare.captions.source=template."
        )
    if plan.chosen and not any(some.held_out for some in plan.chosen) and settings.split.test_share > 0:
        found.append("nobody is held out: no circle of people is small enough for prepare.split.test_share.")
    if plan.unused:
        found.append(f"{len(plan.unused):,} corrected pictures are not there any more.")
    return found


def text(numbers: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    dropped = ", ".join(f"{reason} {num:,}" for reason, num in numbers["dropped"].items())
    by_people = ", ".join(f"{num:,} of {n}" for n, num in numbers["pictures_by_people"].items())
    who = numbers["identities"]
    lines: Sequence[str] = [
        f"{numbers['photos']:,} photos: {numbers['pictures']:,} pictures"
        + (f"; dropped: {dropped}" if dropped else ""),
        f"people: {numbers['people']:,} ({by_people}), {numbers['people_without_noun']:,} without a noun, "
        f"{numbers['faces_without_mask']:,} faces without a mask",
        f"identities: {who['number']:,}, {who['in_one_picture']:,} in one picture, by {who['recogniser']}",
        f"split: {numbers['split']['train']:,} train, {numbers['split']['test']:,} test",
        *(f"note: {note}" for note in numbers["notes"]),
    ]
    return "\n".join(lines)
