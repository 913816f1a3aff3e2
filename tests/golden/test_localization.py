"""The released localization loss (see README.md beside this file)."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from fdlab.diffusion.losses import localization_loss


@pytest.mark.parametrize(("normalize", "key"), [(False, "loss"), (True, "loss_normalized")])
def test_localization_loss(normalize: bool, key: str) -> None:
    golden = load_file(Path(__file__).parent / "localization.safetensors")
    num = golden["segmaps"].shape[0]
    maps = [scores.unflatten(0, (num, -1)) for scores in (golden["scores.a"], golden["scores.b"])]
    loss = localization_loss(
        maps, golden["segmaps"], golden["token_idx"], golden["token_idx_mask"], normalize
    )
    assert abs(loss.item() - golden[key].item()) < 1e-5
    # The values are small: agree relative to their size as well.
    assert loss.item() == pytest.approx(golden[key].item(), rel=1e-3)
