"""Keys that exist only where another has a given value: read, refused, searched, shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fdlab import lock
from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.sweeps import figures, grid, page, results
from fdlab.sweeps.asked import read
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.search import Worker
from fdlab.sweeps.study import Study
from fdlab.sweeps.trial import Trial
from tests.unit.sweeps.test_search import study_of, work
from tests.worlds.records import example

optuna = pytest.importorskip("optuna")
STEPS, SMOOTHING = "sampler.num_steps=int(interval(1,3))", "sampler.smoothing=average,gaussian"
GROUP = "sampler=snf_prompt,switch,average"
ALPHA = "sampler.alpha=interval(0.1,0.5) if sampler=snf_prompt"
FRACTION = "sampler.fraction=interval(0.1,0.9) if sampler=switch"
SPACE = (GROUP, ALPHA, FRACTION)
OBJECTIVE = "sweep.objective=[identity_auc]"


def unchecked(folder: Path, *words: str) -> Study:
    """A study whose space is not composed: that of `SPACE` is by other tests here."""
    return read([*words, f"paths.runs={folder}"], check=False)[1]


def search(study: Study, score: Callable[[dict[str, Any]], float]) -> list[Any]:
    """Search without trials that are runs; returns what Optuna has."""
    while (claim := study.next()) is not None:
        study.tell(claim, example(auc=score(claim.point))["metrics"], "", pruned=False)
    return study.trials()


def planted(point: dict[str, Any]) -> float:
    """Best with saliency fusion at alpha 0.3; a switch at 0.5 is a lesser optimum."""
    if point["sampler"] == "snf_prompt":
        return float(0.88 - 5 * (point["sampler.alpha"] - 0.3) ** 2)
    return float(0.8 - (point["sampler.fraction"] - 0.5) ** 2) if point["sampler"] == "switch" else 0.75


@pytest.mark.parametrize(("sampler", "least"), [("tpe", 0.875), ("random", 0.86), ("nsga2", 0.86)])
def test_a_conditional_optimum_is_found(sampler: str, least: float, tmp_path: Path) -> None:
    study = unchecked(tmp_path, *SPACE, f"sweep={sampler}", "sweep.trials=30", OBJECTIVE)
    trials = search(study, planted)
    (best,) = results.best(study)
    assert best.params["sampler"] == "snf_prompt" and best.values[0] > least and len(trials) == 30
    for trial in trials:
        keys = {"snf_prompt": {"sampler.alpha"}, "switch": {"sampler.fraction"}, "average": set[str]()}
        assert set(trial.params) == {"sampler"} | keys[trial.params["sampler"]]
    if sampler == "tpe":
        # It follows what only some trials have: at random a twelfth would be so near.
        late = [trial.params for trial in trials[15:]]
        assert sum(abs(p.get("sampler.alpha", 9) - 0.3) < 0.05 for p in late) > len(late) / 4


def test_a_grid_has_every_combination_that_exists_once(tmp_path: Path) -> None:
    words = ["sampler=snf_prompt,average", "sampler.base=text,null"]
    words += ["sampler.smoothing=average,gaussian if sampler=snf_prompt", "sweep=grid"]
    words += ["sampler.sigma=1.1,2 if sampler.smoothing=gaussian"]
    study = unchecked(tmp_path, *words)
    assert study.most == 2 * (1 + 2) + 2 == len(search(study, lambda point: 0.7))
    keys = ("sampler.base", "sampler.smoothing", "sampler.sigma")
    points = [tuple(trial.params.get(key) for key in keys) for trial in study.trials()]
    assert (
        len(set(points)) == 8
        and points.count(("text", None, None)) == points.count(("null", None, None)) == 1
    )
    for sampler, said in (("grid", "an interval has no end"), ("cmaes", "searches numbers alone")):
        with pytest.raises(UserError, match=said):
            unchecked(tmp_path, *SPACE, f"sweep={sampler}")


def test_a_plain_grid_takes_conditions_too(tmp_path: Path) -> None:
    words = ["sampler=snf_prompt,average", "sampler.alpha=0.1,0.2 if sampler=snf_prompt"]
    trials = grid.plan([*words, f"paths.runs={tmp_path}"], "evaluate")
    assert [trial.words for trial in trials] == [
        "sampler=snf_prompt sampler.alpha=0.1", "sampler=snf_prompt sampler.alpha=0.2", "sampler=average"
    ]  # fmt: skip
    assert len({trial.folder for trial in trials}) == 3
    with pytest.raises(UserError, match="an interval has no end"):
        grid.plan([GROUP, ALPHA], "evaluate")


def test_a_key_may_be_varied_in_another_way_under_another_condition(tmp_path: Path) -> None:
    words = ["+exp=sdm", "model.optimizer=adamw,muon", "sweep=random", "sweep.trials=12"]
    words += ["model.lr=tag(log,interval(1e-5,1e-4)) if model.optimizer=adamw"]
    words += ["model.lr=tag(log,interval(1e-3,1e-2)) if model.optimizer=muon"]
    study = unchecked(tmp_path, *words)
    for trial in search(study, lambda point: 0.7):
        ((name, rate),) = [(k, v) for k, v in trial.params.items() if k != "model.optimizer"]
        assert name == f"model.lr if model.optimizer={trial.params['model.optimizer']}"
        assert (rate < 1e-3) == (trial.params["model.optimizer"] == "adamw")
        given = study.space.overrides(trial.params)
        assert [word for word in given if word.startswith("model.lr=")] == [f"model.lr={rate:.6g}"]
    with pytest.raises(UserError, match="is varied twice in some trials"):
        unchecked(tmp_path, *words, "model.lr=1e-5,1e-4 if model.optimizer=adamw,muon")


def test_what_some_trials_get_may_be_one_value(tmp_path: Path) -> None:
    word = "sampler.beta=0.55 if sampler=snf_prompt"
    study = unchecked(tmp_path, *SPACE, word, "sweep=random", "sweep.trials=1")
    for option, has in (("snf_prompt", True), ("average", False)):
        assert ("sampler.beta=0.55" in study.space.overrides({"sampler": option})) == has
    other = unchecked(tmp_path, *SPACE, word.replace("0.55", "0.6"), "sweep=random", "sweep.trials=1")
    assert other.folder != study.folder


def test_a_text_in_quotes_may_say_if(tmp_path: Path) -> None:
    study = unchecked(tmp_path, *SPACE, "label='what if a=b'", "sweep=random")
    assert "label='what if a=b'" in study.space.fixed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([GROUP, "sampler.alpha=interval(0.1,0.5)"], "sampler=switch has no sampler.alpha; give"),
        ([GROUP, "sampler.alpha=0.2"], r"'sampler\.alpha=0\.2 if sampler=snf_prompt'"),
        ([GROUP, "sampler.alpha=0.1,0.2 if sampler=snf_prompt,switch"], "switch has no sampler.alpha"),
        ([GROUP, "sampler.alpha=0.1,0.2 if sampler=switch"], "unknown key 'sampler.alpha'"),
        ([GROUP, "sampler.alfa=0.1,0.2 if sampler=snf_prompt"], "mean 'sampler.alpha'"),
        ([GROUP, "sampler.alpha=0.1,0.2 if sampler=snf_promt"], "mean 'snf_prompt'"),
        ([GROUP, "sampler.alpha=0.1,0.2 if sampler=tdm"], "unknown value of sampler in"),
        ([GROUP, "sampler.alpha=0.1,0.2 if samplr=switch"], "unknown key 'samplr'"),
        ([GROUP, "sampler.alpha=0.1,0.2 if seed=1"], "seed does not vary"),
        ([GROUP, "seed=1", "sampler.alpha=0.1,0.2 if seed=1"], "seed does not vary"),
        ([STEPS, "sampler.alpha=0.1,0.2 if sampler.num_steps=1"], "needs a key with named"),
        ([GROUP, "sampler.alpha=0.1,0.2 if sampler"], "write KEY=VALUES if OTHER=VALUE"),
        (["seed=1,2 if sampler.eta=0", "sampler.eta=0,0.5 if seed=1"], "in a circle, through seed, sampler"),
        (["seed=1,2 if seed=1"], "in a circle, through seed"),
        ([GROUP, ALPHA, "seed=1,2 if sampler=switch and sampler.smoothing=gaussian",
          "sampler.smoothing=average,gaussian if sampler=snf_prompt"], "never hold together; see sampler"),
        ([GROUP, "sampler.alpha=interval(0.1,7) if sampler=snf_prompt"], r"alpha"),
        ([GROUP, ALPHA, ALPHA], "is varied twice in some trials"),
        ([SMOOTHING, "model.lr=0.1,0.2 if sampler.smoothing=average"], "an evaluation does not use it"),
        ([*SPACE, 'sweep.known=["sampler=average sampler.alpha=0.2"]'], "exists only if sampler=snf"),
        ([*SPACE, 'sweep.known=["sampler.alpha=0.2"]'], "exists only if sampler=snf"),
    ],
)  # fmt: skip
def test_bad_conditions_are_one_line_before_anything_runs(
    words: Sequence[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        study_of(tmp_path, *words, check=True)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_known_points_table_page_and_best(tmp_path: Path, conf: Path) -> None:
    known = 'sweep.known=["sampler=switch sampler.fraction=0.5","sampler=average","sampler=snf_prompt"]'
    words = [*SPACE, "sampler.guidance_scale=interval(1,6)", known, "sweep.name=fusion", "sweep=random"]
    study = unchecked(tmp_path, *words, "sweep.trials=14")
    first, second, third = search(study, planted)[:3]
    assert first.params["sampler.fraction"] == 0.5
    assert set(second.params) == {"sampler", "sampler.guidance_scale"}
    assert third.params["sampler"] == "snf_prompt" and 0.1 <= third.params["sampler.alpha"] <= 0.5
    header, rows = results.table(study)
    assert header[1:5] == ["sampler", "sampler.guidance_scale", "sampler.alpha", "sampler.fraction"]
    assert rows[1][1] == "average" and rows[1][3:5] == ["", ""] and rows[0][4] == "0.5"
    shares = figures.importance(study, 0)
    assert shares is not None and set(shares) == {"sampler", "sampler.guidance_scale"}
    text = page.write(study).read_text()
    assert text.count("data:image/png;base64,") == 4 and "if sampler=snf_prompt" in text
    path = results.write_best(study)
    assert yaml.safe_load(path.read_text())["defaults"] == [{"override /sampler": "snf_prompt"}, "_self_"]
    best = results.best(study)[0].params
    cfg = compose(["+exp=fusion"], config_name="evaluate")
    assert cfg.sampler.guider == "snf" and cfg.sampler.alpha == pytest.approx(best["sampler.alpha"], rel=1e-5)


def run(trial: Trial) -> str:
    write_json(trial.folder / "evaluation" / "record.json", example(auc=0.7))
    return ""


def test_a_worker_that_died_before_it_had_drawn_all_is_followed_by_one_that_does(tmp_path: Path) -> None:
    study = study_of(tmp_path, *SPACE, "sweep=random", "sweep.trials=1").open()
    study.optuna.ask().suggest_categorical("sampler", ("snf_prompt", "switch", "average"))
    assert work(study, run) == 1
    (done,) = study.trials()
    assert done.values and study.space.exists("sampler.alpha", done.params) == (
        "sampler.alpha" in done.params
    )


def test_two_trials_of_one_point_are_one_run(tmp_path: Path) -> None:
    """As with a group's option that has nothing to vary: the second waits for the first's record."""
    study = unchecked(tmp_path, "sampler=average,switch", "sweep=random", "sweep.trials=4")
    begun: list[Path] = []

    def runner(trial: Trial) -> str:
        begun.append(trial.folder)
        with lock.running(trial.folder):
            return run(trial)

    assert Worker(study, Processes(2), runner).work(2) == 4
    assert all(trial.values for trial in study.trials()) and len(set(begun)) <= 2
