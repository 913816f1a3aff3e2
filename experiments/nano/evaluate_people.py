"""Identity of what an SDM draws of people it has never seen, by the shipped recogniser; a sheet of pictures.

    python experiments/nano/evaluate_people.py MODEL [--first 1000] [--people 24] [--seeds 2]
The test people of the embedded benchmark are 0 to 39: choose on others. References are cropped to the head.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import head_crops
import numpy as np
import shards
import torch
from PIL import Image

from fdlab.assets import resolve
from fdlab.data.captions import encode, parse
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.recogniser import FaceRecogniser
from fdlab.metrics import identity as scores
from fdlab.models.backbone import load_backbone, part_folders
from fdlab.models.conditioning import encode_text, null_ids
from fdlab.people import benchmark, picture
from fdlab.people.identity import HELD_OUT, identity


def references(subjects: range) -> tuple[np.ndarray, np.ndarray]:
    """The benchmark's references: pictures and masks."""
    made = [picture.render(benchmark.spec(k, "reference"), 128) for k in subjects]
    return np.stack([m.image_HW3 for m in made]), np.stack([m.segments_HW > 0 for m in made])


def contexts(b: Any, subjects: range, prompts: list[int], embedding_SE: torch.Tensor) -> torch.Tensor:
    """Every person with every prompt, the subject fused in."""
    encoded = []
    for k in subjects:
        for p in prompts:
            text, ends = parse(benchmark.PROMPTS[p].text.format(noun=identity(HELD_OUT + k).noun))
            encoded.append(encode(b.tokenizer, text, ends))
    ids = torch.from_numpy(np.stack([e.input_ids_L for e in encoded]))
    marked = torch.zeros(ids.shape, dtype=torch.bool)
    marked[torch.arange(len(ids)), torch.tensor([e.positions[0] for e in encoded])] = True
    subject = embedding_SE.repeat_interleave(len(prompts), 0)[:, None]
    return b.fusion(
        encode_text(b.text_encoder, ids), subject, marked, torch.ones(len(ids), 1, dtype=torch.bool)
    )


def draw(
    b: Any,
    ctx: torch.Tensor,
    steps: int,
    guidance: Guidance,
    seed: int,
    final_sigma: float = 0.0,
    batch: int = 48,
) -> np.ndarray:
    """DDIM pictures, guided from the empty prompt; at `final_sigma` the predicted clean picture is taken."""
    null = encode_text(b.text_encoder, null_ids(b.tokenizer, ctx.shape[1]))
    noise = torch.randn((len(ctx), *b.latent_shape_CHW), generator=torch.Generator().manual_seed(seed))
    schedule = NoiseSchedule.from_config(b.scheduler_config)
    pictures = []
    for start in range(0, len(ctx), batch):
        c = ctx[start : start + batch]

        def guider(z: torch.Tensor, t: torch.Tensor, step: int, c: torch.Tensor = c) -> torch.Tensor:
            both = torch.cat([null.expand_as(c), c])
            with torch.autocast("cpu", torch.bfloat16):
                output = b.unet(torch.cat([z, z]), t, encoder_hidden_states=both, return_dict=False)[
                    0
                ].float()
            return guidance.at(step)(*output.chunk(2))

        scheduler = make_scheduler("ddim", b.scheduler_config, None)
        z = noise[start : start + batch]
        for step, t in enumerate(sampler_timesteps(scheduler, steps, z.device)):
            output = guider(z, t, step)
            if schedule.snr(t) ** -0.5 <= final_sigma:
                z = schedule.clean(z, output, t.expand(len(z)))
                break
            z = scheduler.step(output, t, z, return_dict=False)[0]
        x = b.vae.decode(z / b.vae.config.scaling_factor + (b.vae.config.shift_factor or 0)).sample
        pictures.append(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1))
    return torch.cat(pictures).numpy()


@torch.no_grad()
def main() -> None:
    """Draw, find faces, compare with the references."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--prompts", default="1,3,5,15")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--final-sigma", type=float, default=0.0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    b = load_backbone("asset:nano", part_folders(resolve(given.model)))
    b.scheduler_config = json.loads(
        (resolve(given.model) / "scheduler" / "scheduler_config.json").read_text()
    )
    subjects, prompts = (
        range(given.first, given.first + given.people),
        [int(p) for p in given.prompts.split(",")],
    )
    detector, recogniser = FaceDetector(), FaceRecogniser()
    images, people = references(subjects)
    landmarks, _, _ = shards.faces(images)
    ctx = contexts(b, subjects, prompts, head_crops.embed(b.image_encoder, images, people, landmarks))
    drawn = [
        draw(b, ctx, given.steps, Guidance(given.guidance), seed, given.final_sigma)
        for seed in range(given.seeds)
    ]

    def embedded(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faces = [face[:1] for face in detector(pictures)]
        has = np.array([bool(face) for face in faces])
        e = np.zeros((len(pictures), recogniser.dim))
        e[has] = recogniser.embed(pictures, faces).numpy()
        return e, has

    own = np.tile(np.repeat(np.arange(given.people), len(prompts)), given.seeds)
    (e, has), (reference, _) = embedded(np.concatenate(drawn)), embedded(images)
    similarity = scores.cosine(e, reference)
    found = {
        "auc": scores.auc(similarity, own, has),
        "similarity": float(scores.own_similarity(similarity, own, has).mean()),
        "rank1": float(scores.rank1(similarity, own, has).mean()),
        "found": float(has.mean()),
    }
    print({k: round(float(v), 3) for k, v in found.items()})
    if given.sheet:
        rows = [
            np.concatenate([images[k], *drawn[0][k * len(prompts) : (k + 1) * len(prompts)]], axis=1)
            for k in range(min(given.people, 16))
        ]
        Image.fromarray(np.concatenate(rows)).save(given.sheet)


if __name__ == "__main__":
    main()
