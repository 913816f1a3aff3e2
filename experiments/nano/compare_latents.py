"""A short training from scratch on the latents as they are, or whitened; errors in the space of the former.

    python experiments/nano/compare_latents.py plain|whitened|scaled OUT.json SHARD... [--vae FOLDER]
Whitened: C^-1/2 of the channels' covariance C, which the autoencoder's quant_conv and post_quant_conv can
take in without a change of its interface. Scaled: every channel by its own deviation. --vae: the latents of
another autoencoder (tune_autoencoder.py). From captions alone; --seconds of a core. Axes: N pictures,
C channels, h w latents.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import shards
import torch
import train_denoiser
from torch import Tensor
from train_denoiser import LOG_SIGMA, SCHEDULE, Denoiser, Pictures, step_loss

from fdlab import files
from fdlab.assets import resolve
from fdlab.data.latents import decode_latents, encode_images
from fdlab.diffusion.schedulers import make_scheduler
from fdlab.diffusion.timesteps import sampler_timesteps
from fdlab.measure.faces import FaceDetector
from fdlab.models import fast
from fdlab.models.judge import Judge
from fdlab.models.nano import build_unet
from fdlab.models.parts import load_part
from fdlab.muon import Muon

SIGMAS = (0.3, 0.6, 1.0, 2.5, 5.0, 12.0)


def channel_map(kind: str, latents_NChw: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (C, C) and mean (C) of what is learned: matrix @ (z - mean)."""
    flat = latents_NChw.double().permute(0, 2, 3, 1).flatten(0, 2)
    covariance = torch.cov(flat.T)
    value, vector = torch.linalg.eigh(covariance)
    print("eigenvalues", [round(v, 3) for v in value.tolist()], flush=True)
    matrix = {
        "plain": torch.eye(len(value), dtype=torch.float64),
        "scaled": covariance.diagonal().rsqrt().diag(),
        "whitened": vector @ value.rsqrt().diag() @ vector.T,
    }[kind]
    mean = torch.zeros(len(value), dtype=torch.float64) if kind == "plain" else flat.mean(0)
    return matrix.float(), mean.float()


def mapped(latents_NChw: Tensor, matrix: Tensor, mean: Tensor) -> Tensor:
    """Latents as they are learned."""
    return torch.einsum("dc,nchw->ndhw", matrix, latents_NChw.float() - mean[:, None, None])


def restored(latents_NChw: Tensor, matrix: Tensor, mean: Tensor) -> Tensor:
    """The inverse of `mapped`."""
    return torch.einsum("dc,nchw->ndhw", matrix.inverse(), latents_NChw) + mean[:, None, None]


