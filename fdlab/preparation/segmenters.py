"""Who cuts people out of a picture: the matting that ships, a segmentation model of transformers, or boxes.

All take a uint8 RGB picture and its faces' boxes, and give one mask a face that they find the person of.
Mask2Former (Cheng et al. 2022, arXiv 2112.01527), SAM (Kirillov et al. 2023, arXiv 2304.02643) and SAM 2
(Ravi et al. 2024, arXiv 2408.00714) come from a folder or from the hub's cache.
Axes: H W pixels, F faces, N masks, 3 RGB, 4 = x1 y1 x2 y2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from fdlab.assets import hub, resolve
from fdlab.errors import UserError, nearest
from fdlab.files import sha256
from fdlab.foreign import read_json
from fdlab.measure.matting import PersonMatting
from fdlab.measure.resize import resize, to_float
from fdlab.preparation.people_masks import PersonMask, bounds, tell_apart, within
from fdlab.preparation.settings import BOXES, MATTING

OWN = (MATTING, BOXES)
INSTANCES = "mask2former"
WIDE, ABOVE = 2.6, 0.5
"""Of a body that a face belongs to: its width, and what of the head is above the face, in faces."""
PERSON = "person"
COVERED = 0.5
"""An instance is a face's person only if it covers this share of the face."""
SILHOUETTE = (1.9, 1.2, 6.0)
"""The box that SAM is asked about, from a face's middle in its widths and heights: aside, up, down."""


