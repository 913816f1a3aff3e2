from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from fdlab.metrics import identity
from fdlab.metrics import modules as metrics
from fdlab.metrics.frechet import frechet_distance
from fdlab.metrics.kernel import cmmd, kernel_distance


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    own = torch.arange(4).repeat_interleave(3)
    return torch.randn(12, 4, generator=generator), own, torch.rand(12, generator=generator) > 0.3


def test_identity_in_parts_is_the_function_of_the_whole() -> None:
    similarity, own, detected = data()
    metric = metrics.Identity()
    for rows in torch.arange(12).split(5):
        metric.update(similarity[rows], own[rows], detected[rows])
    got = {name: float(value) for name, value in metric.compute().items()}
    arrays = similarity.double().numpy(), own.numpy(), detected.numpy()
    assert got["identity_auc"] == pytest.approx(identity.auc(*arrays))
    assert got["identity_similarity"] == pytest.approx(identity.own_similarity(*arrays).mean())
    assert got["identity_rank1"] == pytest.approx(identity.rank1(*arrays).mean())
    assert got["identity_margin"] == pytest.approx(identity.margin(*arrays).mean())
    metric.reset()
    metric.update(similarity, own, torch.zeros(12, dtype=torch.bool))
    assert "identity_similarity_detected" not in metric.compute()


def test_distances_in_a_collection() -> None:
    generator = torch.Generator().manual_seed(1)
    ours, true = torch.randn(20, 6, generator=generator), torch.randn(30, 6, generator=generator) + 0.5
    parts = [metrics.FrechetDistance(), metrics.KernelDistance(), metrics.Cmmd()]
    collection = MetricCollection(parts)  # type: ignore[arg-type]
    for rows in ours.split(7):
        collection.update(features_BD=rows, real=False)
    for rows in true.split(11):
        collection.update(features_BD=rows, real=True)
    got = {name: float(value) for name, value in collection.compute().items()}
    arrays = ours.double().numpy(), true.double().numpy()
    assert got["FrechetDistance"] == pytest.approx(frechet_distance(*arrays))
    assert got["KernelDistance"] == pytest.approx(kernel_distance(*arrays))
    assert got["Cmmd"] == pytest.approx(cmmd(*arrays))


def test_a_collection_hands_each_metric_its_arguments() -> None:
    similarity, own, detected = data()
    collection = MetricCollection(
        [metrics.Identity(), metrics.ClipScore(), metrics.PromptAccuracy(), metrics.FrechetDistance()]  # type: ignore[arg-type]
    )
    for real in (False, True):
        collection.update(
            similarity_BS=similarity, own_B=own, detected_B=detected,
            image_features_BD=similarity, text_features_BD=similarity,
            num_correct_B=torch.tensor([1, 2, 0]), num_asked_B=torch.tensor([2, 2, 0]),
            features_BD=similarity, real=real,
        )  # fmt: skip
    got = collection.compute()
    assert float(got["ClipScore"]) == pytest.approx(1.0) and float(got["PromptAccuracy"]) == pytest.approx(
        0.75
    )
    assert float(got["FrechetDistance"]) == pytest.approx(0.0, abs=1e-9) and "identity_auc" in got
    # None holds a network that could leak into a checkpoint.
    assert not list(collection.parameters()) and not collection.state_dict()


def test_results_are_float64() -> None:
    metric = metrics.KernelDistance()
    metric.update(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).half(), real=False)
    metric.update(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).half(), real=True)
    assert metric.compute().dtype == torch.float64 and np.isfinite(float(metric.compute()))


def test_groups_in_parts_by_hand() -> None:
    """Two pictures of two subjects out of three: one right with places changed, one with a face too many."""
    own_face, other_face = [0.9, 0.1, 0.3], [0.2, 0.8, 0.0]
    similarity = torch.tensor([[other_face, own_face], [own_face, [0.0, 0.0, 0.0]]])
    metric = metrics.GroupIdentity()
    group = torch.tensor([[0, 1]])
    metric.update(similarity[:1], torch.tensor([2]), group, torch.tensor([2]))
    metric.update(similarity[1:], torch.tensor([1]), group, torch.tensor([3]))
    got = {name: float(value) for name, value in metric.compute().items()}
    assert got["identity_similarity"] == pytest.approx(((0.9 + 0.8) / 2 + 0.9 / 2) / 2)
    assert got["identity_similarity_min"] == pytest.approx((0.8 + 0.0) / 2)
    assert got["identity_similarity_detected"] == pytest.approx(((0.9 + 0.8) / 2 + 0.9) / 2)
    assert got["face_detection_rate"] == pytest.approx(0.75)
    assert got["face_count_accuracy"] == pytest.approx(0.5)
    assert got["identity_blending"] == pytest.approx(((0.1 + 0.2) / 2 + 0.1) / 2)
    assert {"identity_auc", "identity_rank1", "identity_margin"} <= set(got)


def test_groups_of_one_are_single_subjects() -> None:
    similarity, own, detected = data()
    single, groups = metrics.Identity(), metrics.GroupIdentity()
    single.update(similarity, own, detected)
    groups.update(similarity[:, None], detected.long(), own[:, None], detected.long())
    got = groups.compute()
    for name, value in single.compute().items():
        assert float(got[name]) == pytest.approx(float(value)), name


def test_held_out_and_copy_paste() -> None:
    metric = metrics.HeldOut()
    angles = {"reference": torch.tensor([0.0, 0.5, 0.1]), "heldout": torch.tensor([1.0, 0.5, 0.1])}
    found = torch.tensor([True, True, False])
    metric.update(angles["reference"].cos(), angles["heldout"].cos(), torch.ones(3).cos(), found)
    got = metric.compute()
    # A copy of the reference scores 1, a face as near to both 0; the one that was not found is neither.
    assert float(got["copy_paste"]) == pytest.approx(0.5, abs=1e-3)
    assert float(got["identity_heldout"]) == pytest.approx((np.cos(1.0) + np.cos(0.5)) / 3, abs=1e-6)
