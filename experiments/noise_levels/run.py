"""At which noise level is a person decided, learnt, and lost? Two curves of any backbone and weights.

    python experiments/noise_levels/run.py OUT [overrides of `fdlab evaluate`]

`chain`: the clean picture that each step of the sampler predicts, judged by the recogniser: identity AUC and
similarity against sigma. What is known at one level and gone at a lower one is lost by the sampler; what is
known at no level was not learnt.
`error`: how far off the clean latents are that the SDM predicts from noised true pictures, at the people's
places, with their own references, with other people's, and without; what the right reference saves is what
the model takes from it.

Both need a benchmark with true pictures of single subjects, as people_single or your own. OUT gets chain.csv,
error.csv and noise_levels.png.
Axes: B batch, S steps or noise levels, N pictures, C latent channels, H W latent grid or pixels, P people.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.benchmarks.jobs import Job, jobs
from fdlab.config.compose import compose
from fdlab.data.latents import encode_pixels
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.settings import SamplerSettings
from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.errors import Failure, UserError
from fdlab.evaluation.measuring import references
from fdlab.evaluation.methods import RealPictures, Sampled
from fdlab.evaluation.requirements import device_of
from fdlab.evaluation.settings import MethodSettings
from fdlab.files import write_text
from fdlab.measure.choose import ExtractorSettings, load_extractors
from fdlab.measure.faces.face import largest
from fdlab.metrics import identity
from fdlab.models import finetuned
from fdlab.models.backbone import Backbone
from fdlab.models.denoiser import UNetDenoiser
from fdlab.pipeline.artist import Artist, Progress
from fdlab.pipeline.embeddings import embed
from fdlab.progress import bar
from fdlab.transforms.inputs import to_model

SIGMAS = (0.1, 0.2, 0.4, 0.6, 1.0, 1.6, 2.5, 4.0, 6.0, 10.0)
"""Noise levels s_t / a_t at which errors are looked at."""
BATCH = 16
Table = list[dict[str, float]]


@dataclass(frozen=True)
class Asked:
    """What is looked at: a method on a benchmark."""

    benchmark: Benchmark
    artist: Artist
    extractors: Any
    device: str

    @classmethod
    def read(cls, overrides: Sequence[str]) -> Asked:
        """Load what the overrides of `evaluate` name. Raises: UserError."""
        cfg = compose(list(overrides), config_name="evaluate")
        method, device = MethodSettings.read(cfg), device_of(str(cfg.trainer.accelerator))
        settings = SamplerSettings.from_mapping(method.sampler)
        if "sdm" not in settings.needs:
            raise UserError(f"sampler '{settings.guider}' draws no given person; choose one that does.")
        found = finetuned.need_all(method.backbone, {kind: method.weights[kind] for kind in method.needs})
        benchmark = BenchmarkSettings.read(cfg.benchmark).open()
        if benchmark.real is None or benchmark.subjects_per_picture != 1:
            raise UserError(f"benchmark '{benchmark.name}': true pictures of single subjects are needed.")
        artist = Artist.load(method.backbone, found, settings, background=method.background, device=device)
        extractors = load_extractors(ExtractorSettings.read(cfg.evaluation), device)
        return cls(benchmark, artist, extractors, device)

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_config(self.artist.pipeline.scheduler.config).to(self.device)


def chain(asked: Asked) -> Table:
    """Identity of the predicted clean picture at each step: sigma, auc, similarity, share of faces found."""
    todo, artist = jobs(asked.benchmark), asked.artist
    timesteps_S = sampler_timesteps(artist.pipeline.scheduler, artist.settings.num_steps)[: artist.num_calls]
    embeddings: list[list[np.ndarray]] = []
    drawn = Sampled(asked.benchmark, artist)
    with bar("steps", -(-len(todo) // BATCH) * len(timesteps_S)) as progress:
        for start in range(0, len(todo), BATCH):
            batch, seen = todo[start : start + BATCH], []

            def stepped(step: Progress, seen: list[np.ndarray] = seen) -> None:
                seen.append(_embedded(asked, step.preview()))
                progress.advance(1)

            artist(drawn.scenes(batch), on_step=stepped)
            embeddings.append(seen)
    known = references(asked.benchmark, asked.extractors).embedding_SD
    assert known is not None
    own_N = np.array([asked.benchmark.subjects.index(job.subjects[0]) for job in todo])
    table = []
    for place, t in enumerate(timesteps_S):
        embedding_ND = np.concatenate([seen[place] for seen in embeddings])
        found_N = embedding_ND.any(1)
        similarity_NS = identity.cosine(embedding_ND, known)
        sigma = float(asked.schedule.log_sigma_T[int(t)].exp())
        table.append({
            "sigma": sigma,
            "identity_auc": identity.auc(similarity_NS, own_N, found_N),
            "identity_similarity": float(identity.own_similarity(similarity_NS, own_N, found_N).mean()),
            "faces_found": float(found_N.mean()),
        })  # fmt: skip
    return table


def _embedded(asked: Asked, images_BHW3: np.ndarray) -> np.ndarray:
    """Of each picture's largest face (B, D); zeros where there is none."""
    faces = [largest(found) for found in asked.extractors.faces.detect(images_BHW3)]
    rows = [b for b, face in enumerate(faces) if face is not None]
    embedding_ND = asked.extractors.faces.embed(images_BHW3[rows], [faces[b] for b in rows])
    out = np.zeros((len(faces), embedding_ND.shape[1]))
    out[rows] = embedding_ND
    return out


