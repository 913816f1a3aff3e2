"""From features to numbers: every metric of one method with its interval, and one row a picture.

N images, M subjects an image, K clusters an image (see `clusters`), D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job
from fdlab.data.captions import unmarked
from fdlab.evaluation import identity_scoring
from fdlab.evaluation.measuring import Measured, References
from fdlab.measure.networks import Extractors, finite, info
from fdlab.metrics import clusters, diversity
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.clip_score import clip_score
from fdlab.metrics.frechet import frechet_distance
from fdlab.metrics.kernel import cmmd, kernel_distance
from fdlab.metrics.prompt_accuracy import correct, prompt_accuracy
from fdlab.records.record import metric


def score(
    benchmark: Benchmark,
    todo: Sequence[Job],
    measured: Measured,
    known: References,
    extractors: Extractors,
    compare_with_real: bool = True,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """All metrics of one method and one row a picture. `compare_with_real` False leaves out distances to the
    true set."""
    profile = profiles.profile_of(benchmark.profile)
    place = {subject.id: i for i, subject in enumerate(benchmark.subjects)}
    group_NM = np.array([[place[subject.id] for subject in job.subjects] for job in todo])
    clusters_NK = clusters.clusters(group_NM)
    rows: list[dict[str, Any]] = [_row(job) for job in todo]
    metrics: dict[str, dict[str, Any]] = {}

    def add(name: str, values_N: np.ndarray, extractor: Any) -> None:
        _add(metrics, name, clusters.mean(values_N, clusters_NK, benchmark.seed), info(extractor))

    if extractors.faces:
        if profile.least_of_group:
            scores = identity_scoring.score_least(measured, known, group_NM)
        else:
            scores = identity_scoring.score(measured, known, group_NM, clusters_NK, benchmark.seed)
        for name, values in scores.values.items():
            add(name, values, extractors.faces)
        _add(metrics, "identity_auc", scores.auc, info(extractors.faces))
        for n, row in enumerate(rows):
            row |= identity_scoring.row(scores, measured, n, row["subjects"])
        if "face_count_accuracy" in scores.values:
            _fill(rows, "face_count_accuracy", scores.values["face_count_accuracy"])
        for name in identity_scoring.ROWS:
            if name in scores.values:
                _fill(rows, name, np.where(measured.detected_N, scores.values[name], np.nan))
    if extractors.clip and measured.clip_ND is not None:
        prompts = [unmarked(job.text) for job in todo]
        different = sorted(set(prompts))
        text = extractors.clip.text(different)
        text_row = {prompt: i for i, prompt in enumerate(different)}
        text_ND = finite(text.feature_BD, extractors.clip.name)[[text_row[prompt] for prompt in prompts]]
        values = clip_score(measured.clip_ND, text_ND)
        _fill(rows, "clip_score", values)
        add("clip_score", values, extractors.clip)
        metrics["clip_score"]["num_truncated_prompts"] = int(sum(bool(cut) for cut in text.truncated_B))
    if extractors.judge and measured.judged is not None:
        truth = [job.prompt.truth for job in todo]
        right = correct(measured.judged, truth)
        for i, row in enumerate(rows):
            row["judged"] = {key: answers[i] for key, answers in measured.judged.items()}
            row["prompt_correct"] = right[i]
        shares = prompt_accuracy(right)
        _fill(rows, "prompt_accuracy", shares)
        add("prompt_accuracy", shares, extractors.judge)
    if measured.features_ND is not None and benchmark.images_per_prompt > 1:
        group_N = np.array([f"{job.group} {job.prompt.id}" for job in todo])
        _fill(rows, diversity.NAME, diversity.diversity(measured.features_ND, group_N))
    if compare_with_real and known.real is not None:
        metrics |= _distances(measured, known.real, clusters_NK, extractors)
    for entry in metrics.values():
        entry["version"] = profile.version(entry["version"])
    kept = metrics if profile.metrics is None else {n: e for n, e in metrics.items() if n in profile.metrics}
    return kept, rows


def _distances(
    measured: Measured, real: Measured, clusters_NK: np.ndarray, extractors: Extractors
) -> dict[str, dict[str, Any]]:
    metrics: dict[str, dict[str, Any]] = {}
    if extractors.features and measured.features_ND is not None and real.features_ND is not None:
        ours, true, name = measured.features_ND, real.features_ND, info(extractors.features)
        if min(len(ours), len(true)) >= 3:
            _add(
                metrics,
                # Only the 2015 Inception makes an FID.
                "fid" if name["name"] == "inception-2015" else "frechet_distance",
                clusters.jackknife(lambda k: frechet_distance(ours[k], true), clusters_NK),
                name,
            )
            _add(
                metrics,
                "kernel_distance",
                clusters.jackknife(lambda k: kernel_distance(ours[k], true), clusters_NK),
                name,
            )
    if extractors.clip and measured.clip_ND is not None and real.clip_ND is not None:
        clip_ours, clip_true = measured.clip_ND, real.clip_ND
        if min(len(clip_ours), len(clip_true)) >= 3:
            estimate = clusters.jackknife(lambda k: cmmd(clip_ours[k], clip_true), clusters_NK)
            _add(metrics, "cmmd", estimate, info(extractors.clip))
    return metrics


def _add(
    metrics: dict[str, dict[str, Any]],
    name: str,
    estimate: Estimate | None,
    extractor: Mapping[str, str | None],
) -> None:
    if estimate is not None:
        metrics[name] = metric(name, estimate, extractor)


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "subject": job.group,
        "subjects": [subject.id for subject in job.subjects],
        "prompt": job.prompt.id,
        "category": job.prompt.category,
        "index": job.index,
        "seed": job.seed,
        "text": job.text,
        "file": f"images/{job.file}",
    }


def _fill(rows: list[dict[str, Any]], name: str, values_N: np.ndarray) -> None:
    for row, value in zip(rows, values_N, strict=True):
        row[name] = round(float(value), 6) if np.isfinite(value) else None
