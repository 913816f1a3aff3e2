from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fdlab.errors import UserError
from fdlab.models.backbone import save_backbone
from fdlab.models.parts import load_part
from fdlab.weights.eight_bits import rounded, unrounded
from tests.worlds.backbones import tiny_backbone

STATE = {
    "kernel": torch.linspace(-2, 3, 8 * 3 * 3 * 3).reshape(8, 3, 3, 3),
    "matrix": torch.randn(5, 7, generator=torch.Generator().manual_seed(0)),
    "nothing": torch.zeros(2, 2),
    "bias": torch.tensor([1e-3, 2.0]),
    "scalar": torch.tensor(4.6),
}


@pytest.mark.parametrize("axes", [2, 4])
def test_what_is_kept_comes_back_to_a_step_of_its_row(axes: int) -> None:
    kept = rounded(STATE, axes)
    found = unrounded(kept)
    assert {name for name, value in kept.items() if value.dtype == torch.int8} == {
        name for name, value in STATE.items() if value.ndim >= axes
    }
    assert found.keys() == STATE.keys()
    for name, value in STATE.items():
        step = float(value.abs().max()) / 127
        torch.testing.assert_close(found[name].float(), value, rtol=1e-3, atol=0.6 * step + 1e-6)


def test_what_was_not_rounded_is_left_alone() -> None:
    state = {"a": torch.ones(2, 2).half(), "a.scale": torch.ones(2)}
    assert unrounded(state) == state


@pytest.mark.parametrize("scale", [None, torch.ones(3), torch.zeros(2), torch.tensor([1.0, -1.0])])
def test_scales_that_are_gone_or_damaged_are_refused(scale: torch.Tensor | None) -> None:
    state = {"a": torch.ones(2, 2, dtype=torch.int8)} | ({} if scale is None else {"a.scale": scale})
    with pytest.raises(UserError, match="tensor 'a' is kept in eight bits, and its scales are missing"):
        unrounded(state)


def test_a_part_in_eight_bits_is_read_as_any_other(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    save_backbone(tmp_path, backbone)
    file = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file(rounded(load_file(file)), file, metadata={"format": "pt"})
    found = load_part("unet", tmp_path / "unet").state_dict()
    for name, value in backbone.unet.state_dict().items():
        torch.testing.assert_close(
            found[name], value.float(), rtol=2e-3, atol=float(value.abs().max()) / 120 + 1e-6
        )
