"""From pictures to numbers: every picture is read once, measured once by each extractor, and then only features count.

B batch, N images, S subjects, D features, H W pixels, 3 RGB uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fdlab.errors import UserError
from fdlab.evaluation import bootstrap, identity
from fdlab.evaluation.benchmarks import MARKER, Benchmark
from fdlab.evaluation.clip_score import clip_score
from fdlab.evaluation.frechet import frechet_distance
from fdlab.evaluation.generation import Job, read_image, read_images
from fdlab.evaluation.kernel import cmmd, kernel_distance
from fdlab.evaluation.prompt_accuracy import correct, prompt_accuracy
from fdlab.evaluation.record import metric
from fdlab.progress import bar


class Face(Protocol):
    """A detected face: box x1 y1 x2 y2 in pixels, score in [0, 1], five landmarks."""

    box: tuple[float, float, float, float]
    score: float
    landmarks_52: np.ndarray


class FaceExtractor(Protocol):
    """Finds and embeds faces."""

    name: str
    sha256: str | None

    def detect(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        """All faces of every picture."""

    def embed(self, images_BHW3: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        """Embed one face a picture: (B, D)."""


class FeatureExtractor(Protocol):
    """Any network with one feature vector a picture."""

    name: str
    sha256: str | None

    def __call__(self, images_BHW3: np.ndarray) -> np.ndarray: ...


class ClipExtractor(Protocol):
    """A dual encoder that is not the conditioner of any model measured."""

    name: str
    sha256: str | None

    def images(self, images_BHW3: np.ndarray) -> np.ndarray: ...

    def texts(self, texts: Sequence[str]) -> np.ndarray: ...


class Judge(Protocol):
    """Says what a picture of rendered people shows, attribute by attribute."""

    name: str
    sha256: str | None

    def __call__(self, images_BHW3: np.ndarray) -> dict[str, list[str]]: ...


@dataclass(frozen=True)
class Extractors:
    """The networks that measure; a metric whose extractor is None is absent from the record."""

    faces: FaceExtractor | None = None
    clip: ClipExtractor | None = None
    features: FeatureExtractor | None = None
    judge: Judge | None = None

    def summary(self) -> dict[str, Any]:
        """Name and digest of each, None where there is none."""
        parts = {"faces": self.faces, "clip": self.clip, "features": self.features, "judge": self.judge}
        return {key: info(part) if part else None for key, part in parts.items()}


def info(extractor: Any) -> dict[str, str | None]:
    """An extractor as records name it."""
    return {"name": str(extractor.name), "sha256": extractor.sha256}


@dataclass
class Measured:
    """Everything measured on a list of pictures; absent extractors leave None."""

    faces: list[list[Any]] | None = None
    chosen: list[Any] | None = None
    """The face that counts in each picture, None where none was found."""
    embedding_ND: np.ndarray | None = None
    """Row of zeros where no face was found."""
    clip_ND: np.ndarray | None = None
    features_ND: np.ndarray | None = None
    judged: dict[str, list[str]] | None = None

    @property
    def detected_N(self) -> np.ndarray:
        return np.array([face is not None for face in self.chosen or []], bool)


@dataclass(frozen=True)
class References:
    """Embeddings of what pictures are compared with, measured once an evaluation."""

    embedding_SD: np.ndarray | None = None
    heldout: tuple[np.ndarray, ...] = ()
    """Per subject (H, D), H held-out pictures; (0, D) where there are none."""
    real: Measured | None = field(default=None)
    """The benchmark's true pictures, measured by `features` and `clip`."""


def prominent(faces: Sequence[Face]) -> Face | None:
    """The face that counts in a picture of one person: the largest. It is chosen without looking at any reference, so
    that own and other subjects are compared alike."""
    return max(faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]), default=None)


def measure(
    paths: Sequence[Path],
    extractors: Extractors,
    size: int | None = None,
    batch_size: int = 32,
    description: str = "scoring",
    show: bool = True,
) -> Measured:
    """Run every extractor over pictures, each read once. `size` None takes pictures of any one size a batch."""
    out = Measured()
    faces: list[list[Any]] = []
    chosen: list[Any] = []
    embeddings: list[np.ndarray] = []
    clip: list[np.ndarray] = []
    features: list[np.ndarray] = []
    judged: dict[str, list[str]] = {}
    with bar(description, len(paths), show=show) as progress:
        for start in range(0, len(paths), batch_size):
            images = read_images(paths[start : start + batch_size], size)
            if extractors.faces:
                found = extractors.faces.detect(images)
                faces += found
                chosen += [prominent(entry) for entry in found]
                embeddings.append(_embed(extractors.faces, images, chosen[start:]))
            if extractors.clip:
                clip.append(_finite(extractors.clip.images(images), extractors.clip.name))
            if extractors.features:
                features.append(_finite(extractors.features(images), extractors.features.name))
            if extractors.judge:
                for key, answers in extractors.judge(images).items():
                    judged.setdefault(key, []).extend(answers)
            progress.advance(len(images))
    if extractors.faces:
        out.faces, out.chosen = faces, chosen
        width = max((part.shape[1] for part in embeddings), default=0)
        out.embedding_ND = np.concatenate([p if p.shape[1] else np.zeros((len(p), width)) for p in embeddings])
    out.clip_ND = np.concatenate(clip) if clip else None
    out.features_ND = np.concatenate(features) if features else None
    out.judged = judged if extractors.judge else None
    return out


