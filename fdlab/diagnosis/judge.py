"""From what a data set shows to verdicts. Pure.

The bounds are rules of thumb, said once here; what a training makes of the pictures, `overfit` tries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fdlab.diagnosis.findings import BEWARE, FINE, NOT, Finding, Verdict, judged, of, share
from fdlab.diagnosis.look import Looked, Shown, Told
from fdlab.preparation.lexicon import IRREGULAR, PRONOUNS, SINGULAR, singular_of
from fdlab.preparation.likeness import duplicates

LARGE_FACE = 1 / 8
"""Longer side of a face as a share of the crop's: of 512 pixels 64, which are 8 latents."""
COVERED = 0.7
"""Share of a face that its mask covers at least."""
ALIKE = 24
"""Of 256 bits of a reference's look, how many may differ in two that are alike."""
FEW_PICTURES, HARDLY_ANY = 200, 10
FEW_PEOPLE = 20
SAME_CAPTION = 0.5
"""Share of the pictures with one caption from which captions say nothing."""
NAMED = 3
"""Examples in a line."""


@dataclass(frozen=True)
class Training:
    """What decides how the data are used."""

    reference: str
    """own, other, mixed: see conf/data."""
    skip_corrupt: bool
    head: bool
    """Whether references are heads, for which a face must be found."""


def findings(looked: Looked, training: Training) -> list[Finding]:
    """Everything but the training that is tried."""
    told = [each for each in looked.told if not each.broken]
    shown = [each for each in looked.shown if each.faces or not each.broken]
    return [
        _readable(looked, training),
        _amount(told),
        _subjects(told, looked.folder.has_masks),
        *([_faces(shown), _masks(shown), _references(looked.shown)] if looked.folder.has_masks else []),
        *([_nouns(told, shown), _others(told, training)] if looked.folder.has_masks else []),
        _captions(told),
    ]


def wrong_in(shown: Shown) -> list[str]:
    """What is wrong in a picture, in words."""
    found = [shown.broken] if shown.broken else []
    none = sum(face is None for face in shown.faces)
    small = sum(face is not None and face < LARGE_FACE for face in shown.faces)
    missed = sum(cover is not None and cover < COVERED for cover in shown.covered)
    lines = (
        (none, "without a face that is found"),
        (small, "with a small face"),
        (missed, "whose mask does not cover the face"),
        (shown.strangers, "without a mask"),
        (shown.unnamed, "with a mask and without a noun"),
    )
    return found + [f"{num} {'person' if num == 1 else 'people'} {what}" for num, what in lines if num]


def _readable(looked: Looked, training: Training) -> Finding:
    unread = [each.broken for each in looked.told if each.broken]
    unusable = [each.broken for each in looked.shown if each.broken]
    num = len(unread) + len(unusable)
    tried = len(unread) + len(looked.shown)
    tried = tried if looked.folder.has_masks else len(looked.told)
    says = f"{of(tried - num, tried)} of the samples looked at can be used"
    numbers = {"looked_at": tried, "unusable": num, "examples": [*unread, *unusable][:NAMED]}
    if not num:
        return Finding("readable", FINE, says, numbers=numbers)
    says += f"; the first that cannot: {(unread + unusable)[0]}"
    usable = share(tried - num, tried)
    if not training.skip_corrupt:
        faces = ", or backbone.reference_crop=person where faces are missing" if training.head else ""
        cure = f"training stops at these: add data.skip_corrupt=true{faces}; `data check` names them all"
        return Finding("readable", NOT, says, cure, numbers)
    verdict: Verdict = BEWARE if usable >= 0.5 else NOT
    return Finding("readable", verdict, says, "`data check` names them, and --fix leaves them out", numbers)


def _amount(told: Sequence[Told]) -> Finding:
    people = {who for each in told for who in each.identities if who is not None}
    says = f"{len(told):,} pictures" + (f" of {len(people):,} people" if people else "")
    numbers = {"pictures": len(told), "people": len(people)}
    if len(told) < HARDLY_ANY:
        return Finding("amount", NOT, says, f"find more: at least {FEW_PICTURES}", numbers)
    if len(told) < FEW_PICTURES:
        cure = f"find more: below {FEW_PICTURES} pictures are learnt by heart before people are understood"
        return Finding("amount", BEWARE, says, cure, numbers)
    if people and len(people) < FEW_PEOPLE:
        cure = "it will know these people, and nobody else: add others, thousands for people never seen"
        return Finding("amount", BEWARE, says, cure, numbers)
    return Finding("amount", FINE, says, numbers=numbers)


def _subjects(told: Sequence[Told], has_masks: bool) -> Finding:
    if not has_masks:
        cure = "an SDM needs masks: `data prepare` makes them of photos; a TDM (+exp=tdm) needs none"
        return Finding("subjects", NOT, "this layout has captions and no masks", cure, {"with": 0})
    num = sum(bool(each.nouns) for each in told)
    says = f"{of(num, len(told))} pictures have somebody with mask and noun"
    numbers = {"with": num, "pictures": len(told)}
    verdict = judged(share(num, len(told)), 0.9, 0.5)
    cure = "give people masks and their nouns: `data prepare`; data.labels says which segments are people"
    return Finding("subjects", verdict, says, cure if verdict != FINE else "", numbers)


