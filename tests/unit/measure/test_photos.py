from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fdlab.errors import UserError
from fdlab.measure.faces import FaceDetector, cut_head
from fdlab.measure.faces.photos import Head, cut_face
from fdlab.people import picture
from fdlab.pipeline.inputs import references
from fdlab.randomness import numpy_rng
from fdlab.transforms.inputs import normalise


@pytest.fixture(scope="module")
def made() -> picture.Picture:
    return picture.render(picture.draw(picture.MIXES["portraits"], numpy_rng(0, "head"), 8), 128)


def test_a_head_is_what_the_encoder_is_shown(made: picture.Picture) -> None:
    head = cut_face(Image.fromarray(made.image_HW3), head=Head(48))
    landmarks_52 = FaceDetector()(made.image_HW3[None])[0][0].landmarks_52
    rgba_SS4 = cut_head(made.image_HW3, None, landmarks_52, 48)
    pixels_SS3 = np.asarray(head)
    shown_SS = rgba_SS4[..., 3] == 255
    assert shown_SS.any() and (pixels_SS3[shown_SS] == rgba_SS4[..., :3][shown_SS]).all()
    # The pipeline cuts nothing more from it, and scales nothing.
    given_3SS = references([[head]], 48)[0][0, 0]
    wanted_3SS = normalise(torch.from_numpy(pixels_SS3.transpose(2, 0, 1).astype(np.float32) / 255))
    torch.testing.assert_close(given_3SS, wanted_3SS)


def test_what_can_be_seen_through_is_background(made: picture.Picture) -> None:
    rgba_HW4 = np.dstack([made.image_HW3, (made.segments_HW > 0) * np.uint8(255)])
    white = np.asarray(cut_face(Image.fromarray(rgba_HW4), head=Head(96, "white")))
    assert (white[:4, :4] == 255).all() and (white[40:60, 40:56] < 255).any()


def test_which_crop_is_asked_for() -> None:
    assert Head.of("person", 96, "noise") is None and Head.of("head", 96, "grey") == Head(96, "grey")


def test_a_photo_without_a_face_is_named() -> None:
    with pytest.raises(UserError, match="no face found in the photo"):
        cut_face(Image.new("RGB", (80, 80), "grey"), head=Head(96))
