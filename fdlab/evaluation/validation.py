"""The same evaluation while training, on people of its own: every process draws and measures its share.

It decides which weights were best and when to stop, so its people are neither the training's nor the
benchmark's. Nothing of it touches the training's random stream.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning

from fdlab.benchmarks import jobs
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.diffusion.settings import SamplerSettings
from fdlab.engine import checkpoints
from fdlab.engine.callbacks.curves import append, cut
from fdlab.engine.callbacks.stepping import StepCallback, is_due
from fdlab.engine.module import Training
from fdlab.engine.ranks import ALONE, Ranks
from fdlab.errors import UserError, unknown
from fdlab.evaluation import generation, measuring, scoring
from fdlab.evaluation.methods import Sampled
from fdlab.evaluation.requirements import device_of
from fdlab.evaluation.rows import SDM_ALONE, TEXT_ALONE, baseline
from fdlab.evaluation.settings import MethodSettings, ValidationSettings
from fdlab.measure import choose as loading
from fdlab.measure import networks
from fdlab.measure.choose import ExtractorSettings
from fdlab.metrics.registry import METRICS
from fdlab.pipeline.artist import Artist
from fdlab.records.validation_history import History
from fdlab.training.denoising import DenoisingTraining

FILE, FOLDER = "validation.csv", "validation"
CHANCE = 0.5
"""Identity AUC where no face was found at all."""
MONITORED = {"sdm": "identity_auc", "tdm": "prompt_accuracy"}
"""What decides where nobody chose: what each model is trained for."""


class EvaluateWhileTraining(StepCallback):
    """Score the averaged weights every `every` steps: validation.csv, pictures below validation/, best.ckpt.

    `monitor` is the metric that decides; after `patience` evaluations without a better one (0: never) the
    training ends. A resumed run goes on with the rows up to its checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        benchmark: Benchmark,
        extractors: networks.Extractors,
        sampler: Mapping[str, Any],
        every: int,
        monitor: str,
        patience: int = 0,
        batch_size: int = 16,
        background: str = "noise",
    ) -> None:
        super().__init__()
        if monitor not in METRICS:
            raise unknown("validation.monitor", monitor, METRICS)
        self.folder, self.benchmark, self.extractors = Path(folder), benchmark, extractors
        self.sampler, self.every, self.monitor, self.patience = dict(sampler), every, monitor, patience
        self.batch_size, self.background = batch_size, background
        self._method: Sampled | None = None
        self._references: measuring.References | None = None

    @property
    def path(self) -> Path:
        """validation.csv."""
        return self.folder / FILE

    @property
    def stop_step(self) -> int | None:
        """The step at which patience ran out in an earlier call; None where it did not."""
        return History.read(self.path).stop_step(self.monitor, self.patience)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Forget what came after the checkpoint; measure what training starts from."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            cut(self.path, pl_module.step)
            for old in (self.folder / FOLDER).glob("step-*"):
                if pl_module.step == 0 or int(old.name.removeprefix("step-")) > pl_module.step:
                    shutil.rmtree(old)
        trainer.strategy.barrier()
        if pl_module.step == 0:
            self._evaluate(trainer, pl_module)

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Measure when it is due."""
        if is_due(module.step, self.every, module.max_steps):
            self._evaluate(trainer, module)

    def _evaluate(self, trainer: lightning.Trainer, module: Training) -> None:
        assert isinstance(module, DenoisingTraining)
        start = time.monotonic()
        # Before networks are whole: it moves them.
        self._method = self._method or self._make(module)
        with module.averaged():
            values = self.measure(module, Ranks.here())
        if self.monitor not in values:
            allowed = ", ".join(sorted(values))
            raise UserError(
                f"validation.monitor={self.monitor} is not among what was measured; allowed: {allowed}."
            )
        if trainer.is_global_zero:
            seconds = round(time.monotonic() - start, 2)
            row = {"step": module.step, "seconds": seconds}
            append(self.path, {**row, **{name: values.get(name, "") for name in METRICS}})
            for logger in trainer.loggers:
                logger.log_metrics(
                    {f"validation/{name}": value for name, value in values.items()}, step=module.step
                )
        # Everybody decides by what the first reads: the others' disk may show the row later.
        history = Ranks.here().of_first(History.read(self.path) if trainer.is_global_zero else History())
        # What training starts from is no checkpoint of this run, however good it is.
        trained = History(tuple(row for row in history.rows if row[0] > 0))
        if trained.rows and trained.best(self.monitor) == len(trained.rows) - 1:
            state = checkpoints.collect(module, trainer.optimizers[0])
            if trainer.is_global_zero:
                checkpoints.write(self.folder / "checkpoints" / checkpoints.BEST, state)
        if module.step < module.max_steps and history.stop_step(self.monitor, self.patience) is not None:
            # The callbacks that come after this one take the step for the run's last.
            module.max_steps = module.step
            trainer.should_stop = True

    def measure(self, module: DenoisingTraining, ranks: Ranks = ALONE) -> dict[str, float]:
        """Draw and measure with the module's weights as they are; every process gets the whole's values."""
        method = self._method = self._method or self._make(module)
        bench, parts = self.benchmark, self.extractors
        if self._references is None:
            self._references = measuring.references(bench, parts, show=False, ranks=ranks)
        todo, folder = jobs.jobs(bench), self.folder / FOLDER / f"step-{module.step}"
        generation.generate(
            jobs.share(todo, ranks.shard, self.batch_size),
            method,
            folder,
            {"step": module.step, "sampler": self.sampler, "benchmark": bench.sha256},
            self.batch_size,
            show=False,
        )
        ranks.wait()
        paths, num = [folder / job.file for job in todo], bench.subjects_per_picture
        measured = measuring.measure(paths, parts, bench.size, show=False, num_subjects=num, ranks=ranks)
        metrics, _ = scoring.score(bench, todo, measured, self._references, parts)
        values = {name: float(entry["value"]) for name, entry in metrics.items()}
        if values.get("face_detection_rate") == 0:
            # As for each subject without a face; of a record nothing is said then, a training has to go on.
            values.setdefault("identity_auc", CHANCE)
        return values

    def _make(self, module: DenoisingTraining) -> Sampled:
        artist = Artist(
            {module.KIND: module.backbone},
            SamplerSettings.from_mapping(self.sampler),
            background=self.background,  # type: ignore[arg-type]
            device=str(module.device),
            half=False,
        )
        return Sampled(self.benchmark, artist)


def watch(cfg: Any, folder: Path) -> EvaluateWhileTraining | None:
    """The callback that `cfg.validation` asks for; None for none. Raises: UserError, before any training."""
    settings, method = ValidationSettings.read(cfg), MethodSettings.read(cfg)
    kind = method.trained
    if not settings.every:
        return None
    alone = baseline(method.sampler, SDM_ALONE if kind == "sdm" else TEXT_ALONE)
    monitor = MONITORED[kind] if settings.monitor == "auto" else settings.monitor
    if monitor == "identity_auc" and settings.max_subjects == 1:
        raise UserError(
            "validation.max_subjects=1: validation.monitor=identity_auc tells people apart; give"
            " validation.max_subjects=2 or more, or another monitor."
        )
    asked = ExtractorSettings.read(cfg.evaluation)
    extractors = loading.load_extractors(asked, device_of(cfg.trainer.accelerator))
    if monitor == "prompt_accuracy" and extractors.judge is None:
        monitor = "clip_score"
    return EvaluateWhileTraining(
        folder,
        settings.benchmark.open(),
        extractors,
        {**alone, "num_steps": settings.num_steps},
        settings.every,
        monitor,
        settings.patience,
        int(cfg.benchmark.batch_size),
        method.background,
    )
