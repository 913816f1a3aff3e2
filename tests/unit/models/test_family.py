"""Which Stable Diffusion a folder holds is seen before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.models.family import check_family, family_of

FOLDERS = {
    "sd15": ("unet", "text_encoder"),
    "sdxl": ("unet", "text_encoder", "text_encoder_2"),
    "sd3": ("transformer", "text_encoder", "text_encoder_2"),
}


@pytest.mark.parametrize("backbone", ["sd15", "sd21", "sdxl", "sd3", "nano"])
@pytest.mark.parametrize("held", FOLDERS)
def test_a_folder_of_another_family_is_named(backbone: str, held: str, tmp_path: Path) -> None:
    for part in FOLDERS[held]:
        (tmp_path / part).mkdir()
    assert family_of(tmp_path) == held
    node = {**compose([f"backbone={backbone}"]).backbone, "path": str(tmp_path)}
    if held == backbone or (held == "sd15" and backbone in ("sd21", "nano")):
        check_family(node, tmp_path)
        return
    takes = "backbone=sd15 or sd21" if held == "sd15" else f"backbone={held}"
    with pytest.raises(UserError, match=f"which '{backbone}' is not for; give {takes}"):
        check_family(node, tmp_path)


def test_what_holds_no_denoiser_is_asked_elsewhere(tmp_path: Path) -> None:
    assert family_of(tmp_path) is None
    check_family(compose(["backbone=sdxl"]).backbone, tmp_path)
