"""Whatever is typed, the configuration composes or one line says why not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fdlab.__main__ import main
from fdlab.config.compose import compose
from fdlab.config.locate import groups
from fdlab.config.schema import leaves
from fdlab.errors import UserError
from fdlab.sweeps import grid

VERBS = {"train": "config", "sample": "sample", "evaluate": "evaluate"}
KEYS = sorted({key for name in VERBS.values() for key, _ in leaves(dict(compose((), name)))})
PIECES = [
    "", "null", "1", "-1", "1e400", "nan", "true", "[1,2]", "[", "]", "{", "}", "{a:1}",
    "{_target_: os.system}", "'",
    '"', ",", "1,2", "${x}", "${", "${oc.env:HOME}", "${seed}", "???", "\\", "\x00", "é", "range(1,3)",
    "choice(a)",
    "glob(*)", "interval(0,1)", "0x10", "=", "#", "~", "@", " ", "smoke", "sdm",
    "9" * 400, "1" * 5000, "~no-such-person", "[" * 300, "(",
    "$", "\n", "*", "sort(1)", "shuffle(1,2)", "extend_list(1)", "${now:}", "${oc.decode:x}", "asset:nano",
]  # fmt: skip
VALUE = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), min_size=1, max_size=2).map("".join)
KEY = st.sampled_from([*KEYS, *groups(), "paths", "a.b", "", "hydra.x", "hydra/launcher", "model@data"])
LINE = st.tuples(st.sampled_from(["", "+", "++", "~"]), KEY, st.sampled_from(["=", "=", "=", ""]), VALUE).map(
    "".join
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINE | st.text(max_size=12), min_size=1, max_size=3), st.sampled_from(sorted(VERBS.values())))
@example(["seed=" + "1" * 5000], "config")
@example(["init=" + "9" * 400], "config")
@example(["model.subject_keep=" + "9" * 400], "config")
@example(["model.betas=" + "[" * 300], "config")
def test_it_composes_or_says_why_not_in_one_line(overrides: list[str], name: str) -> None:
    for work in (lambda: compose(overrides, name), lambda: grid.expand(overrides)):
        with contextlib.suppress(UserError):
            work()


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("words", [["--cfg", "job"], ["--dry"]], ids=" ".join)
@pytest.mark.parametrize(
    "override", ["prompt", "=", "a=b", "seed=x", "+exp=sdmm", "model.lr=(", "paths=1", "init=${", "seed=1,1"]
)
def test_the_command_line_ends_with_status_2_and_one_line(
    verb: str, words: list[str], override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, *words, override]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
