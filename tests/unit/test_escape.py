"""Labels that would be obeyed if they were not escaped."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from fdlab import escape


@pytest.mark.parametrize(
    ("text", "seen"),
    [("a\nb", r"a\nb"), ("\x1b[31mred", r"\x1b[31mred"), ("\u202egnp", r"\u202egnp"), ("ä 人", "ä 人")],
)
def test_control_characters_are_seen(text: str, seen: str) -> None:
    assert escape.visible(text) == seen == escape.visible(seen)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]/ab\\ \n\x1b=red"), max_size=20))
def test_rich_prints_what_was_given(text: str) -> None:
    out = io.StringIO()
    table = Table(box=None, padding=0, show_header=False)
    table.add_column(no_wrap=True)
    table.add_row(escape.terminal(f"|{text}|"))
    Console(file=out, width=400).print(table)
    assert out.getvalue() == escape.visible(f"|{text}|") + "\n"


@pytest.mark.parametrize(
    "text",
    ["a|b", "[x](http://evil)", "![x](y)", "<script>", "*a*", "_a_", "`a`", "~~a~~", "$a$", "&lt;", "a\\|b"],
)
def test_markdown_obeys_nothing(text: str) -> None:
    made = escape.markdown(text)
    assert made != text
    # Unescaped as CommonMark does it is the same text, and nothing special is left without a backslash.
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", made) == text
    assert not re.search(r"(?<!\\)(\\\\)*[|<>*`\[\]~$&]", made)


def test_markdown_leaves_names_as_they_are() -> None:
    for text in ("my_run", "SDM shipped (quoted)", "a-b.c/d", "10,000 + 8", "100%"):
        assert escape.markdown(text) == text


def test_markdown_calls_nobody_and_links_nowhere() -> None:
    made = escape.markdown("@torvalds sees https://evil.example and WWW.x.com in #1")
    assert made == (r"@<!-- -->torvalds sees https:\/\/evil.example and WWW\.x.com in #<!-- -->1")


@pytest.mark.parametrize("text", ["\u3164", "a\ufe0f", "\u2800", "\u200b", "\U000e0101"])
def test_what_shows_nothing_is_shown(text: str) -> None:
    assert escape.visible(text).isascii() and escape.visible("é 中 🙂 ß") == "é 中 🙂 ß"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "＝1+1", "＠SUM(A1)"])
def test_spreadsheets_compute_nothing(text: str) -> None:
    out = io.StringIO()
    escape.CsvWriter(out).writerow([text, -1.5, "-", "a=b", None, 3, "\r=1"])
    (line,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert line == [f"'{text}", "-1.5", "-", "a=b", "", "3", r"\r=1"]


def test_figures_hold_no_mathematics() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axis = figure.subplots()
    text = r"$\frac{1}$ and $x$"
    axis.set_title(escape.figure(text))
    figure.savefig(io.BytesIO(), format="png")
    assert escape.figure("two\nlines") == "two\nlines"


def test_a_password_is_not_shown() -> None:
    shown = escape.without_password
    assert "secret" not in shown("postgresql://h/x?user=me&password=secret")
    assert shown("mysql://me:s@cret@host/x") == "mysql://me:***@host/x"
    assert shown("sweep 'sweep.storage=grpc://u:secret@h:1' a=b@c") == (
        "sweep 'sweep.storage=grpc://u:***@h:1' a=b@c"
    )
    for plain in ("postgresql://me@host/x", "journal", "sample prompt=a@b"):
        assert shown(plain) == plain
