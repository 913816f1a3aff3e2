"""Person nouns in English captions, by rules: who is spoken of, how many they are, and on which side.

Plurals ("two women"), collectives ("a couple", "a group of people"), pronouns where there is no noun, sides
("the left one", "the man on the right"). Who is spoken of again ("the woman" after "a woman"), what somebody
is or is dressed as ("is a doctor"), statues, people who are not there ("no people") or stand in the
background are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fdlab.data.captions import WORD
from fdlab.preparation import lexicon

SIDES = {
    "left": "left", "leftmost": "left", "right": "right", "rightmost": "right",
    "middle": "middle", "center": "middle", "centre": "middle", "central": "middle",
}  # fmt: skip
_ONE = frozenset(["one", "guy", "other"])
_SIDE_AFTER = re.compile(
    r"\s*(?:\(|,?\s*(?:who is |standing |sitting |seated )?(?:on|to|at|in) (?:the )?(?:far )?)"
    r"(left|right|middle|center|centre)\b(?!\s+(?:hand|arm|eye|leg|foot|ear|cheek|shoulder|place|way|"
    r"direction|corner|of (?:a|the) (?!picture|image|photo|frame)))",
    re.IGNORECASE,
)
_BACKGROUND = re.compile(r"\s*(?:\w+\s+){0,2}in the (?:back|background|distance)\b", re.IGNORECASE)
_BETWEEN = 3
"""Adjectives that stand between a number, or an article, and its noun, at most."""


@dataclass(frozen=True)
class Mention:
    """Someone, or several people, whom a caption names."""

    start: int
    """Where the phrase begins, article or number included, as far as that is known."""
    end: int
    """Where its noun ends."""
    noun: str
    """The singular with what stands before it: "young woman"."""
    num: int | None = 1
    """How many; None: the caption does not say."""
    side: str | None = None
    """left, right, middle."""

    @property
    def is_plural(self) -> bool:
        return self.num != 1


def mentions(caption: str) -> list[Mention]:
    """All whom a caption names, in its order."""
    words = list(WORD.finditer(caption))
    lower = [word[0].lower() for word in words]
    found: list[Mention] = []
    named: set[str] = set()
    used = -1
    for n in range(len(lower)):
        if n <= used:
            continue
        mention, last = _mention(caption, words, lower, n)
        if mention is None:
            continue
        used = last
        head = mention.noun.rpartition(" ")[2]
        if _is_nobody(caption, lower, words, n, last, bool(found)):
            continue
        if _is_again(lower, words, mention, head, named):
            continue
        named |= {head, "person"} if head != "one" else set()
        found.append(mention)
    return found or _pronouns(words, lower)


def _mention(
    caption: str, words: Sequence[re.Match[str]], lower: Sequence[str], n: int
) -> tuple[Mention | None, int]:
    """What the n-th word names, if anybody, and its last word."""
    word = lower[n]
    if word in lexicon.COLLECTIVE:
        if lower[n + 1 : n + 2] == ["of"]:
            for last in range(n + 2, min(n + 4 + _BETWEEN, len(words))):
                if one := lexicon.singular_of(lower[last]):
                    noun = " ".join([*lower[n + 2 : last], one])
                    return _made(caption, words, lower, n, last, noun, lexicon.COLLECTIVE[word]), last
        if word in ("group", "crowd", "team"):
            return None, n
        return _made(caption, words, lower, n, n, "person", lexicon.COLLECTIVE[word]), n
    one = lexicon.singular_of(word)
    if one is not None:
        number, first = _number(lower, n)
        noun = " ".join([*lower[first + 1 : n], one])
        own = first >= 0 and (lower[first] in lexicon.NUMBERS or lower[first] in lexicon.ARTICLES)
        return _made(caption, words, lower, first if own else first + 1, n, noun, number), n
    if word in lexicon.SINGULAR or (word in _ONE and _side_before(lower, n)):
        return _made(caption, words, lower, n, n, word, 1), n
    return None, n


def _made(
    caption: str,
    words: Sequence[re.Match[str]],
    lower: Sequence[str],
    first: int,
    last: int,
    noun: str,
    num: int | None,
) -> Mention:
    while first and num != 1 and lower[first - 1] in lexicon.BEFORE_PLURAL:
        first -= 1
    end = words[last].end()
    side = side_after(caption, end) or _side_before(lower, last)
    return Mention(words[first].start(), end, noun, num, side if num == 1 else None)


def side_after(caption: str, end: int) -> str | None:
    """The side that is said of whoever is named up to `end`, behind the noun."""
    after = _SIDE_AFTER.match(caption, end)
    return SIDES[after[1].lower()] if after else None


def is_background(caption: str, end: int) -> bool:
    """Whether whoever is named up to `end` stands in the background."""
    return _BACKGROUND.match(caption, end) is not None


def _number(lower: Sequence[str], n: int) -> tuple[int | None, int]:
    """How many a plural noun's own words say, and the word before its adjectives begin."""
    for back in range(1, _BETWEEN + 2):
        at = n - back
        before = lower[at] if at >= 0 else ""
        if before in lexicon.NUMBERS:
            return lexicon.NUMBERS[before], at
        if before in lexicon.MANY or (back <= 2 and before in lexicon.DEFINITE):
            return None, at
        if at < 0 or before in lexicon.GRAMMAR:
            # One word before a noun that nothing else goes with is an adjective; of two one may be a verb.
            return None, at if back == 2 else n - 1
    return None, n - 1


