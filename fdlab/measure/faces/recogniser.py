"""Face recognisers as evaluation uses them: pictures and faces in, one unit vector a face out.

Axes: B pictures, N faces of all pictures in order, D embedding width, S chip pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdlab.measure.faces import align, dlib_resnet, faceres
from fdlab.measure.faces.face import Face
from fdlab.measure.resize import to_float
from fdlab.measure.weights import SHIPPED, freeze, load_tensors, weight_sha256

MEAN = "dlib_resnet_mean.safetensors"
FACERES_MEAN = "faceres_mean.safetensors"
CHIPS_AT_ONCE = 64


class Recogniser:
    """A frozen network on cut-out faces, known by name, version and the digest of its weights.

    It holds the network outside any module tree. A recogniser is a subclass that sets what is declared here.
    """

    name: str
    version = "1"
    sha256: str
    dim: int
    chip_size: int
    device: torch.device
    network: Callable[[Tensor], Tensor]
    """Chips (N, 3, S, S), float RGB in 0..255, to embeddings (N, D)."""
    mean_D: Tensor | None = None
    """What all faces have in common, subtracted before normalising; None: nothing is."""

    @torch.no_grad()
    def embed(self, images_BHW3: np.ndarray | Tensor, faces: Sequence[Sequence[Face]]) -> Tensor:
        """Unit-length embeddings (N, D), on the CPU, of all faces in order; a dot product is the cosine.

        images_BHW3 uint8 RGB; faces as `FaceDetector` gives them, one list a picture.
        """
        return self.normalised(self.raw(images_BHW3, faces))

    @torch.no_grad()
    def raw(self, images_BHW3: np.ndarray | Tensor, faces: Sequence[Sequence[Face]]) -> Tensor:
        """The network's own embeddings (N, D), on the CPU, neither centred nor normalised."""
        image_B3HW = to_float(images_BHW3, self.device)
        index_N = torch.tensor([b for b, some in enumerate(faces) for _ in some], dtype=torch.long)
        flat = [face for some in faces for face in some]
        parts = [torch.zeros(0, self.dim)]
        for start in range(0, len(flat), CHIPS_AT_ONCE):
            some = slice(start, start + CHIPS_AT_ONCE)
            chip_N3SS = self.cut(image_B3HW, index_N[some].to(self.device), flat[some])
            parts.append(self.network(chip_N3SS).float().cpu())
        return torch.cat(parts)

    def cut(self, image_B3HW: Tensor, index_N: Tensor, faces: Sequence[Face]) -> Tensor:
        """Chips (N, 3, S, S) of float pictures (0..255): here by their landmarks."""
        landmark_N52 = torch.from_numpy(np.array([face.landmarks_52 for face in faces], np.float32))
        return self.chips(image_B3HW, index_N, landmark_N52.to(image_B3HW.device))

    def chips(self, image_B3HW: Tensor, index_N: Tensor, landmark_N52: Tensor) -> Tensor:
        """Aligned chips (N, 3, S, S) of float pictures (0..255); differentiable in the pictures."""
        to_chip_N23 = align.mtcnn_matrix(landmark_N52, self.chip_size)
        return align.cut(image_B3HW, index_N, to_chip_N23, self.chip_size)

    def normalised(self, raw_ND: Tensor) -> Tensor:
        """Subtract the population mean (where centred) and scale to unit length."""
        return F.normalize(raw_ND if self.mean_D is None else raw_ND - self.mean_D.to(raw_ND.device), dim=1)

    def _centre(self, mean: Path) -> None:
        """Subtract a shipped mean; name and digest say so."""
        self.mean_D = load_tensors(mean)["mean_D"].to(self.device)
        self.name += "_centered"
        self.sha256 = hashlib.sha256(f"{self.sha256} {weight_sha256(mean)}".encode()).hexdigest()


class FaceRecogniser(Recogniser):
    """dlib's ResNet on MTCNN's faces.

    centered: subtract the shipped population mean before normalising. dlib's embeddings share a large common
    part, so that raw cosines of different people lie near 0.9; centred ones lie near 0. The name says which.
    """

    dim = dlib_resnet.DIM
    chip_size = dlib_resnet.CHIP_SIZE

    def __init__(self, device: torch.device | str = "cpu", centered: bool = True) -> None:
        self.name, self.device = "dlib_resnet", torch.device(device)
        self.sha256 = weight_sha256(SHIPPED / dlib_resnet.WEIGHTS)
        if centered:
            self._centre(SHIPPED / MEAN)
        network = dlib_resnet.DlibResNet()
        network.load_state_dict(dlib_resnet.dequantised(load_tensors(SHIPPED / dlib_resnet.WEIGHTS)))
        self.network = freeze(network, self.device)


class FaceresRecogniser(Recogniser):
    """HSE-FaceRes' MobileNet on MTCNN's faces: independent of dlib's network, in the same frame.

    centered: as in `FaceRecogniser`; raw cosines of different people lie near 0.5.
    """

    dim = faceres.DIM
    chip_size = faceres.CHIP_SIZE

    def __init__(self, device: torch.device | str = "cpu", centered: bool = True) -> None:
        self.name, self.device = "faceres", torch.device(device)
        self.sha256 = weight_sha256(SHIPPED / faceres.WEIGHTS)
        if centered:
            self._centre(SHIPPED / FACERES_MEAN)
        network = faceres.FaceRes()
        network.load_state_dict(faceres.dequantised(load_tensors(SHIPPED / faceres.WEIGHTS)))
        # Convolutions of one channel each run half again as fast on a CPU where channels lie last.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        freeze(network, self.device)
        self.network = lambda chip_N3SS: network(
            faceres.standardised(chip_N3SS).contiguous(memory_format=torch.channels_last)
        )