class Segmenter(Protocol):
    """Cuts out the people to whom faces belong."""

    network: Any
    """With `name` and `sha256`; None where there is none behind it."""

    def __call__(self, image_HW3: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
        """Masks in the order of the faces; a face whose person is not found has none."""


class MattingSegmenter:
    """The matting that ships, people told apart by their faces."""

    def __init__(self, device: str = "cpu") -> None:
        self.network = PersonMatting.load(device=device)

    def __call__(self, image_HW3: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
        return tell_apart(self.network.matte(image_HW3), face_boxes_F4, image_HW3)


class BoxSegmenter:
    """No network: the rectangle that each body takes, from above the face to the picture's lower edge. Where
    two meet, each column is the nearer face's. No outline, hence no score worth a number: 0."""

    network = None

    def __call__(self, image_HW3: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
        height, width = image_HW3.shape[:2]
        column_W = np.arange(width) + 0.5
        side_F = np.maximum(face_boxes_F4[:, 2] - face_boxes_F4[:, 0], 1e-6)
        middle_F = (face_boxes_F4[:, 0] + face_boxes_F4[:, 2]) / 2
        distance_FW = np.abs(column_W[None] - middle_F[:, None]) / side_F[:, None]
        nearest_W = distance_FW.argmin(0)
        made = []
        for face, (_, top, _, bottom) in enumerate(face_boxes_F4):
            mask_HW = np.zeros((height, width), bool)
            first = int(np.clip(top - ABOVE * (bottom - top), 0, height - 1))
            mask_HW[first:, (nearest_W == face) & (distance_FW[face] <= WIDE / 2)] = True
            made.append(PersonMask(mask_HW, bounds(mask_HW), 0.0, face))
        return made


@dataclass(frozen=True)
class _Network:
    """What a record says of a model from a folder."""

    name: str
    sha256: str

    @classmethod
    def of(cls, folder: Path) -> _Network:
        return cls(folder.name, sha256(folder))


class InstanceSegmenter:
    """Mask2Former trained on instances, one of whose classes is `person`; the model's own score."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

        self.network, self.device = _Network.of(folder), device
        self.processor: Any = Mask2FormerImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self.model = _model(Mask2FormerForUniversalSegmentation, folder, device)
        labels = {int(k): str(v).lower() for k, v in self.model.config.id2label.items()}
        self.person = {k for k, label in labels.items() if label == PERSON}
        if not self.person:
            raise UserError(
                f"'{folder}' knows no class '{PERSON}', but {', '.join(list(labels.values())[:5])}."
            )

    @torch.no_grad()
    def __call__(self, image_HW3: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
        given = self.processor(images=image_HW3, return_tensors="pt").to(self.device)
        found = self.processor.post_process_instance_segmentation(
            self.model(**given), target_sizes=[image_HW3.shape[:2]], return_binary_maps=True
        )[0]
        mask_NHW = np.asarray(found["segmentation"].cpu()) > 0.5
        kept = [n for n, info in enumerate(found["segments_info"]) if info["label_id"] in self.person]
        scores = [float(found["segments_info"][n]["score"]) for n in kept]
        return assigned(mask_NHW[kept].reshape(-1, *image_HW3.shape[:2]), scores, face_boxes_F4)


class PromptedSegmenter:
    """SAM or SAM 2, asked about the box of head and shoulders that each face stands for; of its three answers
    the one that it scores best. SAM sees the picture in its shape, SAM 2 stretched to a square.

    Scaled here, for the processors of transformers need torchvision.
    """

    def __init__(self, folder: Path, kind: str, device: str = "cpu") -> None:
        import transformers

        self.network, self.device, self.stretches = _Network.of(folder), device, kind != "sam"
        self.model = _model(getattr(transformers, PROMPTED[kind]), folder, device)
        vision = self.model.config.vision_config
        size = vision.backbone_config.image_size if self.stretches else vision.image_size
        self.size = int(size if isinstance(size, int) else size[0])

    @torch.no_grad()
    def __call__(self, image_HW3: np.ndarray, face_boxes_F4: np.ndarray) -> list[PersonMask]:
        box_F4 = np.asarray(face_boxes_F4, np.float64).reshape(-1, 4)
        if not len(box_F4):
            return []
        shape = height, width = image_HW3.shape[:2]
        scale = self.size / max(shape)
        inner = (self.size,) * 2 if self.stretches else (round(height * scale), round(width * scale))
        image_13HW = resize(to_float(np.array(image_HW3)[None], self.device), inner, "bilinear")
        normal_13HW = (image_13HW - image_13HW.new_tensor(MEAN)[:, None, None]) / image_13HW.new_tensor(STD)[
            :, None, None
        ]
        # SAM takes a square: the rest is empty, right and below.
        square_13SS = F.pad(normal_13HW, (0, self.size - inner[1], 0, self.size - inner[0]))
        asked_F4 = np.array([body_box(box_4, shape) for box_4 in box_F4])
        asked_F4 *= np.array([inner[1] / width, inner[0] / height] * 2)
        prompt_1F4 = torch.as_tensor(asked_F4[None], dtype=torch.float32, device=self.device)
        output = self.model(pixel_values=square_13SS, input_boxes=prompt_1F4)
        score_F3 = output.iou_scores[0]
        best_F = score_F3.argmax(1)
        rows = torch.arange(len(box_F4), device=best_F.device)
        logit_1FSS = F.interpolate(
            output.pred_masks[0][rows, best_F][None], (self.size,) * 2, mode="bilinear"
        )
        logit_FHW = F.interpolate(logit_1FSS[..., : inner[0], : inner[1]], shape, mode="bilinear")[0]
        made = []
        for face, mask_HW in enumerate((logit_FHW > 0).cpu().numpy()):
            if mask_HW.any():
                score = float(score_F3[face, best_F[face]].clamp(0, 1))
                made.append(PersonMask(mask_HW, bounds(mask_HW), score, face))
        return made


PROMPTED = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""`model_type` of a config.json -> class of transformers."""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's pixels, as SAM and SAM 2 were trained."""


def assigned(mask_NHW: np.ndarray, scores: list[float], face_boxes_F4: np.ndarray) -> list[PersonMask]:
    """Give each face the mask that covers most of it, at least `COVERED`; a mask goes to one face."""
    box_F4 = np.asarray(face_boxes_F4, np.float64).reshape(-1, 4)
    cover = {
        (face, n): float(mask_HW[within(box_4, mask_HW.shape)].mean())
        for face, box_4 in enumerate(box_F4)
        for n, mask_HW in enumerate(mask_NHW)
        if mask_HW[within(box_4, mask_HW.shape)].size
    }
    chosen: dict[int, int] = {}
    for (face, n), share in sorted(cover.items(), key=lambda item: (-item[1], item[0])):
        if share >= COVERED and face not in chosen and n not in chosen.values():
            chosen[face] = n
    return [
        PersonMask(mask_NHW[n], bounds(mask_NHW[n]), float(np.clip(scores[n], 0, 1)), face)
        for face, n in sorted(chosen.items())
    ]


def body_box(box_4: np.ndarray, shape: tuple[int, int]) -> list[float]:
    """Head and shoulders that a face's box stands for, within the picture: x1, y1, x2, y2."""
    x1, y1, x2, y2 = (float(value) for value in box_4)
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    aside, up, down = SILHOUETTE
    corners = (x - aside * width, y - up * height, x + aside * width, y + down * height)
    return [min(max(value, 0.0), float(shape[1 - k % 2])) for k, value in enumerate(corners)]


def segmenter_of(source: str, device: str = "cpu") -> Segmenter:
    """`matting`, `boxes`, or a folder, or a repository in the hub's cache, that holds Mask2Former, SAM or
    SAM 2. Raises: UserError as `kind_of`."""
    if source in OWN:
        return MattingSegmenter(device) if source == MATTING else BoxSegmenter()
    kind, folder = kind_of(source), resolve(source)
    return InstanceSegmenter(folder, device) if kind == INSTANCES else PromptedSegmenter(folder, kind, device)


def kind_of(source: str) -> str:
    """Which kind of segmenter a source is, before any weights are read. Raises: UserError for one that is not
    there, or another kind of model."""
    if source in OWN:
        return source
    folder = resolve(source)
    if not (folder / "config.json").is_file():
        if hub.is_id(source) and not folder.exists():
            raise UserError(
                f"segmenter '{source}' is not in the hub's cache; get it: {hub.how_to_get(source)}"
            )
        guess = nearest(source, OWN)
        hint = f" Did you mean '{guess}'?" if guess else ""
        raise UserError(
            f"segmenter '{source}': allowed: {', '.join(OWN)}, a folder or hub id of a model.{hint}"
        )
    found = read_json(folder / "config.json", "configuration")
    kind = found.get("model_type") if isinstance(found, dict) else None
    allowed = (INSTANCES, *PROMPTED)
    if kind not in allowed:
        raise UserError(f"segmenter '{source}' is of the kind '{kind}'; allowed: {', '.join(allowed)}.")
    return str(kind)


def _model(kind: Any, folder: Path, device: str) -> Any:
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.to(device).eval().requires_grad_(False)
