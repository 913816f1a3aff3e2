"""What a checkpoint is made of: its parts, their sizes and precisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fdlab import assets
from fdlab.errors import UserError
from fdlab.exchange.released import PREFIXES, as_stored, read_flat, split
from fdlab.exchange.single_file import is_lora, is_original, kind_of, look_into, prefixes
from fdlab.models.answering import Answering
from fdlab.models.finetuned import model_folder
from fdlab.models.judge import HEADS
from fdlab.models.parts import CLASSES, NETWORKS, TRANSFORMER, folder_of
from fdlab.weights import formats
from fdlab.weights.eight_bits import unrounded
from fdlab.weights.files import read_weights
from fdlab.weights.lora_files import DIFFUSERS_FILE
from fdlab.weights.unreadable import not_there


@dataclass(frozen=True)
class PartInfo:
    """What one part of a checkpoint is made of."""

    part: str
    class_name: str
    tensors: int
    parameters: int
    dtypes: str


def describe(path: Path | str) -> list[PartInfo]:
    """Parts of a checkpoint: a run, a folder in diffusers' layout, one part's folder, a single file in the
    original layout, a released flat file, or a LoRA file. Raises: UserError."""
    root = model_folder(path)
    if not root.exists():
        guess = assets.named_like(str(path))
        if guess:
            raise UserError(f"'{path}' does not exist. Did you mean '{guess}'?")
        raise UserError(f"{not_there(path)} What ships: {', '.join(assets.models())}.")
    if root.is_file():
        file = look_into(root)
        if is_original(file):
            named = {part: file.below(prefix) for part, prefix in prefixes(kind_of(file)).items()}
            rest = set(file.shapes).difference(*named.values())
            parts = {**named, "(left out)": sorted(rest)} if rest else named
            return [_info(part, "original layout", file.read(names)) for part, names in parts.items()]
        if is_lora(file):
            return [_lora(root)]
        if not any(file.below(prefix) for prefix in PREFIXES.values()):
            # Raises, and says what the file is.
            kind_of(file)
        return [_info(part, "", state) for part, state in split(read_flat(root), path).items()]
    folders = _folders(root)
    if not folders and (root / HEADS).is_file():
        clip = _stored("clip", _class_name(root), as_stored(root, "judge"))
        return [clip, _stored("heads", Answering.__name__, read_weights(root / HEADS))]
    if not folders and (root / "config.json").is_file():
        folders = {root.name: root}
    if not folders:
        raise UserError(f"'{path}' holds no part of a model; expected folders such as {', '.join(NETWORKS)}.")
    rows = [_stored(part, _class_name(folder), as_stored(folder, part)) for part, folder in folders.items()]
    return [*rows, *([_lora(root / DIFFUSERS_FILE)] if (root / DIFFUSERS_FILE).is_file() else [])]


def _folders(root: Path) -> dict[str, Path]:
    """The networks of a folder: a backbone's parts, and what a pipeline's index lists under other names."""
    listed = {part for part, entry in formats.read_index(root).items() if _role(entry[1]) in NETWORKS}
    others = sorted(part for part in listed.difference(NETWORKS, [TRANSFORMER]) if Path(part).name == part)
    found = {part: folder_of(root, part) for part in (*NETWORKS, *others)}
    return {part: folder for part, folder in found.items() if folder.is_dir()}


def _role(class_name: str | None) -> str:
    return CLASSES.get(str(class_name), ("", ""))[0]


def _lora(file: Path) -> PartInfo:
    state = read_weights(file)
    ends = (".lora_A.weight", ".lora_down.weight", "lora.down.weight")
    ranks = sorted({t.shape[0] for name, t in state.items() if name.endswith(ends) and t.ndim})
    said = f"LoRA of rank {ranks[0]}" if len(ranks) == 1 else "LoRA"
    return _info("lora", said, state)


def _class_name(folder: Path) -> str:
    config = formats.read(folder / "config.json", formats.CONFIG) if (folder / "config.json").exists() else {}
    return str(config.get("_class_name") or next(iter(config.get("architectures") or []), ""))


def _stored(part: str, class_name: str, stored: Mapping[str, Tensor]) -> PartInfo:
    """A part that may be kept in eight bits, whose scales are no tensors of its own."""
    return _info(part, class_name, unrounded(stored), stored)


def _info(
    part: str, class_name: str, state: Mapping[str, Tensor], stored: Mapping[str, Tensor] | None = None
) -> PartInfo:
    kept = [(stored or state)[name].dtype for name, tensor in state.items() if tensor.is_floating_point()]
    numbers = Counter(str(dtype).removeprefix("torch.") for dtype in kept)
    parameters = sum(t.numel() for t in state.values() if t.is_floating_point())
    dtypes = "+".join(dtype for dtype, _ in numbers.most_common())
    return PartInfo(part, class_name, len(state), parameters, dtypes)
