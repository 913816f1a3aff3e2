"""From a list of `KEY=VALUE` overrides to one checked, resolved configuration, through Hydra's compose API.

Hydra's own errors assume that the reader knows Hydra. So overrides are looked at here first, group choices
and keys against what exists, and an error says what was given, what is allowed and what is nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.config import naming, schema
from fdlab.config.locate import conf_dir, groups, options
from fdlab.errors import UserError, unknown

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Split:
    """Overrides, told apart."""

    choices: list[str]
    """`group=option`, as Hydra wants them."""
    values: list[Override]
    """`key=value`."""


def compose(overrides: Sequence[str] = (), config_name: str = "config") -> DictConfig:
    """Compose, check and resolve the configuration that `overrides` ask for.

    `config_name` is the primary file in `conf/`. The result refuses unknown keys, its paths are absolute or
    relative to the working directory, and its `name` is settled. Raises: UserError.
    """
    from omegaconf import OmegaConf

    split = _split(overrides)
    reference = _resolve(_hydra(config_name, tuple(split.choices)))
    for override in split.values:
        _check_key(override, reference)
    full = _resolve(_hydra(config_name, (*split.choices, *(str(o.input_line) for o in split.values))))
    plain = schema.check(full, reference)
    plain["paths"] = {key: str(Path(path).expanduser()) for key, path in plain["paths"].items()}
    if plain["name"] == "auto":
        plain["name"] = naming.run_name(plain, reference, split.choices)
    naming.check(plain["name"])
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    return cfg


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read overrides with Hydra's grammar. Raises: UserError for one it does not admit."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for line in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([line])
        except HydraException as error:
            raise UserError(f"cannot read '{line}'; write KEY=VALUE, as in seed=1 or +exp=sdm.") from error
    return parsed


def _split(overrides: Sequence[str]) -> Split:
    known = groups()
    split = Split([], [])
    for override in parse(overrides):
        key = override.key_or_group
        if override.is_sweep_override():
            raise UserError(f"'{override.input_line}' gives several values; add -m for one process each.")
        if override.is_delete():
            raise UserError(f"'{override.input_line}': keys cannot be removed; set a value instead.")
        if key not in known or (override.value() is not None and not isinstance(override.value(), str)):
            split.values.append(override)
            continue
        option = str(override.value())
        if option not in options(key):
            raise unknown("experiment" if key == "exp" else key, option, options(key))
        # An experiment is added to the defaults, every other group has a default: so the plus is ours to set.
        split.choices.append(f"{'+' if key == 'exp' else ''}{key}={option}")
    return split


def _check_key(override: Override, reference: dict[str, Any]) -> None:
    key = override.key_or_group
    if key in groups():
        allowed = ", ".join(options(key))
        raise UserError(f"'{override.input_line}': choose one of {allowed}, or set a key below '{key}.'.")
    if override.package is not None or not schema.contains(reference, key):
        raise schema.unknown_key(key, reference, groups())


@lru_cache(maxsize=128)
def _hydra(config_name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Compose with Hydra; remembered, since a grid asks for the same defaults for each of its trials."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from error


def _resolve(cfg: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(_one_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _one_line(error: BaseException) -> str:
    """Hydra often keeps what happened in the cause of an exception, or the cause of that one."""
    text: list[str] = []
    cause: BaseException | None = error
    while cause is not None and not text:
        text = [line.strip() for line in str(cause).splitlines() if line.strip()]
        cause = cause.__cause__
    return "configuration: " + "; ".join(text or [type(error).__name__])
