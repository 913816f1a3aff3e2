"""What is wrong with a sample though it can be read.

Axes: H W pixels.
"""

from __future__ import annotations

from fdlab.data.annotation import Annotation, Box, mask_box
from fdlab.data.sample import PersonSample

SMALLEST = 8
"""Pixels of a picture's shorter side: a smaller one shows nobody."""
APART = 0.05
"""What a box and its mask's have in common, as a share of their union, below which they lie apart."""


def flaws(sample: PersonSample, annotation: Annotation) -> list[str]:
    """What makes a sample that can be read unusable."""
    found = list(annotation.flaws)
    height, width = sample.segments_HW.shape
    if min(height, width) < SMALLEST:
        found.append(f"its picture is {width} x {height}, too small to show anybody")
    if sample.segments_HW.size and (low := sample.segments_HW.min()) < 0:
        found.append(f"its label map holds {low}, and segments are counted from 0")
    return found


def blemishes(sample: PersonSample, annotation: Annotation, suffixes: list[str]) -> list[str]:
    """What a copy of a sample is without; `suffixes` of its pictures."""
    found = list(annotation.blemishes)
    if len(suffixes) > 1:
        found.append(f"it has {len(suffixes)} pictures ({', '.join(suffixes)}), of which the first is read")
    height, width = sample.segments_HW.shape
    for subject in sample.subjects:
        if subject.box is None:
            continue
        x1, y1, x2, y2 = subject.box
        if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
            found.append(f"the box of subject {subject.segment} reaches out of the picture")
        elif _overlap(subject.box, mask_box(sample.segments_HW == subject.segment)) < APART:
            found.append(f"the box of subject {subject.segment} lies elsewhere than its mask")
    return found


def _overlap(box: Box, other: list[int]) -> float:
    """Intersection over union."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other)]
    return float(shared / (sum(areas) - shared))
