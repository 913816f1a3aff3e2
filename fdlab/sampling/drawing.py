"""Drawing what was asked for: pictures and their JSONs, traces, a sheet of all, and a list of all.

A picture depends on its request alone. On a CPU each is drawn for itself: neither a file of other prompts nor
an interruption changes a bit. On a GPU batches have a fixed composition, so that no interruption does; other
prompts in the call may move a pixel by rounding. The same call draws only what is missing.
B batch, H W pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdlab import __version__
from fdlab.data.pictures import write_png
from fdlab.diffusion.guiders import Trace
from fdlab.errors import UserError
from fdlab.files import write_json
from fdlab.models import finetuned
from fdlab.models.finetuned import Weights
from fdlab.pipeline.batches import unfinished
from fdlab.progress import bar
from fdlab.sampling import filmstrip, requests
from fdlab.sampling.grid import Line, contact_sheet
from fdlab.sampling.plan import Folder, PlannedPicture, settings
from fdlab.sampling.references import cut_all, write_all
from fdlab.sampling.settings import SampleSettings
from fdlab.sampling.trace import decoder, places, spread, step_pictures

if TYPE_CHECKING:
    from fdlab.pipeline.artist import Artist, Progress

BATCH = {"cuda": 8, "cpu": 1}
"""Pictures at once. On a CPU one: more are no faster, and rounding in a batch depends on its size."""


@dataclass(frozen=True)
class SampleFiles:
    """What a call leaves."""

    pictures: list[Path]
    traces: list[Path]
    grid: Path
    manifest: Path
    num_new: int
    """Pictures drawn now; the others were there."""


@dataclass(frozen=True)
class Plan:
    """What a call draws, checked: nothing is written yet."""

    asked: SampleSettings
    found: Mapping[str, Weights]
    pictures: Sequence[PlannedPicture]

    @classmethod
    def make(cls, asked: SampleSettings) -> Plan:
        """Find weights and photos. Raises: UserError, before weights load where that can be known."""
        wanted, sampler = requests.read(asked), asked.sampler
        found = finetuned.need_all(asked.backbone, asked.weights)
        main = found[sampler.needs[0]]
        sampler.check(finetuned.load(asked.backbone, main, ["scheduler"]).need("scheduler"))
        # As the pipeline does, which takes what both models have from the SDM.
        reader = found.get("sdm") or found["tdm"]
        tokenizer = finetuned.load(asked.backbone, reader, ["tokenizer"]).tokenizer
        requests.check(wanted, "sdm" in sampler.needs, asked.max_subjects, tokenizer)
        cuts, shared = cut_all(wanted, asked.head), settings(asked, found)
        pictures = [
            PlannedPicture(request, some, index, shared)
            for request, some in zip(wanted, cuts, strict=True)
            for index in range(asked.num_images)
        ]
        return cls(asked, found, pictures)

    @property
    def folder(self) -> Folder:
        """Where it goes."""
        return Folder(self.asked.out)

    @property
    def distinct(self) -> list[PlannedPicture]:
        """Every picture once: two rows may ask for the same."""
        return list({picture.name: picture for picture in self.pictures}.values())

    @property
    def missing(self) -> set[str]:
        """Names of the pictures that are still to be drawn."""
        asked, folder = self.asked, self.folder
        return {p.name for p in self.distinct if not folder.has(p, asked.trace, asked.trace_steps)}


def draw(cfg: Any) -> SampleFiles:
    """Draw what `cfg` (conf/sample.yaml) asks for into `cfg.out`. Raises: UserError, before weights load
    where that can be known."""
    plan = Plan.make(SampleSettings.read(cfg))
    folder, pictures, missing = plan.folder, plan.pictures, plan.missing
    write_all((cut for picture in pictures for cut in picture.cuts), folder.root)
    if missing:
        _draw(plan, missing)
    contact_sheet(_lines(folder, pictures), folder.grid)
    images = [folder.read(picture) for picture in pictures]
    write_json(folder.manifest, {"generated": True, "grid": folder.relative(folder.grid), "images": images})
    return SampleFiles(
        [folder.image(picture) for picture in pictures],
        [path for picture in pictures for path in folder.traces(picture)] if plan.asked.trace else [],
        folder.grid,
        folder.manifest,
        len(missing),
    )


def _draw(plan: Plan, missing: Collection[str]) -> None:
    import torch

    from fdlab.pipeline.artist import Artist

    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked, folder, sampler = plan.asked, plan.folder, plan.asked.sampler
    batches = unfinished(plan.distinct, BATCH[device], lambda picture: picture.name in missing)
    artist = Artist.load(asked.backbone, plan.found, sampler, background=asked.background, device=device)
    if asked.trace:
        _check_reached(asked.trace_steps, artist)
    with bar("steps", sum(map(len, batches)) * artist.num_calls) as progress:
        for batch in batches:
            traces: list[Trace] = []

            def stepped(step: Progress, num: int = len(batch)) -> None:
                progress.advance(num)

            scenes = [picture.scene for picture in batch]
            images_BHW3 = artist(scenes, traces.append if asked.trace else None, stepped)
            for row, picture in enumerate(batch):
                if picture.name not in missing:
                    continue
                said = _described(folder, picture, device)
                if unseen := artist.pipeline.unseen(picture.request.prompt):
                    said["prompt_left_out"] = unseen
                if asked.trace:
                    said["trace"] = _trace(folder, picture, traces, row, artist, asked.trace_steps)
                write_png(folder.image(picture), images_BHW3[row], picture.png_text())
                write_json(folder.json(picture), said)


def _check_reached(steps: Sequence[int] | None, artist: Artist) -> None:
    """That the steps to show are drawn at all: a drawing may end at a noise level before the last. Raises:
    UserError."""
    for step in steps or ():
        if step >= artist.num_calls:
            raise UserError(
                f"trace_steps has {step}; the drawing ends at noise level {artist.settings.final_sigma:g}, "
                f"after step {artist.num_calls - 1} (sampler.final_sigma=0 draws all)."
            )


def _trace(
    folder: Folder,
    picture: PlannedPicture,
    traces: Sequence[Trace],
    row: int,
    artist: Artist,
    steps: list[int] | None,
) -> dict[str, Any]:
    """Write figure and animation; returns what the JSON says of them."""
    frames = step_pictures(traces, row, decoder(artist.pipeline), filmstrip.SIZE)
    figure, animation = folder.traces(picture)
    words = filmstrip.words(artist.settings.guider, artist.settings.options.get("base", "text"))
    caption = f"{picture.request.prompt}  ({picture.label})"
    filmstrip.figure(
        frames, spread(traces) if steps is None else places(traces, steps), words, caption, figure
    )
    filmstrip.animation(frames, words, animation)
    told = [{"step": f.step, "t": f.t, "stage": f.stage, "sdm_share": round(f.sdm_share, 4)} for f in frames]
    paths = {"figure": folder.relative(figure), "animation": folder.relative(animation)}
    return {"asked": steps, **paths, "steps": told}


def _described(folder: Folder, picture: PlannedPicture, device: str) -> dict[str, Any]:
    """A picture's JSON."""
    return {
        "file": folder.relative(folder.image(picture)),
        "generated": True,
        "software": f"fdlab {__version__}",
        "device": device,
        **picture.decided_by,
        "seed_from": {"seed": picture.request.seed, "picture": picture.index},
        "subjects": [cut.describe() for cut in picture.cuts],
    }


def _lines(folder: Folder, pictures: Sequence[PlannedPicture]) -> list[Line]:
    """One line of the sheet a request."""
    lines: dict[int, Line] = {}
    for picture in pictures:
        references = [(folder.root / cut.file, cut.label) for cut in picture.cuts]
        line = lines.setdefault(id(picture.request), Line(picture.request.prompt, references, []))
        line.pictures.append((folder.image(picture), picture.label))
    return list(lines.values())
