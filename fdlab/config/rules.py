"""What a value may be, where its default's type does not say enough. Patterns match dotted keys."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

from fdlab import assets
from fdlab.errors import UserError, nearest


@dataclass(frozen=True)
class Rule:
    """Limits of one leaf."""

    choices: tuple[str, ...] = ()
    registry: str = ""
    """Where more choices stand: `package.module.NAME` of a mapping, tuple or Literal. Only a value other than
    the default imports it."""
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    """Like `low`, itself excluded."""
    or_count: bool = False
    """Beside the choices, any whole number from 1."""
    path: bool = False
    """Beside the choices, any file or folder that exists."""
    nullable: bool = False
    kind: type | None = None
    """The type, where the default (null, or a number written as text) does not show it."""
    items: type | None = None
    """The type of a list's items."""
    literal: bool = False
    """A text in which nothing means anything else, neither `${...}` nor null."""

    def check(self, key: str, value: Any) -> Any:
        """Return `value` if it is allowed. Raises: UserError."""
        if value is not None and (self.choices or self.registry or self.path):
            self._check_choice(key, str(value))
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int | float) and not isinstance(item, bool):
                self._check_range(key, item)
        return value

    def all_choices(self) -> tuple[str, ...]:
        """Every choice by name."""
        if not self.registry:
            return self.choices
        module, _, name = self.registry.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        return (*self.choices, *(get_args(found) or found))

    def _check_choice(self, key: str, value: str) -> None:
        # What ships is looked up where it is loaded: the error there knows what does ship.
        if self.path and (value.startswith("asset:") or _exists(value)):
            return
        choices = self.all_choices()
        if value in choices or (self.or_count and value.isdecimal() and int(value) > 0):
            return
        # A run goes on from its own checkpoints alone; weights may be what ships.
        ships = self.path and "shipped" in choices
        guess = (assets.named_like(value) if ships else "") or nearest(value, choices)
        hint = f" Did you mean '{guess}'?" if guess else ""
        allowed = [
            *choices,
            *["a path that exists"] * self.path,
            *["asset:NAME (what ships)"] * ships,
            *["a whole number"] * self.or_count,
        ]
        raise UserError(f"{key}={value}: allowed: {', '.join(allowed)}.{hint}")

    def _check_range(self, key: str, value: float) -> None:
        if not math.isfinite(value):
            raise UserError(f"{key}={value}: a finite number is needed.")
        if not (self.low <= value <= self.high and value > self.above):
            floor = f"> {self.above:g}" if self.above > -math.inf else f">= {self.low:g}"
            limits = [floor] if max(self.low, self.above) > -math.inf else []
            limits += [f"<= {self.high:g}"] if self.high < math.inf else []
            raise UserError(f"{key}={value}: must be {' and '.join(limits)}.")


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):
        # A name too long for any file, or the home of a user that is none.
        return False


PROBABILITY = Rule(low=0, high=1)
POSITIVE = Rule(above=0)
COUNT = Rule(low=1)
NOT_NEGATIVE = Rule(low=0)
OPTIONAL_POSITIVE = Rule(above=0, nullable=True, kind=float)

WEIGHTS = Rule(choices=("shipped", "base"), path=True)

RECOGNISERS = "fdlab.measure.faces.choice.CHOICES"

