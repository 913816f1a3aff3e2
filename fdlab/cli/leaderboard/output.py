"""Where what a sub-command made goes."""

from __future__ import annotations


def put(text: str, out: str | None) -> None:
    """Print, or write to a file."""
    if out is None:
        print(text, end="")
        return
    from fdlab.files import write_text

    write_text(out, text)
