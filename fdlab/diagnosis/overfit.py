"""Ten samples learnt by heart, for about a minute, by the training itself: what cannot be learnt by heart
cannot be learnt.

Axes: B batch, C latent channels, H W latent grid, K draws of noise a sample.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from fdlab.data.batches import Batch, Batches
from fdlab.data.datamodule import StatelessData
from fdlab.data.folder import Folder
from fdlab.data.layout import write_ids, write_sample
from fdlab.data.sample import LABEL
from fdlab.diagnosis.findings import BEWARE, FINE, NOT, Finding
from fdlab.engine.callbacks.clock import UNKNOWN
from fdlab.engine.callbacks.curves import seconds_until
from fdlab.engine.callbacks.stepping import StepCallback
from fdlab.engine.draws import Draws
from fdlab.engine.loop import check_device, run
from fdlab.metrics import bootstrap
from fdlab.models import finetuned
from fdlab.models.conditioning import add_subjects, embed_references
from fdlab.models.denoiser import denoiser_of
from fdlab.randomness import torch_generator
from fdlab.training.initial import make_module
from fdlab.training.objective import add_noise, embed_captions
from fdlab.training.settings import FitSettings
from fdlab.training.source import batch_settings, make_source
from fdlab.training.subject_augmented import SDM

TEN = 10
DRAWS = 4
"""Noises and timesteps that each sample is measured at."""
FELL = 0.1
"""Share of the loss that is to be gone."""
MOVED = 5e-4
"""Share of the loss that others' references change at least, where references are of any use."""
ENOUGH = 100
"""Steps after which a loss that did not fall says something; a minute of a busy machine may be fewer."""
CURVES = "metrics.csv"


@dataclass(frozen=True)
class Tried:
    """What came of it. Losses are the squared error of what the denoiser predicts, on the same noise and
    timesteps of the training's own density, with every caption and reference."""

    num: int
    """Samples."""
    steps: int
    seconds: float
    blind: float
    """Loss of who always predicts the mean."""
    before: float
    after: float
    fell: tuple[float, float]
    """95 % interval of `before - after`, over the samples."""
    exchanged: float
    """Loss afterwards where each sample has the references of the next."""
    told_apart: tuple[float, float]
    """95 % interval of `exchanged - after`, which may hold 0: captions are learnt first."""
    moved: float
    """Mean of `|exchanged - after|` over samples, as a share of `after`; 0: references change nothing."""


def overfit(
    settings: FitSettings,
    folder: Folder,
    ids: Sequence[str],
    seconds: float,
    show: bool = True,
    steps: int | None = None,
) -> Tried:
    """Train on the samples `ids` (at most ten are taken) of a folder for so long, or for so many `steps`, as
    `settings` say but at a constant rate, and keep nothing. Raises: Diverged;
    KeyboardInterrupt."""
    loop, data = settings.loop, settings.data
    device = check_device(loop)
    with tempfile.TemporaryDirectory(prefix="fdlab-doctor-") as place:
        work = Path(place)
        num = _copied(folder, list(ids)[:TEN], data.labels, work / "ten")
        data = replace(
            data, kind="fastcomposer", root=work / "ten", cache=work / "cache", split="train", labels=[LABEL],
            mirror=False, cache_latents=True, cache_text=False, shapes="square", skip_corrupt=False,
            framing=replace(data.framing, crop="people"),
        )  # fmt: skip
        at_once = min(num, settings.batch_size) if device.type != "cpu" else num
        asked = replace(
            settings, data=data, batch_size=at_once, num_workers=0,
            model={**settings.model, "schedule": "constant", "ema_decay": 0.0, "prior_weight": 0.0},
        )  # fmt: skip
        start, module = make_module(asked)
        assert isinstance(module, SDM)
        _, source = make_source(data, start.backbone, True, device, module.faces)
        how = batch_settings(asked, start.backbone, True)
        measured = Measured(
            Batches(source, replace(how, batch_size=num, reference="own"), 1)[0], settings.seed
        )
        alone = replace(
            loop, max_steps=steps or UNKNOWN, minutes=None if steps else seconds / 60, accumulate=1,
            batch_size=at_once, devices=1, nodes=1, strategy="auto", checkpoint_every=None, log_every=1,
            show=show, counts=False, profile=False,
        )  # fmt: skip
        run(module, StatelessData(source, how, stop=0), alone, work / "run", callbacks=[measured])
        took = seconds_until(work / "run" / CURVES, module.step)
    return _tried(num, module.step, took, measured)


def check(settings: FitSettings) -> None:
    """Look for the device and the weights that trying will need. Raises: UserError."""
    check_device(settings.loop)
    if settings.init != "scratch":
        finetuned.need(settings.backbone, settings.kind.KIND, settings.init, "init")