def encoded(vae: Any, images_NHW3: np.ndarray) -> Tensor:
    """Latents of another autoencoder."""
    parts = np.array_split(images_NHW3, max(1, len(images_NHW3) // 64))
    return torch.from_numpy(
        np.concatenate([encode_images(vae, np.ascontiguousarray(part)) for part in parts])
    )


def learn(shard: shards.Shard, given: argparse.Namespace) -> Denoiser:
    """The averaged weights after `seconds` of CPU time."""
    pictures = Pictures(shard, None, 0.0, 0.1)
    torch.manual_seed(given.seed)
    channels = shard.latents_NChw.shape[1]
    unet = build_unet({"in_channels": channels, "out_channels": channels}, seed=given.seed)
    fast.suit(unet, torch.device("cpu"))
    net = Denoiser(unet, None).train()
    optimizer = Muon(list(net.named_parameters()), lr=0.02, adam_lr=0.0014, weight_decay=0.01)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    generator, rng = torch.Generator().manual_seed(given.seed), np.random.default_rng(given.seed)
    start, step = time.process_time(), 0
    options = argparse.Namespace(noise_mean=0.1, noise_deviation=1.1, noise_uniform=0.2, face_weight=3.0)
    while (done := (time.process_time() - start) / given.seconds) < 1:
        loss = step_loss(net, pictures.batch(32, rng), options, generator, None)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.set_share(min(1.0, (step + 1) / 20) * min(1.0, (1 - done) / 0.3))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - min(0.97, (1 + step) / (10 + step)))
        step += 1
    print("steps", step, flush=True)
    net.load_state_dict(average)
    return net.eval()


@torch.no_grad()
def errors(net: Denoiser, shard: shards.Shard, space: tuple[Tensor, Tensor], vae: Any) -> dict[str, Any]:
    """Of the predicted clean picture at each noise level: in the given latents, in their faces, in pixels."""
    rows = np.nonzero(shard.held_N & (shard.second_N < 0))[0][:96]
    true, text = shard.latents_NChw[rows].float(), shard.text_NLD[rows].float()
    face = train_denoiser.face_boxes(shard)[rows]
    clean, pixels = mapped(true, *space), decode_latents(vae, true)
    eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for sigma in SIGMAS:
        t = (LOG_SIGMA - np.log(sigma)).abs().argmin().expand(len(clean))
        noised = SCHEDULE.add_noise(clean, eps, t)
        with torch.autocast("cpu", torch.bfloat16):
            output = net(noised, t, text)
        predicted = restored(SCHEDULE.clean(noised, output.float(), t), *space)
        squared = (predicted - true).square().mean(1)
        picture = (decode_latents(vae, predicted).clamp(-1, 1) - pixels).square().mean()
        values = (squared.mean(), (squared * face).sum() / face.sum(), picture)
        found[str(sigma)] = [round(float(v), 4) for v in values]
    return found


@torch.no_grad()
def drawn(net: Denoiser, shard: shards.Shard, space: tuple[Tensor, Tensor], vae: Any) -> dict[str, float]:
    """12 steps from held-out captions, guidance 3: faces found, and the distance to the true pictures."""
    rows = np.nonzero(shard.held_N & (shard.second_N < 0))[0][:96]
    text, null = shard.text_NLD[rows].float(), shard.null_LD.float().expand(len(rows), -1, -1)
    z = torch.randn(shard.latents_NChw[rows].shape, generator=torch.Generator().manual_seed(1))
    scheduler = make_scheduler("ddim", train_denoiser.CONFIG, None)
    for t in sampler_timesteps(scheduler, 12, "cpu"):
        with torch.autocast("cpu", torch.bfloat16):
            both = net(torch.cat([z, z]), t.expand(2 * len(z)), torch.cat([null, text])).float()
        low, high = both.chunk(2)
        z = scheduler.step(low + 3 * (high - low), t, z, return_dict=False)[0]
    pixels = decode_latents(vae, restored(z, *space)).clamp(-1, 1)
    images = ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    judge = Judge.load(resolve("asset:nano/judge"))
    seen, real = (judge.embed_images(judge.pixels(x)).double() for x in (images, shard.images_NHW3[rows]))
    return {
        "faces_found": float(np.mean([bool(f) for f in FaceDetector()(images)])),
        "kernel": kernel(seen, real),
    }


def kernel(a: Tensor, b: Tensor) -> float:
    """Unbiased kernel distance of two sets of vectors (Binkowski et al. 2018, its cubic kernel)."""

    def mean(x: Tensor, y: Tensor, same: bool) -> Tensor:
        k = (x @ y.T / x.shape[1] + 1) ** 3
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)) if same else k.mean()

    return float(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False))


def main() -> None:
    """Map, learn, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("plain", "whitened", "scaled"))
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae", type=Path, help="a folder; default: the one that ships")
    given = parser.parse_args()
    torch.set_num_threads(1)
    shard = shards.load(given.shards)
    vae = load_part("vae", given.vae or resolve("asset:nano/vae")).eval()
    if given.vae:
        shard.latents_NChw, shard.mirrored_NChw = (
            encoded(vae, images) for images in (shard.images_NHW3, shard.images_NHW3[:, :, ::-1])
        )
    space = channel_map(given.kind, shard.latents_NChw[~shard.held_N])
    learned = shards.joined([shard])
    learned.latents_NChw, learned.mirrored_NChw = (
        mapped(x, *space) for x in (shard.latents_NChw, shard.mirrored_NChw)
    )
    net = learn(learned, given)
    found = {"kind": given.kind, "seed": given.seed, "error": errors(net, shard, space, vae)}
    files.write_json(given.out, found | drawn(net, shard, space, vae))
    print(given.out.read_text())


if __name__ == "__main__":
    main()