@torch.no_grad()
def error(asked: Asked) -> Table:
    """Mean squared error of the predicted clean latents on people's places, by noise level: with the own
    reference, another person's, and none; and the share of the error without that the own one saves."""
    sdm: Backbone = asked.artist.models["sdm"]
    todo = [job for job in jobs(asked.benchmark) if job.index == 0]
    sums = {name: np.zeros(len(SIGMAS)) for name in ("own", "other", "none")}
    drawn, real, schedule = (
        Sampled(asked.benchmark, asked.artist),
        RealPictures(asked.benchmark),
        asked.schedule,
    )
    log_sigma_T = schedule.log_sigma_T.cpu()
    levels = [int((log_sigma_T - np.log(sigma)).abs().argmin()) for sigma in SIGMAS]
    with bar("pictures", len(todo)) as progress, UNetDenoiser(sdm.unet) as denoise:
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            images_BHW3 = real(batch)
            z0_BCHW = encode_pixels(sdm.need("vae"), to_model(images_BHW3).to(asked.device))
            where_B1HW = _places(asked, images_BHW3, z0_BCHW)
            contexts = _contexts(asked, drawn, batch, todo)
            eps_BCHW = torch.randn(z0_BCHW.shape, generator=torch.Generator().manual_seed(start))
            eps_BCHW = eps_BCHW.to(asked.device)
            for place, level in enumerate(levels):
                t_B = torch.full((len(batch),), level, device=asked.device)
                z_BCHW = schedule.add_noise(z0_BCHW, eps_BCHW, t_B)
                for name, ctx_BLD in contexts.items():
                    output_BCHW = denoise(z_BCHW.to(ctx_BLD.dtype), t_B, ctx_BLD).float()
                    off_BCHW = (schedule.clean(z_BCHW, output_BCHW, t_B) - z0_BCHW).square()
                    off_B = (off_BCHW * where_B1HW).sum((1, 2, 3)) / where_B1HW.sum((1, 2, 3)).clamp(min=1)
                    sums[name][place] += float(off_B.sum()) / z0_BCHW.shape[1]
            progress.advance(len(batch))
    means = {name: total / len(todo) for name, total in sums.items()}
    return [
        {
            "sigma": float(log_sigma_T[level].exp()),
            **{name: float(mean[place]) for name, mean in means.items()},
            "own_saves": float(1 - means["own"][place] / means["none"][place]),
            "own_saves_over_other": float(1 - means["own"][place] / means["other"][place]),
        }
        for place, level in enumerate(levels)
    ]


def _places(asked: Asked, images_BHW3: np.ndarray, like_BCHW: Tensor) -> Tensor:
    """1 on the latent grid inside the largest face's box, else 0; nowhere of a picture without a face."""
    where_B1HW = torch.zeros(len(images_BHW3), 1, *like_BCHW.shape[2:], device=asked.device)
    cell = images_BHW3.shape[1] / like_BCHW.shape[2]
    for b, found in enumerate(asked.extractors.faces.detect(images_BHW3)):
        face = largest(found)
        if face is not None:
            x1, y1, x2, y2 = (max(0, round(edge / cell)) for edge in face.box)
            where_B1HW[b, :, y1:y2, x1:x2] = 1
    return where_B1HW


def _contexts(asked: Asked, drawn: Sampled, batch: Sequence[Job], todo: Sequence[Job]) -> dict[str, Tensor]:
    """The SDM's conditioning under the own references, those of the next people, and none."""
    people = list(dict.fromkeys(job.subjects[0] for job in todo))
    own = drawn.scenes(batch)
    after = {who.id: people[(place + 1) % len(people)] for place, who in enumerate(people)}
    other = [[drawn.reference(after[job.subjects[0].id])] for job in batch]
    sdm, background, device = asked.artist.models["sdm"], asked.artist.background, torch.device(asked.device)
    prompts = [scene.prompt for scene in own]
    with_own = embed(sdm, prompts, [list(s.references) for s in own], None, background, device)
    with_other = embed(sdm, prompts, other, None, background, device)
    return {"own": with_own.augmented_BLD, "other": with_other.augmented_BLD, "none": with_own.text_BLD}


def written(table: Table) -> str:
    """As CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: f"{value:.4g}" for key, value in row.items()} for row in table])
    return out.getvalue()


def figure(chained: Table, errors: Table, path: Path) -> None:
    """Both curves over sigma, noise to the left as it is drawn."""
    from matplotlib.figure import Figure

    from fdlab.records.figures import save

    made = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = made.subplots(1, 2)
    sigmas = [row["sigma"] for row in chained]
    for name, style in (("identity_auc", "o-"), ("faces_found", ".--")):
        left.plot(sigmas, [row[name] for row in chained], style, label=name.replace("_", " "))
    left.set_title("predicted clean picture along the chain", fontsize=9)
    for name in ("own_saves", "own_saves_over_other"):
        label = {"own_saves": "over none", "own_saves_over_other": "over another's"}[name]
        right.plot([row["sigma"] for row in errors], [row[name] for row in errors], "o-", label=label)
    right.set_title("share of the face's error that the own reference saves", fontsize=9)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set_xlabel("noise level sigma", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    save(made, path)


def main(arguments: list[str]) -> int:
    """Write both tables and the figure; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments else 2
    out = Path(arguments[0])
    try:
        asked = Asked.read(arguments[1:])
        chained, errors = chain(asked), error(asked)
    except (UserError, Failure) as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2 if isinstance(problem, UserError) else 1
    for name, table in (("chain", chained), ("error", errors)):
        write_text(out / f"{name}.csv", written(table))
        print(written(table))
    figure(chained, errors, out / "noise_levels.png")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
