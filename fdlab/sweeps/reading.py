"""From the words of a command to a space, by turns: what a key's conditions name is read before the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fdlab.config.compose import variants_of
from fdlab.config.locate import groups, options
from fdlab.config.overrides import Line, split, unquoted
from fdlab.errors import UserError
from fdlab.sweeps.conditions import Asked, Conditions, Wants, exclude, in_order, wants
from fdlab.sweeps.dimensions import Dimension, read_dimension
from fdlab.sweeps.space import Space, words
from fdlab.sweeps.trial import CONFIGS, Verb

SAME_FOR_ALL = ("benchmark", "evaluation", "images", "label", "logger", "name", "paths", "shard")
"""What trials cannot be compared in, or is not measured: these keys, and those below."""
UNUSED_BY_EVALUATION = ("model.", "data.", "init", "resume", "validation.", "trainer.")


@dataclass
class _Found:
    verb: Verb
    always: list[str]
    """Words without a condition."""
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    conditions: dict[str, Conditions] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)
    attached: list[tuple[str, Conditions]] = field(default_factory=list)
    varied: list[tuple[str, Wants]] = field(default_factory=list)
    """Every key that is varied, with where it is."""

    def lines(self, *more: str, wanted: Mapping[str, Sequence[str]] | None = None) -> list[tuple[Line, bool]]:
        """The words without conditions, and more, where keys are as wanted. Raises: UserError."""
        chosen = {key: values[0] for key, values in (wanted or {}).items()}
        rest = [word for word in self.always if _bare(word).key not in chosen]
        given = [f"{key}={value}" for key, value in chosen.items()]
        return variants_of([*rest, *given, *more], CONFIGS[self.verb])


def read(overrides: Sequence[str], verb: Verb, check: bool = True) -> Space:
    """Take a command apart, and, to `check` it, compose every end of every dimension. Raises: UserError."""
    asked = [Asked.read(word) for word in overrides]
    found = _Found(verb, [word.head for word in asked if not word.lines])
    for word in asked:
        if not word.lines:
            _check_home(found, word, {})
    several = {word.key for word in asked if word.lines and sum(w.key == word.key for w in asked) > 1}
    for line, is_text in found.lines():
        dimension = read_dimension(line, is_text)
        if dimension is None:
            found.fixed.append(line.given)
        else:
            _add(found, line.given, line.key, dimension, ())
    for word in in_order([word for word in asked if word.lines]):
        _read_conditional(found, word, word.key in several)
    if not found.dimensions:
        raise UserError(
            "nothing is searched; write what varies, as in 'model.lr=tag(log,interval(1e-6,1e-3))'."
        )
    space = Space(found.dimensions, tuple(found.fixed), verb, found.conditions, tuple(found.attached))
    if check:
        space.check()
    return space


def _read_conditional(found: _Found, word: Asked, is_one_of_several: bool) -> None:
    for line in word.lines:
        _check_parent(found, word, line)
    conditions = word.conditions(found.dimensions)
    wanted = wants(conditions, found.conditions)
    if not all(wanted.values()):
        key = next(key for key, values in wanted.items() if not values)
        raise UserError(f"'{word.given}': its conditions never hold together; see {key}.")
    _check_home(found, word, wanted)
    line, is_text = found.lines(word.head, wanted=wanted)[-1]
    dimension = read_dimension(line, is_text)
    if dimension is None:
        found.attached.append((line.given, conditions))
        return
    name = line.key + words(conditions) if is_one_of_several else line.key
    _add(found, word.given, name, dimension, conditions)


def _add(found: _Found, given: str, name: str, dimension: Dimension, conditions: Conditions) -> None:
    key, wanted = name.partition(" ")[0], wants(conditions, found.conditions)
    if any(key == other and not exclude(wanted, where) for other, where in found.varied):
        raise UserError(f"'{given}': {key} is varied twice{' in some trials' if conditions else ''}.")
    if found.verb == "evaluate" and key.startswith(UNUSED_BY_EVALUATION):
        raise UserError(f"{key}: an evaluation does not use it; to search it, train: add +exp=NAME.")
    # Where nothing is trained, a search over seeds finds the luckiest noise.
    if key.split(".")[0] in SAME_FOR_ALL or (key == "seed" and found.verb == "evaluate"):
        raise UserError(f"{key}: trials that differ in it cannot be compared; give it one value.")
    found.varied.append((key, wanted))
    found.dimensions[name] = dimension
    if conditions:
        found.conditions[name] = conditions


def _check_parent(found: _Found, word: Asked, line: Line) -> None:
    """That a condition names a key that varies, and in one way. Raises: UserError."""
    if line.key in found.dimensions:
        return
    if any(line.key == key for key, _ in found.varied):
        raise UserError(f"'{word.given}': {line.key} is varied in several ways; no condition can name it.")
    found.lines(f"{line.key}=0")
    raise UserError(
        f"'{word.given}': {line.key} does not vary here; vary it, as in {line.key}=A,B, or leave the "
        "condition out."
    )


def _check_home(found: _Found, word: Asked, wanted: Wants) -> None:
    """That each option of a group that varies, as far as wanted, has the key; an option's keys are its own.
    Raises: UserError that says where it is one."""
    for other in found.always:
        group = _bare(other).key
        if group not in groups() or group == word.key:
            continue
        names = wanted.get(group) or tuple(map(unquoted, split(_listed(other))))
        if len(names) < 2 or not set(names) <= set(options(group)):
            continue
        having = [name for name in names if _has(found, {**wanted, group: (name,)}, word.key)]
        if having and len(having) < len(names):
            lacking = next(name for name in names if name not in having)
            raise UserError(
                f"'{word.given}': {group}={lacking} has no {word.key}; give it where there is one: "
                f"'{word.head} if {group}={','.join(having)}'."
            )


def _listed(word: str) -> str:
    """What stands between the brackets of `choice(a,b)`, or the value as it is."""
    value = word.partition("=")[2].strip()
    return value[len("choice(") : -1] if value.startswith("choice(") and value.endswith(")") else value


def _has(found: _Found, wanted: Wants, key: str) -> bool:
    chosen = {name: values[0] for name, values in wanted.items() if name in groups()}
    given = {asked.key: asked.head for asked in map(_bare, found.always) if asked.key in groups()}
    given |= {name: f"{name}={value}" for name, value in chosen.items()}
    try:
        variants_of([*given.values(), f"{key}=0"], CONFIGS[found.verb])
    except UserError:
        return False
    return True


def _bare(word: str) -> Asked:
    """A word without a condition."""
    return Asked(word, word, ())
