"""What an SDM's training makes of faces."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fdlab.diffusion.losses import masked_noise_loss
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector, SubjectFaces
from fdlab.training import faces
from fdlab.training.faces import FaceSettings, Identity, face_area, face_weights, identity_loss, teacher

GOLDEN = Path(__file__).parents[2] / "golden/faces"
NONE = torch.full((5, 2), torch.nan)
FACE = torch.tensor([[20.0, 20.0], [28.0, 20.0], [24.0, 24.0], [21.0, 30.0], [27.0, 30.0]])
"""Eyes at (24, 20), mouth at (24, 30): 10 apart, the box's middle (24, 24)."""


def test_a_faces_box_lies_around_its_landmarks() -> None:
    found = face_area(torch.stack([torch.stack([FACE, NONE]), torch.stack([NONE, NONE])]), 4, 12, 6)
    assert found.shape == (2, 1, 12, 6) and not found[1].any()
    for row in range(12):
        for column in range(6):
            x, y = (column + 0.5) * 4, (row + 0.5) * 4
            assert bool(found[0, 0, row, column]) == (abs(x - 24) < 12.5 and abs(y - 24) < 14.5)


def test_weights_count_faces_more_and_change_no_samples_share() -> None:
    area = face_area(torch.stack([FACE[None], NONE[None]]), 4, 12, 12)
    weights = face_weights(area, 3.0)
    inside, outside = weights[0][area[0] > 0], weights[0][area[0] == 0]
    torch.testing.assert_close(inside.mean() / outside.mean(), torch.tensor(4.0))
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(2))
    generator = torch.Generator().manual_seed(0)
    output, target = (torch.randn(2, 4, 12, 12, generator=generator) for _ in range(2))
    mask, valid = torch.zeros(2, 1, 12, 12), torch.ones(2, 1, dtype=torch.bool)
    mask[:, :, :6] = 1
    for masked, places in ((False, torch.ones(2, 1, 12, 12)), (True, mask)):
        found = masked_noise_loss(
            output,
            target,
            mask,
            valid,
            torch.tensor([masked, masked]),
            normalized=True,
            pixel_weight_B1HW=weights,
        )
        error = (output - target).square() * weights * places
        torch.testing.assert_close(found, (error.sum((1, 2, 3)) / (4 * places.sum((1, 2, 3)))).mean())


@cache
def photos() -> tuple[Tensor, Tensor, Tensor]:
    """Two people: pictures R3HW in [-1, 1], landmarks R52 and embeddings RD."""
    reader = SubjectFaces(teacher("faceres", None), FaceDetector())
    pictures, landmarks, embeddings = [], [], []
    for name in ("astronaut-0.png", "sample1-0.png"):
        image_HW3 = np.asarray(Image.open(GOLDEN / name).convert("RGB").resize((160, 160)))
        faces = reader(image_HW3, np.ones((1, 160, 160), bool))
        pictures.append(torch.tensor(image_HW3).permute(2, 0, 1) / 127.5 - 1)
        landmarks.append(torch.from_numpy(faces.landmarks_N52[0]))
        embeddings.append(torch.from_numpy(faces.embedding_ND[0]))
    return torch.stack(pictures), torch.stack(landmarks), torch.stack(embeddings)


def test_faces_are_found_on_their_masks_alone() -> None:
    reader = SubjectFaces(teacher("faceres", None))
    assert "faceres" in reader.name and reader.dim > 0 and SubjectFaces().dim == 0
    image_HW3 = np.asarray(Image.open(GOLDEN / "astronaut-0.png").convert("RGB").resize((160, 160)))
    masks = np.zeros((3, 160, 160), bool)
    masks[1], masks[2, -3:] = True, True
    faces = reader(image_HW3, masks)
    assert np.isfinite(faces.landmarks_N52).all((1, 2)).tolist() == [False, True, False]
    np.testing.assert_allclose(np.linalg.norm(faces.embedding_ND, axis=1), [0, 1, 0], atol=1e-5)
    nobody = reader(image_HW3, masks[:0])
    assert nobody.landmarks_N52.shape == (0, 5, 2) and nobody.embedding_ND.shape == (0, reader.dim)


