"""Will an SDM learn from this? Everything looked at, ten samples tried, verdicts, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fdlab.diagnosis import judge, overfit
from fdlab.diagnosis.findings import NOT, Finding, will_learn
from fdlab.diagnosis.look import Asked, Looked, look
from fdlab.engine.finite import Diverged
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.measure.faces import HeadCrop
from fdlab.models import finetuned
from fdlab.models.tokenizer import load_tokenizer
from fdlab.training.settings import FitSettings
from fdlab.training.subject_augmented import SDM

VERSION = 1
EXPERIMENTS = {"nano": "sdm", "sd15": "sdm_sd15", "sd21": "sdm_sd15", "sdxl": "sdm_sdxl", "sd3": "sdm_sd3"}
"""How an SDM is trained on each backbone."""


@dataclass(frozen=True)
class Diagnosis:
    """What came of it."""

    looked: Looked
    findings: list[Finding]
    labels: tuple[str, ...] | None = None
    """What counts as a subject; None: everything."""

    @property
    def learns(self) -> bool:
        return will_learn(self.findings)


def overrides(folder: str, given: Sequence[str]) -> list[str]:
    """A training's overrides for the SDM that is asked about: the experiment that fits the backbone, unless
    one is given, and the data where they lie."""
    names = [line.removeprefix("backbone=") for line in given if line.startswith("backbone=")]
    experiments = [line for line in given if line.lstrip("+").startswith("exp=")]
    chosen = [] if experiments else [f"+exp={EXPERIMENTS.get(names[-1] if names else 'nano', 'sdm_sd15')}"]
    return [*chosen, "data=folder", *given, f"data.root={folder}"]


def diagnose(
    settings: FitSettings, out: Path, num: int = 500, seconds: float = 60, workers: int = 0, show: bool = True
) -> Diagnosis:
    """Look at `num` pictures of `settings.data`, train on ten for `seconds` (0: not at all), and write `out`,
    a JSON of all that was found. What an interruption leaves is gone on from. Raises: UserError."""
    data, backbone = settings.data, settings.backbone
    if data.kind == "people":
        raise UserError("data doctor looks at a folder: leave data=people_... out.")
    if not issubclass(settings.kind, SDM):
        raise UserError("data doctor asks whether an SDM learns: take model=sdm.")
    # It says how to get what is not there.
    finetuned.load(backbone, None, ("tokenizer",))
    if seconds > 0:
        overfit.check(settings)
    head = backbone.reference_crop == "head"
    asked = Asked(
        tokenizer=(load_tokenizer, str(backbone.folder("tokenizer"))),
        image_size=data.size,
        split=data.split,
        labels=None if data.labels is None else tuple(data.labels),
        crop=(HeadCrop,) if head else None,
        look=num,
        seed=settings.seed,
    )
    notes = out.with_name(f"{out.name}.partial")
    looked = look(data.root, data.kind, asked, notes, workers, show)
    found = judge.findings(looked, judge.Training(data.reference, data.skip_corrupt, head))
    if seconds > 0 and (ids := teachable(looked)):
        found.append(_tried(settings, looked, ids, seconds, show))
    made = Diagnosis(looked, found, asked.labels)
    write_json(out, summary(made, settings))
    notes.unlink(missing_ok=True)
    return made


def _tried(settings: FitSettings, looked: Looked, ids: list[str], seconds: float, show: bool) -> Finding:
    try:
        return overfit.finding(overfit.overfit(settings, looked.folder, ids, seconds, show))
    except Diverged:
        says = "the loss, a gradient or a weight became infinite or no number"
        return Finding("ten by heart", NOT, says, "take a lower model.lr, or trainer.precision=32")


def teachable(looked: Looked) -> list[str]:
    """Ids of pictures looked at that show somebody and can be used, in the order drawn; people who are there
    already come last."""
    usable = [each.id for each in looked.shown if each.looks and not each.broken]
    who = {each.id: each.identities for each in looked.told}
    seen: set[int] = set()
    first: list[str] = []
    again: list[str] = []
    for id in usable:
        people = {person for person in who[id] if person is not None}
        (again if people & seen else first).append(id)
        seen |= people
    return [*first, *again]


def summary(made: Diagnosis, settings: FitSettings) -> dict[str, Any]:
    """The diagnosis as plain JSON."""
    return {
        "version": VERSION,
        "folder": str(made.looked.folder.root),
        "layout": made.looked.folder.kind,
        "split": settings.data.split,
        "backbone": settings.backbone.name,
        "pictures": len(made.looked.told),
        "looked_at": len(made.looked.shown),
        "will_learn": made.learns,
        "findings": [asdict(finding) for finding in made.findings],
    }