def _copied(folder: Folder, ids: Sequence[str], labels: Sequence[str] | None, root: Path) -> int:
    """Some samples in a folder of their own, with those subjects alone that are asked for."""
    for id in ids:
        sample = folder.sample(id, folder.annotation(id, labels))
        subjects = tuple(replace(subject, label=LABEL) for subject in sample.subjects)
        write_sample(root, replace(sample, subjects=subjects))
    write_ids(root, list(ids))
    return len(ids)


class Measured(StepCallback):
    """Measures a fixed batch with fixed noise before the first step and after the last."""

    def __init__(self, batch: Batch, seed: int) -> None:
        super().__init__()
        self.batch, self.seed = batch, seed
        self.blind_B = self.before_B = self.after_B = self.exchanged_B = np.zeros(0)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, pl_module)
        self.before_B, self.blind_B = errors(pl_module, self.batch, self.seed)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook, while networks are still on their device."""
        self.after_B, _ = errors(pl_module, self.batch, self.seed)
        others = {**self.batch, "references_BN3HW": self.batch["references_BN3HW"].roll(1, 0)}
        self.exchanged_B, _ = errors(pl_module, others, self.seed)


@torch.no_grad()
def errors(module: SDM, batch: Batch, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's squared error (B,), mean over `DRAWS` noises that follow from the seed, and that of the
    mean: of zero, which noise and velocities of normalised latents have."""
    b = module.backbone
    batch = {
        key: value.to(module.device) if torch.is_tensor(value) else value for key, value in batch.items()
    }
    z0_BCHW, valid_BN = module.latents(batch), batch["subject_valid_BN"]
    noise = replace(module.noise, noise_offset=0.0, input_perturbation=0.0)
    kept_B = torch.zeros(len(z0_BCHW), dtype=torch.bool)
    was_training = module.training
    module.eval()
    text_BLD = embed_captions(batch, kept_B, b.text, noise.null_ids_L)
    obj_BNE = embed_references(b.need("image_encoder"), batch["references_BN3HW"], valid_BN)
    ctx_BLD = add_subjects(b.need("fusion"), text_BLD, obj_BNE, batch["subject_token_BL"], valid_BN)
    error_KB, blind_KB = [], []
    for k in range(DRAWS):
        noised = add_noise(z0_BCHW, noise, Draws(torch_generator(seed, "overfit", k)))
        output_BCHW = denoiser_of(b.unet)(noised.z_BCHW, noised.t_B, ctx_BLD)
        error_KB.append((output_BCHW.float() - noised.target_BCHW.float()).square().flatten(1).mean(1).cpu())
        blind_KB.append(noised.target_BCHW.float().square().flatten(1).mean(1).cpu())
    module.train(was_training)
    return torch.stack(error_KB).mean(0).numpy(), torch.stack(blind_KB).mean(0).numpy()


def _tried(num: int, steps: int, seconds: float, m: Measured) -> Tried:
    return Tried(
        num, steps, round(seconds, 1),
        float(m.blind_B.mean()), float(m.before_B.mean()), float(m.after_B.mean()),
        _interval(m.before_B - m.after_B), float(m.exchanged_B.mean()), _interval(m.exchanged_B - m.after_B),
        float(np.abs(m.exchanged_B - m.after_B).mean() / max(1e-12, m.after_B.mean())),
    )  # fmt: skip


def _interval(values_B: np.ndarray) -> tuple[float, float]:
    """The mean's 95 % interval over samples; of one sample, the value itself."""
    found = bootstrap.mean(values_B, np.arange(len(values_B)), seed=0)
    value = float(values_B.mean())
    return (value, value) if found is None or found.low is None else (found.low, float(found.high or 0.0))


def finding(tried: Tried) -> Finding:
    """The verdict."""
    gone = 1 - tried.after / tried.before if tried.before else 0.0
    says = (
        f"{tried.num} samples in {tried.steps:,} steps, {tried.seconds:.0f} s: loss {tried.before:.4f} to "
        f"{tried.after:.4f} ({-100 * gone:+.0f} %; predicting the mean: {tried.blind:.2f}); with another's "
        f"references {tried.exchanged:.4f}"
    )
    numbers = dict(vars(tried))
    if tried.fell[0] <= 0 and tried.steps < ENOUGH:
        cure = f"{tried.steps:,} steps are too few to tell: give --seconds more"
        return Finding("ten by heart", BEWARE, says, cure, numbers)
    if tried.fell[0] <= 0:
        cure = (
            "it learns nothing: does model.lr fit, and do any parameters learn (--dry)? Are pictures, "
            "captions and references those of the same people?"
        )
        return Finding("ten by heart", NOT, says, cure, numbers)
    if gone < FELL:
        cure = f"less than {FELL:.0%} is gone: slow, but it learns; give --seconds more, or a higher model.lr"
        return Finding("ten by heart", BEWARE, says, cure, numbers)
    if tried.moved < MOVED:
        cure = "whose references it sees changes nothing: are they all alike, or empty? Look at them"
        return Finding("ten by heart", BEWARE, says, cure, numbers)
    return Finding("ten by heart", FINE, says, numbers=numbers)
