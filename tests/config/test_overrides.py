"""Keys that hold text take it as it is typed; everything else is one clear line."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdlab.config import provenance
from fdlab.config.compose import compose
from fdlab.config.overrides import quoted, split, unquoted
from fdlab.errors import UserError
from fdlab.sweeps import grid

TEXTS = [
    "photo(1).jpg", "a=b", "a#b", "it's", 'say "x"', "two words", "ä/Ø 人.png", "1.10", "1e3", "true", "a,b",
    "a\\", "~/x", "[a]", "{a: b}", "range(1,2)", "'tis", "a: b", "50%", "@file", "*", "-", "$HOME", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_keys_that_hold_text_take_it_as_it_stands(text: str) -> None:
    assert compose([f"prompt={text}"], "sample").prompt == text
    assert compose([f"out={text}"], "sample").out == text
    assert compose([f"label={text}", "name=x"], "evaluate").label == text
    assert compose([f"images={text}"], "evaluate").images == text
    assert compose([f"paths.cache=/x/{text}"]).paths.cache == f"/x/{text}"
    assert compose([f"data.root={text}"]).data.root == text
    if "," not in text and text != "[a]":
        assert list(compose([f"subjects=[x.png, {text} ]"], "sample").subjects) == ["x.png", text]


@pytest.mark.parametrize("text", [*TEXTS, "null", "", "None", "a ${x} b", "\\${x}", "${"])
def test_quoted_text_is_what_the_quotes_hold(text: str) -> None:
    assert unquoted(quoted(text)) == text
    assert compose([f"prompt={quoted(text)}"], "sample").prompt == text
    assert list(compose([f"subjects=[{quoted(text)},x]"], "sample").subjects) == [text, "x"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_survives_quoting_and_lists(one: str, other: str) -> None:
    assert unquoted(quoted(one)) == one
    assert [unquoted(part) for part in split(f"{quoted(one)},{quoted(other)}")] == [one, other]


@pytest.mark.parametrize("text", ["a ${x} b", "${oc.env:HOME}", "\\${x}", "${", "$ {x}", "\\\\${a} ${b}"])
def test_what_looks_like_a_reference_is_text_in_a_prompt_and_survives_the_run_directory(
    text: str, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    cfg = compose([f"prompt={text}"], "sample")
    assert cfg.prompt == text
    provenance.save(cfg, tmp_path, [f"prompt={text}"])
    assert provenance.load(tmp_path).prompt == text


def test_null_means_none_where_a_key_may_have_no_value() -> None:
    cfg = compose(["label=null", "images=NULL"], "evaluate")
    assert cfg.label is None and cfg.images is None
    assert compose(["label='null'"], "evaluate").label == "null"


def test_a_text_that_is_a_number_stays_text_in_a_grid_as_well() -> None:
    assert compose(["name=1e3"]).name == "1e3"
    assert [lines for lines, _ in grid.expand(["name=1.10,1e3", "seed=1"])] == [
        ["name=1.10", "seed=1"],
        ["name=1e3", "seed=1"],
    ]
    assert len(grid.expand(["init=runs/a(1),runs/b=2,'c,d'"])) == 3


def test_of_two_values_the_last_counts() -> None:
    cfg = compose(["trainer=smoke", "seed=1", "seed=2", "trainer=full", "name=a", "name=b"])
    assert (cfg.seed, cfg.trainer.max_steps, cfg.name) == (2, 30000, "b")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("subjects=a(1).jpg", 'a list [a,b] is needed, as in subjects=["a(1).jpg"]'),
        ("sdm", "Did you mean '+exp=sdm'?"),
        ("smoke", "Did you mean 'trainer=smoke'?"),
        ("=1", "write KEY=VALUE"),
        ("", "write KEY=VALUE"),
        ("+exp=a(b", "unknown experiment 'a(b'"),
        ("paths=null", "this is a group of keys (cache, runs); set one of them"),
        ("model.lr=(", "cannot read 'model.lr=('"),
        ("paths.runs=/a${b}", "'b' not found"),
        ("paths.runs=/a${", "paths.runs=/a${"),
        ("hydra.run.dir=x", "unknown key"),
        ("paths.runs=~no-such-person/x", "nobody of that name has a home here"),
        ("benchmark.folder=~no-such-person", "nobody of that name has a home here"),
    ],
)
def test_wrong_lines_are_told(override: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        compose([override], "sample")
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=1,1"], "'seed=1,1' gives 1 more than once"),
        (["name=a,b,a"], "gives a more than once"),
        (["seed=range(1,1)"], "gives no value"),
        (["seed=range(5,1)"], "gives no value"),
        (["seed=range(1,9,0)"], "gives no value"),
        (["seed=range(1,100000000)"], "gives more than 10000 values"),
        (["seed=shuffle(range(1,100000000))"], "gives more than 10000 values"),
        (["model.lr=range(0.0,1.0,0.00000001)"], "gives more than 10000 values"),
        (["seed=range(0,9000)", "model.lr=range(1,9000)"], "more than 10000 combinations"),
        (["seed=1,01"], "seed=01: a whole number is needed"),
        (["seed=1,2", "name=x"], "as seed=1 and seed=2; give each value once, and leave out name="),
    ],
)
def test_grids_that_are_none_are_told_at_once(overrides: list[str], said: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        grid.plan(overrides)
    assert said in str(raised.value)
    assert time.monotonic() - start < 10