def _faces(shown: Sequence[Shown]) -> Finding:
    pictures = [each for each in shown if each.faces]
    large = sum(any((face or 0.0) >= LARGE_FACE for face in each.faces) for each in pictures)
    subjects = [face for each in pictures for face in each.faces]
    none = sum(face is None for face in subjects)
    says = (
        f"{of(large, len(pictures))} pictures have a face of at least 1/8 of the side, as training crops "
        f"them; {of(none, len(subjects))} people have no face that is found"
    )
    numbers = {
        "pictures": len(pictures), "with_large_face": large, "subjects": len(subjects), "without_face": none
    }  # fmt: skip
    verdict = judged(share(large, len(pictures)), 0.8, 0.5)
    cure = "crop the photos closer, leave such pictures out, or train at more pixels (another backbone)"
    return Finding("faces", verdict, says, cure if verdict != FINE else "", numbers)


def _masks(shown: Sequence[Shown]) -> Finding:
    covers = [cover for each in shown for cover in each.covered if cover is not None]
    bad = sum(cover < COVERED for cover in covers)
    strangers = sum(each.strangers for each in shown)
    unmasked = sum(bool(each.strangers) for each in shown)
    says = (
        f"{of(bad, len(covers))} faces are not covered by their mask; {strangers:,} faces of people without "
        f"a mask, in {of(unmasked, len(shown))} pictures"
    )
    numbers = {
        "faces": len(covers), "not_covered": bad, "without_mask": strangers, "pictures_with_these": unmasked
    }  # fmt: skip
    verdict = judged(1 - share(bad, len(covers)), 0.9, 0.5)
    cures = ["make better masks (prepare.masks.source: Mask2Former or SAM)"] if verdict != FINE else []
    if share(unmasked, len(shown)) > 0.1:
        verdict = BEWARE if verdict == FINE else verdict
        cures.append("give the others masks and nouns, or crop them away: it learns to add strangers")
    return Finding("masks", verdict, says, "; ".join(cures), numbers)


def _references(shown: Sequence[Shown]) -> Finding:
    places = [(n, look) for n, each in enumerate(shown) for look in each.looks if look]
    found = duplicates([look for _, look in places], ALIKE)
    alike = {m for m, of_ in enumerate(found) if of_ is not None and places[of_][0] != places[m][0]}
    alike |= {of_ for m, of_ in enumerate(found) if of_ is not None and places[of_][0] != places[m][0]}
    says = f"{of(len(alike), len(places))} references look like one in another picture"
    numbers = {"references": len(places), "alike": len(alike)}
    few = 1 - share(len(alike), len(places))
    verdict = judged(few, 0.9, 0.5)
    cure = "leave copies and neighbouring frames out: what is always the same is copied, not understood"
    return Finding("references", verdict, says, cure if verdict != FINE else "", numbers)


def _nouns(told: Sequence[Told], shown: Sequence[Shown]) -> Finding:
    nouns = Counter(noun for each in told for noun in each.nouns)
    num = nouns.total()
    strange = Counter({noun: many for noun, many in nouns.items() if not is_person(noun)})
    unnamed = sum(each.unnamed for each in shown)
    says = f"{of(num - strange.total(), num)} markers stand behind a word for a person"
    if unnamed:
        says += f"; {unnamed:,} people with a mask have no noun"
    numbers = {"markers": num, "strange": strange.total(), "examples": dict(strange.most_common(10)),
               "unnamed": unnamed}  # fmt: skip
    if not num:
        return Finding("nouns", NOT, says, "captions have to name the people they show", numbers)
    verdict = FINE if share(strange.total(), num) <= 0.1 else BEWARE
    words = ", ".join(f"'{noun}' ({many:,})" for noun, many in strange.most_common(NAMED))
    cure = f"is the marker in its place? It stands behind {words}; drawing asks for nouns like woman or man"
    return Finding("nouns", verdict, says, cure if verdict != FINE else "", numbers)


def is_person(word: str) -> bool:
    """Whether an English word means a person."""
    last = word.rpartition("-")[2]
    return any(w in SINGULAR or w in IRREGULAR or w in PRONOUNS or bool(singular_of(w)) for w in (word, last))


def _others(told: Sequence[Told], training: Training) -> Finding:
    pictures = Counter(who for each in told for who in {i for i in each.identities if i is not None})
    subjects = [who for each in told for who in each.identities]
    others = sum(who is not None and pictures[who] > 1 for who in subjects)
    alone = sum(num == 1 for num in pictures.values())
    says = f"{of(others, len(subjects))} references can come from another photo of the person"
    if pictures:
        says += f"; {of(alone, len(pictures))} people are in one picture only"
    else:
        says += "; nobody's identity is known"
    numbers = {"subjects": len(subjects), "with_another": others, "people": len(pictures), "in_one": alone}
    if others and training.reference == "own":
        cure = "take data.reference=mixed: cut from the picture itself, references are copied, pose and all"
        return Finding("other photos", BEWARE, says, cure, numbers)
    if share(others, len(subjects)) >= 0.5:
        return Finding("other photos", FINE, says, numbers=numbers)
    cure = (
        "add photos of the same people, and have them told apart (`data prepare`); till then data.augment.* "
        "keeps references from being copied"
    )
    return Finding("other photos", BEWARE, says, cure, numbers)


def _captions(told: Sequence[Told]) -> Finding:
    captions = Counter(" ".join(each.caption.lower().split()) for each in told)
    (most, many), *_ = captions.most_common(1) or [("", 0)]
    words = {word for caption in captions for word in caption.split()}
    says = f"{of(len(captions), len(told))} captions differ, of {len(words):,} words"
    numbers = {"pictures": len(told), "different": len(captions), "words": len(words), "most_frequent": many}
    if share(many, len(told)) < SAME_CAPTION or len(told) < 2:
        return Finding("captions", FINE, says, numbers=numbers)
    says += f"; {of(many, len(told))} say: {most}"
    cure = "describe what each picture shows (prepare.captions.source=model): prompts will not be followed"
    return Finding("captions", BEWARE, says, cure, numbers)
