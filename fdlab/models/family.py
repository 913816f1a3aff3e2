"""Which family of Stable Diffusion a folder holds, and whether it is the one that a configuration is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.models.parts import SECOND, folder_of

TITLES = {
    "sd15": "Stable Diffusion 1 or 2",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
}
FOR = {"nano": "sd15", "sd15": "sd15", "sd21": "sd15", "sdxl": "sdxl", "sd3": "sd3"}
"""Which family a configuration of that name is for; others are for what their maker likes."""


def family_of(folder: Path) -> str | None:
    """The family by the folders in it, a key of TITLES; None where there is no denoiser."""
    denoiser = folder_of(folder, "unet")
    if not denoiser.is_dir():
        return None
    if denoiser.name == "transformer":
        return "sd3"
    return "sdxl" if folder_of(folder, SECOND["text_encoder"]).is_dir() else "sd15"


def check_family(node: Mapping[str, Any], folder: Path) -> None:
    """Whether a folder is of the family that `cfg.backbone` is for. Raises: UserError."""
    found = family_of(folder)
    if found is None:
        return
    name = str(node["name"])
    if FOR.get(name, found) != found:
        takes = "backbone=sd15 or sd21" if found == "sd15" else f"backbone={found}"
        raise UserError(
            f"backbone.path={node['path']} holds {TITLES[found]}, which '{name}' is not for; give {takes}."
        )
