from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from fdlab.metrics import diversity, identity
from fdlab.records import breakdown, per_sample, record
from fdlab.records.per_sample import ScoredPictures


@pytest.fixture
def found(squares: Path) -> ScoredPictures:
    path = squares / "evaluation/record.json"
    return per_sample.load(path, record.read(path))


def test_means_by_category_and_subject_are_those_of_the_rows(squares: Path, found: ScoredPictures) -> None:
    held = json.loads((squares / "evaluation/breakdown.json").read_text())
    for key, column in (("by_category", "category"), ("by_subject", "subject")):
        by_hand = defaultdict(list)
        for row in per_sample.read(squares / "evaluation"):
            by_hand[row[column]].append(row["clip_score"])
        assert list(held[key]) == list(by_hand)
        for group, values in by_hand.items():
            entry = held[key][group]["clip_score"]
            assert entry["value"] == pytest.approx(np.mean(values)) and entry["n"] == len(values)
            assert entry["ci_low"] < entry["value"] < entry["ci_high"]
    assert held["resampled"] == {
        "by_category": "subjects", "by_attribute": "subjects", "by_subject": "prompts",
    }  # fmt: skip
    # Whom squares stand for is not known.
    assert held["by_attribute"] == {}
    whole = record.read(squares / "evaluation/record.json")
    assert held["benchmark_sha256"] == whole["benchmark"]["sha256"]
    # Categories are of one size here, so their mean is the record's value.
    parts = [entries["identity_similarity"]["value"] for entries in held["by_category"].values()]
    assert np.mean(parts) == pytest.approx(whole["metrics"]["identity_similarity"]["value"], abs=2e-6)


def test_a_group_of_people_is_that_of_its_subjects(found: ScoredPictures) -> None:
    """Someone of whom an attribute is not known is in no group of it."""
    attributes = {name: {"glasses": "with" if n % 2 else "without"} for n, name in enumerate(found.subjects)}
    del attributes[found.subjects[0]]["glasses"]
    table = breakdown.by_attribute(found, attributes)["glasses"]
    for group, first in (("with", 1), ("without", 2)):
        rows = [
            found.values["clip_score"][n]
            for n, picture in enumerate(found.pictures)
            if picture["subject"] in found.subjects[first::2]
        ]
        entry = table[group]["clip_score"]
        assert entry.value == pytest.approx(np.mean(rows)) and entry.num == len(rows)
        # One person alone says nothing of others.
        assert (entry.low is None) is (len(found.subjects[first::2]) == 1)
        assert group == "without" or (entry.low is not None and entry.low < entry.value)


def test_auc_of_a_category_is_that_of_its_pictures(found: ScoredPictures) -> None:
    assert found.matches is not None
    here = found.column("category") == "c1"
    parts = [part[here] for part in found.matches.flat()]
    entry = breakdown.by_category(found)["c1"]["identity_auc"]
    assert entry.value == pytest.approx(identity.auc(*parts)) and entry.num == here.sum()
    assert entry.low is not None and entry.high is not None and entry.low <= entry.value <= entry.high
    assert not any("identity_auc" in entries for entries in breakdown.by_subject(found).values())


def test_what_only_rows_have_is_broken_down_too(squares: Path) -> None:
    rows = per_sample.read(squares / "evaluation")
    rng = np.random.default_rng(0)
    values = diversity.diversity(
        rng.normal(size=(len(rows), 4)), np.array([f"{r['subject']} {r['prompt']}" for r in rows])
    )
    for row, value in zip(rows, values, strict=True):
        row["diversity"] = float(value)
    made = per_sample.arrays(rows, record.read(squares / "evaluation/record.json")["metrics"])
    parts = breakdown.by_category(made)
    assert np.mean([p["diversity"].value for p in parts.values()]) == pytest.approx(values.mean())
