"""A model as other programs read it: a pipeline's folder, one file, LoRA files, the released code's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from fdlab.assets import resolve
from fdlab.diffusion.schedulers import at_zero_snr
from fdlab.errors import UserError
from fdlab.exchange import card
from fdlab.exchange.ldm_names import original
from fdlab.exchange.released import check_released, export_released
from fdlab.exchange.unpacking import read_backbone
from fdlab.foreign import read_yaml
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.finetuned import BackboneSettings, Weights
from fdlab.models.parts import NETWORKS, folder_of
from fdlab.weights.files import write_weights
from fdlab.weights.lora_files import DIFFUSERS_FILE, Update, read_lora, write_diffusers, write_kohya
from fdlab.weights.unreadable import not_there

CONFIG = "config.yaml"
"""What a run was asked for, in its folder."""


def load_whole(source: Path | str, base: Path | str | None = None) -> Backbone:
    """A TDM with the parts that it shares with its backbone: `base`, else the one that its run was made with.

    `source` is a run's folder, its model/, or a folder that has all parts itself. Raises: UserError for an
    SDM, which no other program draws with, and where parts are nowhere.
    """
    folder = finetuned.model_folder(source)
    if "fusion" in finetuned.part_folders(folder):
        raise UserError(
            f"'{source}' is a subject-augmented model, and other programs know no fusion; its denoiser is in"
            f" '{folder_of(folder, 'unet')}'. --layout pipeline is all of it, for FaceDiffuserPipeline; of"
            " Stable Diffusion 1.5 also --layout released, for the released code."
        )
    settings = backbone_of(source, folder, base)
    own = finetuned.need(settings, "tdm", str(folder.absolute()))
    check_parts(settings, own, finetuned.COMMON, source)
    return replace(finetuned.load(settings, own, finetuned.COMMON), name=str(source))


def backbone_of(source: Path | str, folder: Path, base: Path | str | None) -> BackboneSettings:
    """The backbone that a model was trained on: `base`, else what its run's configuration says, else the
    model's own folder. Raises: UserError."""
    if base is not None:
        finetuned.part_folders(base)
        return BackboneSettings(name=str(base), path=str(base))
    for place in (resolve(source), folder.parent):
        if (place / CONFIG).is_file():
            said = read_yaml(place / CONFIG, "configuration")
            node = said.get("backbone") if isinstance(said, Mapping) else None
            if not isinstance(node, Mapping) or not {"name", "path"} <= node.keys():
                raise UserError(f"'{place / CONFIG}' names no backbone; give its folder as --base.")
            # Its folders are as the run saw them: relative ones, from where it was started.
            paths = said.get("paths") or {}
            return read_backbone(node, str(paths.get("cache", "~/.cache/fdlab")))
    return BackboneSettings(name=str(source), path=str(folder))


def check_parts(settings: BackboneSettings, own: Weights, parts: Iterable[str], source: Path | str) -> None:
    """That a model has `parts`, itself or by its backbone. Raises: UserError that says whose lacks which."""
    lacking = [part for part in parts if not settings.folder(part, own.parts).is_dir()]
    if not lacking:
        return
    there = resolve(settings.path)
    nor = f", nor has the backbone '{settings.path}'"
    if not there.exists():
        nor = f", and the backbone '{settings.path}' is not here"
    elif there.absolute() == own.folder.absolute():
        nor = ""
    raise UserError(
        f"'{source}' has no {', no '.join(lacking)}{nor};"
        " give the folder of the backbone that it was trained on as --base FOLDER."
    )


def write_pipeline(out: Path, source: str, base: str | None, half: bool) -> str:
    """Write a folder that plain diffusers loads alone as a StableDiffusionPipeline. Raises: UserError."""
    backbone = load_whole(source, base)
    if type(backbone.vae).__name__ != "AutoencoderKL":
        raise UserError(
            f"plain diffusers knows no {type(backbone.vae).__name__}, the autoencoder of '{source}'."
        )
    config = backbone.need("scheduler")
    if config.get("rescale_betas_zero_snr"):
        # What trained before knew less of its own.
        config = at_zero_snr(config)
    folder = finetuned.model_folder(source)
    told = card.plain(out.name, finetuned.facts(folder), backbone_of(source, folder, base).name)
    save_backbone(out, replace(backbone, scheduler_config=config), half, told)
    return ", ".join([*backbone.networks(), "tokenizer", "scheduler"])


def write_original(out: Path, source: str, base: str | None, half: bool) -> str:
    """Write one file in the original layout. Raises: UserError."""
    backbone = load_whole(source, base)
    write_weights(out, original(backbone), half)
    return ", ".join(backbone.networks())


def write_lora(out: Path, source: str, base: str | None, half: bool) -> str:
    """Write a run's adapter, or a LoRA file, by diffusers' names. Raises: UserError."""
    return _write_adapter(out, source, base, half, write_diffusers)


def write_lora_kohya(out: Path, source: str, base: str | None, half: bool) -> str:
    """The same by kohya's names. Raises: UserError."""
    return _write_adapter(out, source, base, half, write_kohya)


Write = Callable[[Path, Mapping[str, Mapping[str, Update]], bool], None]


def _write_adapter(out: Path, source: str, base: str | None, half: bool, write: Write) -> str:
    file = resolve(source)
    if not file.exists():
        raise not_there(source, "a run's folder or a LoRA file")
    if file.is_dir():
        file = finetuned.model_folder(source) / DIFFUSERS_FILE
        if not file.is_file():
            raise UserError(
                f"'{source}' has no {DIFFUSERS_FILE}: it was not trained by LoRA (model.lora_rank=)."
            )
    networks = load_backbone(base, parts=("unet", "text_encoder")).networks() if base else None
    found = read_lora(file, networks)
    write(out, found, half)
    return ", ".join(f"LoRA of the {part}" for part in found)


def write_released(out: Path, source: str, base: str | None, half: bool) -> str:
    """Write the flat file that Face-diffuser's and FastComposer's code loads strictly: every part that such a
    model has, and of a TDM no image encoder. Raises: UserError."""
    if half:
        raise UserError("--layout released takes no --half: it writes numbers as they are.")
    folder = finetuned.model_folder(source)
    kind = "sdm" if "fusion" in finetuned.part_folders(folder) else "tdm"
    settings = backbone_of(source, folder, base)
    own = finetuned.need(settings, kind, str(folder.absolute()))
    parts = [part for part in NETWORKS if part in finetuned.PARTS[kind]]
    check_released(part for part in NETWORKS if settings.folder(part, own.parts).is_dir())
    check_parts(settings, own, parts, source)
    backbone = finetuned.load(settings, own, parts)
    export_released(out, backbone)
    return ", ".join(backbone.networks())


LAYOUTS: Mapping[str, Callable[[Path, str, str | None, bool], str]] = {
    "released": write_released,
    "diffusers": write_pipeline,
    "original": write_original,
    "lora": write_lora,
    "kohya": write_lora_kohya,
}
"""Name -> (out, source, base, half) -> what was written."""
