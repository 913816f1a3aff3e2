"""Every experiment composes; every kind of wrong input is one clear line with the nearest match."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fdlab.config import locate
from fdlab.config.compose import compose, settings_of
from fdlab.config.rules import RULES
from fdlab.config.schema import MISSING, leaves
from fdlab.diffusion.settings import SamplerSettings
from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.errors import UserError
from fdlab.preparation.settings import Settings

FILES = sorted(p for p in locate.conf_dir().rglob("*.yaml"))


def plain(cfg: object) -> dict:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[arg-type, return-value]


def filled(experiment: str) -> list[str]:
    """Overrides for one experiment, with something for every key that has no default."""
    overrides = [f"+exp={experiment}"]
    for _ in range(10):
        try:
            compose(overrides)
        except UserError as error:
            missing = re.match(r"'(\S+)' has no default", str(error))
            if not missing:
                raise
            overrides.append(f"{missing[1]}=/somewhere")
        else:
            break
    return overrides


@pytest.mark.parametrize("experiment", locate.options("exp"))
def test_every_experiment_composes(experiment: str) -> None:
    cfg = compose(filled(experiment))
    assert cfg.experiment == experiment
    assert cfg.name.startswith("seed0")
    assert MISSING not in [value for _, value in leaves(plain(cfg))]


def test_the_main_job_needs_nothing_from_the_user() -> None:
    assert filled("sdm") == ["+exp=sdm"]


@pytest.mark.parametrize("group", [g for g in locate.groups() if g != "exp"])
def test_every_option_composes_alone(group: str) -> None:
    for option in locate.options(group):
        overrides = [f"{group}={option}"]
        try:
            if group == "launcher":
                assert settings_of(overrides, "launch")["launcher"]["kind"] == option
            elif group == "prepare":
                Settings.read(settings_of(overrides, "data_prepare")["prepare"])
            else:
                compose(overrides, config_name="sweep_train" if group == "sweep" else "config")
        except UserError as error:
            assert "has no default" in str(error), (group, option)


def test_the_fast_preset_is_the_usual_one_by_another_solver() -> None:
    usual, fast = (compose([f"sampler={name}"]).sampler for name in ("snf_prompt", "snf_fast"))
    assert {key for key in usual if usual[key] != fast[key]} == {"scheduler", "num_steps"}
    scheduler = SamplerSettings.from_mapping(fast).make_scheduler({"prediction_type": "v_prediction"})
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler" and scheduler.config.solver_order == 2
    assert scheduler.config.prediction_type == "v_prediction"
    assert len(sampler_timesteps(scheduler, int(fast.num_steps))) == 20


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(locate.conf_dir())))
def test_every_key_has_a_comment(path: Path) -> None:
    bare = []
    for line in path.read_text().split("defaults:")[-1].splitlines():
        key = re.match(r"\s*([\w]+):\s*(\S.*)?$", line)
        if key and key[2] and "#" not in line and key[1] not in ("_target_",):
            bare.append(line)
    # Keys of an experiment are explained where their group is.
    assert path.parent.name == "exp" or not bare, bare
    assert path.read_text().lstrip().startswith("#"), f"{path} does not say what it is for"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+exp=sdmm", "unknown experiment 'sdmm'; allowed: .*sdm.* Did you mean 'sdm'?"),
        ("exp=fastcompser", "Did you mean 'fastcomposer'?"),
        (
            "trainer=smok",
            "unknown trainer 'smok'; allowed: cpu, ddp, fsdp, full, gpu, .*, smoke. Did you mean 'smoke'?",
        ),
        ("modle.lr=1e-4", "unknown key 'modle.lr'; .* Did you mean 'model.lr'?"),
        ("lr=1e-4", "Did you mean 'model.lr'?"),
        ("model.lrr=1e-4", "unknown key 'model.lrr'; allowed below 'model': .*lr.* Did you mean 'model.lr'?"),
        ("+model.new=1", "unknown key 'model.new'"),
        ("++model.new=1", "unknown key 'model.new'"),
        ("model.lr.x=1", "unknown key 'model.lr.x'"),
        ("~model", "keys cannot be removed"),
        ("~model.lr", "keys cannot be removed"),
        ("model.lr=fast", "model.lr=fast: a number is needed"),
        ("model.lr=-1", "model.lr=-1.0: must be > 0"),
        ("model.lr=inf", "model.lr=inf: a finite number is needed"),
        ("model.lr=nan", "model.lr=nan: a finite number is needed"),
        ("model.lr=null", "model.lr=null: a value is needed; the default is"),
        ("model.lr=true", "model.lr=True: a number is needed"),
        ("model.betas=[0.9,2]", "model.betas=2: must be >= 0 and <= 1"),
        ("model.gradient_checkpointing=1", "true or false is needed"),
        ("trainer.max_steps=1.5", "a whole number is needed"),
        ("trainer.max_steps=0", "must be >= 1"),
        ("trainer.devices=aut", "allowed: auto, a whole number. Did you mean 'auto'?"),
        ("trainer.devices=-1", "allowed: auto, a whole number"),
        ("trainer.precision=bf61", "allowed: auto, 32, bf16, fp16. Did you mean 'bf16'?"),
        ("model.prediction_type=epsilom", "Did you mean 'epsilon'?"),
        ("data.max_subjects=9", "must be >= 1 and <= 4"),
        ("init=shiped", r"a path that exists, asset:NAME \(what ships\). Did you mean 'shipped'?"),
        ("init=early", "Did you mean 'asset:nano/early'?"),
        ("resume=/no/such.ckpt", "allowed: auto, never, a path that exists"),
        ("model={lr: 1}", "choose one of"),
        ("seed=1,2", "add -m"),
        ("sdm", "write KEY=VALUE"),
        ("seed=[1,", "cannot read"),
        ("model.lr=${nowhere}", "nowhere"),
        ('name="a/b"', "name=a/b: allowed are letters"),
        ("name=..", "allowed are letters"),
        ("data=fastcomposer", "'data.root' has no default"),
    ],
)
def test_wrong_input_is_one_clear_line(override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert re.search(said.replace("?", r"\?"), str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_take_the_type_of_their_default() -> None:
    cfg = compose(["trainer.max_steps=1e3", "model.lr=1", "trainer.devices=2"])
    assert cfg.trainer.max_steps == 1000 and isinstance(cfg.trainer.max_steps, int)
    assert cfg.model.lr == 1.0 and isinstance(cfg.model.lr, float)
    assert cfg.trainer.devices == "2"


def test_nullable_values_take_null_and_numbers() -> None:
    assert compose().model.min_snr_gamma is None
    assert compose(["model.min_snr_gamma=5"]).model.min_snr_gamma == 5.0


def test_every_rule_matches_a_key_that_exists() -> None:
    from fnmatch import fnmatchcase

    requests = [filled(experiment) for experiment in locate.options("exp")]
    requests += [[f"sampler={option}"] for option in locate.options("sampler")]
    configurations = [compose(overrides) for overrides in requests]
    configurations += [compose(["prompt=x"], config_name="sample"), compose(config_name="evaluate")]
    configurations.append(compose(config_name="sweep_train"))
    keys = {key for cfg in configurations for key, _ in leaves(plain(cfg))}
    keys |= {key for key, _ in leaves(settings_of([], "data_prepare"))}
    assert [pattern for pattern in RULES if not any(fnmatchcase(key, pattern) for key in keys)] == []


def test_the_configuration_refuses_keys_it_does_not_have() -> None:
    with pytest.raises(AttributeError):
        compose().model.learning_rate = 1


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDLAB_RUNS", "/elsewhere/runs")
    monkeypatch.setenv("FDLAB_CACHE", "~/cache")
    paths = compose().paths
    assert paths.runs == "/elsewhere/runs"
    assert paths.cache == str(Path("~/cache").expanduser())


def test_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = plain(compose(["+exp=tdm"]))
    monkeypatch.chdir(tmp_path)
    assert plain(compose(["+exp=tdm"])) == here


def test_composing_imports_no_torch() -> None:
    code = "import sys; from fdlab.config.compose import compose; compose(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_choice_named_null_may_be_typed_plainly() -> None:
    assert compose(["sampler=sdm", "sampler.base=null"]).sampler.base == "null"


def test_every_key_that_other_scripts_flags_are_mapped_to_exists() -> None:
    page = (locate.conf_dir() / "README.md").read_text()
    rows = [line.split("|")[4] for line in page.splitlines() if line.startswith("|") and line.count("|") == 5]
    keys = {key.partition("=")[0] for row in rows for key in re.findall(r"`([^`]+)`", row)}
    known = {path for path, _ in leaves(plain(compose(filled("sdm_sd15"))))}
    assert len(keys) > 40 and keys - known == {"logger"}