def _side_before(lower: Sequence[str], n: int) -> str | None:
    for back in range(1, _BETWEEN + 1):
        if n - back < 0 or lower[n - back] in lexicon.GRAMMAR:
            return None
        if lower[n - back] in SIDES:
            return SIDES[lower[n - back]]
    return None


def _is_nobody(
    caption: str,
    lower: Sequence[str],
    words: Sequence[re.Match[str]],
    first: int,
    last: int,
    anybody: bool,
) -> bool:
    end = words[last].end()
    if caption[end : end + 2].lower() in ("'s", "’s", "s'") or lower[last].endswith(("'s", "’s")):
        return True
    if last + 1 < len(lower) and lower[last + 1] in lexicon.NOT_A_PERSON_BEFORE:
        return True
    before = lower[max(0, first - _BETWEEN - 1) : first]
    if "no" in before[-2:] or "without" in before[-2:] or is_background(caption, end):
        return True
    if "of" in before and any(word in lexicon.NOT_ALIVE for word in lower[max(0, first - 5) : first]):
        return True
    return anybody and any(
        left in lexicon.COPULAS and right in ("a", "an") for left, right in pairwise(before)
    )


def _is_again(
    lower: Sequence[str], words: Sequence[re.Match[str]], mention: Mention, head: str, named: set[str]
) -> bool:
    """Whether somebody is meant who was named before: "the woman" after "a woman"."""
    if head not in named or mention.side is not None:
        return False
    at = next(n for n, word in enumerate(words) if word.end() >= mention.end)
    before = lower[max(0, at - _BETWEEN) : at]
    definite = [word for word in before if word in lexicon.ARTICLES]
    return bool(definite) and definite[-1] in lexicon.DEFINITE - lexicon.POSSESSIVE


def _pronouns(words: Sequence[re.Match[str]], lower: Sequence[str]) -> list[Mention]:
    """The first of each pronoun that names one person; "her" may be whose something is, and does not
    count."""
    found: dict[str, Mention] = {}
    for word, text in zip(words, lower, strict=True):
        if text in lexicon.PRONOUNS:
            person = {"him": "he", "me": "i"}.get(text, text)
            found.setdefault(person, Mention(word.start(), word.end(), text))
    return list(found.values())


def is_english(caption: str) -> bool:
    """Whether the rules can say anything of a caption: it is short, or has words that English is hardly
    without."""
    words = [word[0].lower() for word in WORD.finditer(caption)]
    if any(ord(letter) > 0x24F for letter in caption if letter.isalpha()):
        return False
    known = (
        lexicon.GRAMMAR
        | lexicon.PARTICIPLES
        | lexicon.DEFINITE
        | lexicon.SINGULAR
        | set(lexicon.IRREGULAR)
        | lexicon.PRONOUNS
    )
    return len(words) < 4 or any(word in known for word in words)
