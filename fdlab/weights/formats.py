"""What the JSON files of a model folder may say, one schema a format: foreign files are trusted no further.

Whatever else they say ends in one line that names file, key, value, and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.foreign import text

LARGEST_FILE = 64 * 2**20
"""Bytes; a vocabulary has a million, a config a few thousand."""
WIDEST, DEEPEST, LONGEST, NESTED = 2**20, 64, 64, 6
"""Bounds of any whole number, number of layers, list and depth in a network's config: beyond them time and
memory run out before the tensors can show that they do not fit."""
LARGEST = 1e30
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
          dict: "an object", type(None): "null"}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """What the value of a key may be; one that is absent is no fault."""

    kinds: tuple[type, ...]
    low: float = -LARGEST
    high: float = LARGEST
    choices: tuple[str, ...] = ()
    items: Key | None = None
    """What each item of a list may be."""
    shortest: int = 0
    longest: int = LONGEST

    def check(self, name: str, value: Any, file: Path) -> None:
        """Raise UserError for any other value."""
        number = type(value) is int and float in self.kinds
        if type(value) not in self.kinds and not number:
            raise _wrong(file, name, value, " or ".join(_NAMES[kind] for kind in self.kinds))
        if type(value) in (int, float) and not self.low <= value <= self.high:  # NaN neither
            raise _wrong(file, name, value, f"{self.low:g} to {self.high:g}")
        if isinstance(value, str) and self.choices and value not in self.choices:
            raise _wrong(file, name, value, ", ".join(self.choices))
        if isinstance(value, list):
            if not self.shortest <= len(value) <= self.longest:
                raise _wrong(file, name, value, f"{self.shortest} to {self.longest} items")
            for item in value if self.items is not None else ():
                assert self.items is not None
                self.items.check(name, item, file)


Schema = Mapping[str, Key]
_NONE = type(None)
_COUNT = Key((int, _NONE), low=0)
_SIZE = Key((int,), low=1, high=WIDEST)
_FLAG = Key((bool,))
_FRACTION = Key((float,), low=0, high=1)
_SIDES = Key((int, list, _NONE), low=1, high=WIDEST, items=_SIZE, shortest=2, longest=2)
_WIDTHS = Key((list,), items=_SIZE, shortest=1)

TRAINING: Schema = {
    "steps": _COUNT,
    "steps_of_this_run": _COUNT,
    "kind": Key((str,), choices=("tdm", "sdm")),
    "pictures_a_step": Key((int, _NONE), low=1),
    "lr": Key((float, _NONE), low=0),
    "text_encoder_lr": Key((float, _NONE), low=0),
    "prior_weight": Key((float, _NONE), low=0),
    "taught_by": Key((list, _NONE), items=Key((str,)), longest=100),
    "people": Key((list, _NONE), items=Key((dict,)), longest=100),
}
"""training.json: what is known about fine-tuned weights."""

SCHEDULER: Schema = {
    "num_train_timesteps": Key((int,), low=1, high=100_000),
    "beta_start": _FRACTION,
    "beta_end": _FRACTION,
    "beta_schedule": Key((str,), choices=("linear", "scaled_linear", "squaredcos_cap_v2")),
    "trained_betas": Key((list, _NONE), items=_FRACTION, shortest=1, longest=100_000),
    "prediction_type": Key((str,), choices=("epsilon", "v_prediction", "flow_prediction")),
    "shift": Key((float,), low=0.01, high=100),
    "flow_shift": Key((float, _NONE), low=0.01, high=100),
    "timestep_spacing": Key((str,), choices=("leading", "trailing", "linspace")),
    "steps_offset": Key((int,), low=0, high=1000),
    "solver_order": Key((int,), low=1, high=3),
    **dict.fromkeys(("dynamic_thresholding_ratio", "clip_sample_range", "sample_max_value"), Key((float,))),
    **dict.fromkeys(
        (
            "rescale_betas_zero_snr",
            "clip_sample",
            "set_alpha_to_one",
            "skip_prk_steps",
            "thresholding",
            "use_dynamic_shifting",
        ),
        _FLAG,
    ),
}
"""scheduler_config.json, as far as noise and steps follow from it."""

TOKENIZER: Schema = {"model_max_length": Key((int,), low=3, high=100_000)}
"""tokenizer_config.json, as far as fdlab reads it."""

CONFIG: Schema = {
    "_class_name": Key((str, _NONE)),
    "architectures": Key((list, _NONE), items=Key((str,)), shortest=1),
}
"""Any network's config.json: which class it is."""

_TEXT: Schema = dict.fromkeys(
    ("hidden_size", "vocab_size", "max_position_embeddings", "projection_dim"), _SIZE
)

