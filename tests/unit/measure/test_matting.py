"""The person matting: sizes, what it refuses, and that it knows a person from a cat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fdlab.assets import asset_path
from fdlab.errors import UserError
from fdlab.measure.matting import PersonMatting
from fdlab.measure.matting_net import STRIDE, MattingNet
from fdlab.measure.weights import load_tensors

FACES = Path(__file__).parents[2] / "golden" / "faces"


@pytest.fixture(scope="module")
def matting() -> PersonMatting:
    return PersonMatting.load()


@pytest.mark.parametrize("size", [(48, 200), (300, 120)])
def test_a_picture_of_any_size_has_a_matte_of_that_size(
    matting: PersonMatting, size: tuple[int, int]
) -> None:
    image_HW3 = np.array(Image.open(FACES / "astronaut-0.png").convert("RGB").resize(size[::-1]))
    image_HW3.setflags(write=False)
    matte_HW = matting.matte(image_HW3)
    assert matte_HW.shape == size and matte_HW.dtype == np.float32
    assert matte_HW.min() >= 0 and matte_HW.max() <= 1
    # The face fills the middle.
    assert matte_HW[size[0] // 3 : -size[0] // 3, size[1] // 3 : -size[1] // 3].min() > 0.9


def test_a_cat_is_no_person(matting: PersonMatting) -> None:
    cat = matting.matte(np.array(Image.open(FACES / "cat.png").convert("RGB")))
    woman = matting.matte(np.array(Image.open(FACES / "astronaut-0.png").convert("RGB")))
    assert (cat > 0.5).mean() < 0.1 < 0.4 < (woman > 0.5).mean()


def test_the_network_takes_whatever_the_stride_divides() -> None:
    with torch.no_grad():
        assert MattingNet().eval()(torch.rand(2, 3, STRIDE * 3, STRIDE * 2)).shape == (
            2,
            STRIDE * 3,
            STRIDE * 2,
        )


def test_what_it_refuses(matting: PersonMatting, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="uint8"):
        matting.matte(np.zeros((32, 32, 3), np.float32))
    with pytest.raises(UserError, match=r"no-such.*asset:matting/selfie"):
        PersonMatting.load(tmp_path / "no-such")
    state = load_tensors(asset_path("matting/selfie/model.safetensors"))
    state.pop("stem.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks stem.bias"):
        PersonMatting.load(tmp_path)


def test_it_is_frozen_and_known_by_its_digest(matting: PersonMatting) -> None:
    assert len(matting.sha256) == 64
    assert not matting.training and not any(p.requires_grad for p in matting.parameters())
