"""Train a nano denoiser on shards, from references and captions or from captions alone. Run again to go on.

    python experiments/nano/train_denoiser.py sdm OUT SHARD... --minutes 60 --encoder ENCODER
    python experiments/nano/train_denoiser.py tdm OUT SHARD... --minutes 20 --start SDM/model
    python experiments/nano/train_denoiser.py tdm OUT SHARD... --minutes 78 --start scratch
An SDM learns to be recognised as well: identity_loss.py on the predicted clean picture.
v-prediction, log-normal noise levels, more weight on faces, Muon, a constant rate that decays at the end,
an average of the weights. The encoder rests: its embeddings are computed once. The model,
OUT/model, is in diffusers' layout.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import head_crops
import identity_loss
import numpy as np
import shards
import torch
from stopping import WhenAsked, leave
from torch import Tensor

from fdlab import files
from fdlab.assets import resolve
from fdlab.config import provenance
from fdlab.data import whom
from fdlab.diffusion.noise import NoiseSchedule
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.models import fast, finetuned
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.nano import SCHEDULER, build_fusion, build_unet
from fdlab.models.parts import load_part
from fdlab.muon import Muon

CONFIG = {**SCHEDULER, "prediction_type": "v_prediction"}
SCHEDULE = NoiseSchedule.from_config(CONFIG)
LOG_SIGMA = SCHEDULE.log_sigma_T.float()
SCRATCH = "scratch"
"""As --start: new weights. Whoever changes the autoencoder needs them: another's latents mislead."""


class Denoiser(torch.nn.Module):
    """UNet and, for an SDM, fusion."""

    def __init__(self, unet: Any, fusion: Any | None) -> None:
        super().__init__()
        self.unet, self.fusion = unet, fusion

    def forward(self, z_BChw: Tensor, t_B: Tensor, ctx_BLD: Tensor) -> Tensor:
        return self.unet(z_BChw, t_B, encoder_hidden_states=ctx_BLD, return_dict=False)[0]


def face_boxes(shard: shards.Shard) -> Tensor:
    """1 inside the face on the latent grid, else 0 (N, h, w); 0 everywhere where two people are."""
    eyes, mouth = shard.landmarks_N52[:, :2].mean(1), shard.landmarks_N52[:, 3:].mean(1)
    middle, d = eyes + 0.4 * (mouth - eyes), (mouth - eyes).norm(dim=1)[:, None]
    grid = (torch.arange(shard.latents_NChw.shape[-1]) + 0.5) * 8
    right = (grid[None] - middle[:, :1]).abs() < 1.25 * d
    down = (grid[None] - middle[:, 1:]).abs() < 1.45 * d
    single = torch.from_numpy(shard.second_N < 0)[:, None, None]
    return (down[:, :, None] & right[:, None, :] & single).float()


