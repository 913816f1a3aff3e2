"""Similarity transforms and antialiased chips."""

from __future__ import annotations

import math

import pytest
import torch

from fdlab.measure.faces import FaceRecogniser, align
from fdlab.measure.faces.chips import sample_chips
from fdlab.randomness import torch_generator


def turned(angle: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[[c, -s, shift[0]], [s, c, shift[1]]]])


def wave(size: int) -> torch.Tensor:
    """A smooth picture, known between its pixels: (1, 3, size, size)."""
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y, torch.sin(5 * x) * torch.cos(4 * y)])[None]


def test_similarity_recovers_a_known_transform() -> None:
    truth = turned(0.4, 2.5, (7.0, -3.0))
    point = torch.rand(1, 5, 2, generator=torch_generator(0, "points")) * 20
    target = align.transformed(truth, point)[0]
    weight = torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05])
    assert torch.allclose(align.similarity(point, target), truth, atol=1e-4)
    assert torch.allclose(align.similarity(point, target, weight), truth, atol=1e-4)


def test_inverse_undoes() -> None:
    matrix, point = turned(-1.1, 0.3, (2.0, 5.0)), torch.tensor([[[3.0, 4.0], [-1.0, 9.0]]])
    back = align.transformed(align.inverse(matrix), align.transformed(matrix, point))
    assert torch.allclose(back, point, atol=1e-5)


@pytest.mark.parametrize(("scale", "supersample"), [(0.5, 2), (1.0, 2), (2.7, 2), (6.0, 2), (2.7, 1)])
def test_chip_holds_the_picture_under_the_transform(scale: float, supersample: int) -> None:
    size, side = 128, 16
    matrix = turned(0.3, scale, (30.0, 10.0))
    chip = sample_chips(wave(size), torch.tensor([0]), matrix, side, supersample)
    line = torch.arange(side) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    place = align.transformed(matrix, torch.stack([x, y], -1).reshape(1, -1, 2))[0] / size
    expected = torch.stack(
        [place[:, 0], place[:, 1], torch.sin(5 * place[:, 0]) * torch.cos(4 * place[:, 1])]
    )
    inside = ((place > 0.05) & (place < 0.95)).all(1)
    assert inside.float().mean() > 0.8
    assert (chip[0].flatten(1) - expected)[:, inside].abs().max() < 0.02


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
    chip = sample_chips(stripes, torch.tensor([0]), turned(0.0, 8.0, (0.0, 0.0)), 32)
    assert (chip - 0.5).abs().max() < 1e-5


def test_outside_is_zero_and_each_chip_reads_its_own_picture() -> None:
    pictures = torch.stack([torch.full((3, 20, 20), 1.0), torch.full((3, 20, 20), 2.0)])
    matrix = torch.cat(
        [turned(0.0, 1.0, (5.0, 5.0)), turned(0.0, 4.0, (0.0, 0.0)), turned(0, 1.0, (50.0, 0.0))]
    )
    chip = sample_chips(pictures, torch.tensor([1, 0, 1]), matrix, 5)
    assert chip[0].eq(2).all() and chip[1].allclose(torch.tensor(1.0)) and chip[2].eq(0).all()


def test_embedding_has_a_gradient_in_the_picture_and_none_in_the_weights() -> None:
    recogniser = FaceRecogniser()
    picture = (wave(64) * 100 + 100).requires_grad_()
    landmark = torch.tensor([[[22.0, 25.0], [42.0, 25.0], [32.0, 36.0], [25.0, 46.0], [40.0, 46.0]]])
    chip = recogniser.chips(picture, torch.tensor([0]), landmark)
    recogniser.normalised(recogniser.network(chip))[0, 0].backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0
    assert all(not weight.requires_grad for weight in recogniser.network.parameters())
