"""The one place that turns configuration into objects. A `_target_` outside the allow-list is refused."""

from __future__ import annotations

from typing import Any

from fdlab.errors import UserError

ALLOWED = ("fdlab.", "torch.optim.")


def instantiate(node: Any, **extra: Any) -> Any:
    """Build the object that `node._target_` names from the node's other keys and from `extra`.

    Nested mappings and lists arrive as plain Python ones, `extra` as it is: Hydra, which copies what passes
    through it, never sees it. Raises: UserError for a target that is missing or not allowed.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else dict(node)
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise UserError("this part of the configuration names no _target_ and cannot be built.")
    for target in _targets(plain):
        if not target.startswith(ALLOWED):
            raise UserError(f"_target_={target}: only {', '.join(f'{p}*' for p in ALLOWED)} may be built.")
    if not extra:
        return _hydra(plain)
    return _hydra({**plain, "_partial_": True})(**extra)


def _hydra(plain: dict[str, Any]) -> Any:
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    try:
        return hydra_instantiate(plain, _convert_="all")
    except InstantiationException as error:
        # A bad value reported by the object itself is what the user needs to read, not where Hydra stood.
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in _targets(value)]
    if isinstance(node, list):
        return [target for value in node for target in _targets(value)]
    return []
