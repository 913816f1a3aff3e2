"""What a picture shows, in English, with the place in the text where each person's noun phrase ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fdlab.people.appearance import Appearance
from fdlab.people.identity import Identity
from fdlab.people.scenes import SCENES
from fdlab.people.styles import STYLES

RNG = np.random.Generator
EXPRESSION_WORDS = {
    "smiling": ("smiling", "with a smile"),
    "laughing": ("laughing",),
    "sad": ("looking sad",),
    "surprised": ("looking surprised",),
    "angry": ("looking angry",),
}


def article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def garment(look: Appearance) -> str:
    """Say what is worn, without article: "blue and white striped shirt"."""
    if look.pattern == "plain":
        return f"{look.color} {look.garment}"
    return f"{look.color} and {look.second} {look.pattern} {look.garment}"


def features(rng: RNG, person: Identity, share: float) -> list[str]:
    """Some of a person's lasting features, each said with probability `share`."""
    told = [f"{person.hair_color} hair" if person.hair_style != "bald" else "a bald head"]
    if person.beard in ("full", "goatee"):
        told.append("a beard" if person.beard == "full" else "a goatee")
    if person.beard == "moustache":
        told.append("a moustache")
    if person.glasses != "none":
        told.append("glasses")
    return [feature for feature in told if rng.random() < share]


def person_phrase(rng: RNG, person: Identity, look: Appearance, share: float = 0.3) -> tuple[str, int]:
    """Describe one person; returns the phrase and where in it the noun phrase ends."""
    noun = f"{person.age_word} {person.noun}" if rng.random() < share else person.noun
    head = article(noun)
    text = head
    told = features(rng, person, share)
    if told:
        text += " with " + " and ".join(told)
    worn = [article(garment(look))] if rng.random() < 0.85 else []
    if look.hat:
        worn.append(article(f"{look.hat} hat"))
    if look.scarf:
        worn.append(article(f"{look.scarf} scarf"))
    if worn:
        text += (" wearing " if rng.random() < 0.4 else " in ") + " and ".join(worn)
    if look.expression in EXPRESSION_WORDS and rng.random() < 0.9:
        words = EXPRESSION_WORDS[look.expression]
        text += " " + words[rng.integers(len(words))]
    return text, len(head)


def caption(
    rng: RNG,
    people: Sequence[tuple[Identity, Appearance]],
    scene: str,
    hour: str,
    style: str,
    share: float = 0.3,
) -> tuple[str, list[int]]:
    """Write a caption; returns it and, for each person in order, the character after the noun phrase."""
    openings = STYLES[style][1]
    text, ends = openings[rng.integers(len(openings))], []
    for i, (person, look) in enumerate(people):
        if i:
            text += " and " if i == len(people) - 1 else ", "
        phrase, end = person_phrase(rng, person, look, share)
        ends.append(len(text) + end)
        text += phrase
    text += " " + SCENES[scene][1]
    if hour == "sunset":
        text += " at sunset"
    return text, ends