def _embed(extractor: FaceExtractor, images_BHW3: np.ndarray, chosen: Sequence[Any]) -> np.ndarray:
    rows = [i for i, face in enumerate(chosen) if face is not None]
    if not rows:
        return np.zeros((len(images_BHW3), 0))
    embedded = _finite(extractor.embed(images_BHW3[rows], [chosen[i] for i in rows]), extractor.name)
    out = np.zeros((len(images_BHW3), embedded.shape[1]))
    out[rows] = embedded
    return out


def _finite(features: Any, name: str) -> np.ndarray:
    array = np.asarray(features, np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"extractor '{name}' gave features that are not finite (NaN); check its weights and the images.")
    return array


def references(benchmark: Benchmark, extractors: Extractors, batch_size: int = 32, show: bool = True) -> References:
    """Measure references, held-out pictures and true pictures. UserError for a reference without a face."""
    embedding, heldout = None, ()
    if extractors.faces:
        only_faces = Extractors(faces=extractors.faces)
        owners = [(s.references[0], True) for s in benchmark.subjects]
        owners += [(name, False) for s in benchmark.subjects for name in s.heldout]
        # Pictures of a user's own benchmark may differ in size: one at a time then.
        paths = [benchmark.folder / name for name, _ in owners]
        same = len({read_image(path).shape for path in paths}) == 1
        measured = measure(paths, only_faces, batch_size=batch_size if same else 1, description="references", show=show)
        assert measured.chosen is not None and measured.embedding_ND is not None
        by_name = dict(zip((name for name, _ in owners), zip(measured.chosen, measured.embedding_ND, strict=True), strict=True))
        for name, is_reference in owners:
            if is_reference and by_name[name][0] is None:
                raise UserError(f"no face found in reference '{benchmark.folder / name}'; a reference must show one.")
        embedding = np.stack([by_name[s.references[0]][1] for s in benchmark.subjects])
        width = embedding.shape[1]
        heldout = tuple(
            np.array([by_name[n][1] for n in s.heldout if by_name[n][0] is not None]).reshape(-1, width)
            for s in benchmark.subjects
        )
    real = None
    if benchmark.real and (extractors.features or extractors.clip):
        cells = [
            benchmark.real_path(s.id, p.id, i)
            for s in benchmark.subjects
            for p in benchmark.prompts
            for i in range(benchmark.images_per_prompt)
        ]
        wanted = Extractors(features=extractors.features, clip=extractors.clip)
        real = measure(cells, wanted, benchmark.size, batch_size, "true pictures", show)
    return References(embedding, heldout, real)


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
    """All metrics of one method and one row a picture. `compare_with_real` False leaves out distances to the true set."""
    own_N = np.array([[s.id for s in benchmark.subjects].index(job.subject.id) for job in todo])
    rows: list[dict[str, Any]] = [_row(job) for job in todo]
    metrics: dict[str, dict[str, Any]] = {}
    if extractors.faces:
        metrics |= _identity(benchmark, measured, known, own_N, extractors.faces, rows)
    if extractors.clip and measured.clip_ND is not None:
        text_ND = _finite(extractors.clip.texts([plain(job.text) for job in todo]), extractors.clip.name)
        values = clip_score(measured.clip_ND, text_ND)
        _fill(rows, "clip_score", values)
        _add(metrics, "clip_score", bootstrap.mean(values, own_N, benchmark.seed), info(extractors.clip))
    if extractors.judge and measured.judged is not None:
        truth = [job.prompt.truth for job in todo]
        right = correct(measured.judged, truth)
        for i, row in enumerate(rows):
            row["judged"] = {key: answers[i] for key, answers in measured.judged.items()}
            row["prompt_correct"] = right[i]
        shares = prompt_accuracy(right)
        _fill(rows, "prompt_accuracy", shares)
        _add(metrics, "prompt_accuracy", bootstrap.mean(shares, own_N, benchmark.seed), info(extractors.judge))
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
        _add(metrics, "identity_auc", bootstrap.statistic(value, replicates, num_subjects, len(own_N)), info(extractor))
    for i, row in enumerate(rows):
        face = measured.chosen[i] if measured.chosen else None
        row["num_faces"] = len(measured.faces[i])
        row["face"] = None if face is None else _face(face)
        row["similarity_to"] = None if face is None else [round(float(x), 6) for x in similarity_NS[i]]
    for name in ("identity_similarity_detected", "identity_margin", "identity_rank1", "identity_heldout", "copy_paste"):
        if name in by_name:
            values = np.where(detected_N, by_name[name], np.nan)
            _fill(rows, name.removesuffix("_detected"), values)
    return metrics


def _heldout(measured: Measured, known: References, own_N: np.ndarray, own: np.ndarray) -> dict[str, np.ndarray]:
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
            _add(metrics, "frechet_distance", bootstrap.jackknife(lambda k: frechet_distance(ours[k], true), own_N), name)
            _add(metrics, "kernel_distance", bootstrap.jackknife(lambda k: kernel_distance(ours[k], true), own_N), name)
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
