"""`fdlab doctor`: what is here, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from fdlab import __version__, assets
from fdlab.assets import hub
from fdlab.cli.options import parser
from fdlab.errors import UserError

OPTIONAL = {
    "wandb": ("logger=wandb", "pip install wandb"),
    "onnxruntime": ("recognisers as ONNX: evaluation.recogniser=arcface", "pip install 'fdlab[onnx]'"),
    "open-clip-torch": ("open_clip's models: evaluation.clip=FOLDER", "pip install 'fdlab[open-clip]'"),
    "peft": ("LoRA: model.lora_rank=16", "pip install 'fdlab[lora]'"),
    "bitsandbytes": ("model.optimizer=adamw8bit", "pip install 'fdlab[optimizers]'"),
    "prodigyopt": ("model.optimizer=prodigy", "pip install 'fdlab[optimizers]'"),
    "tensorboard": ("logger=tensorboard", "pip install 'fdlab[tensorboard]'"),
    "gradio": ("python -m fdlab demo", "pip install 'fdlab[demo]'"),
}
"""Packages that fdlab runs without: what for, and how to get them."""
PARTS = (
    "base", "tdm", "sdm", "own_image_encoder", "vae", "text_encoder", "text_encoder_2", "image_encoder",
    "unet", "fusion", "tokenizer", "tokenizer_2",
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the verb; status 1 if something that ships is missing or damaged."""
    made = parser("doctor", "Versions, devices, weights found, what is missing and how to get it.")
    made.parse_args(argv)
    for title, lines in (("versions", versions()), ("devices", devices()), ("folders", folders())):
        _print(title, lines)
    problems = assets.verify()
    _print("weights and data that ship", shipped(problems))
    for problem in problems:
        print(f"  PROBLEM: {problem}")
    _print("backbones", backbones())
    _print("what measures", measures())
    _print("optional", optional())
    fix = "fix: reinstall fdlab, or restore fdlab/assets from git"
    print("\n" + (fix if problems else "all that ships is here"))
    return 1 if problems else 0


def versions() -> Iterator[tuple[str, str]]:
    """Python, fdlab and the packages that results depend on."""
    from fdlab.config.provenance import git, packages

    commit = git()
    changed = ", changed" if commit["git_dirty"] else ""
    state = f" ({commit['git_commit'][:10]}{changed})" if commit["git_commit"] else ""
    yield "fdlab", __version__ + state
    yield "python", platform.python_version()
    yield from packages().items()


def devices() -> Iterator[tuple[str, str]]:
    """Processors and memory."""
    import torch

    yield "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used by torch"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}"
    if not torch.cuda.is_available():
        yield "cuda", "none; training runs on the CPU"


def folders() -> Iterator[tuple[str, str]]:
    """Where runs and caches go, and the space there."""
    import shutil

    from fdlab.config.compose import compose

    for name, value in compose().paths.items():
        folder = Path(value).absolute()
        above = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = "" if os.access(above, os.W_OK) else ", NOT WRITABLE: set FDLAB_" + str(name).upper()
        yield str(name), f"{folder} ({shutil.disk_usage(above).free / 2**30:.0f} GiB free{writable})"


def shipped(problems: list[str]) -> Iterator[tuple[str, str]]:
    """Every file or folder that ships: its licence, and whether it is as it was made."""
    for name, entry in assets.manifest().items():
        sound = not any(problem.startswith(f"{name}:") for problem in problems)
        yield name, f"{'ok' if sound else 'DAMAGED'} ({entry.get('licence', 'no licence named')})"


def backbones() -> Iterator[tuple[str, str]]:
    """Every backbone that can be chosen: whether its folders are here, and how to get those that are not."""
    from fdlab.config.compose import compose
    from fdlab.config.locate import options

    for name in options("backbone"):
        backbone = compose([f"backbone={name}"]).backbone
        given = {key: value for key in ("path", *PARTS) if (value := backbone.get(key))}
        missing = [value for value in given.values() if not _exists(value)]
        yield f"backbone={name}", f"missing: {', '.join(missing)}" if missing else "found"
        for value in missing:
            if hub.is_id(str(value)):
                yield "", f"get it: {hub.how_to_get(str(value))}"


def measures() -> Iterator[tuple[str, str]]:
    """Every set of extractors and every recogniser one can choose: whether it is here, else how to get it."""
    from fdlab.config.compose import compose
    from fdlab.config.locate import options
    from fdlab.measure.choose import ExtractorSettings, problems
    from fdlab.measure.faces.choice import CHOICES

    for name in options("evaluation"):
        lacking = list(problems(ExtractorSettings.read(compose([f"evaluation={name}"]).evaluation)))
        yield f"evaluation={name}", "missing:" if lacking else "found"
        yield from (("", line) for line in lacking)
    for name, choice in CHOICES.items():
        how = "ships" if choice.ships else f"with evaluation.recogniser_weights=FILE: {choice.source}"
        yield f"evaluation.recogniser={name}", how


def _exists(path: str) -> bool:
    try:
        return assets.resolve(path).exists()
    except UserError:
        return False


def optional() -> Iterator[tuple[str, str]]:
    """Packages that fdlab runs without."""
    from importlib.metadata import PackageNotFoundError, version

    for name, (purpose, how) in OPTIONAL.items():
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, f"not installed; for {purpose}: {how}"


def _print(title: str, lines: Iterator[tuple[str, str]]) -> None:
    shown = list(lines)
    width = max((len(name) for name, _ in shown), default=0) + 2
    print(f"\n{title}")
    for name, value in shown:
        print(f"  {name:<{width}}{value}")
