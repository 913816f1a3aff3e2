"""Training the nano autoencoder: from packed pictures to a `vae/` folder.

Axes: B batch, C channels, H W grid; images are RGB in [-1, 1] unless they are uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab import files
from fdlab.data.arrays import map_array
from fdlab.errors import UserError
from fdlab.models.autoencoder import NanoAutoencoder
from fdlab.pretraining.autoencoder_loss import AutoencoderLoss, autoencoder_loss, latent_scale
from fdlab.pretraining.small import Length, SmallTraining, report, train
from fdlab.randomness import numpy_rng, torch_generator


@dataclass(frozen=True)
class PackedPictures:
    """Pictures in one memory-mapped array: images (N, H, W, 3) uint8, weights (N, H, W) uint8 or None.

    A weight is taken as it stands: a pixel of 4 counts four times a pixel of 1.
    """

    images_NHW3: np.ndarray
    weights_NHW: np.ndarray | None
    num_heldout: int

    @classmethod
    def open(cls, folder: Path) -> PackedPictures:
        """Open `images.npy` (and `weights.npy`, if there); the last 2 % (at most 256) are held out."""
        path = Path(folder) / "images.npy"
        if not path.exists():
            raise UserError(f"no 'images.npy' in '{folder}'; pack pictures into it first.")
        images = map_array(path)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise UserError(f"'{path}' holds {images.dtype} {images.shape}; expected uint8 (N, H, W, 3).")
        weighted = (Path(folder) / "weights.npy").exists()
        weights = map_array(Path(folder) / "weights.npy") if weighted else None
        if weights is not None and weights.shape != images.shape[:3]:
            raise UserError(f"weights {weights.shape} do not fit images {images.shape} in '{folder}'.")
        return cls(images, weights, max(1, min(256, len(images) // 50)))

    def batch(self, seed: int, step: int, size: int) -> tuple[Tensor, Tensor | None]:
        """Training images B3HW and weights BHW (or None) of one step; half of them mirrored."""
        rng = numpy_rng(seed, "autoencoder batch", step)
        chosen = np.sort(rng.integers(0, max(1, len(self.images_NHW3) - self.num_heldout), size))
        flipped = rng.random(size) < 0.5
        images = self.images_NHW3[chosen]
        images[flipped] = images[flipped, :, ::-1]
        if self.weights_NHW is None:
            return as_float(images), None
        weights = self.weights_NHW[chosen]
        weights[flipped] = weights[flipped, :, ::-1]
        return as_float(images), torch.from_numpy(weights).float()

    def heldout(self, num: int) -> np.ndarray:
        """`num` pictures that no step sees, uint8."""
        return np.array(self.images_NHW3[len(self.images_NHW3) - min(num, self.num_heldout) :])


def sampled_loss(
    model: NanoAutoencoder,
    images_B3HW: Tensor,
    weight_BHW: Tensor | None,
    generator: torch.Generator,
    kl_weight: float,
) -> AutoencoderLoss:
    """Encode, draw latents (noise from `generator`, on the CPU), decode, compare."""
    posterior = model.encode(images_B3HW).latent_dist
    noise_BCHW = torch.randn(posterior.mean.shape, generator=generator).to(images_B3HW.device)
    output_B3HW = model.decode(posterior.mean + posterior.std * noise_BCHW).sample
    return autoencoder_loss(
        output_B3HW, images_B3HW, posterior.mean, posterior.logvar, weight_BHW, kl_weight=kl_weight
    )


def as_float(images_BHW3: np.ndarray) -> Tensor:
    """uint8 BHW3 to float B3HW in [-1, 1] (channels last in memory)."""
    return torch.from_numpy(images_BHW3).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def as_uint8(images_B3HW: Tensor) -> np.ndarray:
    """Float B3HW in [-1, 1] to uint8 BHW3."""
    return ((images_B3HW.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def reconstruct(model: NanoAutoencoder, images_BHW3: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Encode (mode) and decode uint8 images in batches."""
    parts = (images_BHW3[i : i + batch_size] for i in range(0, len(images_BHW3), batch_size))
    return np.concatenate([as_uint8(model(as_float(part)).sample) for part in parts])


def peak_signal_to_noise(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of uint8 images in dB, over all pixels."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean()
    return float("inf") if error == 0 else 10 * math.log10(255.0**2 / float(error))


@torch.no_grad()
def set_latent_scale(
    model: NanoAutoencoder, images_BHW3: np.ndarray, seed: int, batch_size: int = 32
) -> None:
    """Write into the config the scale and shift that give these images' latents mean 0 and deviation 1."""
    generator = torch_generator(seed, "latent scale")
    parts = (images_BHW3[i : i + batch_size] for i in range(0, len(images_BHW3), batch_size))
    latents = [model.encode(as_float(part)).latent_dist.sample(generator) for part in parts]
    scaling_factor, shift_factor = latent_scale(torch.cat(latents))
    model.register_to_config(scaling_factor=scaling_factor, shift_factor=shift_factor)


def export(model: NanoAutoencoder, folder: Path) -> None:
    """Write config and fp16 weights in diffusers' layout; the model itself stays as it is."""
    folder = Path(folder)
    # Not from_config(): it forgets values that were set after construction.
    copy = NanoAutoencoder(**{key: value for key, value in model.config.items() if not key.startswith("_")})
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder, safe_serialization=True)


def save_grid(rows: list[np.ndarray], path: Path) -> None:
    """Write rows of uint8 BHW3 images of one size as a PNG."""
    from PIL import Image

    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    with files.whole(path) as temporary:
        Image.fromarray(grid).save(temporary, format="PNG")


def pretrain(
    data: Path,
    folder: Path,
    minutes: float,
    batch_size: int = 16,
    lr: float = 0.03,
    kl_weight: float = 1e-5,
    seed: int = 0,
    autocast: bool = True,
    config: dict | None = None,
    max_steps: int | None = None,
) -> bool:
    """Train for `minutes` in all (a resumed run's earlier parts count), export; False if stopped by a signal.

    Reads `data/images.npy` [+ weights.npy]; writes to `folder`: metrics.csv, checkpoints/, vae/,
    reconstructions.png, scores.json.
    """
    pictures, folder = PackedPictures.open(data), Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "autoencoder weights").initial_seed())
        model = NanoAutoencoder(**(config or {})).to(memory_format=torch.channels_last)

    def loss_step(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        images_B3HW, weight_BHW = pictures.batch(seed, step, batch_size)
        loss = sampled_loss(
            model, images_B3HW, weight_BHW, torch_generator(seed, "posterior", step), kl_weight
        )
        return loss.total, {"l1": loss.l1, "edges": loss.edges, "kl": loss.kl}

    training = SmallTraining(model, loss_step, lr, seed)
    finished = train(training, folder, Length(minutes, max_steps), autocast)
    with training.averaged():
        set_latent_scale(model, np.array(pictures.images_NHW3[:512]), seed)
        export(model, folder / "vae")
        heldout = pictures.heldout(256)
        decoded = reconstruct(model, heldout)
        save_grid([heldout[:8], decoded[:8], heldout[-8:], decoded[-8:]], folder / "reconstructions.png")
        psnr = peak_signal_to_noise(heldout, decoded)
        scores = {**report(training, folder), "psnr": psnr}
        files.write_json(folder / "scores.json", scores)
        print(scores, flush=True)
    return finished
