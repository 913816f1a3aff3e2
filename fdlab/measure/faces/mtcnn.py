"""Face detection with five landmarks: MTCNN's cascade (Zhang et al. 2016, arXiv 1604.02878), batched.

The proposal pyramid runs over all pictures of one size at once, the two later networks over all candidates of
all pictures. Axes: B pictures, N candidates, H W pixels, h w grid cells, 4 = x1 y1 x2 y2, 52 = five (x, y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.measure.faces.chips import sample_chips
from fdlab.measure.faces.face import Face
from fdlab.measure.faces.mtcnn_nets import OutputNet, ProposalNet, RefineNet
from fdlab.measure.faces.suppression import suppress

WEIGHTS = "mtcnn.safetensors"
CROPS_AT_ONCE = 1024


@dataclass(frozen=True)
class CascadeSettings:
    """When a window counts as a face. Thresholds and pyramid factor are the paper's authors' defaults."""

    min_face: float = 0.12
    """Smallest face looked for, as a fraction of the picture's shorter side."""
    min_pixels: float = 12.0
    """... but never smaller than this many pixels: 12 is the proposal network's window."""
    factor: float = 0.709
    """Ratio of neighbouring pyramid scales; 1/sqrt(2) halves the area."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Least face probability after the proposal, refine and output network."""


class Cascade(nn.Module):
    """The three networks; weights as in `assets/faces/mtcnn.safetensors`."""

    def __init__(self, settings: CascadeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pnet, self.rnet, self.onet = ProposalNet(), RefineNet(), OutputNet()

    @torch.no_grad()
    def forward(self, image_B3HW: Tensor) -> list[list[Face]]:
        """Detect faces in float RGB pictures (0..255); per picture, falling in score."""
        normal_B3HW = (image_B3HW - 127.5) / 128
        index_N, box_N4 = self._propose(normal_B3HW)
        index_N, box_N4 = self._refine(normal_B3HW, index_N, box_N4)
        index_N, box_N4, score_N, landmark_N52 = self._output(normal_B3HW, index_N, box_N4)
        faces: list[list[Face]] = [[] for _ in range(len(image_B3HW))]
        for index, box, score, landmark in zip(
            index_N.tolist(), box_N4.tolist(), score_N.tolist(), landmark_N52.cpu().numpy(), strict=True
        ):
            faces[index].append(Face(tuple(box), score, landmark.astype(np.float32)))
        return faces

    def scales(self, height: int, width: int) -> list[float]:
        """Scales of the pyramid, largest first, down to where the shorter side is one window."""
        shorter, window = min(height, width), ProposalNet.WINDOW
        scale = window / max(self.settings.min_face * shorter, self.settings.min_pixels)
        found = []
        while shorter * scale >= window:
            found.append(scale)
            scale *= self.settings.factor
        return found

    def _propose(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image_B3HW.shape[-2:]
        index, box, score = [], [], []
        for scale in self.scales(height, width):
            size = (round(height * scale), round(width * scale))
            small = F.interpolate(image_B3HW, size, mode="bilinear", antialias=True)
            score_Bhw, shift_B4hw = self.pnet(small)
            b, i, j = (score_Bhw > self.settings.thresholds[0]).nonzero(as_tuple=True)
            corner_N2 = torch.stack([j, i], 1) * float(ProposalNet.STRIDE)
            box_N4 = torch.cat([corner_N2, corner_N2 + ProposalNet.WINDOW], 1)
            ratio = box_N4.new_tensor([width / size[1], height / size[0]] * 2)
            found = box_N4 * ratio, score_Bhw[b, i, j]
            kept = suppress(*found, b, 0.5)
            index.append(b[kept])
            score.append(found[1][kept])
            box.append(torch.cat([found[0][kept], shift_B4hw[b, :, i, j][kept]], 1))
        if not index:
            none = torch.zeros(0, dtype=torch.long, device=image_B3HW.device)
            return none, image_B3HW.new_zeros(0, 4)
        index_N, both_N8, score_N = torch.cat(index), torch.cat(box), torch.cat(score)
        kept = suppress(both_N8[:, :4], score_N, index_N, 0.7)
        return index_N[kept], square(shifted(both_N8[kept, :4], both_N8[kept, 4:]))

    def _refine(self, image_B3HW: Tensor, index_N: Tensor, box_N4: Tensor) -> tuple[Tensor, Tensor]:
        score_N, shift_N4 = self._on_crops(self.rnet, image_B3HW, index_N, box_N4)
        index_N, box_N4, score_N, shift_N4 = _where(
            score_N > self.settings.thresholds[1], index_N, box_N4, score_N, shift_N4
        )
        kept = suppress(box_N4, score_N, index_N, 0.7)
        return index_N[kept], square(shifted(box_N4[kept], shift_N4[kept]))

    def _output(
        self, image_B3HW: Tensor, index_N: Tensor, box_N4: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        score_N, shift_N4, landmark_N52 = self._on_crops(self.onet, image_B3HW, index_N, box_N4)
        index_N, box_N4, score_N, shift_N4, landmark_N52 = _where(
            score_N > self.settings.thresholds[2], index_N, box_N4, score_N, shift_N4, landmark_N52
        )
        landmark_N52 = box_N4[:, None, :2] + landmark_N52 * (box_N4[:, 2:] - box_N4[:, :2])[:, None]
        box_N4 = shifted(box_N4, shift_N4)
        kept = suppress(box_N4, score_N, index_N, 0.7, over="smaller")
        return index_N[kept], box_N4[kept], score_N[kept], landmark_N52[kept]

    def _on_crops(
        self, net: RefineNet | OutputNet, image_B3HW: Tensor, index_N: Tensor, box_N4: Tensor
    ) -> list[Tensor]:
        parts = []
        # An empty chunk still runs once, so that the outputs have their shapes.
        for start in range(0, max(len(index_N), 1), CROPS_AT_ONCE):
            some = slice(start, start + CROPS_AT_ONCE)
            matrix_N23 = box_matrix(box_N4[some], net.SIZE)
            parts.append(net(sample_chips(image_B3HW, index_N[some], matrix_N23, net.SIZE, supersample=1)))
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


def shifted(box_N4: Tensor, shift_N4: Tensor) -> Tensor:
    """Move each edge by its offset, given in widths (x) and heights (y) of the box."""
    side_N2 = box_N4[:, 2:] - box_N4[:, :2]
    return box_N4 + shift_N4 * side_N2.repeat(1, 2)


def square(box_N4: Tensor) -> Tensor:
    """The square around the same centre with the longer side."""
    centre_N2 = (box_N4[:, :2] + box_N4[:, 2:]) / 2
    half_N1 = (box_N4[:, 2:] - box_N4[:, :2]).amax(1, keepdim=True).clamp(min=1.0) / 2
    return torch.cat([centre_N2 - half_N1, centre_N2 + half_N1], 1)


def box_matrix(box_N4: Tensor, size: int) -> Tensor:
    """The transform (N, 2, 3) from a chip of `size` pixels to each square box."""
    matrix_N23 = box_N4.new_zeros(len(box_N4), 2, 3)
    matrix_N23[:, 0, 0] = matrix_N23[:, 1, 1] = (box_N4[:, 2] - box_N4[:, 0]) / size
    matrix_N23[:, :, 2] = box_N4[:, :2]
    return matrix_N23


def _where(keep_N: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
    return [tensor[keep_N] for tensor in tensors]
