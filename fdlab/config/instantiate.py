"""The one place that turns configuration into objects. What `_target_` names must be a class of fdlab's."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fdlab.errors import UserError

KEY, ROOM = "_target_", "fdlab."
_PATH = re.compile(r"fdlab(\.[A-Za-z]\w*){2,}")


def check_targets(node: Any, key: str = "") -> None:
    """Refuse every `_target_` below `node` that is none of fdlab's, before anything of it is imported.

    Raises: UserError naming the key.
    """
    for path, target in _targets(node, key):
        if not isinstance(target, str) or not _PATH.fullmatch(target):
            raise UserError(
                f"{path}={target}: only {ROOM}* may be built, as in fdlab.training.text_driven.TDM."
            )


def class_of(target: str) -> type:
    """The class that `target`, as in `fdlab.training.text_driven.TDM`, names. Raises: UserError.

    It must be defined where it is said to be: what a module of fdlab's has imported is not fdlab's.
    """
    check_targets({KEY: target})
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(ROOM.rstrip(".")):
            raise
        found = None
    if not isinstance(found, type) or found.__module__ != module:
        raise UserError(f"{KEY}={target}: fdlab has no such class.")
    return found


def instantiate(node: Mapping[str, Any], **extra: Any) -> Any:
    """Build the object that `node` describes: its class in `_target_`, with the other keys and `extra`.

    Raises: UserError for a class that is missing or not fdlab's.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    given = {str(key): value for key, value in plain.items() if key != KEY}
    check_targets(given)
    if KEY not in plain:
        raise UserError(f"this part of the configuration names no {KEY} and cannot be built.")
    return class_of(plain[KEY])(**given, **extra)


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            below = f"{path}.{key}" if path else str(key)
            if key == KEY:
                yield below, value
            else:
                yield from _targets(value, below)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _targets(value, f"{path}[{index}]")
