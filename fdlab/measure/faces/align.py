"""Faces brought into the recogniser's frame: a similarity transform from landmarks, then an antialiased chip.

Axes: N faces, P points, S chip side. Points are (x, y), continuous (pixel centres at .5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fdlab.measure.faces.chips import sample_chips

DLIB_PADDING = 0.25

DLIB_EYES_AND_NOSE_52 = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
"""Where dlib's five points lie in an unpadded face (viewer's right eye: outer, inner corner; left eye: outer,
inner corner; base of the nose): the mean shape of `get_face_chip_details` in dlib/image_transforms."""

MTCNN_52 = ((0.3217, 0.3003), (0.6783, 0.3003), (0.5, 0.5236), (0.352, 0.7004), (0.648, 0.7004))
"""Where MTCNN's five landmarks lie in dlib's padded unit chip: the mean over faces that dlib also placed."""

MTCNN_WEIGHT_5 = (0.438, 0.438, 0.112, 0.006, 0.006)
"""How much each landmark counts, fitted so that the frame comes closest to dlib's: 2.4 of 150 pixels off, 3.3
with equal weights (a mouth moves). `experiments/assets/make_faces.py template` prints both constants."""


def similarity(source_NP2: Tensor, target_P2: Tensor, weight_P: Tensor | None = None) -> Tensor:
    """Least-squares similarity (rotation, uniform scale, shift) that takes source to target: (N, 2, 3).

    The closed form of Umeyama (1991) in the plane, where rotation and scale are one complex factor.
    """
    weight_P1 = torch.ones_like(target_P2[:, :1]) if weight_P is None else weight_P[:, None]
    weight_P1 = weight_P1 / weight_P1.sum()
    source_mean_N12 = (source_NP2 * weight_P1).sum(1, keepdim=True)
    target_mean_2 = (target_P2 * weight_P1).sum(0)
    source, target = source_NP2 - source_mean_N12, target_P2 - target_mean_2
    dot_N = (source * target * weight_P1).sum((1, 2))
    cross_N = ((source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]) * weight_P1[:, 0]).sum(1)
    power_N = (source.square() * weight_P1).sum((1, 2)).clamp(min=1e-12)
    a_N, b_N = dot_N / power_N, cross_N / power_N
    linear_N22 = torch.stack([torch.stack([a_N, -b_N], -1), torch.stack([b_N, a_N], -1)], -2)
    shift_N21 = target_mean_2[:, None] - linear_N22 @ source_mean_N12.transpose(1, 2)
    return torch.cat([linear_N22, shift_N21], 2)


def inverse(matrix_N23: Tensor) -> Tensor:
    """The transform back."""
    linear_N22 = torch.linalg.inv(matrix_N23[:, :, :2])
    return torch.cat([linear_N22, -linear_N22 @ matrix_N23[:, :, 2:]], 2)


def transformed(matrix_N23: Tensor, point_NP2: Tensor) -> Tensor:
    """Points after the transform."""
    return point_NP2 @ matrix_N23[:, :, :2].transpose(1, 2) + matrix_N23[:, None, :, 2]


def padded(template_P2: tuple[tuple[float, float], ...], like: Tensor) -> Tensor:
    """Positions in an unpadded unit face, as positions in dlib's padded unit chip."""
    return (like.new_tensor(template_P2) + DLIB_PADDING) / (2 * DLIB_PADDING + 1)


def dlib_matrix(point_N52: Tensor, size: int) -> Tensor:
    """The transform from dlib's own five points (its order) to its padded chip of `size` pixels."""
    return similarity(point_N52, padded(DLIB_EYES_AND_NOSE_52, point_N52) * size)


def mtcnn_matrix(landmark_N52: Tensor, size: int) -> Tensor:
    """The transform from MTCNN's five landmarks to the frame of dlib's padded chip of `size` pixels."""
    weight_5 = landmark_N52.new_tensor(MTCNN_WEIGHT_5)
    return similarity(landmark_N52, landmark_N52.new_tensor(MTCNN_52) * size, weight_5)


def cut(image_B3HW: Tensor, index_N: Tensor, to_chip_N23: Tensor, size: int) -> Tensor:
    """Cut the chip of each face as dlib does: (N, 3, size, size), differentiable in the pictures.

    dlib spreads the chip's pixels from the first to the last pixel of a box whose side is one picture pixel
    short. The network was trained on that, and small faces feel it (2 % at four chip pixels a picture pixel).
    """
    matrix_N23 = inverse(to_chip_N23)
    step_N = torch.linalg.det(matrix_N23[:, :, :2]).sqrt()
    zoom_N11 = ((size * step_N - 1) / ((size - 1) * step_N))[:, None, None]
    centre_N21 = matrix_N23[:, :, :2].sum(2, keepdim=True) * (size / 2)
    linear_N22 = matrix_N23[:, :, :2] * zoom_N11
    shift_N21 = matrix_N23[:, :, 2:] + centre_N21 * (1 - zoom_N11)
    return sample_chips(image_B3HW, index_N, torch.cat([linear_N22, shift_N21], 2), size)


def cut_plain(image_B3HW: Tensor, index_N: Tensor, to_chip_N23: Tensor, size: int) -> Tensor:
    """Cut the chip of each face, corner to corner: (N, 3, size, size), differentiable in the pictures.

    A face that shrinks is averaged; one that does not is read once a pixel, as a plain bilinear warp does.
    """
    matrix_N23 = inverse(to_chip_N23)
    shrinks_N = torch.linalg.det(matrix_N23[:, :, :2]) > 1
    order, parts = [], []
    for supersample in (1, 2):
        rows = (shrinks_N == (supersample == 2)).nonzero().squeeze(1)
        order.append(rows)
        parts.append(sample_chips(image_B3HW, index_N[rows], matrix_N23[rows], size, supersample))
    return torch.cat(parts)[torch.cat(order).argsort()]
