"""Searches: they find what is planted, lose no trial however workers end, and run none twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from fdlab.errors import Failure, UserError
from fdlab.files import write_json
from fdlab.records import record
from fdlab.sweeps import figures, page, paired, results
from fdlab.sweeps.asked import read
from fdlab.sweeps.processes import Processes
from fdlab.sweeps.search import Worker, report
from fdlab.sweeps.storage import JOURNAL_FILE
from fdlab.sweeps.study import Study
from fdlab.sweeps.trial import Trial
from tests.worlds.holder import held
from tests.worlds.records import example
from tests.worlds.similarities import build

pytest.importorskip("optuna")
ALPHA, GUIDANCE = "sampler.alpha=interval(0.0,0.5)", "sampler.guidance_scale=interval(1,9)"


def study_of(folder: Path, *words: str, check: bool = False) -> Study:
    """`check` composes every end of every dimension, which takes longer than most of what is tested here."""
    return read([*words, f"paths.runs={folder}"], check)[1]


def planted(trial: Trial) -> str:
    """Best where alpha is 0.3 and guidance 6."""
    alpha, scale = (float(trial.varied[key]) for key in ("sampler.alpha", "sampler.guidance_scale"))
    auc = 0.9 - (alpha - 0.3) ** 2 - ((scale - 6) / 20) ** 2
    write_json(trial.folder / "evaluation" / "record.json", example(auc=auc))
    return ""


def work(study: Study, runner: Callable[[Trial], str] = planted, jobs: int = 1) -> int:
    return Worker(study, Processes(jobs), runner).work(jobs)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
@pytest.mark.long
def test_each_sampler_finds_what_is_planted(sampler: str, tmp_path: Path) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    more = [f"sweep={sampler}", "sweep.trials=22", "sweep.objective=[identity_auc]"]
    study = study_of(tmp_path, ALPHA, GUIDANCE, *more)
    assert work(study, jobs=2) == 22
    (best,) = results.best(study)
    assert best.values[0] > (0.87 if sampler == "random" else 0.88)
    assert best.values[0] == max(trial.values[0] for trial in study.trials())
    # The interval is the record's.
    assert best.user_attrs["intervals"]["identity_auc"] == pytest.approx(
        [best.values[0] - 0.1, best.values[0] + 0.1]
    )


def test_a_grid_takes_every_combination_once(tmp_path: Path) -> None:
    words = ["sampler.alpha=0.1,0.3", "sampler.guidance_scale=choice(2,4,6)", "sweep=grid"]
    study = study_of(tmp_path, *words)
    assert work(study, jobs=3) == 6 and work(study) == 0
    points = {tuple(trial.params.values()) for trial in study.trials()}
    assert points == {(alpha, scale) for alpha in ("0.1", "0.3") for scale in ("2", "4", "6")}
    with pytest.raises(UserError, match="an interval has no end of values"):
        study_of(tmp_path, ALPHA, "sweep=grid")


def test_two_objectives_end_in_a_front(tmp_path: Path) -> None:
    def opposed(trial: Trial) -> str:
        alpha = float(trial.varied["sampler.alpha"])
        made = example(auc=0.5 + alpha)
        made["metrics"]["frechet_distance"]["value"] = 10 + 10 * alpha + 5 * (alpha > 0.25)
        write_json(trial.folder / "evaluation" / "record.json", made)
        return ""

    more = ["sweep=nsga2", "sweep.trials=12", "sweep.objective=[identity_auc,frechet_distance]"]
    study = study_of(tmp_path, "sampler.alpha=choice(0.1,0.2,0.3,0.4)", *more)
    work(study, opposed)
    assert study.settings.directions == ["maximize", "minimize"]
    assert {trial.params["sampler.alpha"] for trial in results.best(study)} <= {"0.1", "0.2", "0.3", "0.4"}
    assert all(
        not (other.values[0] > one.values[0] and other.values[1] < one.values[1])
        for one in results.best(study)
        for other in study.trials()
    )


def test_the_page_holds_every_trial_and_asks_nobody(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sampler.smoothing=average,gaussian", "sweep.trials=6", "sweep=random"]
    study = study_of(tmp_path, *words)
    work(
        study,
        lambda trial: "<b>it broke</b>" if trial.varied["sampler.smoothing"] == "average" else planted(trial),
    )
    text = (study.folder / page.PAGE).read_text()
    for trial in study.trials():
        assert results.written(trial.params["sampler.alpha"]) in text
    assert "&lt;b&gt;it broke&lt;/b&gt;" in text and "<b>it" not in text
    assert text.count("data:image/png;base64,") == 3 and "http" not in text and "<script" not in text


def test_what_mattered_is_said_once_there_are_trials_enough(tmp_path: Path) -> None:
    def by_guidance_alone(trial: Trial) -> str:
        scale = float(trial.varied["sampler.guidance_scale"])
        found = example(auc=0.9 - ((scale - 6) / 20) ** 2)
        write_json(trial.folder / "evaluation" / "record.json", found)
        return ""

    words = [ALPHA, GUIDANCE, "sampler.smoothing=average,gaussian", "sweep=random"]
    work(study_of(tmp_path, *words, "sweep.trials=4"), by_guidance_alone)
    assert figures.importance(study_of(tmp_path, *words, "sweep.trials=4"), 0) is None
    study = study_of(tmp_path, *words, "sweep.trials=24")
    work(study, by_guidance_alone, jobs=2)
    shares = figures.importance(study, 0)
    assert shares is not None and next(iter(shares)) == "sampler.guidance_scale"
    assert sum(shares.values()) == pytest.approx(1) and shares["sampler.guidance_scale"] > 0.6
    assert (study.folder / page.PAGE).read_text().count("data:image/png;base64,") == 4


def test_a_search_over_sampling_names_those_that_are_as_good(tmp_path: Path) -> None:
    strengths = {"0.1": 0.05, "0.2": 0.30, "0.3": 0.30}

    def scored(trial: Trial) -> str:
        alpha = trial.varied["sampler.alpha"]
        made, rows = build(alpha, strengths[alpha], seed=int(10 * float(alpha)))
        record.write(trial.folder / "evaluation", made, rows)
        return ""

    study = study_of(tmp_path, "sampler.alpha=0.1,0.2,0.3", "sweep=grid")
    work(study, scored)
    named = {trial.number: trial.params["sampler.alpha"] for trial in study.trials()}
    (best,) = results.best(study)
    (found,) = [trial for trial, _ in paired.beside(study, best)]
    assert {named[best.number], named[found.number]} == {"0.2", "0.3"}
    assert results.summary(study)[-1].startswith(
        f"not told from it by the same pictures: trials {found.number} ("
    )


def test_known_points_come_first(tmp_path: Path) -> None:
    known = 'sweep.known=["sampler.alpha=0.3 sampler.guidance_scale=6"]'
    study = study_of(tmp_path, ALPHA, GUIDANCE, known, "sweep.trials=2")
    work(study)
    assert study.trials()[0].params == {"sampler.alpha": 0.3, "sampler.guidance_scale": 6.0}
    assert results.best(study)[0].number == 0
    for bad, said in (
        ("sampler.alpha=0.9 sampler.guidance_scale=6", "outside of the interval from 0 to 0.5"),
        ("sampler.alfa=0.1", "Did you mean 'sampler.alpha'"),
    ):
        with pytest.raises(UserError, match=said):
            study_of(tmp_path, ALPHA, GUIDANCE, f'sweep.known=["{bad}"]')


def test_patience_ends_a_search_and_the_same_command_does_not_begin_it_anew(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sweep.trials=50", "sweep.patience=5", "sweep=random"]
    num = work(study_of(tmp_path, *words))
    assert 5 < num < 50 and work(study_of(tmp_path, *words)) == 0


def test_failures_stand_apart_and_all_of_them_end_it(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sweep.trials=6", "sweep=random"]
    study = study_of(tmp_path / "a", *words)
    work(study, lambda trial: "it broke" if float(trial.varied["sampler.alpha"]) < 0.25 else planted(trial))
    states = [trial.state.name for trial in study.trials()]
    assert {"FAIL", "COMPLETE"} == set(states)
    _, rows = results.table(study)
    assert any("FAILED: it broke" in row for row in rows)
    with pytest.raises(Failure, match="all 6 trials failed; the last: it broke"):
        work(study_of(tmp_path / "b", *words), lambda trial: "it broke")

    def unmeasured(trial: Trial) -> str:
        made = example()
        del made["metrics"]["identity_auc"]
        write_json(trial.folder / "evaluation" / "record.json", made)
        return ""

    with pytest.raises(Failure, match="its record has no identity_auc"):
        work(study_of(tmp_path / "c", *words), unmeasured)


def test_a_stop_begins_no_trial_and_a_new_call_goes_on(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sweep.trials=8"]
    study = study_of(tmp_path, *words)

    def stopping(trial: Trial) -> str:
        if len(study.trials()) == 3:
            study_of(tmp_path, *words).open().stop()
        return planted(trial)

    assert work(study, stopping) == 3
    assert results.summary(study)[1].startswith("stopped: no further trial")
    assert work(study_of(tmp_path, *words)) == 5
    assert not any("stopped" in line for line in results.summary(study_of(tmp_path, *words).open()))


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    work(study_of(tmp_path, ALPHA, GUIDANCE, "sweep.name=one", "sweep.trials=1"))
    other = study_of(tmp_path, ALPHA, "sampler.guidance_scale=interval(1,3)", "sweep.name=one")
    with pytest.raises(UserError, match="holds another search: its space is"):
        other.open()


def test_where_files_go_makes_no_other_search(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sweep.trials=2"]
    work(study_of(tmp_path / "a", *words, "logger.mode=offline"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = study_of(tmp_path / "b", *words)
    assert len(moved.trials()) == 2 and work(moved) == 0


def test_what_never_began_is_neither_found_nor_made(tmp_path: Path) -> None:
    work(study_of(tmp_path, ALPHA, GUIDANCE, "sweep.trials=1", "sweep.name=begun"))
    never = study_of(tmp_path, ALPHA, "sweep.name=never")
    with pytest.raises(UserError, match=r"no search .never. has begun; .* Begun: begun\."):
        never.find()
    assert not never.folder.exists()
    found = study_of(tmp_path, ALPHA, GUIDANCE, "sweep.trials=1", "sweep.name=begun").find()
    assert len(found.trials()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampler.alfa=interval(0,1)"], "Did you mean 'sampler.alpha'"),
        (["sampler.alpha=interval(0.4,0.1)"], "the interval is empty"),
        (["sampler.num_steps=interval(4,8)"], r"write sampler.num_steps=int\(interval\(4,8\)\)"),
        (["sampler.alpha=tag(log,interval(0,1))"], "the logarithm of 0 is not a number"),
        (["sampler.alpha=tag(lin,interval(0,1))"], "allowed: log"),
        (["sampler.alpha=interval(0,7)"], "alpha"),
        (["model.lr=interval(0.1,0.2)"], "an evaluation does not use it"),
        (["seed=1"], "nothing is searched"),
        (["seed=1,2"], "cannot be compared"),
        ([ALPHA, "benchmark.max_subjects=2,4"], "cannot be compared"),
        (["+exp=sdm", "model.lr=interval(1e-4,1e-3)", "benchmark=none"], "give a benchmark"),
        ([ALPHA, "sweep.objective=[identity_auk]"], "Did you mean 'identity_auc'"),
        ([ALPHA, "sweep.objective=[]"], "name one metric or more"),
        ([ALPHA, "sweep.objective=[identity_auc,clip_score]", "sweep=cmaes"], "follows one objective"),
        ([ALPHA, "sweep=cmaes"], "needs two keys or more"),
        ([ALPHA, "sampler.smoothing=choice(average,gaussian)", "sweep=cmaes"], "searches numbers alone"),
        ([ALPHA, "sweep.pruner=median"], "validation.every=STEPS"),
        (["+exp=sdm", "model.lr=interval(1e-4,1e-3)", "evaluate=false"], "leave it true"),
        ([ALPHA, "sweep=tpf"], "Did you mean 'tpe'"),
        ([ALPHA, ALPHA], "is varied twice"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        study_of(tmp_path, *words, check=True)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_what_validation_reports_prunes(tmp_path: Path) -> None:
    words = ["+exp=sdm", "model.lr=interval(1e-4,1e-3)", "validation.every=1", "sweep.pruner=median"]
    study = study_of(tmp_path, *words, "sweep.trials=4", "sweep.startup=2")
    stopped: list[bool] = []
    for place in range(4):
        claim = study.next()
        assert claim is not None
        file = tmp_path / f"{place}.csv"
        lines = [f"{step},1.0,{0.8 - 0.1 * place - 0.01 * step}" for step in range(1, 4)]
        file.write_text("\n".join(["step,seconds,identity_auc", *lines]) + "\n")
        stopped.append(report(claim, file, "identity_auc", set()))
        study.tell(claim, example(auc=0.8)["metrics"], "", stopped[-1])
    # Two begin it; the third and fourth validate below the median.
    assert stopped == [False, False, True, True]
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE"] * 2 + ["PRUNED"] * 2


def test_a_trial_whose_process_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    study = study_of(tmp_path, ALPHA, GUIDANCE, "sweep.trials=1", "sweep.attempts=2")
    for _ in range(2):
        claim = study.next()
        assert claim is not None and claim.trial.number == 0
        # As if this process had died: the lock is gone, and nothing was told.
        claim.held.close()
        study._mine.clear()
    assert study.next() is None
    assert study.trials()[0].user_attrs["error"] == "its process died 2 times"


def test_a_trial_that_outlived_its_worker_is_waited_for(tmp_path: Path) -> None:
    study = study_of(tmp_path, "sampler.alpha=0.1,0.2", "sweep=grid", "sweep.trials=1")
    trial = Trial.make(study.space.overrides({"sampler.alpha": "0.1"}), {}, "evaluate")
    started: list[Trial] = []
    with ThreadPoolExecutor(1) as pool, held(trial.folder):
        working = pool.submit(work, study, lambda trial: started.append(trial) or "")
        time.sleep(1)
        assert not started and not working.done()
        # The process that is left ends well: its record is the trial's.
        write_json(trial.folder / "evaluation" / "record.json", example(auc=0.7))
    assert not started and study.trials()[0].values == [0.7]


def test_an_interrupted_trial_is_left_and_taken_up_by_the_next_worker(tmp_path: Path) -> None:
    words = [ALPHA, GUIDANCE, "sweep.trials=3"]
    study = study_of(tmp_path, *words)
    processes = Processes(1)

    def interrupted(trial: Trial) -> str:
        processes.interrupt()
        return "interrupted"

    assert Worker(study, processes, interrupted).work() == 0
    assert [trial.state.name for trial in study.trials()] == ["RUNNING"]
    assert "left; goes on with the next worker" in results.table(study)[1][0]
    begun: list[Any] = []
    assert work(study_of(tmp_path, *words), lambda t: begun.append(t.varied) or planted(t)) == 3
    assert len(begun) == 3 and study.trials()[0].user_attrs["begun"] == 1


def test_the_best_is_written_as_an_experiment(tmp_path: Path, conf: Path) -> None:
    from fdlab.config.compose import compose

    words = ["+exp=sdm", "model.lr=tag(log,interval(1e-5,1e-3))", "model.optimizer=choice(adamw,muon)"]
    study = study_of(tmp_path, *words, "trainer=smoke", "sweep.trials=3", "sweep.name=found")
    work(study, lambda trial: write_json(trial.folder / "evaluation/record.json", example()) or "")
    path = results.write_best(study)
    assert path == conf / "exp/found.yaml" and yaml.safe_load(path.read_text())["defaults"][0] == "sdm"
    best = results.best(study)[0].params
    cfg = compose(["+exp=found"])
    assert cfg.model.lr == pytest.approx(best["model.lr"], rel=1e-5) and cfg.experiment == "sdm"
    assert cfg.model.optimizer == best["model.optimizer"]
    assert cfg.trainer == compose(["trainer=smoke"]).trainer
    assert results.write_best(study) == path
    # An experiment of somebody else is not written over.
    before = (conf / "exp/sdm.yaml").read_bytes()
    other = study_of(tmp_path, *words, "trainer=smoke", "sweep.trials=1", "sweep.name=sdm")
    work(other, lambda trial: write_json(trial.folder / "evaluation/record.json", example()) or "")
    with pytest.raises(UserError, match=r"sdm\.yaml' is there already"):
        results.write_best(other)
    assert (conf / "exp/sdm.yaml").read_bytes() == before


def test_the_best_sampling_is_written_too(tmp_path: Path, conf: Path) -> None:
    from fdlab.config.compose import compose

    study = study_of(tmp_path, ALPHA, GUIDANCE, "sampler=snf_demo", "sweep.trials=2", "sweep.name=drawn")
    work(study)
    results.write_best(study)
    cfg = compose(["+exp=drawn"], config_name="evaluate")
    assert cfg.sampler.alpha == pytest.approx(results.best(study)[0].params["sampler.alpha"])


def test_a_thousand_trials_are_shown_at_once(tmp_path: Path) -> None:
    study = study_of(tmp_path, ALPHA, GUIDANCE, "sweep.trials=1000", "sweep=random").open()
    import optuna

    distributions = {key: optuna.distributions.FloatDistribution(0, 9) for key in study.space.dimensions}
    one = optuna.trial.create_trial(
        params=dict.fromkeys(distributions, 0.2), distributions=distributions, value=0.5
    )
    study._study.add_trial(one)
    # The journal has a line a trial that is added whole; to write a thousand one by one takes longer.
    journal = study.folder / JOURNAL_FILE
    line = journal.read_text().splitlines(keepends=True)[-1]
    with journal.open("a") as stream:
        stream.write(line * 999)
    assert len(results.table(study)[1]) == 1000 and results.summary(study)[0].startswith("1000 of 1000")


def test_threads_of_one_worker_take_different_trials(tmp_path: Path) -> None:
    study = study_of(tmp_path, ALPHA, GUIDANCE, "sweep.trials=4")
    together = threading.Barrier(2, timeout=60)
    seen: list[Path] = []

    def runner(trial: Trial) -> str:
        together.wait()
        seen.append(trial.folder)
        return planted(trial)

    assert work(study, runner, jobs=2) == 4 and len(set(seen)) == 4
