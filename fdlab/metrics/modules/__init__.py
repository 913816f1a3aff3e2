"""The metrics as torchmetrics classes over features: alone, in a MetricCollection, or under data-parallel
training.

Each keeps features in list states that are concatenated over ranks, so that a result does not depend on how
pictures were spread. None holds a network: features come from outside. B batch, S subjects, D features.
Arguments have names of their own, so that a MetricCollection hands each metric what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fdlab.metrics import identity, matched, matching
from fdlab.metrics.clip_score import clip_score
from fdlab.metrics.frechet import frechet_distance
from fdlab.metrics.kernel import cmmd, kernel_distance
from fdlab.metrics.metric import Measurements


class _Lists(Metric):
    """A metric over rows that are kept until `compute`."""

    full_state_update = False
    states: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.states:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def rows(self, name: str) -> np.ndarray:
        """A state as one float64 array."""
        return np.asarray(dim_zero_cat(getattr(self, name)).double().cpu().numpy())

    def result(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class Identity(_Lists):
    """Every identity metric that follows from similarities: a dict by the record's names.

    update(similarity_BS, own_B, detected_B): cosine of each picture's face with every subject's reference,
    whose picture it is, whether a face was found.
    """

    higher_is_better = True
    states = ("similarity", "own", "detected")
    similarity: list[Tensor]
    own: list[Tensor]
    detected: list[Tensor]

    def update(self, similarity_BS: Tensor, own_B: Tensor, detected_B: Tensor) -> None:
        self.similarity.append(similarity_BS.double())
        self.own.append(own_B.long())
        self.detected.append(detected_B.long())

    def compute(self) -> dict[str, Tensor]:
        similarity, own = self.rows("similarity"), self.rows("own").astype(int)
        detected = self.rows("detected").astype(bool)
        similarities = identity.own_similarity(similarity, own, detected)
        values = {"identity_similarity": similarities.mean(), "face_detection_rate": detected.mean()}
        if detected.any():
            values["identity_similarity_detected"] = similarities[detected].mean()
        if similarity.shape[1] > 1:
            values["identity_margin"] = identity.margin(similarity, own, detected).mean()
            values["identity_rank1"] = identity.rank1(similarity, own, detected).mean()
            values["identity_auc"] = identity.auc(similarity, own, detected)
        return {name: self.result(float(value)) for name, value in values.items()}


class GroupIdentity(_Lists):
    """The same for pictures of several subjects, and the worst subject, blending and the count of faces.

    update(similarity_BFS, num_faces_B, group_BM, num_found_B): cosines of each picture's faces that count,
    padded to F, with every subject's reference; how many of the F there are; whom the picture should show;
    how many faces were found in all. F, M and S must not change.
    """

    higher_is_better = True
    states = ("similarity", "faces", "group", "found")
    similarity: list[Tensor]
    faces: list[Tensor]
    group: list[Tensor]
    found: list[Tensor]

    def update(
        self, similarity_BFS: Tensor, num_faces_B: Tensor, group_BM: Tensor, num_found_B: Tensor
    ) -> None:
        self.similarity.append(similarity_BFS.double())
        self.faces.append(num_faces_B.long())
        self.group.append(group_BM.long())
        self.found.append(num_found_B.long())

    def compute(self) -> dict[str, Tensor]:
        similarity_NFS, group_NM = self.rows("similarity"), self.rows("group").astype(int)
        faces_N = self.rows("faces").astype(int)
        similarities = [
            similarity_FS[:num] for similarity_FS, num in zip(similarity_NFS, faces_N, strict=True)
        ]
        found = matching.match(similarities, group_NM, similarity_NFS.shape[2])
        num_found_N = self.rows("found").astype(int)
        seen = Measurements(group_NM, group_NM, matches=found, num_faces_N=num_found_N)
        scored = {m.name: np.asarray(m.score(seen)) for m in matched.METRICS if m.possible(seen)}
        means = {name: np.nanmean(some) for name, some in scored.items() if np.isfinite(some).any()}
        if found.rivals_NMS.any():
            means["identity_auc"] = identity.auc(*found.flat())
        return {name: self.result(float(value)) for name, value in means.items()}


class HeldOut(_Lists):
    """Likeness to another picture of the same person, and copy-paste: a dict by the record's names.

    update(to_reference_B, to_heldout_B, apart_B, detected_B): cosines of each picture's face with the shown
    reference and with a held-out picture, of these two with each other, and whether a face was found.
    """

    higher_is_better = True
    states = ("to_reference", "to_heldout", "apart", "detected")
    to_reference: list[Tensor]
    to_heldout: list[Tensor]
    apart: list[Tensor]
    detected: list[Tensor]

    def update(
        self, to_reference_B: Tensor, to_heldout_B: Tensor, apart_B: Tensor, detected_B: Tensor
    ) -> None:
        self.to_reference.append(to_reference_B.double())
        self.to_heldout.append(to_heldout_B.double())
        self.apart.append(apart_B.double())
        self.detected.append(detected_B.long())

    def compute(self) -> dict[str, Tensor]:
        detected = self.rows("detected").astype(bool)
        reference, heldout, apart = (self.rows(name) for name in ("to_reference", "to_heldout", "apart"))
        values = {"identity_heldout": float(np.where(detected, heldout, 0.0).mean())}
        if detected.any():
            pasted = identity.copy_paste(reference[detected], heldout[detected], apart[detected])
            values["copy_paste"] = float(pasted.mean())
        return {name: self.result(value) for name, value in values.items()}


class ClipScore(_Lists):
    """Mean raw cosine of pictures and their prompts. update(image_features_BD, text_features_BD)."""

    higher_is_better = True
    states = ("scores",)
    scores: list[Tensor]

    def update(self, image_features_BD: Tensor, text_features_BD: Tensor) -> None:
        image, text = image_features_BD.double().cpu().numpy(), text_features_BD.double().cpu().numpy()
        self.scores.append(torch.from_numpy(clip_score(image, text)).to(self.device))

    def compute(self) -> Tensor:
        return self.result(float(self.rows("scores").mean()))


class _Distance(_Lists):
    """A distance between generated and true features. update(features_BD, real): `real` says which side."""

    higher_is_better = False
    states = ("generated", "true")
    generated: list[Tensor]
    true: list[Tensor]
    distance: Callable[[np.ndarray, np.ndarray], float]

    def update(self, features_BD: Tensor, real: bool) -> None:
        (self.true if real else self.generated).append(features_BD.double())

    def compute(self) -> Tensor:
        return self.result(type(self).distance(self.rows("generated"), self.rows("true")))


class FrechetDistance(_Distance):
    """Frechet distance; see `fdlab.metrics.frechet`."""

    distance = staticmethod(frechet_distance)


class KernelDistance(_Distance):
    """Unbiased cubic-kernel distance; see `fdlab.metrics.kernel`."""

    distance = staticmethod(kernel_distance)


class Cmmd(_Distance):
    """Unbiased CMMD; see `fdlab.metrics.kernel`."""

    distance = staticmethod(cmmd)


class PromptAccuracy(_Lists):
    """Share of asked attributes shown, a picture's mean first. update(num_correct_B, num_asked_B)."""

    higher_is_better = True
    states = ("shares",)
    shares: list[Tensor]

    def update(self, num_correct_B: Tensor, num_asked_B: Tensor) -> None:
        asked = num_asked_B > 0
        self.shares.append(num_correct_B[asked].double() / num_asked_B[asked].double())

    def compute(self) -> Tensor:
        return self.result(float(self.rows("shares").mean()))
