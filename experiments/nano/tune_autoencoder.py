"""Tune the autoencoder that ships for latents that might be easier to learn; a `vae/` for compare_latents.py.

    python experiments/nano/tune_autoencoder.py plain|equivariant|few OUT SHARD... [--steps 250]
`plain` goes on as before: the control at equal steps. `equivariant` decodes half of the batches from latents
that are scaled down, and wants the scaled picture (Kouzelis et al. 2025, arXiv 2502.09509, scales alone).
`few` keeps the --channels first principal components of the latents. Run again to go on. Prints how well dlib
tells 40 held-out people apart after a round trip. Axes: N pictures, C channels, h w latents, K kept channels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shards
import torch
import torch.nn.functional as F
from stopping import leave
from torch import Tensor

from fdlab import files
from fdlab.assets import resolve
from fdlab.data.latents import encode_images
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.choice import recogniser_of
from fdlab.metrics import identity
from fdlab.models.autoencoder import NanoAutoencoder
from fdlab.models.parts import load_part
from fdlab.people import benchmark, picture
from fdlab.pretraining.autoencoder import (
    PackedPictures,
    export,
    peak_signal_to_noise,
    reconstruct,
    sampled_loss,
    set_latent_scale,
)
from fdlab.pretraining.autoencoder_loss import AutoencoderLoss, autoencoder_loss
from fdlab.pretraining.small import Length, SmallTraining, train
from fdlab.randomness import torch_generator

SIDES = (8, 10, 12, 14)
"""Of scaled latents, where they have 16: pictures of 64 to 112 px."""


@torch.no_grad()
def with_few_channels(model: NanoAutoencoder, raw_NChw: Tensor, num: int) -> NanoAutoencoder:
    """The same with the `num` first principal components of its latents, folded into the two convolutions
    beside them."""
    flat = raw_NChw.double().permute(0, 2, 3, 1).flatten(0, 2)
    value, vector = torch.linalg.eigh(torch.cov(flat.T))
    keep_KC, mean_C = vector.flip(1)[:, :num].T.float(), flat.mean(0).float()
    print(f"kept of the latents' variance: {value.flip(0)[:num].sum() / value.sum():.3f}", flush=True)
    fewer = NanoAutoencoder(latent_channels=num)
    state = dict(model.state_dict())
    last, first = f"encoder.{len(model.encoder) - 1}", "decoder.0"
    (mean_w, logvar_w), (mean_b, logvar_b) = (state[f"{last}.{k}"].chunk(2) for k in ("weight", "bias"))
    # Of independent channels the variances add up; near enough for a start.
    share_KC = keep_KC.square()
    state[f"{last}.weight"] = torch.cat(
        [torch.einsum("kc,cihw->kihw", *pair) for pair in ((keep_KC, mean_w), (share_KC, logvar_w))]
    )
    state[f"{last}.bias"] = torch.cat([keep_KC @ (mean_b - mean_C), share_KC @ logvar_b])
    weight = state[f"{first}.weight"]
    state[f"{first}.weight"] = torch.einsum("kc,ochw->okhw", keep_KC, weight)
    state[f"{first}.bias"] = state[f"{first}.bias"] + torch.einsum("c,ochw->o", mean_C, weight)
    fewer.load_state_dict(state)
    return fewer


def scaled_loss(
    model: NanoAutoencoder, images_B3HW: Tensor, weight_BHW: Tensor | None, side: int, kl_weight: float
) -> AutoencoderLoss:
    """Latents scaled to `side`, decoded, against the picture scaled alike."""
    posterior = model.encode(images_B3HW).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch_generator(side, "scaled posterior"))
    z_BChw = scaled(posterior.mean + posterior.std * noise, side)
    pixels = side * model.spatial_factor
    weight = None if weight_BHW is None else scaled(weight_BHW[:, None], pixels)[:, 0]
    target = scaled(images_B3HW, pixels)
    output = model.decode(z_BChw).sample
    return autoencoder_loss(output, target, posterior.mean, posterior.logvar, weight, kl_weight=kl_weight)


def scaled(x_BCHW: Tensor, side: int) -> Tensor:
    """Bilinear, low frequencies alone."""
    return F.interpolate(x_BCHW, (side, side), mode="bilinear", antialias=True)


def pack(shard: shards.Shard, folder: Path) -> PackedPictures:
    """The shard's pictures of people who are not held out, as `pretrain` reads them; the people count four
    times."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images.npy").exists():
        kept = ~shard.held_N
        for name, array in (
            ("weights", 1 + 3 * shard.people_NHW[kept].astype(np.uint8)),
            ("images", shard.images_NHW3[kept]),
        ):
            with files.whole(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
    return PackedPictures.open(folder)


def recognised(model: NanoAutoencoder) -> float:
    """dlib's AUC: pictures of 40 held-out people after a round trip, by references that made none."""
    people = range(benchmark.SUBJECTS)
    references, pictures = (
        np.stack([picture.render(benchmark.spec(k, *what), benchmark.SIZE).image_HW3 for k in people])
        for what in (("reference",), ("real", 0))
    )
    detector, judge = FaceDetector(), recogniser_of("dlib", None, "cpu")
    vectors, has = [], []
    for images in (reconstruct(model, pictures), references):
        faces = [face[:1] for face in detector(images)]
        has.append(np.array([bool(face) for face in faces]))
        vector_ND = np.zeros((len(images), judge.dim))
        vector_ND[has[-1]] = judge.embed(images, faces).numpy()
        vectors.append(vector_ND)
    return float(identity.auc(identity.cosine(*vectors), np.arange(len(people)), has[0]))


def main() -> None:
    """Start from what ships, tune, export, try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("plain", "equivariant", "few"))
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--channels", type=int, default=8, help="of `few`")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    given = parser.parse_args()
    torch.set_num_threads(1)
    shard = shards.load(given.shards)
    pictures = pack(shard, given.out / "pictures")
    model = load_part("vae", resolve("asset:nano/vae")).float()
    if given.kind == "few":
        some = encode_images(model.eval(), np.array(pictures.images_NHW3[:512]))
        raw = torch.from_numpy(some) / model.config.scaling_factor + model.config.shift_factor
        model = with_few_channels(model, raw, given.channels)
        print(f"before tuning: AUC {recognised(model.eval()):.3f}", flush=True)
    model = model.train().requires_grad_(True).to(memory_format=torch.channels_last)

    def loss_step(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        images, weight = pictures.batch(0, step, given.batch_size)
        if given.kind == "equivariant" and step % 2:
            loss = scaled_loss(model, images, weight, SIDES[step // 2 % len(SIDES)], 1e-5)
        else:
            loss = sampled_loss(model, images, weight, torch_generator(0, "posterior", step), 1e-5)
        return loss.total, {"l1": loss.l1, "edges": loss.edges}

    training = SmallTraining(model, loss_step, given.lr)
    finished = train(training, given.out, Length(0.0, given.steps))
    with training.averaged():
        set_latent_scale(model, np.array(pictures.images_NHW3[:512]), 0)
        export(model, given.out / "vae")
        held = shard.images_NHW3[shard.held_N]
        psnr = peak_signal_to_noise(held, reconstruct(model, held))
        found = {"kind": given.kind, "steps": training.step, "psnr": psnr, "auc": recognised(model)}
    files.write_json(given.out / "scores.json", found)
    print(found, flush=True)
    leave(finished)


if __name__ == "__main__":
    main()
