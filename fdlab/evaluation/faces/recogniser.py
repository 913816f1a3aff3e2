"""The face recogniser as evaluation uses it: pictures and faces in, one unit vector a face out.

Axes: B pictures, N faces of all pictures in order, D = 128, S = 150 chip pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdlab.evaluation.extractors.resize import to_float
from fdlab.evaluation.faces import align, dlib_resnet
from fdlab.evaluation.faces.face import Face
from fdlab.evaluation.faces.weights import SHIPPED, freeze, load_tensors, weight_sha256

MEAN = "dlib_resnet_mean.safetensors"
CHIPS_AT_ONCE = 64


class FaceRecogniser:
    """dlib's ResNet on MTCNN's faces. Holds its network outside any module tree, frozen, in evaluation mode.

    centered: subtract the shipped population mean before normalising. dlib's embeddings share a large common
    part, so that raw cosines of different people lie near 0.9; centred ones lie near 0. The name says which.
    """

    version = "1"
    dim = dlib_resnet.DIM

    def __init__(self, device: torch.device | str = "cpu", centered: bool = True) -> None:
        self.name = "dlib_resnet_centered" if centered else "dlib_resnet"
        self.device = torch.device(device)
        self.sha256 = weight_sha256(SHIPPED / dlib_resnet.WEIGHTS)
        self.mean_D = torch.zeros(self.dim, device=self.device)
        if centered:
            self.mean_D = load_tensors(SHIPPED / MEAN)["mean_D"].to(self.device)
            both = f"{self.sha256} {weight_sha256(SHIPPED / MEAN)}"
            self.sha256 = hashlib.sha256(both.encode()).hexdigest()
        self.network = dlib_resnet.DlibResNet()
        self.network.load_state_dict(dlib_resnet.dequantised(load_tensors(SHIPPED / dlib_resnet.WEIGHTS)))
        freeze(self.network, self.device)

    @torch.no_grad()
    def embed(self, images_BHW3: np.ndarray | Tensor, faces: Sequence[Sequence[Face]]) -> Tensor:
        """Unit-length embeddings (N, D), on the CPU, of all faces in order; a dot product is the cosine.

        images_BHW3 uint8 RGB; faces as `FaceDetector` gives them, one list a picture.
        """
        return self.normalised(self.raw(images_BHW3, faces))

    @torch.no_grad()
    def raw(self, images_BHW3: np.ndarray | Tensor, faces: Sequence[Sequence[Face]]) -> Tensor:
        """dlib's own descriptors (N, D), on the CPU, neither centred nor normalised."""
        image_B3HW = to_float(images_BHW3, self.device)
        index_N = torch.tensor([b for b, some in enumerate(faces) for _ in some], dtype=torch.long)
        landmarks = [face.landmarks_52 for some in faces for face in some]
        landmark_N52 = torch.from_numpy(np.array(landmarks, np.float32).reshape(-1, 5, 2))
        parts = [self.network.fc.weight.new_zeros(0, self.dim)]
        for index, landmark in zip(
            index_N.split(CHIPS_AT_ONCE), landmark_N52.split(CHIPS_AT_ONCE), strict=True
        ):
            if len(index):
                parts.append(
                    self.network(self.chips(image_B3HW, index.to(self.device), landmark.to(self.device)))
                )
        return torch.cat(parts).cpu()

    def chips(self, image_B3HW: Tensor, index_N: Tensor, landmark_N52: Tensor) -> Tensor:
        """Aligned chips (N, 3, 150, 150) of float pictures (0..255); differentiable in the pictures."""
        to_chip_N23 = align.mtcnn_matrix(landmark_N52, dlib_resnet.CHIP_SIZE)
        return align.cut(image_B3HW, index_N, to_chip_N23, dlib_resnet.CHIP_SIZE)

    def normalised(self, raw_ND: Tensor) -> Tensor:
        """Subtract the population mean (where centred) and scale to unit length."""
        return F.normalize(raw_ND - self.mean_D.to(raw_ND.device), dim=1)
