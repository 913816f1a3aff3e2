"""The CLIP score as transformers gives it when called by hand, by the CLIP that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fdlab.assets import ROOT
from fdlab.measure.extractors import ClipExtractor
from fdlab.metrics.clip_score import clip_score

FACES = Path(__file__).parents[2] / "golden" / "faces"
FOLDER = ROOT / "nano" / "judge"
PROMPTS = [
    "a photograph of a woman on a beach",
    "a pencil drawing of a man in a red t-shirt in the snow",
    "a man in the city",
    "a smiling woman in a green jacket in a library",
]


@pytest.mark.filterwarnings("ignore:.*torchvision.*")
def test_score_is_that_of_transformers_called_by_hand() -> None:
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(FOLDER).float().eval()
    side = model.config.vision_config.image_size
    process = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    # Not square, so that the crop matters.
    pictures = [
        np.array(Image.open(path).convert("RGB").resize((200, 160)))
        for path in sorted(FACES.glob("*.png"))[: len(PROMPTS)]
    ]
    tokens = AutoTokenizer.from_pretrained(FOLDER)(PROMPTS, return_tensors="pt", padding=True)
    pixels = process([Image.fromarray(picture) for picture in pictures], return_tensors="pt")
    with torch.no_grad():
        output = model(**pixels, **tokens)
        by_hand = (output.logits_per_image.diag() / model.logit_scale.exp()).numpy()

    clip = ClipExtractor(FOLDER)
    image_ND, text = clip(np.stack(pictures)), clip.text(PROMPTS)
    found = clip_score(image_ND.numpy(), text.feature_BD.numpy())
    assert not text.truncated_B.any()
    # Transformers rounds the small picture to 8 bits, which moves a cosine by up to a thousandth.
    assert np.abs(found - by_hand).max() < 2e-3
    assert np.ptp(by_hand) > 0.1