def test_identity_is_the_recognisers_cosine_and_its_gradient_leads_to_the_face() -> None:
    pictures, landmarks, embeddings = photos()
    identity = Identity(lambda z: z, teacher("faceres", None))
    same = identity(pictures, landmarks, embeddings)
    assert same.abs().max() < 0.02
    swapped = identity(pictures, landmarks, embeddings.flip(0))
    torch.testing.assert_close(
        swapped, (1 - (embeddings[0] * embeddings[1]).sum()).expand(2), atol=0.02, rtol=0
    )
    z = (0.5 * pictures).requires_grad_()
    identity(z, landmarks, embeddings.flip(0)).sum().backward()
    assert z.grad is not None
    x, y = (int(v) for v in landmarks[0].mean(0))
    around = z.grad[0, :, y - 40 : y + 40, x - 40 : x + 40]
    assert around.abs().sum() > 0.9 * z.grad[0].abs().sum() > 0


def test_only_what_is_given_found_and_in_range_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
    sigma_T = schedule.log_sigma_T.exp()
    inside, low, high = (int((sigma_T - level).abs().argmin()) for level in (1.0, 0.1, 9.0))
    seen: list[Tensor] = []

    class Recording(Identity):
        def __call__(self, z0_RCHW: Tensor, landmark_R52: Tensor, true_RD: Tensor) -> Tensor:
            seen.append(true_RD[:, 0])
            torch.testing.assert_close(z0_RCHW, clean[true_RD[:, 0].long() // 2])
            return torch.ones(len(z0_RCHW))

    generator = torch.Generator().manual_seed(0)
    clean, eps = (torch.randn(6, 4, 3, 3, generator=generator) for _ in range(2))
    t = torch.tensor([inside, low, high, inside, inside, inside])
    z, output = schedule.add_noise(clean, eps, t), schedule.target(clean, eps, t)
    landmarks = FACE.expand(6, 2, 5, 2).clone()
    landmarks[3, 0, 2] = torch.nan
    valid = torch.tensor([[True, True]] * 4 + [[False, True]] + [[True, True]])
    true = torch.arange(12.0).reshape(6, 2, 1)
    identity = Recording(lambda z: z, None)  # type: ignore[arg-type]
    given = (schedule, z, output, t, landmarks, true, valid)
    everyone = FaceSettings(identity_weight=1, identity_share=2)
    found = identity_loss(identity, everyone, *given)
    # Subject n of sample b is 2 b + n: samples 1 and 2 lie out of range, 6 has no face, 8 is not given.
    assert seen[0].tolist() == [0, 1, 7, 9, 10, 11] and found == 1.0
    found = identity_loss(identity, FaceSettings(identity_weight=1, identity_share=0.5), *given)
    assert seen[1].tolist() == [0, 1, 7] and found == 0.5
    nobody = identity_loss(identity, everyone, *given[:-1], torch.zeros_like(valid))
    assert nobody == 0 and len(seen) == 2
    # Two processes with half of the batch each look at those that one looks at, and their mean is the same.
    shared = []
    for rank, part in enumerate((slice(0, 3), slice(3, 6))):
        here = SimpleNamespace(world=2, before=lambda own, device, rank=rank: rank * 2)
        monkeypatch.setattr(faces, "Ranks", SimpleNamespace(here=lambda here=here: here))
        own = (schedule, z[part], output[part], t[part], landmarks[part], true[part], valid[part])
        shared.append(identity_loss(identity, FaceSettings(identity_weight=1, identity_share=0.5), *own))
    assert [row.tolist() for row in seen[2:]] == [[0, 1], [7]]
    assert sum(shared) / 2 == 0.5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dlib", "it measures what is drawn"),
        ("arcface", "does not ship"),
        ("facerez", "Did you mean 'faceres'"),
    ],
)
def test_who_cannot_teach_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        teacher(name, None)


def test_noise_levels_that_nobody_would_look_at_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.identity_from=6 is not below model\.identity_to=5"):
        FaceSettings(identity_weight=0.2, identity_from=6, identity_to=5)
