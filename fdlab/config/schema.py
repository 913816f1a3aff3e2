"""Checks of a composed configuration: no unknown key, every value of its default's type and in range.

The default *is* the schema: a leaf takes what its default is made of; `rules.py` narrows that further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fdlab.config.rules import Rule, rule_for
from fdlab.errors import UserError, nearest

MISSING = "???"
_NAMES: dict[type, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    list: "a list [a,b]",
}


def check(given: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Compare a resolved configuration with its defaults; return it with numbers in their default's type.

    Raises: UserError naming the key, the value, what is allowed and the nearest match.
    """
    return _check_node(given, reference, reference, "")


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of everything that is not a mapping."""
    for key, value in node.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def contains(node: Any, key: str) -> bool:
    """Whether a dotted key names a leaf or a node."""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def holds_text(key: str, reference: dict[str, Any]) -> bool:
    """Whether a dotted key holds text, or a list of texts: such a value is taken as it is typed."""
    rule = rule_for(key) or Rule()
    return rule.items is str or (contains(reference, key) and _kind(rule, _leaf(key, reference)) is str)


def holds_list(key: str, reference: dict[str, Any]) -> bool:
    """Whether a dotted key holds a list."""
    return _kind(rule_for(key) or Rule(), _leaf(key, reference)) is list


def takes_null(key: str, reference: dict[str, Any]) -> bool:
    """Whether `null` means that a dotted key has no value."""
    rule = rule_for(key) or Rule()
    return not rule.literal and (rule.nullable or _leaf(key, reference) is None)


def keys_below(key: str, reference: dict[str, Any]) -> list[str]:
    """The keys of a group of keys; none of a leaf."""
    node = _leaf(key, reference)
    return sorted(map(str, node)) if isinstance(node, dict) else []


def is_literal(key: str) -> bool:
    """Whether nothing in a text means anything else, `${...}` neither."""
    return (rule_for(key) or Rule()).literal


def unknown_key(key: str, reference: dict[str, Any], groups: Iterable[str] = ()) -> UserError:
    """Make the error for a key that does not exist: its siblings, and the nearest of all keys."""
    known = [path for path, _ in leaves(reference)]
    parent: Any = reference
    parts = key.split(".")
    depth = 0
    while depth < len(parts) - 1 and isinstance(parent, dict) and isinstance(parent.get(parts[depth]), dict):
        parent = parent[parts[depth]]
        depth += 1
    above = ".".join(parts[:depth])
    siblings = sorted({str(name) for name in parent} | (set() if above else {"+exp", *groups} - {"exp"}))
    same_end = [path for path in known if path.rpartition(".")[2] == parts[-1]]
    # A bare `lr` is likelier to mean `model.lr` than any top key spelt a little like it.
    guess = same_end[0] if same_end and len(parts) == 1 else nearest(key, [*known, *groups])
    where = f"allowed below '{above}'" if above else "allowed"
    hint = f" Did you mean '{guess}'?" if guess else ""
    return UserError(f"unknown key '{key}'; {where}: {', '.join(siblings)}.{hint}")


def _check_node(given: Any, default: Any, root: dict[str, Any], path: str) -> Any:
    if isinstance(default, dict) and default:
        if not isinstance(given, dict):
            keys = ", ".join(map(str, default))
            raise UserError(f"{path}={given}: this is a group of keys ({keys}); set one of them.")
        gone = [key for key in default if key not in given]
        if gone:
            raise UserError(f"'{path}.{gone[0]}' is missing; keys cannot be removed.".replace("'.", "'"))
        checked = {}
        for key, value in given.items():
            below = f"{path}.{key}" if path else str(key)
            if key not in default:
                raise unknown_key(below, root)
            checked[key] = _check_node(value, default[key], root, below)
        return checked
    return _check_leaf(path, given, default)


def _check_leaf(path: str, given: Any, default: Any) -> Any:
    rule = rule_for(path) or Rule()
    if given == MISSING:
        raise UserError(f"'{path}' has no default: give it, as in {path}=VALUE.")
    if given is None:
        if default is None or rule.nullable:
            return None
        if "null" in rule.choices:
            # Typed without quotes, the choice named null is Hydra's null.
            return "null"
        raise UserError(f"{path}=null: a value is needed; the default is {default}.")
    kind = _kind(rule, default)
    value = given if kind is None else _cast(path, given, kind)
    if rule.items is not None and isinstance(value, list):
        value = [_cast(f"{path}[{index}]", item, rule.items) for index, item in enumerate(value)]
    return value if value == default else rule.check(path, value)


def _kind(rule: Rule, default: Any) -> type | None:
    """What a leaf has to be; None: anything."""
    if rule.kind is not None:
        return rule.kind
    return None if default is None else str if default == MISSING else type(default)


def _leaf(key: str, reference: dict[str, Any]) -> Any:
    node: Any = reference
    for part in key.split("."):
        node = node[part]
    return node


def _cast(path: str, given: Any, kind: type) -> Any:
    """Give a number its default's type where nothing is lost by it; refuse every other type."""
    if kind is dict and isinstance(given, dict):
        return given
    if kind is float and isinstance(given, int | float) and not isinstance(given, bool):
        try:
            return float(given)
        except OverflowError:
            raise UserError(f"{path}={given}: a number is needed that a computer can hold.") from None
    if kind is int and isinstance(given, float) and given.is_integer():
        return int(given)
    if kind is str and isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    if type(given) is not kind:
        raise UserError(f"{path}={given}: {_NAMES.get(kind, kind.__name__)} is needed.")
    return given


def written(value: Any) -> str:
    """A leaf's value as YAML has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
