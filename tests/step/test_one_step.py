"""One optimiser step of TDM and SDM against the objective written out: loss, gradients, weights.

LoRA: test_lora. Stable Diffusion XL and 3: test_sdxl, test_sd3; with their text encoders: test_text_encoder.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab.engine.draws import Draws
from fdlab.engine.loop import LoopSettings, run
from fdlab.models.backbone import Backbone
from fdlab.models.nano import build_unet
from fdlab.randomness import torch_generator
from fdlab.training.subject_augmented import SDM
from fdlab.training.text_driven import TDM
from tests.worlds import pairs
from tests.worlds.backbones import tiny_sd15

LR = 0.01
UNET: dict[str, Any] = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4,
    "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 32,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 2,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "norm_num_groups": 4, "time_embedding_dim": None,
}  # fmt: skip
"""Two levels: three blocks in all attend to the text."""


@dataclass
class Case:
    """Options of a training, and the same in the words of the computation below."""

    options: dict[str, Any] = field(default_factory=dict)
    kind: Any = SDM
    masked: str = ""
    localized: float = 0.0
    gamma: float | None = None
    v: bool = False
    prior: float = 0.0


# Gammas lie below the signal-to-noise ratios that are drawn here: larger ones would change nothing.
CASES = {
    "plain": Case(),
    "masked": Case({"masked_loss": 1.0}, masked="sample"),
    "masked as released": Case({"masked_loss": 1.0, "masked_loss_mode": "released"}, masked="released"),
    "localization": Case({"localization_weight": 2.0}, localized=2.0),
    "min-SNR": Case({"min_snr_gamma": 0.01}, gamma=0.01),
    "v-prediction": Case({"prediction_type": "v_prediction"}, v=True),
    "v-prediction, min-SNR": Case(
        {"prediction_type": "v_prediction", "min_snr_gamma": 0.01}, TDM, "", 0.0, 0.01, True
    ),
    "prior": Case({"prior_weight": 0.7}, TDM, prior=0.7),
    "prior, text encoder": Case({"prior_weight": 0.7, "train_text_encoder": True}, prior=0.7),
}


def draw(generator: torch.Generator, z0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, timesteps, and the share of the picture's variance that is left."""
    eps = torch.randn(z0.shape, generator=generator)
    t = torch.randint(0, 1000, (len(z0),), generator=generator)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return eps, t, torch.cumprod(1 - betas, 0)[t].float()[:, None, None, None]


