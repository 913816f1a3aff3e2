"""What a training makes of faces: more weight where they are, and a recogniser that looks at what is drawn.

Axes: B batch, N subjects (padded), C latent channels, H W latent grid, D embedding width, R rows chosen of
B x N, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fdlab.diffusion.flow import Schedule
from fdlab.engine.ranks import Ranks
from fdlab.errors import UserError
from fdlab.measure.faces.choice import recogniser_of
from fdlab.measure.faces.recogniser import Recogniser

JUDGE = "dlib"
"""Measures what is drawn; what it has taught it could not judge."""
BELOW_EYES, HALF_WIDTH, HALF_HEIGHT = 0.4, 1.25, 1.45
"""A face's box, in distances from the eyes to the mouth: its middle below the eyes, and half its sides."""
DECODED = 1.2
"""Decoded pictures are clamped to this, a little past their range, so that gradients live at black and
white."""


def face_area(landmark_BN52: Tensor, cell: float, height: int, width: int) -> Tensor:
    """1 where a cell's middle lies in a face's box, else 0 (B, 1, H, W); landmarks in pixels, of which a cell
    has `cell` a side, NaN: no face."""
    eyes_BN2, mouth_BN2 = landmark_BN52[:, :, :2].mean(2), landmark_BN52[:, :, 3:].mean(2)
    middle_BN2 = eyes_BN2 + BELOW_EYES * (mouth_BN2 - eyes_BN2)
    unit_BN1 = (mouth_BN2 - eyes_BN2).norm(dim=2, keepdim=True)
    x_W = (torch.arange(width, device=landmark_BN52.device) + 0.5) * cell
    y_H = (torch.arange(height, device=landmark_BN52.device) + 0.5) * cell
    # Comparisons with NaN are false.
    right_BNW = (x_W - middle_BN2[..., :1]).abs() < HALF_WIDTH * unit_BN1
    down_BNH = (y_H - middle_BN2[..., 1:]).abs() < HALF_HEIGHT * unit_BN1
    return (down_BNH[..., None] & right_BNW[:, :, None, :]).any(1, keepdim=True).float()


def face_weights(area_B1HW: Tensor, weight: float) -> Tensor:
    """Weights of a sample's pixels, of mean 1: faces count 1 + `weight` times as much as the rest."""
    weight_B1HW = 1 + weight * area_B1HW
    return weight_B1HW / weight_B1HW.mean((2, 3), keepdim=True)


def teacher(name: str, weights: str | None, device: str = "cpu") -> Recogniser:
    """Load the recogniser that teaches. Raises: UserError for the judge, and for one without gradients."""
    if name == JUDGE:
        raise UserError(
            f"model.identity_recogniser={name}: it measures what is drawn, and could not judge what it has "
            "taught; choose another."
        )
    found = recogniser_of(name, weights, device, "model.identity_weights_file")
    if type(found).cut is not Recogniser.cut:
        raise UserError(f"model.identity_recogniser={name}: it is not aligned by landmarks; choose another.")
    with torch.enable_grad():
        probe_13SS = torch.zeros(1, 3, found.chip_size, found.chip_size, device=device, requires_grad=True)
        if not found.network(probe_13SS).requires_grad:
            raise UserError(
                f"model.identity_recogniser={name}: no gradient passes it; give its torch weights."
            )
    return found


@dataclass(frozen=True)
class FaceSettings:
    """How faces count in an SDM's training."""

    weight: float = 0.0
    """Added weight of a face's pixels; 0: all alike."""
    identity_weight: float = 0.0
    identity_from: float = 0.15
    """Lowest noise level sigma = s_t / a_t at which the predicted clean picture is looked at."""
    identity_to: float = 5.0
    identity_share: float = 0.5
    """Most faces looked at, as a share of the batch."""
    cell: float = 1.0
    """Pixels a side of a latent."""

    def __post_init__(self) -> None:
        if self.identity_weight > 0 and self.identity_from >= self.identity_to:
            raise UserError(
                f"model.identity_from={self.identity_from:g} is not below model.identity_to="
                f"{self.identity_to:g}: no noise level would be looked at."
            )

    @property
    def count(self) -> bool:
        return self.weight > 0 or self.identity_weight > 0


@dataclass(frozen=True)
class Identity:
    """One minus the cosine between the face in the predicted clean picture and the true picture's, which lies
    in the same place."""

    decode: Callable[[Tensor], Tensor]
    """Latents to pictures, about [-1, 1]."""
    recogniser: Recogniser

    def __call__(self, z0_RCHW: Tensor, landmark_R52: Tensor, true_RD: Tensor) -> Tensor:
        """Loss of each face (R)."""
        image_R3HW = (self.decode(z0_RCHW).float().clamp(-DECODED, DECODED) + 1) * 127.5
        index_R = torch.arange(len(image_R3HW), device=image_R3HW.device)
        # Where a face lies is a matter of pixels' fractions, which bf16 has not.
        with torch.autocast(image_R3HW.device.type, enabled=False):
            chip_R3SS = self.recogniser.chips(image_R3HW, index_R, landmark_R52)
        seen_RD = self.recogniser.normalised(self.recogniser.network(chip_R3SS).float())
        return 1 - (seen_RD * true_RD).sum(1)


def identity_loss(
    identity: Identity,
    settings: FaceSettings,
    schedule: Schedule,
    z_BCHW: Tensor,
    output_BCHW: Tensor,
    t_B: Tensor,
    landmark_BN52: Tensor,
    true_BND: Tensor,
    valid_BN: Tensor,
) -> Tensor:
    """The faces' losses, summed and divided by the batch: of subjects that are given and found, where the
    noise is in range, the first `identity_share` of a batch, whoever else has a part of it."""
    num, ranks = len(z_BCHW), Ranks.here()
    sigma_B = schedule.level(t_B)
    seen_B = (sigma_B > settings.identity_from) & (sigma_B < settings.identity_to)
    found_BN = valid_BN & seen_B[:, None] & landmark_BN52.isfinite().all(-1).all(-1)
    chosen_R2 = found_BN.nonzero()
    most = max(1, int(settings.identity_share * num * ranks.world))
    b_R, n_R = chosen_R2[: max(0, most - ranks.before(len(chosen_R2), chosen_R2.device))].unbind(1)
    if not len(b_R):
        # Still of the graph, so that all processes have the same gradients to exchange.
        return 0.0 * output_BCHW.float().sum()
    z0_RCHW = schedule.clean(z_BCHW[b_R], output_BCHW[b_R].float(), t_B[b_R])
    return identity(z0_RCHW, landmark_BN52[b_R, n_R], true_BND[b_R, n_R]).sum() / num
