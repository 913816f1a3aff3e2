"""The one pass of pictures through the networks that measure.

B batch, N images, S subjects, D features, H W pixels, 3 RGB uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark, group_id
from fdlab.data.pictures import read_image, read_images
from fdlab.engine.ranks import ALONE, Ranks
from fdlab.errors import UserError
from fdlab.measure.faces.face import by_size
from fdlab.measure.networks import Extractors, FaceNetwork, finite
from fdlab.pipeline.batches import whole_batches
from fdlab.progress import bar

PNG = b"\x89PNG\r\n\x1a\n"
"""What every PNG begins with."""


@dataclass
class Measured:
    """Everything measured on a list of pictures; absent extractors leave None."""

    faces: list[list[Any]] | None = None
    counted: list[list[Any]] | None = None
    """The faces that count in each picture, largest first: at most as many as it should show."""
    embedding_NMD: np.ndarray | None = None
    """Of the faces that count, zeros where there are fewer."""
    clip_ND: np.ndarray | None = None
    features_ND: np.ndarray | None = None
    judged: dict[str, list[str]] | None = None

    @property
    def detected_N(self) -> np.ndarray:
        """Whether a picture shows a face."""
        return np.array([bool(faces) for faces in self.counted or []], bool)

    @property
    def embedding_ND(self) -> np.ndarray | None:
        """Of the largest face."""
        return None if self.embedding_NMD is None else self.embedding_NMD[:, 0]


@dataclass(frozen=True)
class References:
    """Embeddings of what pictures are compared with, measured once an evaluation."""

    embedding_SD: np.ndarray | None = None
    heldout: tuple[np.ndarray, ...] = ()
    """Per subject (H, D), H held-out pictures; (0, D) where there are none."""
    real: Measured | None = field(default=None)
    """The benchmark's true pictures, measured by `features` and `clip`."""


def measure(
    paths: Sequence[Path],
    extractors: Extractors,
    size: int | None = None,
    batch_size: int = 32,
    description: str = "scoring",
    show: bool = True,
    num_subjects: int = 1,
    jpeg_quality: int | None = None,
    ranks: Ranks = ALONE,
) -> Measured:
    """Run every extractor over pictures, each read once. `size` None takes pictures of any one size a
    batch; `num_subjects` is how many people each should show; with `jpeg_quality` a picture is looked at as
    it comes out of JPEG. Of `ranks` each looks at a part of the batches, and all get the whole."""
    mine = ranks.block(whole_batches(paths, batch_size))
    parts: list[Measured] = []
    with bar(description, sum(map(len, mine)), show=show and ranks.is_first) as progress:
        for batch in mine:
            images = read_images(batch, size)
            if jpeg_quality is not None:
                images = profiles.recompressed(images, jpeg_quality)
            parts.append(_batch(images, extractors, num_subjects))
            progress.advance(len(images))
    return _join([part for some in ranks.gathered(parts) for part in some])


def _batch(images_BHW3: np.ndarray, extractors: Extractors, num_subjects: int) -> Measured:
    out = Measured()
    if extractors.faces:
        out.faces = extractors.faces.detect(images_BHW3)
        # Taken without looking at any reference, so that own and other subjects are compared alike, and
        # drawing a crowd does not help.
        out.counted = [by_size(entry)[:num_subjects] for entry in out.faces]
        out.embedding_NMD = _embed(extractors.faces, images_BHW3, out.counted, num_subjects)
    if extractors.clip:
        out.clip_ND = finite(extractors.clip(images_BHW3), extractors.clip.name)
    if extractors.features:
        out.features_ND = finite(extractors.features(images_BHW3), extractors.features.name)
    if extractors.judge:
        out.judged = extractors.judge(images_BHW3)
    return out


def check_png(paths: Sequence[Path]) -> None:
    """That drawn pictures are PNG inside too, as the record says. Raises: UserError naming the first that is
    not."""
    for path in paths:
        with path.open("rb") as stream:
            if stream.read(len(PNG)) != PNG:
                raise UserError(
                    f"'{path}' is no PNG inside: drawn pictures are scored without what JPEG and others "
                    "lose; write them as PNG from the start."
                )


