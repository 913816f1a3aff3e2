"""Which Stable Diffusion a folder holds is seen before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.models.family import check_family, family_of

CONFIGS = {
    "sd15": ("unet", {"_class_name": "UNet2DConditionModel", "addition_embed_type": None}),
    "sdxl": ("unet", {"_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time"}),
    "sd3": ("transformer", {"_class_name": "SD3Transformer2DModel", "joint_attention_dim": 4096}),
}


def write(root: Path, held: str) -> Path:
    folder, config = CONFIGS[held]
    (root / folder).mkdir(parents=True)
    (root / folder / "config.json").write_text(json.dumps(config))
    return root / folder


@pytest.mark.parametrize("backbone", ["sd15", "sd21", "sdxl", "sd3", "nano"])
@pytest.mark.parametrize("held", CONFIGS)
def test_a_folder_of_another_family_is_named(backbone: str, held: str, tmp_path: Path) -> None:
    assert family_of(write(tmp_path, held)) == held
    node = {**compose([f"backbone={backbone}"]).backbone, "path": str(tmp_path)}
    if held == backbone or (held == "sd15" and backbone in ("sd21", "nano")):
        check_family(node, tmp_path)
        return
    takes = "backbone=sd15 or sd21" if held == "sd15" else f"backbone={held}"
    with pytest.raises(UserError, match=f"which '{backbone}' is not for; give {takes}"):
        check_family(node, tmp_path)


def test_a_denoiser_of_ones_own_is_looked_at_too(tmp_path: Path) -> None:
    node = {**compose(["backbone=sd15"]).backbone, "unet": str(write(tmp_path, "sdxl"))}
    with pytest.raises(UserError, match=r"backbone\.unet=.* holds Stable Diffusion XL, which 'sd15'"):
        check_family(node, tmp_path / "elsewhere")


def test_what_holds_no_denoiser_is_asked_elsewhere(tmp_path: Path) -> None:
    assert family_of(tmp_path) is None
    check_family(compose(["backbone=sdxl"]).backbone, tmp_path)
