"""Captions that stand alone, without subjects: read from text, and made an annotation."""

from __future__ import annotations

from fdlab import foreign
from fdlab.data.annotation import Annotation, caption_flaws
from fdlab.data.captions import parse
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError


def caption_of(data: bytes, name: str) -> str:
    """The caption in a text file's bytes: its lines joined, markers and all. Raises: CorruptFile."""
    try:
        text = foreign.decoded(data, f"caption '{name}'")
    except UserError as error:
        raise CorruptFile(str(error)) from error
    return " ".join(text.removeprefix("\ufeff").split())


def only_caption(id: str, caption: str, name: str) -> Annotation:
    """A caption as an annotation. Its markers, if any, are taken out: without masks they mark nobody. Raises:
    CorruptFile."""
    try:
        plain, _ = parse(caption)
    except UserError as error:
        raise CorruptFile(f"'{name}': {error}") from error
    return Annotation(id, plain, (), flaws=tuple(caption_flaws(plain)))
