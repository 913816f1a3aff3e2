"""The fusion MLP gives what the released one gives."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fdlab.models.fusion import SubjectFusion

PIECES = Path(__file__).parent / "pieces_fusion.safetensors"
WEIGHTS = "postfuse.weights.postfuse_module."


def test_matches_the_released_module() -> None:
    golden = load_file(PIECES)
    fusion = SubjectFusion(width=32)
    fusion.load_state_dict({n.removeprefix(WEIGHTS): t for n, t in golden.items() if n.startswith(WEIGHTS)})
    objects_BND = golden["postfuse.object_embeds"].squeeze(2)
    valid_BN = torch.arange(objects_BND.shape[1]) < golden["postfuse.num_objects"][:, None]
    with torch.no_grad():
        out_BLD = fusion(
            golden["postfuse.text_embeds"], objects_BND, golden["postfuse.image_token_mask"].bool(), valid_BN
        )
    assert (out_BLD - golden["postfuse.out"]).abs().max() < 1e-5
    # The golden batch has rows with different numbers of subjects, or the test would not see the padding.
    assert golden["postfuse.num_objects"].unique().numel() > 1
    assert (out_BLD - golden["postfuse.text_embeds"]).abs().max() > 0.1