class Pictures:
    """Batches: latents (half of them mirrored), captions, embeddings of references, face boxes.

    A picture of two people learns from its captions and references alike, but no identity term sees it.
    """

    def __init__(self, shard: shards.Shard, embedding_DNE: Tensor | None, own: float, drop: float) -> None:
        self.shard, self.embedding, self.own, self.drop = shard, embedding_DNE, own, drop
        self.face = face_boxes(shard)
        self.rows = np.nonzero(~shard.held_N)[0]
        self.by: dict[int, list[int]] = {}
        for row in self.rows[shard.second_N[self.rows] < 0].tolist():
            self.by.setdefault(int(shard.identity_N[row]), []).append(row)

    def references(self, row: int, rng: np.random.Generator) -> tuple[int, int]:
        """Pictures of the row's people, alone; -1 where there is none.

        Of a single person the picture itself in a share `own` of cases, else another.
        """
        first, second = int(self.shard.identity_N[row]), int(self.shard.second_N[row])
        if second >= 0:
            choices = [self.by.get(number, [-1]) for number in (first, second)]
            return choices[0][rng.integers(len(choices[0]))], choices[1][rng.integers(len(choices[1]))]
        others = [r for r in self.by[first] if r != row]
        return (row if not others or rng.random() < self.own else others[rng.integers(len(others))]), -1

    def batch(self, num: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`without`: rows drawn without the subject; every tenth row has no caption either."""
        rows = rng.choice(self.rows, min(num, len(self.rows)), replace=False)
        num = len(rows)
        mirrored = (rng.random(num) < 0.5) & (self.shard.second_N[rows] < 0)
        at, flip = torch.from_numpy(rows), torch.from_numpy(mirrored)
        latents = torch.where(
            flip[:, None, None, None], self.shard.mirrored_NChw[at], self.shard.latents_NChw[at]
        ).float()
        face = torch.where(flip[:, None, None], self.face[at].flip(2), self.face[at])
        draw = torch.from_numpy(rng.random(num))
        text = self.shard.text_NLD[at].float()
        text[draw < self.drop] = self.shard.null_LD.float()
        found = {"latents": latents, "face": face, "text": text}
        found |= {
            "mirrored": flip,
            "landmarks": self.shard.landmarks_N52[at],
            "found": self.shard.found_N[at],
        }
        found["faceres"] = self.shard.faceres_NE[at]
        if self.embedding is not None:
            cut = torch.tensor([self.references(int(row), rng) for row in rows])
            which = int(rng.integers(len(self.embedding)))
            found["token"] = torch.stack([self.shard.token_N[at], self.shard.second_token_N[at]], 1)
            found["subject"] = self.embedding[which][cut.clamp(min=0)].float()
            found["valid"] = (draw >= 2 * self.drop)[:, None] & (cut >= 0)
        return found


def step_loss(
    net: Denoiser,
    batch: dict[str, Tensor],
    given: argparse.Namespace,
    generator: torch.Generator,
    recognised: identity_loss.IdentityLoss | None,
) -> dict[str, Tensor]:
    """`loss`, what is minimised: `error` of v, faces weighted 1 + `face_weight`, and `identity`, weighted.

    The identity counts once a picture of the batch, where its subject is given and the noise is in range.
    """
    clean, ctx = batch["latents"], batch["text"]
    num, device = len(clean), clean.device
    density = TimestepDensity("log_normal", given.noise_mean, given.noise_deviation, given.noise_uniform)
    t = density.draw(num, SCHEDULE, generator)
    sigma, t = LOG_SIGMA[t].exp().to(device), t.to(device)
    eps = torch.randn(clean.shape, generator=generator).to(device)
    if net.fusion is not None:
        marked = (torch.arange(ctx.shape[1], device=device) == batch["token"][..., None]).any(1)
        ctx = net.fusion(ctx, batch["subject"], marked, batch["valid"])
    noised = SCHEDULE.add_noise(clean, eps, t)
    with torch.autocast(device.type, torch.bfloat16):
        output = net(noised, t, ctx)
    output = output.float()
    squared = (output - SCHEDULE.target(clean, eps, t)).square().mean(1)
    weight = 1 + given.face_weight * batch["face"]
    error = (squared * weight / weight.mean((1, 2), keepdim=True)).mean()
    if recognised is None:
        return {"loss": error, "error": error}
    low, high = given.identity_range
    use = batch["valid"][:, 0] & batch["found"] & (sigma > low) & (sigma < high)
    rows = use.nonzero()[: num // 2, 0]
    identity = torch.zeros((), device=device)
    if len(rows):
        predicted = SCHEDULE.clean(noised[rows], output[rows], t[rows])
        true = batch["landmarks"][rows], batch["mirrored"][rows], batch["faceres"][rows]
        identity = recognised(predicted, *true).sum() / num
    return {"loss": error + given.identity_weight * identity, "error": error, "identity": identity}


def load(given: argparse.Namespace) -> Denoiser:
    """The parts to start from, with the fast attention of the device."""
    if given.start == SCRATCH:
        unet = build_unet(seed=given.seed)
        fusion = build_fusion(seed=given.seed) if given.kind == "sdm" else None
    else:
        start = resolve(given.start)
        unet = load_part("unet", start / "unet")
        unet.register_to_config(sample_size=16)
        fusion = load_part("fusion", start / "fusion") if given.kind == "sdm" else None
    net = Denoiser(unet, fusion).to(given.device)
    fast.suit(unet, torch.device(given.device))
    return net.requires_grad_(True).train()


def export(folder: Path, net: Denoiser, average: dict[str, Tensor], encoder: Path | None, facts: Any) -> None:
    """Write the averaged weights in diffusers' layout, fp16, and what stands behind them."""
    raw = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(average)
    image_encoder = load_part("image_encoder", encoder) if encoder is not None else None
    parts = {"unet": net.unet, "fusion": net.fusion, "image_encoder": image_encoder}
    save_backbone(folder, Backbone(name="nano", scheduler_config=CONFIG, **parts), half=True)
    files.write_json(folder / "training.json", facts)
    if encoder is not None and (told := finetuned.facts(resolve(encoder))):
        files.write_json(folder / "image_encoder" / finetuned.FACTS, told)
    net.load_state_dict(raw)


def facts(given: argparse.Namespace, step: int, spent: float, pictures: Pictures) -> dict[str, Any]:
    """training.json: the steps behind the weights and the people they were shown, those before this run
    included."""
    started = {} if given.start == SCRATCH else finetuned.facts(resolve(given.start))
    before = started.get("steps", 0)
    # An SDM's encoder is distilled from faceres, whether or not faceres looks at what it draws.
    taught = {"taught_by": ["faceres"]} if given.kind == "sdm" else {}
    return {
        **taught,
        "steps": before + step,
        "steps_of_this_run": step,
        "kind": given.kind,
        "init": given.start if given.start.startswith("asset:") else "/".join(Path(given.start).parts[-2:]),
        **provenance.git(),
        "pictures": len(pictures.rows),
        "people": whom.joined(started.get("people") or (), [pictures.shard.shown()]),
        "pictures_a_step": given.batch_size,
        "lr": given.lr,
        "seconds_of_this_run": round(spent),
        "identity_weight": given.identity_weight if given.kind == "sdm" else 0.0,
        "seed": given.seed,
        "averaged": True,
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("sdm", "tdm"))
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, required=True, help="in all, resumed parts included")
    parser.add_argument("--start", default="asset:nano/sdm", help="a model's folder, or scratch")
    parser.add_argument("--vae", default="asset:nano/vae", help="whose latents the shards hold")
    parser.add_argument("--encoder", type=Path, help="image encoder of an SDM")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--decay", type=float, default=0.3, help="share of the time at the end")
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--face-weight", type=float, default=3.0)
    parser.add_argument("--identity-weight", type=float, default=0.2, help="of an SDM; 0 is off")
    parser.add_argument(
        "--identity-range", type=float, nargs=2, default=(0.15, 5.0), help="noise levels sigma"
    )
    parser.add_argument("--noise-mean", type=float, default=0.1)
    parser.add_argument("--noise-deviation", type=float, default=1.1)
    parser.add_argument("--noise-uniform", type=float, default=0.2)
    parser.add_argument(
        "--own", type=float, default=0.3, help="share of references that are the picture's own"
    )
    parser.add_argument("--drop", type=float, default=0.1, help="captions dropped, and subjects dropped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def teaching(given: argparse.Namespace) -> tuple[Pictures, identity_loss.IdentityLoss | None]:
    """What the denoiser learns from; of an SDM with its references' embeddings and what recognises."""
    shard = shards.load(given.shards)
    embedding = None
    if given.kind == "sdm":
        encoder = load_part("image_encoder", resolve(given.encoder)).to(given.device).eval()
        encoder.set_attn_implementation("eager" if given.device == "cpu" else "sdpa")
        seen = (encoder, shard.images_NHW3, shard.people_NHW, shard.landmarks_N52)
        embedding = torch.stack([head_crops.embed(*seen, seed) for seed in (0, 1)])
    pictures = Pictures(shard, embedding, given.own, given.drop)
    recognised = None
    if given.kind == "sdm" and given.identity_weight:
        vae = load_part("vae", resolve(given.vae))
        recognised = identity_loss.IdentityLoss(vae, given.device)
    return pictures, recognised


def main() -> None:
    """Train for a time, by CPU or wall clock; keep a state every few minutes."""
    given = arguments()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.device == "cpu" else time.monotonic
    pictures, recognised = teaching(given)
    torch.manual_seed(given.seed)
    net = load(given)
    named = list(net.named_parameters())
    optimizer = Muon(named, lr=given.lr, adam_lr=0.07 * given.lr, weight_decay=0.01)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    step, before, path = 0, 0.0, given.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=given.device)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, before = state["average"], state["step"], state["spent"]
    given.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(given.seed * 1_000_003 + step)
    rng = np.random.default_rng([given.seed, step])
    start, kept, spent, recent = clock(), time.monotonic(), before, []

    def keep() -> None:
        state = {"net": net.state_dict(), "average": average, "step": step, "spent": spent}
        with files.whole(path) as temporary:
            torch.save({**state, "optimizer": optimizer.state_dict()}, temporary)
        export(given.out / "model", net, average, given.encoder, facts(given, step, spent, pictures))

    curve = given.out / "curve.csv"
    rows = curve.read_text().splitlines()[1:] if curve.exists() else []
    # A state is as old as four minutes: what came after it comes again.
    rows = [row for row in rows if int(row.partition(",")[0]) <= step]
    files.write_text(curve, "\n".join(["step,seconds,error,identity", *rows]) + "\n")
    stop = WhenAsked()
    while (done := spent / (60 * given.minutes)) < 1 and not stop.asked:
        batch = {k: v.to(given.device) for k, v in pictures.batch(given.batch_size, rng).items()}
        losses = step_loss(net, batch, given, generator, recognised)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.set_share(min(1.0, (step + 1) / 20) * min(1.0, (1 - done) / given.decay))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        share = min(given.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - share)
        step, spent = step + 1, before + clock() - start
        recent.append({name: value.item() for name, value in losses.items()})
        if step % 25 == 0:
            error, identity = (float(np.mean([r.get(k, 0.0) for r in recent])) for k in ("error", "identity"))
            with curve.open("a") as stream:
                stream.write(f"{step},{spent:.0f},{error:.5f},{identity:.5f}\n")
            line = {"step": step, "seconds": round(spent), "error": round(error, 4)}
            print(json.dumps(line | {"identity": round(identity, 4)}), flush=True)
            recent = []
        if time.monotonic() - kept > 240:
            keep()
            kept = time.monotonic()
    keep()
    leave(done >= 1)


if __name__ == "__main__":
    main()
