"""What the page offers: guiders in words, the shares that each takes, and what they start at."""

from __future__ import annotations

from functools import cache

from fdlab.config.compose import compose
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SamplerSettings

MAX_PHOTOS = 4
PAPERS = "snf"
"""The guider that comes first."""
SAMPLERS = {PAPERS: "snf_demo"}
"""conf/sampler's file of a guider, where it bears another name."""


def offered() -> dict[str, str]:
    """Every guider in one line: the paper's first, then those of two models."""
    names = sorted(guiders.GUIDERS, key=lambda name: (name != PAPERS, -len(guiders.needs(name)), name))
    return {name: guiders.describe(name) for name in names}


def sliders(guider: str) -> dict[str, str]:
    """The options of a guider that are shares, and what a slider says of each."""
    return {name: limit.slider for name, limit in guiders.limits(guider).items() if limit.slider}


def all_sliders() -> list[str]:
    """The shares that any guider takes, those of the first guiders first."""
    return list(dict.fromkeys(name for guider in offered() for name in sliders(guider)))


def sampler_name(guider: str) -> str:
    """The file of conf/sampler that holds a guider's settings."""
    return SAMPLERS.get(guider, guider)


@cache
def defaults(guider: str) -> SamplerSettings:
    """What `fdlab sample` takes for a guider unless told otherwise. Raises: UserError for an unknown one."""
    guiders.options(guider)
    cfg = compose(["prompt=x", f"sampler={sampler_name(guider)}"], config_name="sample")
    return SamplerSettings.from_mapping(cfg.sampler)


def shares(guider: str) -> dict[str, float]:
    """The shares that a guider takes, with their defaults."""
    return {name: float(defaults(guider).options[name]) for name in sliders(guider)}


@cache
def usual_subjects() -> int:
    """How many subjects `fdlab sample` admits unless told otherwise."""
    return int(compose(["prompt=x"], config_name="sample").data.max_subjects)
