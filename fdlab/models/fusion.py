"""Where a subject enters the prompt: the fusion of its embedding into the text encoder's output.

FastComposer (arXiv 2305.10431, section 3.2), as released; also Face-diffuser's SDM.
Axes: B batch, L tokens, N subjects (padded), D text width, E width of a subject's embedding.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """LayerNorm, linear, GELU, linear; with a residual where the widths agree and it is asked for."""

    def __init__(self, width_in: int, width_out: int, hidden: int, residual: bool) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width_in)
        self.fc1 = nn.Linear(width_in, hidden)
        self.fc2 = nn.Linear(hidden, width_out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(F.gelu(self.fc1(self.layernorm(x))))
        return x + y if self.residual else y


class SubjectFusion(ModelMixin, ConfigMixin):
    """Replace the text embedding at each subject's token by a mix of it and the subject's embedding.

    `width` is the text encoder's, `object_width` the image encoder's projection (None: the same). State-dict
    names are those of the released `postfuse_module`.
    """

    @register_to_config
    def __init__(self, width: int = 768, object_width: int | None = None) -> None:
        super().__init__()
        self.mlp1 = Mlp(width + (object_width or width), width, width, residual=False)
        self.mlp2 = Mlp(width, width, width, residual=True)
        self.layer_norm = nn.LayerNorm(width)

    def fuse(self, text_BND: Tensor, obj_BNE: Tensor) -> Tensor:
        """Mix token embeddings with subject embeddings, one for one: LN(mlp2(mlp1([text; subject]) +
        text))."""
        mixed_BND = self.mlp1(torch.cat([text_BND, obj_BNE], dim=-1)) + text_BND
        return self.layer_norm(self.mlp2(mixed_BND))

    def forward(
        self, text_BLD: Tensor, obj_BNE: Tensor, subject_token_BL: Tensor, valid_BN: Tensor
    ) -> Tensor:
        """Augmented embedding ctx_BLD.

        The n-th marked token of a row belongs to the row's n-th subject; it stays as it is where that subject
        is not valid. All other tokens, and rows without a marked token, stay as they are to the last bit.
        Shapes do not depend on the values, so that nothing waits for the device and torch.compile sees one
        graph.
        """
        num, width = obj_BNE.shape[1], text_BLD.shape[-1]
        if num == 0:
            return text_BLD
        marked_BL = subject_token_BL.bool()
        # Position of each row's n-th marked token; rows with fewer get unmarked ones, which are not used
        # below.
        index_BN = torch.argsort(marked_BL.int(), dim=1, descending=True, stable=True)[:, :num]
        text_BND = text_BLD.gather(1, index_BN[..., None].expand(-1, -1, width))
        fused_BND = self.fuse(text_BND, obj_BNE[:, : index_BN.shape[1]]).to(text_BLD.dtype)

        order_BL = marked_BL.long().cumsum(1) - 1
        subject_BL = order_BL.clamp(0, fused_BND.shape[1] - 1)
        use_BL = marked_BL & (order_BL < num) & valid_BN.bool().gather(1, subject_BL)
        fused_BLD = fused_BND.gather(1, subject_BL[..., None].expand(-1, -1, width))
        return torch.where(use_BL[..., None], fused_BLD, text_BLD)