def _join(parts: Sequence[Measured]) -> Measured:
    """What was measured on several batches, in one."""

    def lists(name: str) -> list[Any] | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else [entry for some in found for entry in some]

    def arrays(name: str) -> np.ndarray | None:
        found = [getattr(part, name) for part in parts]
        if found[0] is None:
            return None
        # A batch without any face knows no width.
        width = max(array.shape[-1] for array in found)
        return np.concatenate(
            [array if array.shape[-1] else np.zeros((*array.shape[:-1], width)) for array in found]
        )

    judged = [part.judged for part in parts]
    return Measured(
        faces=lists("faces"),
        counted=lists("counted"),
        embedding_NMD=arrays("embedding_NMD"),
        clip_ND=arrays("clip_ND"),
        features_ND=arrays("features_ND"),
        judged=None
        if judged[0] is None
        else {key: [answer for some in judged if some for answer in some.get(key, [])] for key in judged[0]},
    )


def _embed(
    extractor: FaceNetwork, images_BHW3: np.ndarray, counted: Sequence[Sequence[Any]], num_subjects: int
) -> np.ndarray:
    places = [(i, k) for i, faces in enumerate(counted) for k in range(len(faces))]
    shape = (len(images_BHW3), num_subjects)
    if not places:
        return np.zeros((*shape, 0))
    rows, columns = (list(numbers) for numbers in zip(*places, strict=True))
    embedded = finite(extractor.embed(images_BHW3[rows], [counted[i][k] for i, k in places]), extractor.name)
    out = np.zeros((*shape, embedded.shape[1]))
    out[rows, columns] = embedded
    return out


def check_references(benchmark: Benchmark, extractors: Extractors) -> None:
    """Whether every reference picture shows a face, as `references` will want it; of pictures that are not
    rendered yet nothing is asked. Raises: UserError for the first without."""
    paths = [benchmark.folder / subject.references[0] for subject in benchmark.subjects]
    if not extractors.faces or not all(path.is_file() for path in paths):
        return
    measured = measure(paths, Extractors(faces=extractors.faces), batch_size=1, show=False)
    assert measured.counted is not None
    for path, found in zip(paths, measured.counted, strict=True):
        if not found:
            raise _without_a_face(path)


def _without_a_face(path: Path) -> UserError:
    return UserError(f"no face found in reference '{path}'; a reference must show one.")


def references(
    benchmark: Benchmark,
    extractors: Extractors,
    batch_size: int = 32,
    show: bool = True,
    ranks: Ranks = ALONE,
) -> References:
    """Measure references, held-out pictures and true pictures, shared out to `ranks`. UserError for a
    reference without a face."""
    embedding: np.ndarray | None = None
    heldout: tuple[np.ndarray, ...] = ()
    if extractors.faces:
        only_faces = Extractors(faces=extractors.faces)
        owners = [(s.references[0], True) for s in benchmark.subjects]
        owners += [(name, False) for s in benchmark.subjects for name in s.heldout]
        # Pictures of a user's own benchmark may differ in size: one at a time then.
        paths = [benchmark.folder / name for name, _ in owners]
        same = len({read_image(path).shape for path in paths}) == 1
        size = batch_size if same else 1
        measured = measure(
            paths, only_faces, batch_size=size, description="references", show=show, ranks=ranks
        )
        assert measured.counted is not None and measured.embedding_ND is not None
        by_name = dict(
            zip(
                (name for name, _ in owners),
                zip(measured.counted, measured.embedding_ND, strict=True),
                strict=True,
            )
        )
        for name, is_reference in owners:
            if is_reference and not by_name[name][0]:
                raise _without_a_face(benchmark.folder / name)
        embedding = np.stack([by_name[s.references[0]][1] for s in benchmark.subjects])
        width = embedding.shape[1]
        heldout = tuple(
            np.array([by_name[n][1] for n in s.heldout if by_name[n][0]]).reshape(-1, width)
            for s in benchmark.subjects
        )
    real = None
    if benchmark.real and (extractors.features or extractors.clip):
        cells = [benchmark.real_path(group_id(group), p.id, i) for group, p, i in benchmark.cells()]
        wanted = Extractors(features=extractors.features, clip=extractors.clip)
        real = measure(cells, wanted, benchmark.size, batch_size, "true pictures", show, ranks=ranks)
    return References(embedding, heldout, real)
