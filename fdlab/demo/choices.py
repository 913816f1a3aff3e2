"""What the page offers: guiders in words, the fractions that each takes, and what they start at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fdlab.config.compose import compose
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SamplerSettings

MAX_PHOTOS = 4
GUIDERS = {
    "snf": "TDM, then both by saliency, then SDM: the paper's",
    "attention": "the same stages, masks from attention to the subjects",
    "switch": "TDM, then SDM, without fusion",
    "average": "both models everywhere, in fixed shares",
    "delayed": "SDM alone, its subjects from a step on: FastComposer's",
    "sdm": "SDM alone",
    "tdm": "TDM alone, which draws no given person",
}
"""Every guider in one line, the paper's first."""
SAMPLERS = {"snf": "snf_demo"}
"""conf/sampler's file of a guider, where it bears another name."""


@dataclass(frozen=True)
class Fraction:
    """An option of guiders between 0 and 1, as a slider shows it."""

    label: str
    info: str


FRACTIONS = {
    "alpha": Fraction("alpha", "the TDM draws alone up to this share"),
    "beta": Fraction("beta", "both up to this share, then the SDM"),
    "fraction": Fraction("switch at", "share of the steps, the TDM's up to there"),
    "sdm_share": Fraction("SDM's share", "weight of the SDM, everywhere alike"),
    "subject_fraction": Fraction(
        "subject's share", "share of the steps that see the subjects, from the last"
    ),
}
"""By the option's name; a guider has alpha and beta, or one of the others, or none."""


def sampler_name(guider: str) -> str:
    """The file of conf/sampler that holds a guider's settings."""
    return SAMPLERS.get(guider, guider)


@cache
def defaults(guider: str) -> SamplerSettings:
    """What `fdlab sample` takes for a guider unless told otherwise. Raises: UserError for an unknown one."""
    guiders.options(guider)
    cfg = compose(["prompt=x", f"sampler={sampler_name(guider)}"], config_name="sample")
    return SamplerSettings.from_mapping(cfg.sampler)


def fractions(guider: str) -> dict[str, float]:
    """The fractions a guider takes, with their defaults."""
    options = defaults(guider).options
    return {name: float(options[name]) for name in FRACTIONS if name in options}


@cache
def usual_subjects() -> int:
    """How many subjects `fdlab sample` admits unless told otherwise."""
    return int(compose(["prompt=x"], config_name="sample").data.max_subjects)
