"""Captions and their subject markers: "a woman <|image|> in a red sweater" <-> (text, ends), and text to
tokens.

A marker never reaches the text encoder: it is taken out, and what remains is the character offset `end` just
after each subject's noun phrase, and later the position of that phrase's last token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fdlab.errors import UserError
from fdlab.marker import MARKER

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
"""A word of a caption, "grown-up" and "man's" each as one."""
_MARKER = re.compile(rf"[ \t]*{re.escape(MARKER)}")


class Encoded(NamedTuple):
    """A caption as a text encoder takes it."""

    input_ids_L: np.ndarray
    """int64, begin and end tokens included, padded to the encoder's length."""
    positions: list[int]
    """Index in `input_ids_L` of the last token of each subject's noun phrase."""


def parse(marked: str) -> tuple[str, list[int]]:
    """Take the markers out: ("a woman in snow", [7]) from "a woman <|image|> in snow".

    UserError where a marker follows no word or two follow the same one.
    """
    text, last = "", 0
    ends: list[int] = []
    for match in _MARKER.finditer(marked):
        text += marked[last : match.start()]
        last = match.end()
        if not text.rstrip():
            raise UserError(f"prompt '{marked}': a marker {MARKER} must follow the noun it marks.")
        if ends and not text[ends[-1] :].strip():
            raise UserError(
                f"prompt '{marked}': two markers {MARKER} follow the same word; each needs a noun of its own."
            )
        ends.append(len(text.rstrip()))
    text += marked[last:]
    stripped = text.lstrip()
    return stripped.rstrip(), [end - (len(text) - len(stripped)) for end in ends]


def mark(text: str, ends: Sequence[int]) -> str:
    """Put markers in: the inverse of `parse`."""
    for end in sorted(ends, reverse=True):
        text = f"{text[:end]} {MARKER}{text[end:]}"
    return text


def noun_before(caption: str, end: int) -> str:
    """The last word before a subject's end, in lower case; empty where there is none."""
    words = WORD.findall(caption[:end].lower())
    return str(words[-1]) if words else ""


def unmarked(text: str) -> str:
    """A prompt without markers, as it is shown to the CLIP that scores."""
    return " ".join(text.replace(MARKER, " ").split())


def encode(tokenizer: Any, text: str, ends: Sequence[int] = ()) -> Encoded:
    """Tokenise a plain caption; text that is too long is cut and keeps its end token.

    UserError when a subject lies past the last token, or when a marker is still in the text.
    """
    if MARKER in text:
        raise UserError(
            f"caption '{text}' still holds {MARKER}; take markers out with fdlab.data.captions.parse."
        )
    length = int(tokenizer.model_max_length)
    ids = _plain_ids(tokenizer, text)
    room = length - 2
    positions = []
    for end in ends:
        # A noun's end may fall inside a word ("man" of "man's" does not): the word's own end is meant then.
        while 0 < end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
            end += 1
        position = len(_plain_ids(tokenizer, text[:end]))
        if position > room:
            raise UserError(
                f"caption '{text}': its subject ending at character {end} is token {position}, "
                f"past the text encoder's "
                f"last of {room}; shorten the caption before it."
            )
        positions.append(position)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    input_ids_L = np.full(length, padding, np.int64)
    row = [tokenizer.bos_token_id, *ids[:room], tokenizer.eos_token_id]
    input_ids_L[: len(row)] = row
    return Encoded(input_ids_L, positions)


def unseen(tokenizer: Any, text: str) -> str:
    """What of a plain caption lies past the text encoder's last token; empty where all of it is seen."""
    ids = _plain_ids(tokenizer, text)[int(tokenizer.model_max_length) - 2 :]
    return str(tokenizer.decode(ids)).strip() if ids else ""


def num_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of a plain caption with its begin and end, as many as they are: those past the text encoder's
    length are not seen."""
    return len(_plain_ids(tokenizer, text)) + 2


def null_ids(tokenizer: Any) -> np.ndarray:
    """Token ids (L) of the empty prompt."""
    return encode(tokenizer, "").input_ids_L


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)
