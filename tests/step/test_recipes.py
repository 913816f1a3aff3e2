"""Every experiment as it stands, on miniatures: what it needs is looked for first, and it ends well."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.config.locate import options
from fdlab.measure import choose
from fdlab.models.backbone import save_backbone
from tests.worlds import pairs, squares, tiny
from tests.worlds.backbones import write_tiny_sd15

SD15 = [name for name in options("exp") if "_sd15" in name]
PAIRS = {"sdxl": pairs.tiny_xl, "sd3": pairs.tiny_sd3}
"""Backbones of two text encoders; of their recipes the SDM's is run, and the TDM's built elsewhere."""
ELSEWHERE = ("_lora", "_fast", *PAIRS)
"""What a LoRA's recipe changes is tried in test_lora.py; the SDM's of both are run in test_walks.py."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion's layout with CLIP's image encoder beside it, a data folder and a benchmark, all of 64
    px."""
    root = tmp_path_factory.mktemp("disk")
    write_tiny_sd15(root / "sd15")
    write_tiny_sd15(root / "sdm", seed=1, subjects=True)
    tiny.write_folder(root / "people", 6, size=64)
    for name in ("bench", "faceless"):
        squares.write_benchmark(root / name, subjects=2, prompts=2, images=1, size=64)
    Image.new("RGB", (64, 64)).save(root / "faceless/references/s01.png")
    return root


@pytest.fixture(autouse=True)
def measured_by_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "load_extractors", lambda *_, **__: squares.extractors())


def command(disk: Path, out: Path, experiment: str, *more: str) -> list[str]:
    backbone = next((name for name in PAIRS if experiment.endswith(name)), "sd15")
    keys = [
        f"+exp={experiment}", f"backbone={backbone}", f"backbone.path={disk / backbone}",
        f"backbone.own_image_encoder={disk / 'sdm/image_encoder'}", "backbone.image_size=64",
        "backbone.reference_size=24",
        "data=fastcomposer", f"data.root={disk / 'people'}", "data.max_subjects=2", "trainer.accelerator=cpu",
        "trainer.precision=32", "trainer.max_steps=2", "trainer.batch_size=2", "trainer.num_workers=0",
        "trainer.sample_every=2", "trainer.sampler_steps=2", "init=base", f"paths.runs={out}",
        f"paths.cache={out / 'cache'}", "name=x",
    ]  # fmt: skip
    return ["train", *keys, *more]


def of_its_size(disk: Path, experiment: str) -> list[str]:
    """What an experiment of the small backbone needs on this one, which ships nothing."""
    if experiment in SD15:
        return []
    return [
        "tdm=base",
        f"sdm={disk / 'sdm'}",
        "benchmark=own",
        f"benchmark.folder={disk / 'bench'}",
        "sampler.num_steps=3",
    ]


BY_THEMSELVES = ("tdm_sd15", "sdm_sd15")
"""Experiments that take every way the others take: these are run by the long tests."""


@pytest.mark.parametrize(
    "experiment",
    [
        name if name in BY_THEMSELVES else pytest.param(name, marks=pytest.mark.long)
        for name in options("exp")
        if not name.endswith(ELSEWHERE)
    ],
)
def test_every_experiment_runs_to_its_end(
    experiment: str, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(disk, tmp_path, experiment, *of_its_size(disk, experiment))
    assert main(words) == 0
    folder = tmp_path / experiment / "x"
    assert (folder / "model/unet/diffusion_pytorch_model.safetensors").is_file()
    assert (folder / "samples/step-2.png").is_file()
    assert (folder / "evaluation/record.json").is_file() == (experiment not in SD15)
    assert ("nothing was evaluated" in capsys.readouterr().out) == (experiment in SD15)
    if experiment == "sdm_sd15":
        # With a benchmark the same run goes on to a record; it is not trained again.
        trained = (folder / "checkpoints/last.ckpt").stat().st_mtime_ns
        more = ["benchmark=own", f"benchmark.folder={disk / 'bench'}", "sampler.num_steps=3"]
        assert main([*words, *more]) == 0
        assert (folder / "evaluation/record.json").is_file()
        assert (folder / "checkpoints/last.ckpt").stat().st_mtime_ns == trained


@pytest.mark.long
@pytest.mark.parametrize(("backbone", "more"), [("sdxl", ["--dry"]), ("sd3", [])])
def test_subjects_are_learnt_on_two_text_encoders(
    backbone: str, more: list[str], disk: Path, tmp_path: Path
) -> None:
    """One of the two is run to its end; steps and pictures of each are tested in files of their own."""
    save_backbone(disk / backbone, PAIRS[backbone]())
    words = command(disk, tmp_path, f"sdm_{backbone}", "tdm=base")
    bench = ["benchmark=own", f"benchmark.folder={disk / 'bench'}", "sampler.num_steps=3"]
    assert main([*words, *bench, *more]) == 0
    folder = tmp_path / f"sdm_{backbone}" / "x"
    for name in ("samples/step-2.png", "evaluation/record.json"):
        assert (folder / name).is_file() is not bool(more)


LATE = [
    ("sdm_sd15", ["sampler.alpha=0.9", "sampler.beta=0.1"], "allowed: 0 <= alpha < beta <= 1"),
    ("sdm_sd15", ["sampler.num_steps=1001"], "must lie between 1 and the model's 1000 timesteps"),
    ("sdm_sd15", ["sampler.num_steps=7", "sampler.spacing=trailing"], "needs a divisor of 1000"),
    ("sdm_sd15", ["sampler.guidance_start=0.9", "sampler.guidance_end=0.1"], "guidance"),
    (
        "sdm_sd15",
        ["validation.every=1", "validation.num_steps=1001", "validation.folder=BENCH"],
        "between 1 and",
    ),
    ("sdm_sd15", ["validation.every=1"], "has pictures of 128 pixels, backbone 'sd15' draws 64"),
    ("sdm_sd15", ["validation.every=1", "validation.folder=nowhere"], "no benchmark.json in 'nowhere'"),
    ("sdm_sd15", ["validation.every=1", "validation.monitor=identity_auk"], "Did you mean 'identity_auc'?"),
    ("sdm_sd15", ["validation.keep=best"], "needs evaluations while training"),
    ("sdm_sd15", ["benchmark=people_single"], "has pictures of 128 pixels, backbone 'sd15' draws 64"),
    ("sdm_sd15", ["benchmark=fastcomposer_single"], "no benchmark.json in 'benchmarks/fastcomposer_single'"),
    (
        "sdm_sd15",
        ["benchmark=own", "benchmark.folder=BENCH", "benchmark.profile=strickt"],
        "Did you mean 'strict'?",
    ),
    ("sdm_sd15", ["benchmark=own", "benchmark.folder=BENCH", "tdm=shipped"], "ships no TDM; give tdm=FOLDER"),
    (
        "sdm_sd15",
        ["benchmark=own", "benchmark.folder=FACELESS", "tdm=base"],
        "s01.png'; a reference must show one",
    ),
    ("sdm_sd15", ["benchmark=own", "benchmark.folder=BENCH", "tdm=EMPTY"], "holds no part of a model"),
    (
        "tdm_sd15",
        ["benchmark=own", "benchmark.folder=BENCH", "sampler=snf_demo"],
        "ships no SDM; give sdm=FOLDER",
    ),
    ("tdm_sd15", ["benchmark=own", "benchmark.folder=BENCH", "sampler=sdm", "sdm=base"], "no fusion in"),
    ("tdm_sd15", ["data.root=nowhere"], "data folder 'nowhere' does not exist"),
    ("tdm_sd15", ["data.root=EMPTY"], "not FastComposer's layout"),
    ("tdm_sd15", ["data.split=test", "data.root=EMPTY"], "not FastComposer's layout"),
    ("tdm_sd15", ["data.size=32"], "data.size=32: the backbone works at 64 pixels"),
    ("tdm_sd15", ["data.kind=webdataset"], "has the layout 'fastcomposer', not 'webdataset'"),
    ("tdm_sd15", ["paths.runs=FILE"], "is a file; give a folder"),
    ("tdm_sd15", ["paths.cache=FILE/below"], "is a file; give a folder"),
    ("tdm_sd15", ["logger=wandb", "logger.mode=online"], "logger.mode=offline"),
    ("tdm_sd15", ["backbone.path=nowhere"], "nowhere"),
]


@pytest.mark.parametrize(
    ("experiment", "keys", "said", "dry"),
    [*((*late, False) for late in LATE), *((*late, True) for late in LATE[::5])],
    ids=[" ".join(late[1]) for late in (*LATE, *LATE[::5])],
)
def test_what_comes_after_the_training_is_tried_before_it(
    experiment: str,
    keys: list[str],
    said: str,
    dry: bool,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    places = {
        "FACELESS": disk / "faceless",
        "BENCH": disk / "bench",
        "EMPTY": tmp_path / "empty",
        "FILE": tmp_path / "file",
    }
    for word, place in places.items():
        keys = [key.replace(word, str(place)) for key in keys]
    start = torch.random.get_rng_state()
    assert main([*command(disk, tmp_path / "runs", experiment, *keys), *["--dry"] * dry]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not (tmp_path / "runs").exists()
    assert torch.equal(torch.random.get_rng_state(), start)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("evaluation.inception=nowhere.pth", "evaluation.inception=nowhere.pth: no such file"),
        ("evaluation.clip=nowhere", "evaluation.clip=nowhere: allowed"),
        ("evaluation.recogniser=arcface", "does not ship"),
        ("evaluation.recogniser_weights=x.pt", "ships; leave its weights null"),
        ("evaluation.second=facenet", "does not ship"),
    ],
)
def test_so_is_what_measures(
    key: str,
    said: str,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.undo()
    more = ["benchmark=own", f"benchmark.folder={disk / 'bench'}", key, "--dry"]
    assert main(command(disk, tmp_path, "tdm_sd15", *more)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.long
def test_the_corrected_command_goes_on_where_it_was(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Should something be found late all the same, training is not repeated."""
    from fdlab.evaluation import run

    words = [word for word in command(disk, tmp_path, "tdm_sd15") if word != "name=x"]
    bench = ["benchmark=own", f"benchmark.folder={disk / 'bench'}"]

    def fails(*_: object) -> None:
        raise RuntimeError("late")

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", fails)
        with pytest.raises(RuntimeError, match="late"):
            main([*words, *bench, "sampler.num_steps=3"])
    assert main([*words, *bench, "sampler.num_steps=4"]) == 0
    assert "trained the same; going on from its checkpoints" in capsys.readouterr().err
    # Long names end in a digest, so that their order says nothing.
    finished = {(run / "evaluation/record.json").is_file(): run for run in (tmp_path / "tdm_sd15").iterdir()}
    first, second = finished[False], finished[True]
    model = "model/unet/diffusion_pytorch_model.safetensors"
    assert (first / model).read_bytes() == (second / model).read_bytes()
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
