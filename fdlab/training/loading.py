"""How fast samples are loaded, beside how fast a training takes them: is loading ever what it waits for?"""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from fdlab.data.datamodule import StatelessData
from fdlab.engine.loop import check_device
from fdlab.training.fit import fit
from fdlab.training.initial import make_module
from fdlab.training.settings import FitSettings
from fdlab.training.source import batch_settings, embedded, embedded_texts, make_source
from fdlab.transforms.augment import Augment
from fdlab.transforms.framing import Framing

STRONG = Augment(zoom=0.2, rotate=15, elastic=0.02, jitter=0.2, blur=0.02, grey=0.1)
"""What is measured where a configuration asks for no augmentation: all of it."""
STEPS = 6
"""Of the training; as many before them are not counted."""


@dataclass(frozen=True)
class Rate:
    """One line of what was measured."""

    name: str
    samples_per_second: float
    cpu_seconds: float | None = None
    """Of all processes that load, for each sample; None where that is not known."""

    def __str__(self) -> str:
        cpu = "" if self.cpu_seconds is None else f"{1000 * self.cpu_seconds:8.2f} ms of a core each"
        return f"{self.name:<26}{self.samples_per_second:10.1f} samples/s{cpu}"


def measure(cfg: Any, batches: int) -> Iterator[Rate]:
    """Samples a second of the loader alone, of the loader with augmentation and of the training step, of a
    composed training; its data are rendered and encoded first where they have to be.

    Augmentation: the configuration's, or `STRONG`; pictures that are read anew are framed at random as well.
    Raises: UserError as `fit` does.
    """
    settings = FitSettings.read(cfg)
    start, module = make_module(settings)
    device, plain = check_device(settings.loop), replace(settings.data, augment=Augment(), framing=Framing())
    augment = settings.data.augment if settings.data.augment.changes else STRONG
    framing = settings.data.framing if settings.data.cache_latents else Framing("random")
    for name, data in (
        ("loader", plain),
        ("loader with augmentation", replace(plain, augment=augment, framing=framing)),
    ):
        asked = replace(settings, data=data)
        _, source = make_source(data, start.backbone, module.REFERENCES, device, module.faces)
        kept = embedded(module, source, data, device), embedded_texts(module, source, data, device)
        how = batch_settings(asked, start.backbone, module.REFERENCES)
        loaded = StatelessData(source, how, batches + 1, settings.num_workers, *kept)
        yield Rate(name, *loading_rate(loaded, settings.batch_size))
    yield Rate("training step", _training_rate(cfg))


def loading_rate(data: StatelessData, batch_size: int) -> tuple[float, float]:
    """Samples a second that a loader gives from its first batch on, to somebody who takes no time; and
    seconds of a core that each takes, those of its workers counted when they have ended."""
    before, batches = _cpu_seconds(), iter(data.train_dataloader())
    next(batches)
    began = time.perf_counter()
    num = sum(1 for _ in batches)
    rate = num * batch_size / (time.perf_counter() - began)
    del batches
    return rate, (_cpu_seconds() - before) / ((num + 1) * batch_size)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _training_rate(cfg: Any) -> float:
    """Samples a second of the training itself, without what it waits for."""
    from omegaconf import OmegaConf, open_dict

    short = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    with tempfile.TemporaryDirectory() as folder, open_dict(short):
        short.paths.runs, short.name, short.resume = folder, "loading", "never"
        short.trainer.max_steps, short.trainer.log_every = 2 * STEPS, STEPS
        short.trainer.sample_every, short.validation.every = 0, 0
        with (fit(short).run_dir / "speed.csv").open() as stream:
            *_, row = islice(csv.DictReader(stream), 2)
    return float(row["images_per_second"]) / max(1e-9, 1 - float(row["data_wait"]))