RULES: dict[str, Rule] = {
    "seed": NOT_NEGATIVE,
    "init": Rule(choices=("shipped", "base", "scratch"), path=True),
    "resume": Rule(choices=("auto", "never"), path=True),
    "tdm": WEIGHTS,
    "sdm": WEIGHTS,
    "model.lr": POSITIVE,
    "model.betas": Rule(low=0, high=1),
    "model.eps": Rule(above=0, high=1),
    "model.weight_decay": NOT_NEGATIVE,
    "model.warmup_steps": NOT_NEGATIVE,
    "model.optimizer": Rule(registry="fdlab.engine.optimizers.KINDS"),
    "model.schedule": Rule(choices=("constant", "cosine", "wsd")),
    "model.decay_share": PROBABILITY,
    "model.timesteps": Rule(choices=("uniform", "log_normal")),
    "model.log_sigma_std": POSITIVE,
    "model.uniform_share": PROBABILITY,
    "model.clip": POSITIVE,
    "model.ema_decay": Rule(low=0, high=0.999999),
    "model.ema_device": Rule(choices=("same", "cpu")),
    "model.frozen": Rule(choices=("fp32", "half", "auto")),
    "model.condition_dropout": PROBABILITY,
    "model.text_only": PROBABILITY,
    "model.subject_keep": PROBABILITY,
    "model.train_image_blocks": NOT_NEGATIVE,
    "model.masked_loss": PROBABILITY,
    "model.masked_loss_mode": Rule(choices=("released", "sample")),
    "model.localization_weight": NOT_NEGATIVE,
    "model.localization_blocks": NOT_NEGATIVE,
    "model.face_weight": NOT_NEGATIVE,
    "model.identity_weight": NOT_NEGATIVE,
    "model.identity_recogniser": Rule(choices=("faceres", "arcface", "adaface")),
    "model.identity_weights_file": Rule(path=True, nullable=True, kind=str),
    "model.identity_from": NOT_NEGATIVE,
    "model.identity_to": POSITIVE,
    "model.prediction_type": Rule(choices=("epsilon", "v_prediction"), nullable=True, kind=str),
    "model.min_snr_gamma": OPTIONAL_POSITIVE,
    "model.noise_offset": NOT_NEGATIVE,
    "model.input_perturbation": NOT_NEGATIVE,
    "model.lora_rank": NOT_NEGATIVE,
    "model.lora_alpha": OPTIONAL_POSITIVE,
    "model.lora_dropout": Rule(low=0, high=0.95),
    "model.lora_targets": Rule(items=str),
    "model.lora_init": Rule(path=True, nullable=True, kind=str),
    "model.text_encoder_lr": OPTIONAL_POSITIVE,
    "model.prior_weight": NOT_NEGATIVE,
    "backbone.loras": Rule(kind=list),
    "backbone.image_size": COUNT,
    "backbone.reference_size": COUNT,
    "backbone.reference_crop": Rule(choices=("person", "head")),
    "backbone.max_tokens": COUNT,
    "backbone.guidance_scale": NOT_NEGATIVE,
    "backbone.final_sigma": NOT_NEGATIVE,
    "backbone.prediction_type": Rule(choices=("epsilon", "v_prediction"), nullable=True, kind=str),
    "backbone.*": Rule(nullable=True, kind=str),
    "benchmark.max_*": NOT_NEGATIVE,
    "benchmark.batch_size": COUNT,
    "benchmark.kind": Rule(registry="fdlab.benchmarks.choice.KINDS"),
    "benchmark.profile": Rule(registry="fdlab.benchmarks.profiles.PROFILES"),
    "benchmark.folder": Rule(nullable=True, kind=str),
    "evaluation.recogniser": Rule(registry=RECOGNISERS),
    "evaluation.second": Rule(registry=RECOGNISERS, nullable=True, kind=str),
    "evaluation.clip": Rule(kind=str),
    "evaluation.*": Rule(nullable=True, kind=str),
    "validation.folder": Rule(nullable=True, kind=str),
    "validation.keep": Rule(choices=("last", "best")),
    "validation.num_steps": COUNT,
    "validation.monitor": Rule(choices=("auto",), registry="fdlab.metrics.registry.METRICS"),
    "validation.*": NOT_NEGATIVE,
    "images": Rule(nullable=True, kind=str),
    "label": Rule(nullable=True, kind=str),
    "shard": Rule(nullable=True, kind=str),
    "num_images": COUNT,
    "prompt": Rule(nullable=True, kind=str, literal=True),
    "subjects": Rule(items=str),
    "prompts": Rule(nullable=True, kind=str),
    "faces": Rule(low=0, nullable=True, kind=list),
    "trace_steps": Rule(low=0, nullable=True, kind=list),
    "trainer.max_steps": COUNT,
    "trainer.batch_size": COUNT,
    "trainer.accumulate": COUNT,
    "trainer.precision": Rule(registry="fdlab.engine.precision.PRECISIONS"),
    "trainer.nodes": Rule(low=1, high=100_000),
    "trainer.devices": Rule(choices=("auto",), or_count=True),
    "trainer.strategy": Rule(registry="fdlab.engine.strategies.STRATEGIES"),
    "trainer.accelerator": Rule(choices=("auto", "cpu", "gpu")),
    "trainer.compile": Rule(choices=("none", "blocks", "whole")),
    "trainer.log_every": COUNT,
    "trainer.checkpoint_every": COUNT,
    "trainer.keep_checkpoints": COUNT,
    "trainer.num_pictures": COUNT,
    "trainer.*_every": NOT_NEGATIVE,
    "trainer.num_workers": NOT_NEGATIVE,
    "trainer.benchmark_*": NOT_NEGATIVE,
    "data.kind": Rule(choices=("people", "fastcomposer", "webdataset", "plain", "folder")),
    "data.caption": Rule(literal=True, nullable=True, kind=str),
    "data.labels": Rule(items=str, nullable=True, kind=list),
    "data.mix": Rule(registry="fdlab.people.picture.MIXES"),
    "data.split": Rule(registry="fdlab.data.layout.SPLITS"),
    "data.num": COUNT,
    "data.seed": NOT_NEGATIVE,
    "data.size": COUNT,
    "data.max_subjects": Rule(low=1, high=4),
    "data.own_share": PROBABILITY,
    "data.reference": Rule(registry="fdlab.data.batches.Reference"),
    "data.background": Rule(registry="fdlab.transforms.references.Background"),
    "data.shapes": Rule(choices=("square", "buckets")),
    "data.longest": Rule(low=1, high=4),
    "data.crop": Rule(registry="fdlab.transforms.framing.Crop"),
    "data.least": Rule(above=0, high=1),
    "data.augment.grey": PROBABILITY,
    "data.augment.jitter": PROBABILITY,
    "data.augment.rotate": Rule(low=0, high=180),
    "data.augment.zoom": Rule(low=0, high=4),
    "data.augment.*": Rule(low=0, high=0.2),
    "data.root": Rule(kind=str),
    "data.prior.root": Rule(nullable=True, kind=str),
    "data.prior.num": COUNT,
    "data.prior.num_steps": COUNT,
    "data.prior.prompt": Rule(literal=True),
    "data.*_workers": NOT_NEGATIVE,
    "prepare.pictures.longest_side": COUNT,
    "prepare.pictures.shortest_side": COUNT,
    "prepare.pictures.duplicate_bits": Rule(low=-1, high=256),
    "prepare.faces.min_face": Rule(above=0, high=1),
    "prepare.faces.min_score": PROBABILITY,
    "prepare.faces.small": NOT_NEGATIVE,
    "prepare.faces.small_faces": Rule(registry="fdlab.preparation.settings.SMALL_FACES"),
    "prepare.faces.most": COUNT,
    "prepare.masks.source": Rule(choices=("matting", "boxes"), path=True),
    "prepare.masks.min_score": PROBABILITY,
    "prepare.captions.source": Rule(registry="fdlab.preparation.settings.CAPTIONS"),
    "prepare.captions.model": Rule(nullable=True, kind=str),
    "prepare.captions.question": Rule(nullable=True, kind=str, literal=True),
    "prepare.captions.nouns": Rule(registry="fdlab.preparation.parsed.BY"),
    "prepare.identities.recogniser": Rule(registry=RECOGNISERS),
    "prepare.identities.weights": Rule(nullable=True, kind=str),
    "prepare.identities.threshold": Rule(low=-1, high=1),
    "prepare.split.test_share": PROBABILITY,
    "prepare.split.seed": NOT_NEGATIVE,
    "prepare.corrections": Rule(nullable=True, kind=str),
    "workers": NOT_NEGATIVE,
    "sweep.sampler": Rule(choices=("tpe", "cmaes", "random", "grid", "nsga2")),
    "sweep.objective": Rule(items=str),
    "sweep.trials": COUNT,
    "sweep.hours": NOT_NEGATIVE,
    "sweep.patience": NOT_NEGATIVE,
    "sweep.seed": NOT_NEGATIVE,
    "sweep.startup": NOT_NEGATIVE,
    "sweep.pruner": Rule(choices=("none", "median", "hyperband")),
    "sweep.attempts": COUNT,
    "sweep.known": Rule(items=str),
    "logger.group": Rule(nullable=True, kind=str),
    "logger.mode": Rule(choices=("online", "offline", "disabled")),
}


def rule_for(key: str) -> Rule | None:
    """The rule of a dotted key, its own or the first pattern's; None where its type says all."""
    if key in RULES:
        return RULES[key]
    # Most name one key: to ask first whether a pattern is one makes composing a tenth faster.
    patterns = (pattern for pattern in RULES if "*" in pattern)
    return next((RULES[pattern] for pattern in patterns if fnmatchcase(key, pattern)), None)
