from __future__ import annotations

import pytest

from fdlab import template
from fdlab.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "a {noun.__class__}", "a {noun[0]}", "a {noun!r}", "a {noun:>1000000000}", "a {noun:{noun2}}", "a {}",
        "a {0}", "a {other}", "a {noun", "a noun}", "a {noun }", "a {noun.__init__.__globals__}",
    ],
)  # fmt: skip
def test_braces_hold_names_alone(text: str) -> None:
    with pytest.raises(UserError, match=r"^here: the only allowed placeholders are \{noun\} and \{noun2\}"):
        template.check(text, ["noun", "noun2"], "here")


def test_one_name_is_one(text: str = "{x}") -> None:
    with pytest.raises(
        UserError, match=r"the only allowed placeholder is \{noun\}, nothing else; given: \{x\}\."
    ):
        template.check(text, ["noun"], "here")


def test_what_is_filled_in_is_text() -> None:
    template.check("{{a}} {noun} {noun2}", ["noun", "noun2"], "here")
    assert template.fill("{{a}} {noun} {noun2}", noun="{noun2.x}", noun2=3) == "{a} {noun2.x} 3"
