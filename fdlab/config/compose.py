"""From a list of `KEY=VALUE` overrides to one checked, resolved configuration, through Hydra's compose API.

Hydra's own errors assume that the reader knows Hydra. So overrides are looked at here first, group choices
and keys against what exists, and an error says what was given, what is allowed and what is nearest.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab.config import naming, schema
from fdlab.config.instantiate import check_targets
from fdlab.config.locate import conf_dir, groups, options
from fdlab.config.overrides import Line, split, unquoted
from fdlab.errors import UserError, unknown

if TYPE_CHECKING:
    from omegaconf import DictConfig

_one_at_a_time = threading.Lock()


def compose(overrides: Sequence[str] = (), config_name: str = "config") -> DictConfig:
    """Compose, check and resolve the configuration that `overrides` ask for.

    `config_name` is the primary file in `conf/`. The result refuses unknown keys, its paths are absolute or
    relative to the working directory, and its `name` is settled. Of two values for a key the last counts.
    Raises: UserError.
    """
    from omegaconf import OmegaConf

    plain, reference, choices = _composed(overrides, config_name)
    if plain.get("sampler") != reference.get("sampler"):
        # Only then: what a guider takes is written in its class, and torch takes a while to import.
        from fdlab.diffusion.settings import SamplerSettings

        SamplerSettings.from_mapping(plain["sampler"]).check()
    _check_homes(plain)
    plain["paths"] = {key: str(Path(path).expanduser()) for key, path in plain["paths"].items()}
    if plain["name"] == "auto":
        plain["name"] = naming.run_name(plain, reference, choices)
    naming.check(plain["name"])
    cfg = OmegaConf.create(_escaped(plain))
    OmegaConf.set_struct(cfg, True)
    return cfg


def settings_of(overrides: Sequence[str], config_name: str) -> dict[str, Any]:
    """Compose, check and resolve a configuration that describes no run. Raises: UserError."""
    return _composed(overrides, config_name)[0]


def _composed(overrides: Sequence[str], config_name: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Checked values, the values before anything but groups was chosen, and the choices of groups."""
    lines = read(overrides)
    chosen = {line.key: _option(line) for line in lines if line.key in groups()}
    if "sweep" in chosen and not config_name.startswith("sweep"):
        raise UserError(f"sweep={chosen['sweep']}: only `python -m fdlab sweep` searches.")
    # An experiment is added to the defaults, every other group has a default: so the plus is ours to set.
    choices = [f"{'+' if key == 'exp' else ''}{key}={option}" for key, option in chosen.items()]
    composed, reference = _chosen(config_name, tuple(choices))
    texts: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for line in lines:
        if line.key in chosen:
            continue
        if not schema.contains(reference, line.key):
            raise schema.unknown_key(line.key, reference, groups())
        if schema.holds_text(line.key, reference):
            texts[line.key] = _text(line, reference)
        else:
            others[line.key] = _value(line, reference)
    plain = schema.check(_resolve(_with_values(composed, others | texts)), reference)
    check_targets(plain)
    return plain, reference, choices


def read(overrides: Sequence[str]) -> list[Line]:
    """Take overrides apart. Raises: UserError."""
    hints = [
        f"{'+' if group == 'exp' else ''}{group}={name}" for group in groups() for name in options(group)
    ]
    return [Line.read(given, hints) for given in overrides]


def variants(overrides: Sequence[str], config_name: str = "config") -> list[tuple[Line, list[str]]]:
    """Every line of a grid's command with the values it names, one or several. Raises: UserError."""
    found = [(line, line.values(is_text)) for line, is_text in variants_of(overrides, config_name)]
    axes: dict[str, Line] = {}
    for line, values in found:
        # Of two values the last counts, but not of two axes, nor in place of one.
        if (other := axes.get(line.key)) is not None:
            raise UserError(
                f"'{other.given}' varies {line.key}, which '{line.given}' gives again: write it once."
            )
        if len(values) > 1:
            axes[line.key] = line
    return found


