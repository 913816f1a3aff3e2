from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fdlab.errors import UserError
from fdlab.metrics import registry
from fdlab.metrics.bootstrap import Estimate
from fdlab.records import per_sample, record, report, table
from tests.worlds.records import EXTRACTOR, example


def test_record_has_every_key_of_the_contract() -> None:
    made = example()
    assert list(made) == ["schema_version", "benchmark", "method", "metrics", "provenance"]
    assert made["schema_version"] == 1
    assert {"name", "backbone", "sampler", "tdm", "sdm"} <= set(made["method"])
    entry = made["metrics"]["identity_auc"]
    assert set(entry) == {
        "value",
        "ci_low",
        "ci_high",
        "n",
        "unit",
        "higher_is_better",
        "version",
        "extractor",
    }
    assert (
        entry["higher_is_better"] is True and made["metrics"]["frechet_distance"]["higher_is_better"] is False
    )
    assert set(record.PROVENANCE_KEYS) <= set(made["provenance"])


def test_names_of_metrics_are_the_contracts() -> None:
    assert set(registry.METRICS) == {
        "identity_similarity", "identity_similarity_detected", "face_detection_rate", "identity_margin",
        "identity_rank1", "identity_auc", "identity_similarity_min", "identity_blending",
        "face_count_accuracy",
        "identity_heldout", "copy_paste", "clip_score", "fid", "frechet_distance", "kernel_distance", "cmmd",
        "prompt_accuracy",
    }  # fmt: skip


def test_write_and_read(tmp_path: Path) -> None:
    made = example()
    rows = [{"id": name, "prompt": "p", "index": 0, "subject": "s", "clip_score": None} for name in "ab"]
    path = record.write(tmp_path / "evaluation", made, rows)
    assert record.read(path) == made
    assert per_sample.read(tmp_path / "evaluation") == rows


