"""Profiles of scoring: what the published one does, what is recorded of it, and that it never mixes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs, profiles
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.evaluation import departures, measuring, run
from fdlab.evaluation.pages import Evaluated
from fdlab.evaluation.rows import Row
from fdlab.evaluation.second_recogniser import Second
from fdlab.leaderboard import board, collect, published
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors
from fdlab.metrics import matching
from fdlab.metrics.metric import Measurements
from fdlab.metrics.registry import METRICS
from fdlab.records import per_sample, record
from fdlab.records.comparability import Basis

DELAYED = {"guider": "delayed", "num_steps": 50, "guidance_scale": 5.0, "subject_fraction": 0.5}


def settings(folder: Path, cache: Path, profile: str | None, sampler: dict[str, Any] = DELAYED) -> Any:
    benchmark = {
        "kind": "folder", "name": "x", "folder": str(folder), "max_subjects": 0, "max_prompts": 0,
        "max_images": 0, "batch_size": 8, "baselines": True,
    }  # fmt: skip
    if profile:
        benchmark["profile"] = profile
    parts = {"benchmark": benchmark, "trainer": {"accelerator": "cpu"}, "sampler": sampler}
    return OmegaConf.create({**parts, "paths": {"cache": str(cache)}})


def as_jpeg(path: Path, folder: Path) -> np.ndarray:
    """A picture saved as the published code saves it, and read again."""
    target = folder / f"{path.stem}.jpg"
    with Image.open(path) as image:
        image.save(target)
    with Image.open(target) as image:
        return np.asarray(image.convert("RGB"))


def cosine(a_D: np.ndarray, b_D: np.ndarray) -> float:
    return float(a_D @ b_D / np.linalg.norm(a_D) / np.linalg.norm(b_D))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, world: ModuleType) -> Path:
    """Runs of one method by both profiles, and one strictly as before there were profiles."""
    base = tmp_path_factory.mktemp("profiles")
    world.write_benchmark(base / "bench", images=2, size=32)
    for name, profile in (("published", "fastcomposer"), ("strict", "strict"), ("before", None)):
        rows = [Row("snf", "SNF", lambda: world.Painter(wrong=0.3, missing=0.2, size=32))]
        with pytest.MonkeyPatch.context() as patch:
            if name == "before":
                patch.setattr(Evaluated, "write", lambda *_: [])
            run.evaluate(settings(base / "bench", base, profile), base / name, rows, world.extractors())
    return base


def test_jpeg_is_what_pillow_saves(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    out = profiles.recompressed(images, 75)
    for n, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{n}.png")
        assert (as_jpeg(tmp_path / f"{n}.png", tmp_path) == out[n]).all()
    assert (out != images).any() and out.dtype == np.uint8


def test_greedy_takes_the_best_pair_first_and_may_lose_by_it() -> None:
    similarity_FM = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert matching.assign_greedily(similarity_FM).tolist() == [0, 1]
    assert matching.assign(similarity_FM).tolist() == [1, 0]
    rng = np.random.default_rng(0)
    for _ in range(200):
        faces, subjects = rng.integers(0, 5), rng.integers(1, 5)
        similarity_FM = rng.normal(size=(faces, subjects))
        expected = np.full(subjects, matching.UNMATCHED)
        cells = sorted(np.ndindex(similarity_FM.shape), key=lambda cell: -similarity_FM[cell])
        for face, subject in cells:
            if face not in expected and expected[subject] == matching.UNMATCHED:
                expected[subject] = face
        assert matching.assign_greedily(similarity_FM).tolist() == expected.tolist()


def test_published_numbers_are_those_of_pictures_saved_as_jpeg(
    base: Path, tmp_path: Path, world: ModuleType
) -> None:
    """Computed again from files, without any of the code that scores."""
    made = record.read(base / "published/evaluation/record.json")
    bench = benchmarks.load(base / "bench")
    faces, values, found = world.Faces(), [], []
    rows = per_sample.read(base / "published/evaluation")
    for job, row in zip(jobs.jobs(bench), rows, strict=True):
        image_1HW3 = as_jpeg(base / "published/evaluation" / row["file"], tmp_path)[None]
        reference_1HW3 = np.asarray(Image.open(bench.folder / job.subject.references[0]))[None]
        (seen,), (known,) = faces.detect(image_1HW3), faces.detect(reference_1HW3)
        found.append(bool(seen))
        own = cosine(faces.embed(image_1HW3, seen)[0], faces.embed(reference_1HW3, known)[0]) if seen else 0
        values.append(max(own, 0.0))
        assert row["identity_similarity"] == (pytest.approx(values[-1], abs=1e-6) if seen else None)
    assert min(values) == 0.0 and 0 < np.mean(found) < 1
    metrics = {name: entry["value"] for name, entry in made["metrics"].items()}
    assert metrics["identity_similarity"] == pytest.approx(np.mean(values))
    assert metrics["face_detection_rate"] == pytest.approx(np.mean(found))
    # Some faces are less like their reference than nothing: strictly, they stay so.
    strict = record.read(base / "strict/evaluation/record.json")["metrics"]
    assert strict["identity_similarity"]["value"] < metrics["identity_similarity"] - 0.01


def test_records_say_how_they_were_scored(base: Path) -> None:
    ours, strict, before = (
        record.read(base / name / "evaluation/record.json") for name in ("published", "strict", "before")
    )
    assert set(ours["metrics"]) == {"identity_similarity", "face_detection_rate", "clip_score"}
    assert {entry["version"] for entry in ours["metrics"].values()} == {"1+fastcomposer"}
    assert ours["benchmark"]["profile"] == "fastcomposer"
    assert ours["provenance"]["image_format"] == "jpeg-75 of png"
    faces, clip = ours["benchmark"]["departures"]
    assert "measured by squares" in faces and "measured by brightness" in clip
    assert strict["provenance"]["image_format"] == "png" and strict["benchmark"]["profile"] == "strict"
    assert strict["metrics"] == before["metrics"] and strict["benchmark"] == before["benchmark"]
    assert {entry["version"] for entry in strict["metrics"].values()} == {"1"}
    assert ours["benchmark"]["sha256"] == strict["benchmark"]["sha256"]
    # Pictures stay as they were drawn.
    with Image.open(next((base / "published/evaluation/images").glob("*.png"))) as image:
        assert image.format == "PNG"
    page = (base / "published/report.html").read_text()
    assert "scored by profile fastcomposer" in page and "not as published: faces are measured by" in page
    assert "scored by profile" not in (base / "strict/report.html").read_text()


def test_rows_give_the_published_record_again(base: Path) -> None:
    made = record.read(base / "published/evaluation/record.json")
    found = per_sample.load(base / "published/evaluation/record.json", made)
    assert set(found.values) >= set(made["metrics"]) and not found.left_out


def test_profiles_never_share_a_table(base: Path, tmp_path: Path) -> None:
    entries = {
        name: collect.Entry(Path(name), record.read(base / name / "evaluation/record.json"))
        for name in ("published", "strict", "before")
    }
    # A record made before there were profiles.
    del entries["before"].record["benchmark"]["profile"]
    groups = collect.group(list(entries.values()))
    assert [{entry.path.name for entry in group.entries} for group in groups] == [
        {"strict", "before"},
        {"published"},
    ]
    assert "profile fastcomposer" in groups[1].title and "profile" not in groups[0].title
    # Even where no metric is in both.
    bare = copy.deepcopy(entries["published"])
    bare.record["metrics"] = {"clip_score": {**bare.record["metrics"]["clip_score"], "version": "1"}}
    assert not groups[0].admits(bare)
    assert entries["strict"].basis.differing(entries["before"].basis) is None
    said = entries["before"].basis.differing(entries["published"].basis)
    assert said == "their pictures were scored by profile strict and fastcomposer"


def test_quoted_numbers_stand_only_beside_what_follows_the_protocol() -> None:
    (quoted, *_) = published.load(published.DEFAULT)
    about = {"name": quoted.benchmark, "profile": "fastcomposer", **quoted.counts, "sha256": "a" * 64}
    assert quoted.follows(about)
    assert not quoted.follows({**about, "departures": ["faces are measured by squares"]})
    assert not quoted.follows({**about, "profile": "strict"})
    group = collect.Group(Basis({**about, "departures": ["x"], "version": "1"}, {}))
    assert quoted in board.make([group], [quoted]).quoted


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (DELAYED, []),
        ({**DELAYED, "num_steps": 20}, ["sampler.num_steps=20, published numbers have 50"]),
        (
            {**DELAYED, "guidance_scale": 7.5, "subject_fraction": 0.7},
            [
                "sampler.guidance_scale=7.5, published numbers have 5",
                "sampler.subject_fraction=0.7, published",
            ],
        ),
        # Another method has settings of its own.
        ({"guider": "snf", "num_steps": 50, "guidance_scale": 5.0, "alpha": 0.3}, []),
    ],
)
def test_other_settings_cost_a_line_and_go_on(
    folder: Path,
    tmp_path: Path,
    world: ModuleType,
    capsys: pytest.CaptureFixture[str],
    sampler: dict[str, Any],
    said: list[str],
) -> None:
    class Published(world.Faces):  # type: ignore[name-defined, misc]
        name = "mtcnn+facenet"

    class ViT(world.Clip):  # type: ignore[name-defined, misc]
        name = "clip:clip-vit-large-patch14"

    bench = benchmarks.load(folder).scored("fastcomposer")
    parts = Extractors(Published(), ViT(), world.Features(), world.Judge())
    settled, kept = departures.settle(bench, parts, "vit_l14", sampler)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said) and all(text in line for text, line in zip(said, lines, strict=True))
    assert all(line.startswith("note: not as published (benchmark.profile=fastcomposer): ") for line in lines)
    # What the method was told is in the record's method; measuring alone decides what may be compared.
    assert settled.departures == () and "departures" not in settled.summary()
    assert kept.features is kept.judge is None and kept.faces is parts.faces
    # Strictly, or where the pictures come from elsewhere, there is nothing to say.
    strict = bench.scored("strict")
    assert departures.settle(strict, parts, "vit_l14", sampler) == (strict, parts)
    departures.settle(bench, parts, "vit_l14", {})
    assert capsys.readouterr().err == ""


def test_the_least_like_of_two_counts_and_a_missing_one_counts_nothing(
    tmp_path: Path, crowd: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluated, "write", lambda *_: [])
    crowd.write_benchmark(tmp_path / "bench", subjects=4, prompts=2)
    for name, method in (("good", crowd.Painter()), ("mixed", crowd.Painter(mixed=0.7))):
        rows = [Row(name, name, lambda method=method: method)]
        cfg = settings(tmp_path / "bench", tmp_path, "fastcomposer")
        run.evaluate(cfg, tmp_path / name, rows, crowd.extractors())
    bench, faces = benchmarks.load(tmp_path / "bench"), crowd.Faces()
    made = record.read(tmp_path / "mixed/evaluation/record.json")
    values = []
    for row in per_sample.read(tmp_path / "mixed/evaluation"):
        image_1HW3 = as_jpeg(tmp_path / "mixed/evaluation" / row["file"], tmp_path)[None]
        seen = faces.detect(image_1HW3)[0]
        drawn_FD = faces.embed(np.repeat(image_1HW3, len(seen), 0), seen)
        known_MD = []
        for name in row["subjects"]:
            reference_1HW3 = np.asarray(Image.open(bench.folder / bench.subject(name).references[0]))[None]
            known_MD.append(faces.embed(reference_1HW3, faces.detect(reference_1HW3)[0])[0])
        table = np.array([[cosine(a, b) for b in known_MD] for a in drawn_FD])
        assert table.shape == (2, 2)
        # The largest of four, and the one in the other row and column.
        face, subject = np.unravel_index(table.argmax(), table.shape)
        values.append(max(min(table[face, subject], table[1 - face, 1 - subject]), 0.0))
        assert row["identity_similarity"] == pytest.approx(values[-1], abs=1e-6)
    assert made["metrics"]["identity_similarity"]["value"] == pytest.approx(np.mean(values))
    good = record.read(tmp_path / "good/evaluation/record.json")["metrics"]
    assert good["identity_similarity"]["value"] > np.mean(values) + 0.01
    rows = [Row("one", "one", lambda: crowd.Painter(missing=1))]
    cfg = settings(tmp_path / "bench", tmp_path, "fastcomposer")
    (alone,) = run.evaluate(cfg, tmp_path / "one", rows, crowd.extractors())
    assert alone["metrics"]["identity_similarity"]["value"] == 0.0
    assert alone["metrics"]["face_detection_rate"]["value"] == 0.5


def test_published_matching_is_greedy() -> None:
    """Cosines [[.7, .65], [.6, .05]]: greedily .7 and .05, at best .65 and .6."""

    def similarity(similarity_FS: np.ndarray, least: bool) -> float:
        group_NM = np.array([[0, 1]])
        assign = matching.assign_greedily if least else matching.assign
        found = matching.match([similarity_FS], group_NM, 2, assign)
        seen = Measurements(group_NM, group_NM, matches=found, least_of_group=least)
        return float(np.asarray(METRICS["identity_similarity"].score(seen))[0])

    similarity_FS = np.array([[0.7, 0.65], [0.6, 0.05]])
    assert similarity(similarity_FS, True) == pytest.approx(0.05)
    assert similarity(similarity_FS, False) == pytest.approx(0.625)
    # A negative one counts 0, as a missing one does.
    assert similarity(-similarity_FS, True) == similarity(similarity_FS[:1], True) == 0.0


def test_a_second_recogniser_scores_strictly(base: Path, tmp_path: Path, world: ModuleType) -> None:
    where = base / "published/evaluation"
    first = record.read(where / "record.json")
    bench = replace(benchmarks.load(base / "bench").scored("fastcomposer"), departures=("x",))
    extractors = Extractors(world.Faces())
    todo = jobs.jobs(bench)
    judge = Second(extractors, measuring.references(bench, extractors))
    made = judge.write(bench, todo, [where / "images" / job.file for job in todo], tmp_path, first)
    strict = record.read(base / "strict/evaluation/record.json")
    assert made["metrics"]["identity_similarity"] == strict["metrics"]["identity_similarity"]
    assert made["benchmark"] == strict["benchmark"] and made["provenance"]["image_format"] == "png"


def test_the_published_detector_looks_for_smaller_faces() -> None:
    smaller = profiles.PROFILES["fastcomposer"].min_face
    found = [loading.Faces(min_face=least).detector.cascade.settings.min_face for least in (None, smaller)]
    assert found == [0.12, 20 / 512]


def test_an_unknown_profile_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"allowed: strict, fastcomposer\. Did you mean 'fastcomposer'"):
        compose(["benchmark=own", "benchmark.folder=x", "benchmark.profile=fastcompser"])
    with pytest.raises(UserError, match=r"unknown benchmark\.profile 'strikt'.* Did you mean 'strict'"):
        BenchmarkSettings.read(settings(folder, tmp_path, "strikt").benchmark)


def test_what_ships_is_scored_strictly_and_the_published_as_published() -> None:
    chosen = {
        name: compose([f"benchmark={name}"]).benchmark.profile for name in ("people_single", "people_multi")
    }
    for name in ("fastcomposer_single", "fastcomposer_multi"):
        cfg = compose([f"benchmark={name}"])
        chosen[name] = cfg.benchmark.profile
        assert cfg.benchmark.name == Path(cfg.benchmark.folder).name == name
    assert chosen == {
        "people_single": "strict", "people_multi": "strict", "fastcomposer_single": "fastcomposer",
        "fastcomposer_multi": "fastcomposer",
    }  # fmt: skip
    sampler = profiles.PROFILES["fastcomposer"].sampler
    assert sampler == {"num_steps": 50, "guidance_scale": 5.0, "subject_fraction": 0.5}
