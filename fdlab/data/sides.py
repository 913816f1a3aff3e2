"""Left and right in captions, which change places where a picture is mirrored.

English, by the neighbours of each word: both name sides, but also something else ("right behind her", "he has
left"), and then stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

VERSION = 1
"""Of what follows: a cache's key."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SIDE = re.compile(r"(left|right)(most|wards?|-[\w-]+)?", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SURE_BEFORE = _words("the his her their its my your to on from far upper lower top bottom facing")
"""After these a side is meant, ..."""
_NO_SIDE = _words("angle angles size way place time moment person amount thing one answer")
"""... unless one of these follows: the right place."""
_SURE_AFTER = _words("of side hand and or")
_RIGHT_AFTER = _NO_SIDE | _words(
    "now away next behind beside before after above below beneath under underneath over in into inside at by "
    "near through between among against outside here there up down out off back across along on"
)
"""Right behind her: no side."""
_RIGHT_BEFORE = _words("all quite feels feel is are was were just looks exactly")
_LEFT_AFTER = _words(
    "behind over alone open out off the a an home unattended empty untouched unfinished with without for in "
    "to by"
)
"""Left behind, left the room: no side."""
_LEFT_BEFORE = _words(
    "has have had having is are was were be been being he she they who it just already only nothing people "
    "get gets got"
)


def mirrored(text: str, ends: Sequence[int]) -> tuple[str, list[int]]:
    """A caption as it is where the picture is mirrored, and where its subjects' nouns (ends: offsets just
    after them) end in it."""
    words = list(_WORD.finditer(text))
    made, at = "", 0
    moved = list(ends)
    for number, word in enumerate(words):
        found = _SIDE.fullmatch(word[0])
        if found is None or not (found[2] or _is_side(found[1].lower(), *_beside(text, words, number))):
            continue
        other = _like(found[1], _OTHER[found[1].lower()])
        longer = len(other) - len(found[1])
        moved = [new + longer * (end >= word.end()) for new, end in zip(moved, ends, strict=True)]
        made += text[at : word.start()] + other
        at = word.start() + len(found[1])
    return made + text[at:], moved


def _beside(text: str, words: Sequence[re.Match[str]], number: int) -> tuple[str, str]:
    """The words before and after one; "" where something else than space is between."""
    word = words[number]
    before = words[number - 1] if number else None
    after = words[number + 1] if number + 1 < len(words) else None
    is_near = before is not None and text[before.end() : word.start()].isspace()
    is_next = after is not None and text[word.end() : after.start()].isspace()
    return (
        before[0].lower() if before is not None and is_near else "",
        after[0].lower() if after is not None and is_next else "",
    )


def _is_side(word: str, before: str, after: str) -> bool:
    if before in _SURE_BEFORE or before.endswith(("'s", "’s")):
        return after not in _NO_SIDE
    if after in _SURE_AFTER:
        return True
    if word == "right":
        return before not in _RIGHT_BEFORE and after not in _RIGHT_AFTER
    return before not in _LEFT_BEFORE and after not in _LEFT_AFTER


def _like(given: str, word: str) -> str:
    """A word with the capitals of another."""
    if given.isupper():
        return word.upper()
    return word.capitalize() if given[0].isupper() else word