def broken(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(example())
    node: Any = made
    *parents, last = path.split("/")
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return made


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("schema_version", 2, "schema_version is 2"),
        ("metrics", None, "'metrics' is missing"),
        ("benchmark/sha256", None, "benchmark.sha256 is missing"),
        ("provenance/created", None, "provenance.created is missing"),
        ("provenance/kind", "guessed", "allowed: measured, quoted"),
        ("metrics/identity_auc/value", "0.8", "not a finite number"),
        ("metrics/identity_auc/n", 0, "counts images"),
        ("metrics/identity_auc/ci_low", 0.95, "above ci_high"),
        ("metrics/identity_auc/ci_low", 0.85, "ci_low 0.85 is above its value 0.8"),
        ("metrics/identity_auc/ci_high", 0.75, "ci_high 0.75 is below its value 0.8"),
        ("benchmark/people", "1-4", "benchmark.people is '1-4', no list of spans"),
        ("benchmark/people", [[4, 1]], "no list of spans"),
        ("benchmark/people", [[1.0, 4.0]], "no list of spans"),
        ("benchmark/people", [[0, 10**9]], "are 1000000001, more than its 4 subjects"),
        ("method/sdm", {"people": "1-4"}, "method.sdm.people is '1-4', no list of objects"),
        ("method/sdm", {"people": [[1, 4]]}, "no list of objects"),
        ("method/tdm", {"people": [{"rendered": [1.0, 4.0]}]}, "method.tdm.people has rendered"),
        ("method/sdm", {"people": [{"rendered": [4, 1]}]}, "no span"),
        ("method/sdm", {"sha256": "x` <img>"}, "method.sdm.sha256 is .* no 64 hexadecimal digits"),
        ("method/sdm", {"taught_by": "faceres"}, "method.sdm.taught_by is 'faceres', no list of texts"),
        ("metrics/identity_auc/unit", None, "metrics.identity_auc.unit is missing"),
        ("metrics/identity_auc/higher_is_better", False, "is True by its name"),
        ("metrics/identity_auc/extractor", "dlib", "must hold name and sha256"),
        ("metrics/identity_acu", {}, "Did you mean 'identity_auc'"),
        ("schema_version", True, "schema_version is True"),
        ("benchmark/version", 1, "benchmark.version is 1, no text"),
        ("benchmark/num_prompts", 0, "counts from 1"),
        ("benchmark/num_groups", 1.5, "benchmark.num_groups is 1.5"),
        ("benchmark/departures", "x", "no list of texts"),
        ("method/name", 3, "method.name is no text"),
        ("method/label", ["x"], "method.label is"),
        ("method/training_steps", 1.5, "method.training_steps is 1.5"),
        ("metrics/identity_auc/value", 2.5, r"value is 2.5; allowed: 0 to 1 \(probability\)"),
        ("metrics/identity_auc/value", -0.01, "allowed: 0 to 1"),
        ("metrics/identity_auc/value", True, "not a finite number"),
        ("metrics/identity_auc/value", 10**400, "a number of 401 digits"),
        ("metrics/identity_auc/ci_high", 1.5, "ci_high is 1.5; allowed: 0 to 1"),
        ("metrics/identity_auc/ci_low", -1.5, "ci_low is -1.5; allowed: 0 to 1"),
        ("metrics/identity_auc/ci_low", "0", "neither null nor a finite number"),
        ("metrics/identity_auc/n", 9, "n is 9, but the benchmark has 8 pictures"),
        ("metrics/identity_auc/n", True, "counts images"),
        ("metrics/identity_auc/unit", "furlongs", "unit is 'furlongs'; it is 'probability' by its name"),
        ("metrics/identity_auc/higher_is_better", 1, "higher_is_better is 1; it is True"),
        ("metrics/identity_auc/version", 1, "version is 1, no text"),
        ("metrics/identity_auc/extractor/name", 1, "must be text"),
        ("metrics/frechet_distance/value", 1e308, "allowed: 0 to 1e\\+15"),
        ("metrics/frechet_distance/value", -1.0, "value is -1.0; allowed: 0 to"),
        ("metrics/frechet_distance/ci_low", -1e300, "allowed: -1e\\+15"),
    ],
)
def test_broken_records_are_named(tmp_path: Path, where: str, value: Any, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken(where, value)))
    with pytest.raises(UserError, match=message) as caught:
        record.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_only_the_2015_inception_makes_an_fid(tmp_path: Path) -> None:
    entry = record.metric("fid", Estimate(3.0, None, None, 8), {"name": "efficientnet_lite0", "sha256": "c"})
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken("metrics/fid", entry)))
    with pytest.raises(UserError, match="measured by inception-2015 only"):
        record.read(path)


