"""From what was measured to numbers: every metric of the registry with its interval, and each picture's.

N pictures, M subjects a picture, F faces of a picture, S subjects, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job
from fdlab.data.captions import unmarked
from fdlab.evaluation import picture_faces
from fdlab.evaluation.measuring import Measured, References
from fdlab.measure.networks import Extractors, finite
from fdlab.metrics import clusters, identity, matching, registry
from fdlab.metrics.bootstrap import Estimate
from fdlab.metrics.metric import Measurements
from fdlab.records.record import metric as entry_of


def score(
    benchmark: Benchmark,
    todo: Sequence[Job],
    measured: Measured,
    known: References,
    extractors: Extractors,
    compare_with_real: bool = True,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Every metric of one method that can be had, and each picture's scores. `compare_with_real` False leaves
    out distances to the true set."""
    profile = profiles.profile_of(benchmark.profile)
    similarities = _similarities(measured, known)
    seen = measurements(benchmark, todo, measured, known, extractors, similarities, compare_with_real)
    networks = extractors.summary()
    wanted = [
        metric
        for metric in registry.scored()
        if (profile.metrics is None or metric.name in profile.metrics) and metric.possible(seen)
    ]
    scores = {metric.name: metric.score(seen) for metric in wanted}
    entries: dict[str, dict[str, Any]] = {}
    for metric in wanted:
        estimate = scores[metric.name]
        if isinstance(estimate, np.ndarray):
            estimate = clusters.mean(estimate, seen.clusters_NK, seen.seed)
        if estimate is None or metric.recorded is None:
            continue
        more = metric.more(seen) if metric.more else {}
        entry = entry_of(metric.name, estimate, networks[metric.by], **more)
        entries[metric.name] = {**entry, "version": profile.version(metric.version)}
    return entries, _pictures(todo, measured, similarities, seen, scores)


def measurements(
    benchmark: Benchmark,
    todo: Sequence[Job],
    measured: Measured,
    known: References,
    extractors: Extractors,
    similarities: Sequence[np.ndarray] | None,
    compare_with_real: bool = True,
) -> Measurements:
    """What metrics are computed from. `similarities` are those of each picture's faces that count."""
    profile = profiles.profile_of(benchmark.profile)
    place = {subject.id: i for i, subject in enumerate(benchmark.subjects)}
    group_NM = np.array([[place[subject.id] for subject in job.subjects] for job in todo])
    matches = None
    if similarities is not None:
        assign = matching.assign_greedily if profile.least_of_group else matching.assign
        matches = matching.match(similarities, group_NM, len(place), assign)
    prompts = _prompts(todo, measured, extractors)
    true = known.real if compare_with_real else None
    real = {}
    if true is not None:
        real = {"clip": true.clip_ND, "features": true.features_ND}
    networks = {key: info["name"] for key, info in extractors.summary().items() if info}
    return Measurements(
        group_NM=group_NM,
        clusters_NK=clusters.clusters(group_NM),
        seed=benchmark.seed,
        measured_by=networks,
        cell_N=np.array([f"{job.group} {job.prompt.id}" for job in todo]),
        images_per_prompt=benchmark.images_per_prompt,
        matches=matches,
        num_faces_N=None if measured.faces is None else np.array([len(faces) for faces in measured.faces]),
        embedding_NMD=measured.embedding_NMD,
        reference_SD=known.embedding_SD,
        heldout=known.heldout,
        least_of_group=profile.least_of_group,
        clip_ND=None if prompts is None else measured.clip_ND,
        text_ND=None if prompts is None else prompts[0],
        truncated_P=None if prompts is None else prompts[1],
        features_ND=measured.features_ND,
        judged=measured.judged if extractors.judge else None,
        truth=[job.prompt.truth for job in todo],
        real={key: true_RD for key, true_RD in real.items() if true_RD is not None and key in networks},
    )


def _similarities(measured: Measured, known: References) -> list[np.ndarray] | None:
    """Cosines (F, S) of each picture's faces that count with every reference; None where nobody looked."""
    if measured.embedding_NMD is None or measured.counted is None:
        return None
    assert known.embedding_SD is not None
    num, size, width = measured.embedding_NMD.shape
    if not width:
        return [np.zeros((0, len(known.embedding_SD)))] * num
    similarity_NMS = identity.cosine(measured.embedding_NMD.reshape(-1, width), known.embedding_SD)
    similarity_NMS = similarity_NMS.reshape(num, size, -1)
    return [similarity_NMS[n, : len(faces)] for n, faces in enumerate(measured.counted)]


def _prompts(
    todo: Sequence[Job], measured: Measured, extractors: Extractors
) -> tuple[np.ndarray, np.ndarray] | None:
    """Features of each picture's prompt, and whether each different prompt was cut."""
    if extractors.clip is None or measured.clip_ND is None:
        return None
    prompts = [unmarked(job.text) for job in todo]
    different = sorted(set(prompts))
    text = extractors.clip.text(different)
    place = {prompt: i for i, prompt in enumerate(different)}
    index_N = [place[prompt] for prompt in prompts]
    cut = np.array([bool(cut) for cut in text.truncated_B], bool)
    return finite(text.feature_BD, extractors.clip.name)[index_N], cut


def _pictures(
    todo: Sequence[Job],
    measured: Measured,
    similarities: Sequence[np.ndarray] | None,
    seen: Measurements,
    scores: dict[str, np.ndarray | Estimate | None],
) -> list[dict[str, Any]]:
    """Every picture: what was asked for, what its faces are, and its scores."""
    pictures = [asked(job) for job in todo]
    if similarities is not None and seen.matches is not None:
        assert measured.faces is not None and measured.counted is not None
        for n, picture in enumerate(pictures):
            picture |= picture_faces.of_picture(
                len(measured.faces[n]),
                measured.counted[n],
                similarities[n],
                picture["subjects"],
                seen.matches.face_NM[n],
                seen.matches.group_NM[n],
            )
    for metric in registry.of_pictures():
        values_N = scores.get(metric.name)
        if not isinstance(values_N, np.ndarray):
            continue
        if metric.empty_without_face:
            values_N = np.where(measured.detected_N, values_N, np.nan)
        details = metric.details(seen) if metric.details else [{}] * len(pictures)
        for picture, beside, value in zip(pictures, details, values_N, strict=True):
            picture |= {**beside, metric.name: round(float(value), 6) if np.isfinite(value) else None}
    return pictures


def asked(job: Job) -> dict[str, Any]:
    """What a picture's line says of its job."""
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
