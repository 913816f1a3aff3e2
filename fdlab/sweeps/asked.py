"""From a command to the search it means: its space, its settings, and the folder that keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.benchmarks.choice import NONE
from fdlab.config import naming
from fdlab.config.compose import compose
from fdlab.config.compose import read as read_lines
from fdlab.config.locate import groups
from fdlab.errors import UserError
from fdlab.sweeps.reading import read as read_space
from fdlab.sweeps.samplers import suited
from fdlab.sweeps.settings import SearchSettings
from fdlab.sweeps.study import Study
from fdlab.sweeps.trial import Verb

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fdlab.sweeps.space import Space

SWEEPS = "sweeps"
"""Folder below paths.runs with a folder a search."""


def read(words: Sequence[str], check: bool = True) -> tuple[DictConfig, Study]:
    """The configuration of a search, and its study, neither made nor opened; `check` its space unless it was.

    Raises: UserError."""
    verb: Verb = "train" if any(line.key == "exp" for line in read_lines(words)) else "evaluate"
    own = [word for word in words if _is_own(word)]
    rest = [word for word in words if not _is_own(word)]
    space = read_space(rest, verb, check)
    cfg = compose([*_groups(space), *space.fixed, *own], config_name=f"sweep_{verb}")
    settings = SearchSettings.read(cfg.sweep)
    suited(space, settings)
    if settings.pruner != "none" and not (verb == "train" and cfg.validation.every):
        raise UserError(
            f"sweep.pruner={settings.pruner} goes by what validation reports while training: give +exp=NAME "
            "validation.every=STEPS."
        )
    if any(line.key == "shard" for line in read_lines(words)):
        raise UserError("shard=: a search goes by records, and a share has none; leave it out.")
    if verb == "train" and not cfg.evaluate:
        raise UserError("evaluate=false: a search goes by the records of its trials; leave it true.")
    if cfg.benchmark.kind == NONE:
        raise UserError("benchmark=none: a search goes by the records of its trials; give a benchmark.")
    name = str(cfg.sweep.name)
    if name == "auto":
        asked = [space.described(), space.kept(), settings.objective, settings.sampler, settings.seed]
        name = f"{settings.sampler}-{hashlib.blake2b(json.dumps(asked).encode(), digest_size=4).hexdigest()}"
    naming.check(name)
    return cfg, Study(Path(cfg.paths.runs) / SWEEPS / name, space, settings)


def _is_own(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+")
    return key == "sweep" or key.startswith("sweep.")


def _groups(space: Space) -> list[str]:
    """A choice of every group that varies: what does not vary may be a key of those alone."""
    first = space.walk(lambda name, dimension: dimension.ends()[0])
    return [f"{key}={value}" for key, value in first.items() if key in groups()]