NETWORKS: Mapping[str, Schema] = {
    "unet": {
        "sample_size": _SIDES,
        "in_channels": _SIZE,
        "out_channels": _SIZE,
        "block_out_channels": _WIDTHS,
        "cross_attention_dim": Key((int, list, _NONE), low=1, high=WIDEST, items=_SIZE),
        "patch_size": _SIZE,
        "joint_attention_dim": _SIZE,
        "pooled_projection_dim": _SIZE,
        "addition_embed_type": Key((str, _NONE)),
        "addition_time_embed_dim": Key((int, _NONE), low=1, high=WIDEST),
        "projection_class_embeddings_input_dim": Key((int, _NONE), low=1, high=WIDEST),
    },
    "vae": {
        "sample_size": _SIDES,
        "in_channels": _SIZE,
        "latent_channels": _SIZE,
        "block_out_channels": _WIDTHS,
        "scaling_factor": Key((float,), low=1e-6, high=1e6),
        "shift_factor": Key((float, _NONE), low=-1e6, high=1e6),
    },
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
    "image_encoder": dict.fromkeys(("hidden_size", "image_size", "patch_size", "projection_dim"), _SIZE),
    "fusion": {"width": _SIZE, "object_width": Key((int, _NONE), low=1, high=WIDEST)},
}
"""A part's config.json, as far as fdlab itself reads it; the rest is its class's business, within bounds."""

_ENTRY = Key((list,), items=Key((str, _NONE)), shortest=2, longest=2)
_LAYERS = ("num_layers", "num_hidden_layers", "layers_per_block", "transformer_layers_per_block")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises: UserError when missing, no file, too large, or not JSON."""
    source = text(file, "file", LARGEST_FILE)
    try:
        # Not `foreign.parse_json`: tokenizers say 10**30 where they mean no limit.
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{file}' is no JSON: {one_line(error)}.") from error
    if not isinstance(value, dict):
        raise UserError(f"'{file}' is no JSON object.")
    return value


def read(file: Path, schema: Schema) -> dict[str, Any]:
    """A JSON object whose keys are as `schema` says, as far as it names them. Raises: UserError."""
    value = read_json(file)
    check(value, schema, file)
    return value


def read_index(root: Path) -> dict[str, list[str | None]]:
    """model_index.json of a folder: part -> [library, class]; empty where there is none."""
    file = root / "model_index.json"
    value = read_json(file) if file.exists() else {}
    entries = {part: entry for part, entry in value.items() if isinstance(entry, list) and part[:1] != "_"}
    check(entries, dict.fromkeys(entries, _ENTRY), file)
    return entries


def read_flag(root: Path, name: str, default: bool) -> bool:
    """A key of model_index.json that is true or false. Raises: UserError."""
    file = root / "model_index.json"
    return bool(read(file, {name: _FLAG}).get(name, default)) if file.exists() else default


def read_config(part: str, folder: Path) -> dict[str, Any]:
    """A network's config.json, checked and within bounds; empty where there is none. Raises: UserError."""
    file = folder / "config.json"
    if not file.exists():
        return {}
    value = read_bounded(file)
    check(value, NETWORKS[part], file)
    return value


def read_bounded(file: Path) -> dict[str, Any]:
    """The config.json of any network, within bounds. Raises: UserError."""
    value = read(file, CONFIG)
    _bounded(file, value)
    return value


def read_judge(file: Path) -> tuple[dict[str, list[str]], list[int]]:
    """judge.json: every head's answers, and the widths of the network that gives them. Raises: UserError."""
    value = read(file, {"heads": Key((dict,)), "widths": Key((list,), items=_SIZE, shortest=4, longest=4)})
    for name in ("heads", "widths"):
        if not value.get(name):
            raise UserError(f"'{file}' lacks '{name}': the answers of every head, and the network's widths.")
    for name, answers in value["heads"].items():
        Key((list,), items=Key((str,)), shortest=1, longest=WIDEST).check(name, answers, file)
    return dict(value["heads"]), list(value["widths"])


def read_shards(file: Path) -> list[Path]:
    """The safetensors files that an index lists, in its own folder. Raises: UserError."""
    listed = read_json(file).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"'{file}': weight_map must say which file each tensor is in.")
    for name in listed.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise _wrong(file, "weight_map", name, "names of .safetensors files in the same folder")
    return [file.parent / name for name in sorted(set(listed.values()))]


def side(value: Any) -> int:
    """A `sample_size` as one number, 0 where it is not said."""
    return int(value[0] if isinstance(value, list) else value or 0)


def one_line(error: BaseException) -> str:
    """What an error of somebody else's code says, fit for a line."""
    text = " ".join(str(error).split())
    return (text[:200] or type(error).__name__).rstrip(".")


def check(value: Mapping[str, Any], schema: Schema, file: Path) -> None:
    """Raise UserError for a value that is not as `schema` says, as far as it names it."""
    for name, key in schema.items():
        if name in value:
            key.check(name, value[name], file)


def _bounded(file: Path, value: Any, name: str = "", depth: int = 0) -> None:
    if depth > NESTED:
        raise UserError(f"'{file}': {name} is nested more than {NESTED} deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            _bounded(file, inner, str(key), depth + 1)
    elif isinstance(value, list):
        if len(value) > LONGEST:
            raise _wrong(file, name, value, f"{LONGEST} items at most")
        for inner in value:
            _bounded(file, inner, name, depth + 1)
    elif isinstance(value, int):
        high = DEEPEST if name in _LAYERS or name.endswith("_blocks") else WIDEST
        # Token ids may be -1; what is wide or deep is at least 1, and torch says so.
        Key((int, bool), low=-1, high=high).check(name, value, file)
    elif isinstance(value, float):
        Key((float,)).check(name, value, file)


def _wrong(file: Path, name: str, value: Any, allowed: str) -> UserError:
    shown = json.dumps(value, default=str)
    return UserError(f"'{file}': {name} is {shown[:80]}; allowed: {allowed}.")
