"""From features to numbers: every metric of one method with its interval, and one row a picture.

N images, S subjects, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdlab.evaluation import bootstrap, identity
from fdlab.evaluation.benchmarks import MARKER, Benchmark
from fdlab.evaluation.clip_score import clip_score
from fdlab.evaluation.frechet import frechet_distance
from fdlab.evaluation.generation import Job
from fdlab.evaluation.kernel import cmmd, kernel_distance
from fdlab.evaluation.measuring import Extractors, Face, FaceExtractor, Measured, References, finite, info
from fdlab.evaluation.prompt_accuracy import correct, prompt_accuracy
from fdlab.evaluation.record import metric


def plain(text: str) -> str:
    """A prompt without markers, as it is shown to the CLIP that scores."""
    return " ".join(text.replace(MARKER, " ").split())


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
    own_N = np.array([[s.id for s in benchmark.subjects].index(job.subject.id) for job in todo])
    rows: list[dict[str, Any]] = [_row(job) for job in todo]
    metrics: dict[str, dict[str, Any]] = {}
    if extractors.faces:
        metrics |= _identity(benchmark, measured, known, own_N, extractors.faces, rows)
    if extractors.clip and measured.clip_ND is not None:
        prompts = [plain(job.text) for job in todo]
        different = sorted(set(prompts))
        text = extractors.clip.text(different)
        place = {prompt: i for i, prompt in enumerate(different)}
        text_ND = finite(text.feature_BD, extractors.clip.name)[[place[prompt] for prompt in prompts]]
        values = clip_score(measured.clip_ND, text_ND)
        _fill(rows, "clip_score", values)
        _add(metrics, "clip_score", bootstrap.mean(values, own_N, benchmark.seed), info(extractors.clip))
        metrics["clip_score"]["num_truncated_prompts"] = int(sum(bool(cut) for cut in text.truncated_B))
    if extractors.judge and measured.judged is not None:
        truth = [job.prompt.truth for job in todo]
        right = correct(measured.judged, truth)
        for i, row in enumerate(rows):
            row["judged"] = {key: answers[i] for key, answers in measured.judged.items()}
            row["prompt_correct"] = right[i]
        shares = prompt_accuracy(right)
        _fill(rows, "prompt_accuracy", shares)
        _add(
            metrics, "prompt_accuracy", bootstrap.mean(shares, own_N, benchmark.seed), info(extractors.judge)
        )
    if compare_with_real and known.real is not None:
        metrics |= _distances(measured, known.real, own_N, extractors)
    return metrics, rows


def _identity(
    benchmark: Benchmark,
    measured: Measured,
    known: References,
    own_N: np.ndarray,
    extractor: FaceExtractor,
    rows: list[dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    assert measured.embedding_ND is not None and known.embedding_SD is not None and measured.faces is not None
    detected_N = measured.detected_N
    num_subjects = len(benchmark.subjects)
    if measured.embedding_ND.shape[1]:
        similarity_NS = identity.cosine(measured.embedding_ND, known.embedding_SD)
    else:
        similarity_NS = np.zeros((len(own_N), num_subjects))
    own = identity.own_similarity(similarity_NS, own_N, detected_N)
    by_name: dict[str, np.ndarray] = {
        "identity_similarity": own,
        "identity_similarity_detected": np.where(detected_N, own, np.nan),
        "face_detection_rate": detected_N.astype(np.float64),
    }
    if num_subjects > 1:
        by_name["identity_margin"] = identity.margin(similarity_NS, own_N, detected_N)
        by_name["identity_rank1"] = identity.rank1(similarity_NS, own_N, detected_N)
    by_name |= _heldout(measured, known, own_N, own)
    metrics: dict[str, dict[str, Any]] = {}
    for name, values in by_name.items():
        _add(metrics, name, bootstrap.mean(values, own_N, benchmark.seed), info(extractor))
    won, played = identity.auc_table(similarity_NS, own_N, detected_N)
    if played.sum():
        weights = bootstrap.cluster_weights(num_subjects, benchmark.seed)
        replicates = identity.auc_replicates(won, played, weights)
        value = float(won.sum() / played.sum())
        _add(
            metrics,
            "identity_auc",
            bootstrap.statistic(value, replicates, num_subjects, len(own_N)),
            info(extractor),
        )
    for i, row in enumerate(rows):
        face = measured.chosen[i] if measured.chosen else None
        row["num_faces"] = len(measured.faces[i])
        row["face"] = None if face is None else _face(face)
        row["similarity_to"] = None if face is None else [round(float(x), 6) for x in similarity_NS[i]]
    for name in (
        "identity_similarity_detected",
        "identity_margin",
        "identity_rank1",
        "identity_heldout",
        "copy_paste",
    ):
        if name in by_name:
            values = np.where(detected_N, by_name[name], np.nan)
            _fill(rows, name.removesuffix("_detected"), values)
    return metrics


def _heldout(
    measured: Measured, known: References, own_N: np.ndarray, own: np.ndarray
) -> dict[str, np.ndarray]:
    """Similarity to the held-out pictures (a miss is 0) and the copy-paste score (detected only)."""
    assert measured.embedding_ND is not None and known.embedding_SD is not None
    heldout, pasted = np.full(len(own_N), np.nan), np.full(len(own_N), np.nan)
    for i, subject in enumerate(own_N):
        others_HD = known.heldout[subject]
        if not len(others_HD):
            continue
        if measured.chosen is None or measured.chosen[i] is None:
            heldout[i] = 0.0
            continue
        to_heldout = identity.cosine(measured.embedding_ND[i : i + 1], others_HD)[0]
        apart = identity.cosine(known.embedding_SD[subject : subject + 1], others_HD)[0]
        heldout[i] = to_heldout.mean()
        pasted[i] = identity.copy_paste(np.full(len(apart), own[i]), to_heldout, apart).mean()
    return {"identity_heldout": heldout, "copy_paste": pasted}


def _distances(
    measured: Measured, real: Measured, own_N: np.ndarray, extractors: Extractors
) -> dict[str, dict[str, Any]]:
    metrics: dict[str, dict[str, Any]] = {}
    if extractors.features and measured.features_ND is not None and real.features_ND is not None:
        ours, true, name = measured.features_ND, real.features_ND, info(extractors.features)
        if min(len(ours), len(true)) >= 3:
            _add(
                metrics,
                "frechet_distance",
                bootstrap.jackknife(lambda k: frechet_distance(ours[k], true), own_N),
                name,
            )
            _add(
                metrics,
                "kernel_distance",
                bootstrap.jackknife(lambda k: kernel_distance(ours[k], true), own_N),
                name,
            )
    if extractors.clip and measured.clip_ND is not None and real.clip_ND is not None:
        clip_ours, clip_true = measured.clip_ND, real.clip_ND
        if min(len(clip_ours), len(clip_true)) >= 3:
            estimate = bootstrap.jackknife(lambda k: cmmd(clip_ours[k], clip_true), own_N)
            _add(metrics, "cmmd", estimate, info(extractors.clip))
    return metrics


def _add(
    metrics: dict[str, dict[str, Any]],
    name: str,
    estimate: bootstrap.Estimate | None,
    extractor: Mapping[str, str | None],
) -> None:
    if estimate is not None:
        metrics[name] = metric(name, estimate, extractor)


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "subject": job.subject.id,
        "prompt": job.prompt.id,
        "category": job.prompt.category,
        "index": job.index,
        "seed": job.seed,
        "text": job.text,
        "file": f"images/{job.file}",
    }


def _face(face: Face) -> dict[str, Any]:
    return {
        "box": [round(float(x), 2) for x in face.box],
        "score": round(float(face.score), 5),
        "landmarks": np.round(np.asarray(face.landmarks_52, float), 2).tolist(),
    }


def _fill(rows: list[dict[str, Any]], name: str, values_N: np.ndarray) -> None:
    for row, value in zip(rows, values_N, strict=True):
        row[name] = round(float(value), 6) if np.isfinite(value) else None
