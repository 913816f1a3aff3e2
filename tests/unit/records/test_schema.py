"""The published JSON Schema and the contract's code judge alike; old records migrate."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdlab.errors import UserError
from fdlab.metrics import registry
from fdlab.metrics.bootstrap import Estimate
from fdlab.records import migrations, record, schema
from tests.worlds import damage
from tests.worlds.records import EXTRACTOR, example


def full() -> dict[str, Any]:
    """A record with every metric."""
    made = example()
    made["benchmark"] |= {"num_groups": 6, "profile": "strict", "departures": ["none"]}
    for name, metric in registry.METRICS.items():
        by = {**EXTRACTOR, "name": metric.only_by or "x"}
        made["metrics"][name] = record.metric(name, Estimate(max(metric.limits[0], 0.5), 0.4, 0.6, 6), by)
    return made


def said_by_schema(made: Any) -> bool:
    """Whether JSON Schema can say what is wrong: not where two keys do not go together."""
    problem = next(record.problems(made), "")
    together = (" is above ci_high ", " its value ", "pictures", "more than its")
    return not any(said in problem for said in together)


def test_the_file_is_what_the_contract_says() -> None:
    assert json.loads(schema.FILE.read_text()) == schema.json_schema()


def test_schema_and_code_judge_alike() -> None:
    validators = pytest.importorskip("jsonschema")
    validators.Draft202012Validator.check_schema(schema.json_schema())
    check = validators.Draft202012Validator(schema.json_schema())
    quoted = example()
    quoted["provenance"] = {"kind": "quoted", "source": "a paper"}
    good = [full(), example(), quoted]
    assert all(check.is_valid(made) and not list(record.problems(made)) for made in good)
    rng = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    odd = (None, "x", "", 0, -1, 1.5, True, [], ["x"], {}, {"x": 1}, 1.7e15 + 0.5, -1.7e15 - 0.5)
    for number in range(900):
        made = copy.deepcopy(good[number % 3])
        *above, last = (found := list(damage.places(made)))[rng.integers(len(found))]
        node: Any = made
        for key in above:
            node = node[key]
        if rng.integers(4):
            node[last] = odd[rng.integers(len(odd))]
        elif isinstance(node, dict):
            del node[last]
        fits = not list(record.problems(made))
        if fits or said_by_schema(made):
            assert check.is_valid(made) == fits, (above, last, list(record.problems(made)))
        seen[fits] += 1
    assert min(seen.values()) > 100


def test_older_records_are_brought_forward_step_by_step() -> None:
    steps: dict[int, migrations.Step] = {
        1: lambda old: {**old, "method": {"name": old["method"]}},
        2: lambda old: {**old, "kind": "measured"},
    }
    old = {"schema_version": 1, "method": "snf"}
    assert migrations.migrated(old, 3, steps) == {
        "schema_version": 3, "method": {"name": "snf"}, "kind": "measured",
    }  # fmt: skip
    assert old == {"schema_version": 1, "method": "snf"}
    # Nothing is invented: where no step leads on, and for what is no record.
    for odd in ({"schema_version": 0}, {"schema_version": 9}, {"schema_version": True}, {}, [], None):
        assert migrations.migrated(odd, 3, steps) == odd


def test_reading_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = example()
    older = {**made, "schema_version": 1, "metrics": {}, "scores": made["metrics"]}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(older))
    monkeypatch.setattr(record, "SCHEMA_VERSION", 2)

    def rename(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "metrics": old.pop("scores")}

    monkeypatch.setitem(migrations.STEPS, 1, rename)  # type: ignore[arg-type]
    assert record.read(path)["metrics"] == made["metrics"]


def test_a_newer_record_is_named_as_newer(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**example(), "schema_version": 2}))
    with pytest.raises(UserError, match=r"schema_version is 2; this fdlab reads 1.*a newer fdlab wrote"):
        record.read(path)
