"""Feature extractors: frozen networks that measure, each with name, version, weight hash and dimension.

    EfficientNetExtractor()            ImageNet features for Fréchet and kernel distances, offline
    InceptionExtractor(path)           FID's own features
    ClipExtractor(folder)              CLIP score and CMMD, from transformers' format
    OpenClipExtractor(folder)          ... and from open_clip's
Each is called with uint8 RGB pictures (B, H, W, 3) and returns float features (B, dim).
"""

from __future__ import annotations

from fdlab.measure.extractors.clip import ClipExtractor, TextFeatures
from fdlab.measure.extractors.efficientnet import EfficientNetExtractor
from fdlab.measure.extractors.inception import InceptionExtractor
from fdlab.measure.extractors.open_clip import OpenClipExtractor

__all__ = [
    "ClipExtractor", "EfficientNetExtractor", "InceptionExtractor", "OpenClipExtractor",
    "TextFeatures",
]  # fmt: skip