def test_nan_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contract"):
        example(auc=float("nan"))
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken("metrics/identity_auc/value", float("nan"))))
    with pytest.raises(UserError, match="NaN is no JSON number"):
        record.read(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write(tmp_path, example(), [{"score": float("nan")}])


def test_table_shows_steps_and_intervals() -> None:
    first = example()
    second = example("base", 0.5)
    del second["metrics"]["frechet_distance"]
    text = table.markdown([first, second])
    lines = text.splitlines()
    assert lines[0] == "| method | training steps | identity AUC ↑ | Frechet ↓ |"
    assert lines[2] == "| the snf | 10 | 0.800 [0.70, 0.90] | 12.50 |"
    assert lines[3] == "| the base | 10 | 0.500 [0.40, 0.60] | - |"


def test_wandb_gets_every_metric_of_every_method_and_nothing_unless_asked(tmp_path: Path) -> None:
    from fdlab.records import wandb_table
    from fdlab.training.loggers import LoggerSettings, make_loggers

    second = example("base", 0.5)
    del second["metrics"]["frechet_distance"]
    header, lines = wandb_table.rows_of([example(), second])
    assert header == ["method", "training steps", "identity_auc", "frechet_distance"]
    assert lines == [["the snf", "10", 0.8, 12.5], ["the base", "10", 0.5, None]]
    assert make_loggers(LoggerSettings(False, "p", "offline", "sdm", "x"), tmp_path, {}) == []
    assert not list(tmp_path.iterdir())


def test_too_few_pictures_for_a_frechet_distance_are_said() -> None:
    def of(num: int, name: str = "frechet_distance") -> dict[str, Any]:
        return {"metrics": {name: {"n": num}}}

    assert table.note([of(2048), of(4000, "fid"), {"metrics": {}}]) == table.NOTE
    assert "Frechet distance of 96 pictures is biased upwards" in table.note([of(2048), of(96)])
    assert "of 2,047 pictures" in table.note([of(2047, "fid")])


def test_every_metric_has_limits_and_what_is_beyond_is_refused() -> None:
    """Each limit is allowed, a little more is not; a distance's interval may pass 0."""
    made = example()
    made["metrics"] = {}
    for name, metric in registry.METRICS.items():
        by = {"name": metric.only_by or "x", "sha256": "c"}
        low, high = metric.limits
        for value, fits in ((low, True), (high, True), (low - 0.01 - abs(low) / 100, False), (1e308, False)):
            made["metrics"] = {name: record.metric(name, Estimate(value, None, None, 8), by)}
            assert (list(record.problems(made)) == []) is fits, (name, value)
    interval = Estimate(1.0, -1.0, 3.0, 8)
    made["metrics"] = {"frechet_distance": record.metric("frechet_distance", interval, EXTRACTOR)}
    assert not list(record.problems(made))


def test_pictures_of_groups_are_counted_by_groups() -> None:
    made = example()
    made["benchmark"]["num_groups"] = 6
    made["metrics"]["identity_auc"]["n"] = 12
    assert not list(record.problems(made))
    made["metrics"]["identity_auc"]["n"] = 13
    assert list(record.problems(made)) == ["metrics.identity_auc.n is 13, but the benchmark has 12 pictures"]


EVIL = "</title><script>alert(1)</script>|[bold](x)\n=1+1"


def test_a_label_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    """In the page, its title, its captions and its texts; in Markdown, and in the terminal."""
    made = example()
    made["method"] |= {"label": EVIL, "name": "x", "training_steps": EVIL, "backbone": EVIL}
    made["benchmark"] |= {"name": EVIL, "profile": EVIL, "departures": [EVIL]}
    made["provenance"]["created"] = EVIL
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"x")
    path = tmp_path / "report.html"
    report.write(path, EVIL, [made], "x", [(EVIL, figure)], [(EVIL, EVIL)], {"x": EVIL})
    text = path.read_text()
    assert "<script" not in text and text.count("</title>") == 1
    assert text.count("&lt;/title&gt;&lt;script&gt;alert(1)") > 10
    (line,) = table.markdown([made]).splitlines()[2:]
    assert line.replace("\\|", "").count("|") == 5 and "<script>" not in line and "\\[bold\\]" in line
    shown = io.StringIO()
    Console(file=shown, width=400).print(table.terminal([made], EVIL))
    assert r"</title><script>alert(1)</script>|[bold](x)\n=1+1" in shown.getvalue()


def test_a_recogniser_is_no_judge_of_what_it_taught() -> None:
    def of(extractor: str, *taught_by: str) -> dict[str, Any]:
        made = example("sdm")
        made["method"]["sdm"] = {"source": "shipped", **({"taught_by": list(taught_by)} if taught_by else {})}
        made["metrics"]["identity_auc"]["extractor"]["name"] = extractor
        return made

    said = "faceres taught the sdm: of these it is no independent judge."
    for name in ("faceres_centered", "mtcnn+faceres_centered"):
        assert said in table.note([of(name, "faceres"), of(name)])
    for other in (of("faceres_centered"), of("mtcnn+dlib_resnet_centered", "faceres")):
        assert "independent" not in table.note([other])
    # However it is called, but not for the detector, which judges nobody.
    for name in ("FaceRes", "mtcnn+faceres", "MTCNN+FACERES_centered"):
        assert said in table.note([of("mtcnn+faceres_centered", name)])
    assert "independent" not in table.note([of("mtcnn+dlib_resnet_centered", "mtcnn+faceres")])


def test_a_label_tells_no_folder_of_a_machine() -> None:
    for given, shown in (
        ("SNF: TDM /home/me/runs/train/tdm1/model + SDM shipped", "SNF: TDM train/tdm1 + SDM shipped"),
        ("SDM (/home/me/a/b)", "SDM (a/b)"),
        ("and/or, 1/2, </b>", "and/or, 1/2, </b>"),
    ):
        assert table.label({"method": {"name": "x", "label": given}}) == shown
