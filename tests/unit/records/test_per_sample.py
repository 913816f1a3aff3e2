"""Rows as arrays: they must give the record's numbers again, and say where they do not."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.errors import UserError
from fdlab.evaluation import generation, measuring, scoring
from fdlab.metrics import identity, paired
from fdlab.records import breakdown, gallery, per_sample, record


@pytest.fixture
def written(squares: Path) -> dict[str, Any]:
    return record.read(squares / "evaluation/record.json")


def test_every_metric_of_pictures_comes_out_as_recorded(squares: Path, written: dict[str, Any]) -> None:
    found = per_sample.load(squares / "evaluation/record.json", written)
    metrics = written["metrics"]
    sets = {"frechet_distance", "kernel_distance", "cmmd", "identity_auc"}
    # Diversity is no metric of a record: rows alone carry it.
    recorded = {name: values for name, values in found.values.items() if name != "diversity"}
    assert set(recorded) == set(metrics) - sets and len(recorded) >= 9
    for name, values in recorded.items():
        assert np.nanmean(values) == pytest.approx(metrics[name]["value"], abs=2e-6), name
        assert np.isfinite(values).sum() == metrics[name]["n"], name
    # Misses are there, count 0 in one metric and nothing in the other.
    missed = found.values["face_detection_rate"] == 0
    assert 0 < missed.sum() < len(missed)
    assert (found.values["identity_similarity"][missed] == 0).all()
    assert np.isnan(found.values["identity_similarity_detected"][missed]).all()
    assert found.matches is not None
    auc = identity.auc(*found.matches.flat())
    # Similarities of squares are nearly all 1, so that six decimals tie some of them.
    assert auc == pytest.approx(metrics["identity_auc"]["value"], abs=1e-3)
    assert set(found.left_out) == sets


def test_packed_pictures_are_the_same(squares: Path, tmp_path: Path) -> None:
    shutil.copytree(squares, tmp_path / "run")
    packed, plain = tmp_path / "packed", per_sample.read(squares / "evaluation")
    (tmp_path / "run/evaluation").rename(packed)
    data = (packed / "per_sample.jsonl").read_bytes()
    (packed / "per_sample.jsonl").unlink()
    (packed / "per_sample.jsonl.gz").write_bytes(gzip.compress(data))
    assert per_sample.read(packed) == plain
    for damage, said in ((b"no gzip", "unpacked"), (gzip.compress(data)[:-9], "unpacked")):
        (packed / "per_sample.jsonl.gz").write_bytes(damage)
        with pytest.raises(UserError, match=said):
            per_sample.read(packed)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "per_sample.jsonl.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    monkeypatch.setattr(per_sample, "MOST_PACKED", 1 << 20)
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        per_sample.read(tmp_path)


def test_rows_of_another_record_are_seen(squares: Path, written: dict[str, Any]) -> None:
    rows = per_sample.read(squares / "evaluation")
    changed = copy.deepcopy(written["metrics"])
    changed["clip_score"]["value"] += 0.01
    found = per_sample.arrays(rows, changed)
    assert "clip_score" not in found.values and "pictures give" in found.left_out["clip_score"]
    assert "prompt_accuracy" in found.values
    # Subjects in another order than similarities: the AUC would be another, so there is none.
    swapped = [{**row, "subjects": ["x" + row["subject"][1:]]} for row in rows]
    for row in swapped:
        row["similarity_to"] = row["similarity_to"] and row["similarity_to"][1:] + row["similarity_to"][:1]
    assert per_sample.arrays(swapped, written["metrics"]).matches is None


@pytest.mark.parametrize("groups", ["pairs", [["s03", "s00"], ["s01", "s02"], ["s04", "s01"]]])
def test_pictures_of_several_come_out_as_recorded(tmp_path: Path, crowd: ModuleType, groups: Any) -> None:
    crowd.write_benchmark(tmp_path / "bench", groups=groups)
    bench, parts = benchmarks.load(tmp_path / "bench"), crowd.extractors()
    todo = jobs.jobs(bench)
    known = measuring.references(bench, parts, show=False)
    both = []
    for name, faults in (("a", {"missing": 1, "mixed": 0.2}), ("b", {"mixed": 0.7, "extra": 1})):
        paths = generation.generate(todo, crowd.Painter(**faults), tmp_path / name / "images", show=False)
        measured = measuring.measure(paths, parts, bench.size, num_subjects=2, show=False)
        metrics, rows = scoring.score(bench, todo, measured, known, parts)
        found = per_sample.arrays(json.loads(json.dumps(rows)), metrics)
        assert set(found.left_out) == {"identity_auc"} and found.matches is not None
        assert found.subjects == tuple(subject.id for subject in bench.subjects)
        assert {"identity_similarity_min", "identity_similarity_detected"} <= set(found.values)
        parts_ = breakdown.by_category(found)
        shares = [entries["identity_similarity"].value for entries in parts_.values()]
        assert np.mean(shares) == pytest.approx(metrics["identity_similarity"]["value"], abs=1e-6)
        both.append((found, metrics))
    (a, first), (b, second) = both
    assert a.matches and b.matches
    change = paired.auc_difference(a.matches, b.matches, a.clusters_NK)
    expected = second["identity_auc"]["value"] - first["identity_auc"]["value"]
    assert change and change.value == pytest.approx(expected, abs=1e-3) and change.low is not None
    state, _ = gallery.states(a)
    assert set(state) <= {"few", "wrong"} and "few" in state
    references = {s.id: tmp_path / "bench" / s.references[0] for s in bench.subjects}
    about = record.build(bench.summary(), {"name": "a"}, first, {"kind": "measured"})
    text = gallery.write(tmp_path / "a", about, a, references).read_text()
    assert "A person is missing" in text


def test_several_subjects_are_matched_again() -> None:
    """Two faces, two subjects of three: values by hand."""
    ids = ["s00", "s01", "s02"]
    face = {"box": [0, 0, 1, 1], "score": 1.0}

    def row(n: int, likes: list[list[float]], pair: list[str], own: list[float | None]) -> dict[str, Any]:
        places = [None if value is None else i for i, value in enumerate(own)]
        matches = [
            {"subject": who, "face": place, "identity_similarity": value}
            for who, place, value in zip(pair, places, own, strict=True)
        ]
        kept = [value or 0.0 for value in own]
        return {
            "id": f"{'-'.join(pair)}-p-{n}", "subject": "-".join(pair), "subjects": pair, "prompt": "p",
            "index": n, "faces": [{**face, "similarity_to": like} for like in likes], "matches": matches,
            "identity_similarity": float(np.mean(kept)) if likes else None,
            "identity_similarity_min": min(kept) if likes else None,
        }  # fmt: skip

    rows = [
        row(0, [[0.8, 0.1, 0.0], [0.2, 0.6, 0.1]], ["s00", "s01"], [0.8, 0.6]),
        row(1, [[0.1, 0.0, 0.9]], ["s01", "s02"], [None, 0.9]),
        row(2, [], ["s00", "s02"], [None, None]),
    ]
    rows[1]["matches"][1]["face"] = 0
    metrics = {
        "identity_similarity": {"value": (0.7 + 0.45 + 0) / 3, "n": 3},
        "identity_similarity_detected": {"value": (0.7 + 0.9) / 2, "n": 2},
        "identity_similarity_min": {"value": 0.6 / 3, "n": 3},
        "face_detection_rate": {"value": 0.5, "n": 3},
    }
    found = per_sample.arrays(rows, metrics)
    assert not found.left_out and found.subjects == tuple(ids)
    assert found.values["face_detection_rate"].tolist() == [1.0, 0.5, 0.0]
    assert found.group_NM.tolist() == [[0, 1], [1, 2], [0, 2]]
    # Pairs that share subjects are resampled by subject.
    assert found.clusters_NK.shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"id": "a", "prompt": "p", "index": 0}', "line 1 lacks 'subject'"),
        ('{"id": "a", "subject": "s", "prompt": "p"}', "line 1 lacks 'index'"),
        ('{"id": "a", "subject": "s", "prompt": "p", "index": 0}\n' * 2, "line 2 is of picture 'a'"),
        ("[]", "line 1 lacks 'id'"),
        ('{"id": ', "line 1 is not valid JSON"),
        (None, r"no per_sample\.jsonl"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / record.PER_SAMPLE).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        per_sample.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_record_with_fewer_rows_is_refused(squares: Path, written: dict[str, Any], tmp_path: Path) -> None:
    lines = (squares / "evaluation/per_sample.jsonl").read_text().splitlines()
    path = record.write(tmp_path, written, [json.loads(line) for line in lines[:-1]])
    with pytest.raises(UserError, match=f"counts {len(lines)} pictures, its .* {len(lines) - 1}"):
        per_sample.load(path, written)


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "../../x.png", "images/x.txt", "c:\\x.png", "http://x/y.png", "a\u202eb.png", None, 3],
)
def test_a_line_names_no_file_but_a_picture_of_its_own(file: Any) -> None:
    assert per_sample.file_of({"file": file}) == ""
    for own in ("images/s00-p00-0.png", "../images/a b.jpg"):
        assert per_sample.file_of({"file": own}) == own


def test_what_is_kept_is_read_as_before_and_names_no_place(
    squares: Path, written: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(squares / "evaluation", run)
    placed = {**written, "method": {**written["method"], "place": f"{tmp_path}/models/a"}}
    (run / "record.json").write_text(json.dumps(placed))
    for name in ("one", "two"):
        per_sample.keep(run, tmp_path / name, tmp_path)
    assert record.read(tmp_path / "one/record.json")["method"]["place"] == "models/a"
    assert per_sample.read(tmp_path / "one") == per_sample.read(run)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two and set(one) == {"record.json", "per_sample.jsonl.gz"}
