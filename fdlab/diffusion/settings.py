"""A sampler's settings as a person writes them (conf/sampler), checked, and the parts built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fdlab.diffusion import guiders
from fdlab.diffusion.flow import Schedule, is_flow
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.sampler import check_eta
from fdlab.diffusion.schedulers import check_scheduler, make_scheduler
from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.errors import UserError, unknown


@dataclass(frozen=True)
class SamplerSettings:
    """The keys all samplers share, and in `options` those of the chosen guider."""

    guider: str
    scheduler: str = "ddim"
    num_steps: int = 50
    guidance_scale: float = 5.0
    guidance_rescale: float = 0.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    spacing: str | None = None
    eta: float = 0.0
    final_sigma: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SamplerSettings:
        """Read a flat mapping; a key that is neither shared nor an option of the guider raises UserError."""
        if "guider" not in mapping:
            raise UserError(
                f"a sampler needs the key 'guider'; allowed: {', '.join(sorted(guiders.GUIDERS))}."
            )
        allowed = guiders.options(mapping["guider"])
        for key in mapping:
            if key not in SHARED and key not in allowed:
                raise unknown(f"key of sampler '{mapping['guider']}'", str(key), {*SHARED, *allowed})
        return cls(
            **{key: mapping[key] for key in mapping if key in SHARED},
            options={key: mapping[key] for key in mapping if key not in SHARED},
        )

    def with_guider(self, guider: str, **options: Any) -> SamplerSettings:
        """What all samplers share, under another guider with options of its own."""
        return replace(self, guider=guider, options=options)

    @property
    def needs(self) -> tuple[str, ...]:
        """Which of the models "tdm" and "sdm" have to be loaded."""
        return guiders.needs(self.guider)

    @property
    def guidance(self) -> Guidance:
        """Scale, rescaling and interval."""
        return Guidance.between(
            self.guidance_scale,
            self.guidance_rescale,
            self.guidance_start,
            self.guidance_end,
            self.num_steps,
        )

    def check(self, config: Mapping[str, Any] | None = None) -> None:
        """Check every setting; with a model's scheduler `config`, on that model. Raises: UserError."""
        for key, limit in LIMITS.items():
            limit.check(key, getattr(self, key))
        check_scheduler(self.scheduler, self.spacing)
        guiders.check(self.guider, num_steps=self.num_steps, guidance=self.guidance, **self.options)
        if config is not None:
            scheduler = self.make_scheduler(config)
            sampler_timesteps(scheduler, self.num_steps)
            check_eta(scheduler, self.eta)
            if is_flow(config) and guiders.looks_at_attention(self.guider):
                raise UserError(
                    f"sampler.guider={self.guider} looks at a UNet's cross-attention, which the transformer"
                    " of a model of flow matching does not have; take another, as sampler=snf_default."
                )

    def as_dict(self) -> dict[str, Any]:
        """Flat, with every option's value, for a record; `from_mapping` reads it back."""
        shared = {key: getattr(self, key) for key in SHARED}
        return {**shared, **guiders.options(self.guider), **self.options}

    def make_scheduler(self, config: Mapping[str, Any]) -> Any:
        """The scheduler for a model trained with the scheduler `config`."""
        return make_scheduler(self.scheduler, config, self.spacing)

    def make_guider(
        self,
        *,
        tdm: guiders.Model | None = None,
        sdm: guiders.Model | None = None,
        schedule: Schedule | None = None,
        recorder: guiders.Recorder | None = None,
    ) -> guiders.Guider:
        """The guider over the given models, of which it takes those it needs."""
        models: dict[str, Any] = {"tdm": tdm, "sdm": sdm, "schedule": schedule, "recorder": recorder}
        return guiders.build(
            self.guider, num_steps=self.num_steps, guidance=self.guidance, **models, **self.options
        )


LIMITS = {
    "num_steps": guiders.Limit(low=1, whole=True),
    "eta": guiders.Limit(low=0, high=1),
    "final_sigma": guiders.Limit(low=0, high=100),
    "guidance_scale": guiders.Limit(low=0),
    "guidance_rescale": guiders.Limit(low=0, high=1),
    "guidance_start": guiders.Limit(low=0, high=1),
    "guidance_end": guiders.Limit(low=0, high=1),
}
SHARED = tuple(item.name for item in fields(SamplerSettings) if item.name != "options")
"""A sampler's keys that are not options of its guider."""
