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
from fdlab.diffusion.settings import SamplerSettings
from fdlab.files import write_json
from fdlab.models import finetuned
from fdlab.models.finetuned import BackboneSettings, Weights
from fdlab.pipeline.batches import unfinished
from fdlab.progress import bar
from fdlab.sampling import filmstrip, requests
from fdlab.sampling.grid import Line, contact_sheet
from fdlab.sampling.plan import Folder, PlannedPicture, find_weights, settings
from fdlab.sampling.references import cut_all
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


def draw(cfg: Any) -> SampleFiles:
    """Draw what `cfg` (conf/sample.yaml) asks for into `cfg.out`. Raises: UserError, before weights load
    where that can be known."""
    asked = requests.read(cfg)
    sampler = requests.check_sampler(cfg)
    found = find_weights(cfg, sampler.needs)
    backbone, main = BackboneSettings.from_mapping(cfg.backbone), found[sampler.needs[0]]
    sampler.check(finetuned.load(backbone, main, ["scheduler"]).need("scheduler"))
    # As the pipeline does, which takes what both models have from the SDM.
    reader = found.get("sdm") or found["tdm"]
    tokenizer = finetuned.load(backbone, reader, ["tokenizer"]).tokenizer
    requests.check(asked, "sdm" in sampler.needs, cfg.data.max_subjects, tokenizer)
    folder = Folder(Path(cfg.out))
    cuts, shared = cut_all(asked, folder.root), settings(cfg, sampler, found)
    pictures = [
        PlannedPicture(request, some, index, shared)
        for request, some in zip(asked, cuts, strict=True)
        for index in range(cfg.num_images)
    ]
    steps = None if cfg.trace_steps is None else sorted(set(cfg.trace_steps))
    # By name: two rows may ask for the same picture.
    asked_once = list({p.name: p for p in pictures}.values())
    missing = {p.name for p in asked_once if not folder.has(p, cfg.trace, steps)}
    if missing:
        _draw(cfg, sampler, found, folder, asked_once, missing, steps)
    contact_sheet(_lines(folder, pictures), folder.grid)
    images = [folder.read(picture) for picture in pictures]
    write_json(folder.manifest, {"generated": True, "grid": folder.relative(folder.grid), "images": images})
    return SampleFiles(
        [folder.image(picture) for picture in pictures],
        [path for picture in pictures for path in folder.traces(picture)] if cfg.trace else [],
        folder.grid,
        folder.manifest,
        len(missing),
    )


def _draw(
    cfg: Any,
    sampler: SamplerSettings,
    found: Mapping[str, Weights],
    folder: Folder,
    pictures: Sequence[PlannedPicture],
    missing: Collection[str],
    steps: list[int] | None,
) -> None:
    import torch

    from fdlab.pipeline.artist import Artist

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = unfinished(pictures, BATCH[device], lambda picture: picture.name in missing)
    backbone = BackboneSettings.from_mapping(cfg.backbone)
    artist = Artist.load(backbone, found, sampler, background=cfg.data.background, device=device)
    with bar("steps", sum(map(len, batches)) * sampler.num_steps) as progress:
        for batch in batches:
            traces: list[Trace] = []

            def stepped(step: Progress, num: int = len(batch)) -> None:
                # PNDM makes a step more than it is asked for.
                progress.advance(num if step.done <= sampler.num_steps else 0)

            scenes = [picture.scene for picture in batch]
            images_BHW3 = artist(scenes, traces.append if cfg.trace else None, stepped)
            for row, picture in enumerate(batch):
                if picture.name not in missing:
                    continue
                said = _described(folder, picture, device)
                if unseen := artist.pipeline.unseen(picture.request.prompt):
                    said["prompt_left_out"] = unseen
                if cfg.trace:
                    said["trace"] = _trace(folder, picture, traces, row, artist, steps)
                write_png(folder.image(picture), images_BHW3[row], picture.png_text())
                write_json(folder.json(picture), said)


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
