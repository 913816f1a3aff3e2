"""From a caption and the people in a picture to each person's noun: a caption in which everyone who can be
has a noun phrase of their own.

People are counted from left to right. Nouns with a side take whoever is there; the others are taken in the
caption's order, as captions list people from left to right. Where fewer are named than are there, the largest
faces are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fdlab.data.captions import MARKER, mark, parse
from fdlab.preparation.lexicon import with_article
from fdlab.preparation.nouns import Mention, is_english, mentions

How = Literal["by hand", "noun", "template", "no noun", "no English"]


@dataclass(frozen=True)
class Matched:
    """A caption, and where in it each person's noun ends."""

    caption: str
    ends: tuple[int | None, ...]
    """From left to right; None: the caption does not name this person."""
    how: How


@dataclass(frozen=True)
class _Slot:
    """One person whom the caption names."""

    end: int
    side: str | None


def template(num: int, noun: str) -> str:
    """What can be said of a picture of so many people, with markers, from left to right."""
    phrase = f"{with_article(noun)} {MARKER}"
    if num == 2:
        return f"a photo of {phrase} on the left and {phrase} on the right"
    if num == 3:
        return f"a photo of {phrase} on the left, {phrase} in the middle and {phrase} on the right"
    return f"a photo of {_listed([phrase] * num)}" if num else "a photo"


def _listed(phrases: Sequence[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last


def matched(
    caption: str | None, sides: Sequence[float], noun: str, find: Callable[[str], list[Mention]] = mentions
) -> Matched:
    """Give each person a noun. `sides`: the size of each person's face, from left to right; `caption`: as it
    was found, with markers or without; None: there is none. `noun`: for who is named nowhere; `find`: finds
    whom a caption names. Raises: UserError for markers that mark nothing."""
    num = len(sides)
    if not caption or not caption.strip():
        return _of_template(num, noun, "template")
    if MARKER in caption:
        text, ends = parse(caption)
        spoken = {mention.end: mention.side for mention in find(text)}
        slots = [_Slot(end, spoken.get(end)) for end in ends]
        return Matched(text, _assigned(slots, sides), "by hand")
    text = " ".join(caption.split())
    found = find(text)
    if not found:
        made = _of_template(num, noun, "no noun" if is_english(text) else "no English")
        return Matched(f"{made.caption}, {text}", made.ends, made.how) if num else Matched(text, (), made.how)
    text, slots = expanded(text, found, num)
    return Matched(text, _assigned(slots, sides), "noun")


def _of_template(num: int, noun: str, how: How) -> Matched:
    text, ends = parse(template(num, noun))
    return Matched(text, tuple(ends), how)


def expanded(caption: str, found: Sequence[Mention], num: int) -> tuple[str, list[_Slot]]:
    """The caption with a noun for each of those whom a plural names, of `num` people: "two women" becomes "a
    woman and a woman". A plural that does not say how many takes all whom nobody else names."""
    named = sum(mention.num or 0 for mention in found)
    text, at, slots = "", 0, list[_Slot]()
    for mention in found:
        many = mention.num
        if many is None:
            many = max(2, num - named)
            named += many
        if many == 1:
            text += caption[at : mention.end]
            slots.append(_Slot(len(text), mention.side))
        else:
            text += caption[at : mention.start]
            parts, ends = parse(_listed([f"{with_article(mention.noun)} {MARKER}"] * many))
            slots += [_Slot(len(text) + end, None) for end in ends]
            text += parts if text else parts.capitalize() if caption[:1].isupper() else parts
        at = mention.end
    return text + caption[at:], slots


def _assigned(slots: Sequence[_Slot], sides: Sequence[float]) -> tuple[int | None, ...]:
    """Each person's end, from left to right."""
    num = len(sides)
    by_size = sorted(range(num), key=lambda person: (-sides[person], person))
    left = sorted(by_size[: len(slots)])
    taken = list(slots)[:num] if len(slots) > num else list(slots)
    ends: list[int | None] = [None] * num
    for slot in [slot for slot in taken if slot.side]:
        if not left:
            break
        place = {"left": 0, "right": len(left) - 1, "middle": len(left) // 2}[str(slot.side)]
        ends[left.pop(place)] = slot.end
    for slot in [slot for slot in taken if not slot.side]:
        if not left:
            break
        ends[left.pop(0)] = slot.end
    return tuple(ends)


def marked(made: Matched) -> str:
    """A matched caption with its markers, as a person edits it."""
    return mark(made.caption, [end for end in made.ends if end is not None])
