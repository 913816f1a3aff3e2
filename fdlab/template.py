"""Texts with `{names}` to fill in.

Braces hold a name and nothing else: no template reaches into objects, or asks for a million spaces.
"""

from __future__ import annotations

from collections.abc import Collection
from string import Formatter

from fdlab.errors import UserError


def check(template: str, allowed: Collection[str], where: str) -> None:
    """That braces hold allowed names and nothing else. Raises: UserError; `where` says whose."""
    *first, last = (f"{{{name}}}" for name in allowed)
    are = f"placeholders are {', '.join(first)} and" if first else "placeholder is"
    wrong = f"{where}: the only allowed {are} {last}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{wrong} ({error}; a brace itself is written twice).") from error
    for _, name, width, conversion in parts:
        if name is None:
            continue
        given = "{" + name + (f"!{conversion}" if conversion else "") + (f":{width}" if width else "") + "}"
        if name not in allowed or width or conversion:
            raise UserError(f"{wrong}, nothing else; given: {given[:60]}.")


def fill(template: str, **values: object) -> str:
    """A checked template with its names filled in; a value is text, whatever it holds."""
    return template.format(**{name: str(value) for name, value in values.items()})
