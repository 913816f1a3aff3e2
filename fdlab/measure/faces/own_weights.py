"""Recognisers from weights that the user brings: FaceNet, ArcFace, AdaFace, each fed as it was trained.

Axes: B pictures, N faces, S chip pixels, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fdlab.measure.faces import align, inception_resnet, iresnet
from fdlab.measure.faces.face import Face
from fdlab.measure.faces.onnx import OnnxNetwork
from fdlab.measure.faces.recogniser import Recogniser
from fdlab.measure.resize import resize
from fdlab.measure.weights import fill, freeze, load_state, weight_sha256

CLASSIFIER = "logits."

ARCFACE_52 = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
)  # fmt: skip
"""Where the five landmarks lie in a 112-pixel chip, from pixel centres: insightface's and AdaFace's."""


class FacenetRecogniser(Recogniser):
    """FaceNet trained on VGGFace2: the detector's box, margin 0, stretched to 160 pixels.

    path: facenet-pytorch's `20180402-114759-vggface2.pt` or the same as safetensors. Raises: UserError.
    """

    name = "facenet"
    dim = inception_resnet.DIM
    chip_size = inception_resnet.CHIP_SIZE

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.device, self.sha256 = torch.device(device), weight_sha256(path)
        network = inception_resnet.InceptionResnetV1()
        state = {k: v for k, v in load_state(path).items() if not k.startswith(CLASSIFIER)}
        fill(network, state, path, "facenet-pytorch's InceptionResnetV1")
        self.network = freeze(network, self.device)

    def cut(self, image_B3HW: Tensor, index_N: Tensor, faces: Sequence[Face]) -> Tensor:
        """Boxes in whole pixels, inside the picture, resized antialiased: not upright, not square."""
        height, width = image_B3HW.shape[-2:]
        chips = []
        for b, face in zip(index_N.tolist(), faces, strict=True):
            x1, y1, x2, y2 = (int(value) for value in face.box)
            left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
            # A box may lie outside but for its border: one pixel is left of it.
            right, bottom = max(min(x2, width), left + 1), max(min(y2, height), top + 1)
            box_13hw = image_B3HW[b : b + 1, :, top:bottom, left:right]
            chips.append(resize(box_13hw, (self.chip_size, self.chip_size), "bilinear"))
        return torch.cat(chips)


class ArcfaceRecogniser(Recogniser):
    """ArcFace: upright 112-pixel chips by five landmarks, RGB, (x - 127.5) / 127.5.

    path: an ONNX file, or the state dict of an iresnet. Raises: UserError.
    """

    name = "arcface"
    chip_size = iresnet.CHIP_SIZE
    bgr = False

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.device, self.sha256 = torch.device(device), weight_sha256(path)
        self.inner: Callable[[Tensor], Tensor]
        if path.suffix == ".onnx":
            self.inner = network = OnnxNetwork(path, self.device, (3, self.chip_size, self.chip_size))
            # A graph that scales on its own takes plain pixels: scaled twice, all faces would look alike.
            self.dim, self.scaled = network.dim, not network.standardises
        else:
            built = iresnet.build(load_state(path), path)
            self.inner, self.dim, self.scaled = freeze(built, self.device), built.linear.out_features, True
        self.network = lambda chip_N3SS: self.inner(self.standardised(chip_N3SS))

    def chips(self, image_B3HW: Tensor, index_N: Tensor, landmark_N52: Tensor) -> Tensor:
        """All five landmarks count alike; antialiased where a face shrinks (the originals do not)."""
        template_52 = landmark_N52.new_tensor(ARCFACE_52) + 0.5
        return align.cut_plain(
            image_B3HW, index_N, align.similarity(landmark_N52, template_52), self.chip_size
        )

    def standardised(self, chip_N3SS: Tensor) -> Tensor:
        """RGB chips in 0..255 as the network takes them."""
        chip_N3SS = chip_N3SS.flip(1) if self.bgr else chip_N3SS
        return (chip_N3SS - 127.5) / 127.5 if self.scaled else chip_N3SS


class AdafaceRecogniser(ArcfaceRecogniser):
    """AdaFace: as ArcFace, but BGR; (x / 255 - 0.5) / 0.5 is the same scale."""

    name = "adaface"
    bgr = True
