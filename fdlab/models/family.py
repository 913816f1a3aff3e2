"""Which family of Stable Diffusion a denoiser is of, and whether it is the one that a backbone is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.models.denoiser import is_transformer, is_xl
from fdlab.models.parts import folder_of
from fdlab.weights.formats import read_json

TITLES = {
    "sd15": "Stable Diffusion 1 or 2",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
}
OTHER_INPUTS = {
    5: "Stable Diffusion's depth model",
    7: "Stable Diffusion's upscaler",
    8: "InstructPix2Pix (a picture beside the latents; take the model that it was made from)",
    9: "an inpainting model (a mask and a picture beside the latents; take the model that it was made from)",
}
"""What denoisers of so many input channels are, beside latents of 4."""
FOR = {"nano": "sd15", "sd15": "sd15", "sd21": "sd15", "sdxl": "sdxl", "sd3": "sd3"}
"""Which family a backbone of that name is for; others are for what their maker likes."""


def family_of(denoiser: Path) -> str | None:
    """The family of the denoiser in a folder, by its configuration: a key of TITLES; None where none is."""
    if not (denoiser / "config.json").is_file():
        return None
    config = read_json(denoiser / "config.json")
    return "sd3" if is_transformer(config) else "sdxl" if is_xl(config) else "sd15"


def check_denoiser(name: str, denoiser: Path, given: str, own: Path | None = None) -> None:
    """Whether the denoiser in a folder is for the backbone `name`; `given` is how the user said it. Raises:
    UserError.

    own: the backbone's, whose family is the one where the name says none.
    """
    if (found := family_of(denoiser)) is not None:
        check_title(name, found, given, None if own is None else family_of(own))


def check_title(name: str, found: str, given: str, own: str | None = None) -> None:
    """The same of a denoiser whose family is known, a key of TITLES. Raises: UserError."""
    if FOR.get(name, own or found) != found:
        takes = "backbone=sd15 or sd21" if found == "sd15" else f"backbone={found}"
        raise UserError(f"{given} holds {TITLES[found]}, which '{name}' is not for; give {takes}.")


def check_family(node: Mapping[str, Any], folder: Path) -> None:
    """The same for `cfg.backbone` and the folder that its path means. Raises: UserError."""
    name, vae = str(node["name"]), folder / "vae"
    made = (folder / "training.json").is_file() or (folder / "model" / "training.json").is_file()
    if made and not vae.is_dir():
        raise UserError(
            f"backbone.path={node['path']} is what a training made; give the model that it began with, and"
            " this as tdm=, sdm= or init=."
        )
    check_denoiser(name, folder_of(folder, "unet"), f"backbone.path={node['path']}")
    check_inputs(folder_of(folder, "unet"), vae, f"backbone.path={node['path']}")
    if node.get("unet"):
        check_denoiser(name, Path(node["unet"]).expanduser(), f"backbone.unet={node['unet']}")


def check_inputs(denoiser: Path, vae: Path, given: str) -> None:
    """Whether a denoiser takes latents alone. Raises: UserError that names what takes more."""
    configs = [folder / "config.json" for folder in (denoiser, vae)]
    if not all(config.is_file() for config in configs):
        return
    takes, makes = (read_json(config) for config in configs)
    taken, made = takes.get("in_channels"), makes.get("latent_channels")
    if made == 4 and taken in OTHER_INPUTS:
        raise UserError(f"{given} holds {OTHER_INPUTS[taken]}, which is not supported.")
