"""A whole evaluation with real models in miniature: load, draw with every row's sampler, measure, record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.config.compose import compose
from fdlab.data import pictures
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.evaluation import requirements, rows, run
from fdlab.evaluation.methods import AutoencoderOnly, Sampled
from fdlab.evaluation.settings import MethodSettings
from fdlab.measure.networks import Extractors
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.parts import save_part
from fdlab.pipeline.artist import Artist
from fdlab.records import per_sample, record
from tests.worlds import crowd as crowd_world
from tests.worlds import squares
from tests.worlds.backbones import tiny_backbone

SAMPLER = {
    "guider": "snf",
    "scheduler": "ddim",
    "num_steps": 3,
    "guidance_scale": 2.0,
    "alpha": 0.3,
    "beta": 0.6,
}


@pytest.fixture(scope="module")
def world() -> ModuleType:
    return squares


@pytest.fixture(scope="module")
def crowd() -> ModuleType:
    return crowd_world


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, world: ModuleType) -> Path:
    """A backbone with base, TDM and SDM in folders of their own, a run with a trained SDM, and a benchmark of
    64 px."""
    root = tmp_path_factory.mktemp("disk")
    world.write_benchmark(root / "bench", subjects=2, prompts=2, images=1, size=64)
    backbone = tiny_backbone(0)
    base_unet, fusion, eye = backbone.unet, backbone.fusion, backbone.image_encoder
    backbone.fusion = None
    save_backbone(root / "tiny", backbone)
    save_part(root / "tiny/base/unet", "unet", base_unet)
    for place, seed in (("tiny/tdm", 1), ("tiny/sdm", 2), ("runs/sdm/one/model", 3)):
        other = tiny_backbone(seed)
        save_part(root / place / "unet", "unet", other.unet)
        if "sdm" in place:
            save_part(root / place / "fusion", "fusion", other.fusion)
            save_part(root / place / "image_encoder", "image_encoder", eye)
        (root / place / "training.json").write_text(json.dumps({"steps": 1000 * seed}))
    assert fusion is not None
    return root


def artist(sampler: dict[str, Any], **models: Backbone) -> Artist:
    return Artist(models, SamplerSettings.from_mapping(sampler))


def config(disk: Path, *overrides: str) -> Any:
    tiny = disk / "tiny"
    return compose([
        "+exp=sdm", "init=shipped", "trainer=smoke", "benchmark=own", f"benchmark.folder={disk / 'bench'}",
        f"backbone.path={tiny}",
        f"backbone.base={tiny / 'base'}", f"backbone.tdm={tiny / 'tdm'}", f"backbone.sdm={tiny / 'sdm'}",
        "backbone.image_size=64", "backbone.reference_crop=person", "backbone.final_sigma=0",
        "data.size=64", "sampler.num_steps=3", f"paths.runs={disk / 'runs'}",
        f"paths.cache={disk / 'cache'}", "name=one", "trainer.accelerator=cpu", *overrides,
    ])  # fmt: skip


def test_all_rows_of_a_run(disk: Path, world: ModuleType) -> None:
    run_dir = disk / "runs/sdm/one"
    records = run.evaluate(config(disk), run_dir, extractors=world.extractors())
    named = {r["method"]["name"]: r for r in records}
    assert list(named) == ["real", "autoencoder", "base", "sdm_shipped", "sdm", "snf"]
    assert named["real"]["metrics"]["identity_rank1"]["value"] == 1.0
    assert named["sdm_shipped"]["method"]["training_steps"] == "2,000"
    assert named["snf"]["method"]["training_steps"] == "1,000 + 3,000"
    assert (
        named["snf"]["method"]["sdm"]["source"] == "this run"
        and named["snf"]["method"]["tdm"]["source"] == "shipped"
    )
    assert named["snf"]["method"]["sdm"]["sha256"] == named["sdm"]["method"]["sdm"]["sha256"]
    assert named["sdm"]["method"]["sdm"]["sha256"] != named["sdm_shipped"]["method"]["sdm"]["sha256"]
    assert named["snf"]["method"]["sampler"]["alpha"] == 0.2
    assert record.read(run_dir / "evaluation/record.json") == named["snf"]
    assert (run_dir / "report.html").stat().st_size > 10_000
    places = {name: run_dir / "evaluation/rows" / name for name in named} | {"snf": run_dir / "evaluation"}
    images = [pictures.read_images(sorted((place / "images").glob("*.png"))) for place in places.values()]
    # Every row drew with weights or a sampler of its own.
    assert all((a != b).any() for i, a in enumerate(images) for b in images[:i])


@pytest.fixture(scope="module")
def snf(disk: Path) -> Sampled:
    bench = benchmarks.load(disk / "bench")
    cfg = config(disk)
    backbone = BackboneSettings.from_mapping(cfg.backbone)
    found = {kind: finetuned.need(backbone, kind, "shipped") for kind in ("tdm", "sdm")}
    loaded = {kind: finetuned.load(backbone, found[kind], finetuned.PARTS[kind]) for kind in found}
    return Sampled(bench, artist(SAMPLER, **loaded))


def test_a_picture_depends_on_its_job_alone(snf: Sampled) -> None:
    todo = jobs.jobs(snf.benchmark)
    together = snf(todo)
    state = torch.random.get_rng_state()
    apart = np.concatenate([snf([job]) for job in todo[::-1]])[::-1]
    assert together.shape == (4, 64, 64, 3) and together.dtype == np.uint8
    # Batched matrix products may round otherwise: at most one grey level, on few pixels.
    assert np.abs(together.astype(int) - apart).max() <= 1
    assert torch.equal(state, torch.random.get_rng_state())


def test_reference_and_prompt_both_matter(snf: Sampled) -> None:
    from dataclasses import replace

    job = jobs.jobs(snf.benchmark)[0]
    other_person = replace(job, subjects=snf.benchmark.subjects[1:2])
    other_prompt = replace(job, text="a woman <|image|> in a forest")
    other_seed = replace(job, seed=job.seed + 1)
    first, *others = (snf([j])[0] for j in (job, other_person, other_prompt, other_seed))
    assert all((first != other).any() for other in others)


@pytest.fixture(scope="module")
def pairs(disk: Path, crowd: ModuleType) -> Path:
    """A benchmark of pairs of 64 px beside the other."""
    crowd.write_benchmark(disk / "pairs", subjects=3, prompts=1)
    path = disk / "pairs/benchmark.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": 64}))
    return disk / "pairs"


def test_pictures_of_two_are_told_both_in_their_order(disk: Path, pairs: Path, crowd: ModuleType) -> None:
    from dataclasses import replace

    bench = benchmarks.load(pairs)
    cfg = config(disk)
    backbone = BackboneSettings.from_mapping(cfg.backbone)
    found = {kind: finetuned.need(backbone, kind, "shipped") for kind in ("tdm", "sdm")}
    loaded = {kind: finetuned.load(backbone, found[kind], finetuned.PARTS[kind]) for kind in found}
    snf = Sampled(bench, artist(SAMPLER, **loaded))
    todo = jobs.jobs(bench)
    together = snf(todo)
    apart = np.concatenate([snf([job]) for job in todo])
    assert len(todo) == 3 and np.abs(together.astype(int) - apart).max() <= 1
    # A batch may hold pictures of one and of two: references are padded, the padding is not seen.
    alone = replace(todo[0], subjects=todo[0].subjects[:1], text="a woman <|image|> in place 0")
    mixed = snf([alone, todo[0]])
    assert np.abs(mixed.astype(int) - np.concatenate([snf([alone]), apart[:1]])).max() <= 1
    # What the SDM is told differs exactly behind the marker of whoever is another person.
    a, b, c = bench.subjects

    def told(*subjects: benchmarks.Subject) -> torch.Tensor:
        references = [snf.reference(subject) for subject in subjects]
        return snf.artist.pipeline.encode_prompt([todo[0].text], [references]).augmented_BLD[0]

    assert todo[0].subjects == (a, b)
    first, second = (
        [int(row) for row in (told(*both) != told(a, b)).any(dim=1).nonzero()] for both in ((c, b), (a, c))
    )
    assert len(first) == len(second) == 1 and first[0] < second[0]
    swapped = (told(b, a) != told(a, b)).any(dim=1).nonzero()
    assert [int(row) for row in swapped] == [*first, *second]


def test_pairs_are_evaluated_with_models(disk: Path, pairs: Path, crowd: ModuleType, tmp_path: Path) -> None:
    overrides = (f"benchmark.folder={pairs}", "benchmark.max_subjects=2", "benchmark.baselines=false")
    with pytest.raises(UserError, match=r"draws 2 subjects together; data\.max_subjects is 1"):
        run.evaluate(config(disk, *overrides, "data.max_subjects=1"), tmp_path, extractors=crowd.extractors())
    cfg = config(disk, *overrides, "data.max_subjects=1")
    with pytest.raises(UserError, match=r"draws 2 subjects together"):
        requirements.check(requirements.Asked.read(cfg), cfg.data)
    assert not list(tmp_path.rglob("*.png"))
    (only,) = run.evaluate(config(disk, *overrides), tmp_path, extractors=crowd.extractors())
    assert only["benchmark"]["num_groups"] == 1 and "face_count_accuracy" in only["metrics"]
    (row,) = per_sample.read(tmp_path / "evaluation")
    assert row["subjects"] == ["s00", "s01"] and (tmp_path / "evaluation" / row["file"]).is_file()


def test_a_record_says_what_of_a_prompt_no_model_saw(disk: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    bench = benchmarks.load(disk / "bench")
    method = MethodSettings.read(config(disk))
    assert "prompts_left_out" not in rows.standard(method, bench, tmp_path, "cpu")[-1].method
    long = replace(
        bench.prompts[0], text="a {noun} <|image|> on a beach" + ", in the snow" * 20 + " at night"
    )
    found = rows.standard(method, replace(bench, prompts=(long,)), tmp_path, "cpu")
    cuts = found[-1].method["prompts_left_out"]
    assert set(cuts) == {long.of((subject,)) for subject in bench.subjects}
    assert all(cut.endswith("at night") and "beach" not in cut for cut in cuts.values())


def test_autoencoder_row_is_encode_then_decode(disk: Path) -> None:
    from fdlab.transforms.inputs import to_model

    bench = benchmarks.load(disk / "bench")
    backbone = tiny_backbone(0)
    job = jobs.jobs(bench)[0]
    image = pictures.read_image(bench.real_path("s00", "p00", 0))
    with torch.no_grad():
        latent = backbone.vae.encode(to_model(image)[None]).latent_dist.mean
        direct = backbone.vae.decode(latent).sample[0]
    expected = ((direct.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    got = AutoencoderOnly(bench, backbone)([job])[0]
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_models_that_exist_already_are_measured_as_they_are(
    disk: Path, world: ModuleType, tmp_path: Path
) -> None:
    cfg = config(
        disk,
        "benchmark.baselines=false",
        f"sdm={disk / 'runs/sdm/one'}",
        "sampler=sdm",
        "sampler.num_steps=2",
    )
    only = run.evaluate(cfg, tmp_path, extractors=Extractors(judge=world.Judge()))
    assert [r["method"]["name"] for r in only] == ["sdm"]
    assert only[0]["method"]["sdm"]["training_steps"] == 3000
    assert set(only[0]["metrics"]) == {"prompt_accuracy"}


def test_the_weights_that_the_user_names_stand_beside_those_of_a_run(disk: Path) -> None:
    """`train +exp=sdm sdm=FOLDER`: the run's own are drawn with, and compared with FOLDER in place of what
    ships."""
    run_dir = disk / "runs/sdm/one"
    shutil.copytree(disk / "tiny/sdm", disk / "other/sdm", dirs_exist_ok=True)
    method = MethodSettings.read(config(disk, f"sdm={disk / 'other/sdm'}"))
    found = rows.standard(method, benchmarks.load(disk / "bench"), run_dir, "cpu")
    assert [row.name for row in found][-3:] == ["sdm_before", "sdm", "snf"]
    assert found[-1].method["sdm"]["source"] == "this run"
    assert found[-3].method["sdm"]["source"] == str(disk / "other/sdm")


def test_what_cannot_be_drawn_is_said_before_anything_is(
    disk: Path, world: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"ships no TDM; give tdm=FOLDER"):
        run.evaluate(config(disk, "backbone.tdm=null"), tmp_path, extractors=world.extractors())
    bench = benchmarks.load(disk / "bench")
    with pytest.raises(UserError, match="needs the SDM, but has none"):
        artist(SAMPLER, tdm=tiny_backbone(0))
    small = tiny_backbone(0)
    small.image_size = 128
    with pytest.raises(UserError, match="pictures of 64 pixels, the backbone draws 128"):
        Sampled(bench, artist({"guider": "tdm", "num_steps": 3}, tdm=small))
    other = tiny_backbone(1)
    other.scheduler_config = {**(other.scheduler_config or {}), "prediction_type": "v_prediction"}
    with pytest.raises(UserError, match="predict different things"):
        artist(SAMPLER, tdm=tiny_backbone(0), sdm=other)
    assert not list(tmp_path.rglob("*.png"))


def test_the_verb_measures_with_what_ships(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Squares are no faces to the real detector: the first reference is named, and nothing is drawn."""
    from fdlab.cli import evaluate as verb

    tiny = disk / "tiny"
    overrides = [
        f"backbone.path={tiny}", f"backbone.tdm={tiny / 'tdm'}", f"backbone.sdm={tiny / 'sdm'}",
        "backbone.image_size=64", "backbone.reference_crop=person", "backbone.final_sigma=0",
        "benchmark=own", f"benchmark.folder={disk / 'bench'}",
        "benchmark.baselines=false",
        "trainer.accelerator=cpu",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"no face found in reference .*references/s00\.png"):
        verb.main(overrides)
    assert verb.main([*overrides, "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "experiment: evaluate" in shown and "max_subjects: 0" in shown


@pytest.mark.long
def test_shares_of_several_processes_make_the_same_evaluation(
    disk: Path, world: ModuleType, tmp_path: Path
) -> None:
    overrides = ("benchmark.baselines=false", "benchmark.batch_size=2", f"paths.cache={tmp_path / 'cache'}")
    cfg = config(disk, *overrides)
    whole = run.evaluate(cfg, tmp_path / "whole", extractors=world.extractors())
    for shard in ("1/3", "0/3", "2/3"):
        images = run.draw_share(cfg, tmp_path / "shared", shard) / "images"
    alone = sorted((tmp_path / "whole/evaluation/images").glob("*.png"))
    drawn = sorted(images.glob("*.png"))
    assert [path.name for path in drawn] == [path.name for path in alone]
    assert [path.read_bytes() for path in drawn] == [path.read_bytes() for path in alone]
    changed = [path.stat().st_mtime_ns for path in drawn]
    shared = run.evaluate(cfg, tmp_path / "shared", extractors=world.extractors())
    for name, entry in whole[0]["metrics"].items():
        assert shared[0]["metrics"][name]["value"] == entry["value"], name
    assert [path.stat().st_mtime_ns for path in drawn] == changed, "drawn anew"


def test_pictures_of_another_program_are_scored(
    disk: Path, world: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perfect copy of the true pictures scores as they do; what is missing is named before anything."""
    from fdlab.cli import evaluate as verb

    bench = benchmarks.load(disk / "bench")
    common = ["benchmark=own", f"benchmark.folder={disk / 'bench'}", f"paths.runs={tmp_path / 'runs'}"]
    assert verb.main([*common, "--jobs", str(tmp_path / "jobs.jsonl")]) == 0
    asked = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert [entry["file"] for entry in asked] == [job.file for job in jobs.jobs(bench)]
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for job, entry in zip(jobs.jobs(bench), asked, strict=True):
        assert Path(entry["subjects"][0]["references"][0]).is_file() and entry["seed"] == job.seed
        real = bench.real_path(job.group, job.prompt.id, job.index)
        (theirs / entry["file"]).write_bytes(real.read_bytes())
    cfg = compose(
        [*common, f"images={theirs}", "label=theirs", "trainer.accelerator=cpu"], config_name="evaluate"
    )
    records = run.evaluate(cfg, tmp_path / "runs/evaluate/x", extractors=world.extractors())
    real, given = records
    assert given["method"]["label"] == "theirs" and given["method"]["name"] == "given"
    for name, entry in real["metrics"].items():
        assert given["metrics"][name]["value"] == pytest.approx(entry["value"]), name
    (theirs / asked[1]["file"]).unlink()
    with pytest.raises(UserError, match=rf"lacks '{asked[1]['file']}' \(1 of 4 pictures are missing\)"):
        run.evaluate(cfg, tmp_path / "runs/evaluate/y", extractors=world.extractors())
    assert not (tmp_path / "runs/evaluate/y").exists()