class Looks:
    """What positions of the UNet attend to, computed beside it."""

    def __init__(self, unet: Any) -> None:
        self.maps: list[Tensor] = []
        self.handles = [
            layer.register_forward_pre_hook(self.see, with_kwargs=True)
            for name, layer in unet.named_modules()
            if name.endswith("attn2")
        ]

    def see(self, layer: Any, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        x, text = given[0], named["encoder_hidden_states"]
        q, k = (y.unflatten(2, (layer.heads, -1)).transpose(1, 2) for y in (layer.to_q(x), layer.to_k(text)))
        self.maps.append((q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Attention to a subject's word off its mask, less that on it; a mean of means."""
        layers = []
        for probs in self.maps:
            side = int(probs.shape[2] ** 0.5)
            masks = F.interpolate(batch["mask_BNHW"], (side, side), mode="bilinear", antialias=True).flatten(
                2
            )
            rows = []
            for row in range(len(probs)):
                found = []
                for n in range(masks.shape[1]):
                    if batch["subject_valid_BN"][row, n]:
                        look, mask = probs[row, :, :, batch["token_index_BN"][row, n]], masks[row, n]
                        off = (look * (1 - mask)).sum(1) / ((1 - mask).sum() + 1e-5)
                        found.append(off - (look * mask).sum(1) / (mask.sum() + 1e-5))
                rows.append(torch.stack(found).mean(0).mean())
            layers.append(torch.stack(rows).mean())
        for handle in self.handles:
            handle.remove()
        return torch.stack(layers).mean()


def plain(model: Backbone, batch: dict[str, Tensor], generator: torch.Generator, case: Case) -> Tensor:
    """The objective, sample after sample."""
    z0 = batch["latent_BCHW"]
    eps, t, left = draw(generator, z0)
    noisy = left.sqrt() * z0 + (1 - left).sqrt() * eps
    target = left.sqrt() * eps - (1 - left).sqrt() * z0 if case.v else eps
    looks = Looks(model.unet) if case.localized else None
    output = model.unet(noisy, t, pairs.plain_tokens(model, batch, case.kind is SDM)).sample
    error, losses = (output - target) ** 2, []
    for row in range(len(z0)):
        given = [n for n in range(2) if batch["subject_valid_BN"][row, n]]
        area = batch["mask_BNHW"][row, given].amax(0)
        loss = error[row].mean()
        if case.masked:
            inside = (error[row] * area).sum()
            loss = inside / (4 * area.sum() if case.masked == "sample" else error[row].numel())
        if case.gamma is not None:
            snr = float(left[row] / (1 - left[row]))
            loss = loss * min(snr, case.gamma) / (snr + 1 if case.v else snr)
        losses.append(loss)
    total = torch.stack(losses).mean()
    if looks is not None:
        total = total + case.localized * looks.loss(batch)
    if case.prior:
        # Coins, one of a kind a sample: captions, subjects of a sample, each subject, masks.
        coins = ((2,), (2,), (2, 2), (2,)) if case.kind is SDM else ((2,),)
        for shape in coins:
            torch.rand(shape, generator=generator)
        z0 = batch["class_latent_BCHW"]
        eps, t, left = draw(generator, z0)
        noisy = left.sqrt() * z0 + (1 - left).sqrt() * eps
        text = model.text_encoder(batch["class_input_ids_BL"]).last_hidden_state
        total = total + case.prior * ((model.unet(noisy, t, text).sample - eps) ** 2).mean()
    return total


@pytest.fixture(scope="module")
def sd15() -> Backbone:
    return replace(tiny_sd15(subjects=True), unet=build_unet(UNET).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def batch(sd15: Backbone) -> dict[str, Tensor]:
    made = pairs.batch(sd15)
    generator = torch.Generator().manual_seed(5)
    ids = made["input_ids_BL"].flip(0)
    return made | {
        "class_latent_BCHW": torch.randn(2, 4, 8, 8, generator=generator),
        "class_input_ids_BL": ids,
    }


def made(case: Case, sd15: Backbone) -> tuple[Any, dict[str, Tensor], Backbone]:
    """The training, the parameters that are to be learnt by hand, and the networks that they are of."""
    own: dict[str, Any] = {
        "masked_loss": 0.0,
        "localization_weight": 0.0,
        "subject_keep": 1.0,
        "train_image_blocks": 1,
    }
    options = {
        "condition_dropout": 0.0,
        "lr": LR,
        "clip": 1e9,
        **(own if case.kind is SDM else {}),
        **case.options,
    }
    module, model = case.kind(deepcopy(sd15), seed=0, **options), deepcopy(sd15)
    networks = model.networks()
    hand: dict[str, Tensor] = {
        name: networks[name.split(".")[0]].get_parameter(name.partition(".")[2]).requires_grad_()
        for name in module.trainable_parameters()
    }
    return module, hand, model


def check_step(module: Any, hand: dict[str, Tensor], model: Backbone) -> None:
    """That weights moved as AdamW's first step moves them, where a gradient is more than roundings."""
    learns = {"unet", "fusion", "image_encoder"} if isinstance(module, SDM) else {"unet"}
    learns |= {"text_encoder"} if module.text.learn else set()
    assert {name.split(".")[0] for name in hand} == learns
    for name, parameter in module.trainable_parameters().items():
        p = hand[name]
        assert p.grad is not None, name
        sure = p.grad.abs() > 1e-5
        step = pairs.adam_step(p.detach(), p.grad, LR)
        torch.testing.assert_close(parameter.detach()[sure], step[sure], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_one_step_equals_a_plain_computation(name: str, sd15: Backbone, batch: dict[str, Tensor]) -> None:
    case = CASES[name]
    module, hand, model = made(case, sd15)
    losses = module.losses(batch, Draws(torch.Generator().manual_seed(7)))
    losses["loss"].backward()
    loss = plain(model, batch, torch.Generator().manual_seed(7), case)
    torch.testing.assert_close(losses["loss"], loss, rtol=1e-4, atol=1e-6)
    loss.backward()
    for key, parameter in module.trainable_parameters().items():
        torch.testing.assert_close(parameter.grad, hand[key].grad, rtol=1e-4, atol=1e-6, msg=key)
    module.configure_optimizers().step()
    check_step(module, hand, model)
    assert ("prior_loss" in losses) == bool(case.prior)


def test_accumulated_passes_equal_a_plain_computation(
    sd15: Backbone, batch: dict[str, Tensor], tmp_path: Any
) -> None:
    """By the loop itself: the mean of two passes, each with noise of its own, in one step."""
    other = batch | {"latent_BCHW": batch["latent_BCHW"].flip(1)}

    class Two(lightning.LightningDataModule):
        start = stop = 0

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([batch, other], batch_size=None)  # type: ignore[arg-type]

    case = CASES["plain"]
    module, hand, model = made(case, sd15)
    settings = LoopSettings(
        max_steps=1, accumulate=2, precision="32", accelerator="cpu", checkpoint_every=None, show=False
    )
    run(module, Two(), settings, tmp_path)
    for number, given in enumerate((batch, other)):
        generator = torch_generator(0, "training", number, 0)
        (plain(model, given, generator, case) / 2).backward()
    check_step(module, hand, model)