def variants_of(overrides: Sequence[str], config_name: str = "config") -> list[tuple[Line, bool]]:
    """Every line of a command that varies something, and whether its key holds text. Raises: UserError for a
    key that does not exist."""
    lines = read(overrides)
    first = {line.key: unquoted(split(line.value)[0]) for line in lines if line.key in groups()}
    choices = [f"{key}={option}" for key, option in first.items() if option in options(key)]
    _, reference = _chosen(config_name, tuple(c if c[:4] != "exp=" else f"+{c}" for c in choices))
    for line in lines:
        if not schema.contains(reference, line.key) and line.key not in groups():
            raise schema.unknown_key(line.key, reference, groups())
    return [(line, schema.holds_text(line.key, reference)) for line in lines]


def _option(line: Line) -> str:
    """The option of a group that a line chooses. Raises: UserError."""
    option = unquoted(line.value)
    if option in options(line.key):
        return option
    if len(split(line.value)) > 1:
        raise _several(line)
    if option[:1] in ("{", "[", "") or option == "null":
        allowed = ", ".join(options(line.key))
        raise UserError(f"'{line.given}': choose one of {allowed}, or set a key below '{line.key}.'.")
    raise unknown("experiment" if line.key == "exp" else line.key, option, options(line.key))


def _text(line: Line, reference: dict[str, Any]) -> Any:
    """The value of a key that holds text, or a list of texts, as OmegaConf takes it."""
    if schema.takes_null(line.key, reference) and line.value.lower() == "null":
        return None
    if schema.holds_list(line.key, reference):
        return [_literal(text) for text in line.texts()]
    return _literal(line.text) if schema.is_literal(line.key) else line.text


def _value(line: Line, reference: dict[str, Any]) -> Any:
    """The value of any other key, as Hydra reads it. Raises: UserError."""
    keys = schema.keys_below(line.key, reference)
    if keys and not line.value.startswith("{"):
        raise UserError(f"{line.given}: this is a group of keys ({', '.join(keys)}); set one of them.")
    override = line.parsed()
    if override.is_sweep_override():
        raise _several(line)
    for key, _ in schema.leaves({line.key: override.value()}):
        if not schema.contains(reference, key):
            raise schema.unknown_key(key, reference, groups())
    return override.value()


def _with_values(composed: DictConfig, values: dict[str, Any]) -> DictConfig:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    composed = copy.deepcopy(composed)
    for key, value in values.items():
        try:
            OmegaConf.update(composed, key, value)
        except OmegaConfBaseException as error:
            raise UserError(f"{key}={value}: {_one_line(error)}") from error
    return composed


def _check_homes(plain: dict[str, Any]) -> None:
    """Every `~` in front of a folder's name must be somebody's home. Raises: UserError."""
    for key, value in schema.leaves(plain):
        if isinstance(value, str) and value.startswith("~") and key not in ("prompt", "label"):
            try:
                Path(value).expanduser()
            except RuntimeError as error:
                raise UserError(f"{key}={value}: nobody of that name has a home here.") from error


def _several(line: Line) -> UserError:
    return UserError(
        f"'{line.given}' gives several values; one is needed, or of train and evaluate: add -m for one "
        "process each."
    )


def _literal(text: str) -> str:
    """A text in which OmegaConf finds nothing to put in."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def _escaped(node: Any) -> Any:
    """Resolved values as they are given to OmegaConf again: what still looks like `${...}` is text."""
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    return _literal(node) if isinstance(node, str) else node


def _chosen(config_name: str, choices: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    """What groups alone make, not resolved and resolved. Raises: UserError."""
    composed, resolved = _hydra(config_name, choices)
    return composed, copy.deepcopy(resolved)


@lru_cache(maxsize=128)
def _hydra(config_name: str, choices: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
    """Compose with Hydra; remembered, since it takes longer than all the rest, and a grid's trials differ in
    values."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        # Hydra keeps its state in one global object.
        with _one_at_a_time, initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            composed = hydra_compose(config_name, overrides=list(choices))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from error
    return composed, _resolve(composed)


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
