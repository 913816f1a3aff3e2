"""The person matting against its original, MediaPipe's selfie_segmentation.tflite in LiteRT 2.3.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fdlab.measure.matting import SIZE, PersonMatting

GOLDEN = load_file(Path(__file__).parent / "matting.safetensors")
EVERY = 4


@pytest.mark.parametrize("name", GOLDEN)
def test_as_the_original(name: str) -> None:
    photo_HW3 = np.asarray(Image.open(Path(__file__).parent / "faces" / f"{name}.png").convert("RGB"))
    # As experiments/assets/make_matting.py: pixels repeated or left out.
    rows, columns = (np.arange(SIZE) * side // SIZE for side in photo_HW3.shape[:2])
    matte_HW = PersonMatting.load().matte(photo_HW3[rows][:, columns])
    assert matte_HW.dtype == np.float32 and matte_HW.shape == (SIZE, SIZE)
    torch.testing.assert_close(torch.from_numpy(matte_HW[::EVERY, ::EVERY]), GOLDEN[name], atol=1e-3, rtol=0)
