"""References of a benchmark's subjects, as its artist takes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.data.pictures import read_image, write_png
from fdlab.errors import UserError
from fdlab.evaluation.methods import Sampled
from fdlab.measure.faces import FaceDetector, cut_head
from fdlab.people import benchmark as people
from fdlab.people import picture
from fdlab.randomness import numpy_rng
from fdlab.transforms.references import composite
from tests.worlds import squares


def artist(crop: str, seen: list[Any]) -> Any:
    def draw(scenes: Any) -> np.ndarray:
        seen.extend(scenes)
        return np.zeros((len(scenes), 128, 128, 3), np.uint8)

    class Artist(SimpleNamespace):
        def __call__(self, scenes: Any) -> np.ndarray:
            return draw(scenes)

    return Artist(size=128, reference_size=48, background="grey", reference_crop=crop)


@pytest.fixture
def bench(tmp_path: Path) -> benchmarks.Benchmark:
    squares.write_benchmark(tmp_path, subjects=1, prompts=1, images=1, size=128)
    return benchmarks.load(tmp_path)


def test_a_reference_is_cropped_to_the_head_where_the_model_takes_heads(bench: benchmarks.Benchmark) -> None:
    name = bench.subjects[0].references[0]
    path = bench.mask_of(name)
    assert path is not None
    made = picture.render(people.spec(0, "reference"), 128)
    mask_HW = made.segments_HW > 0
    write_png(bench.folder / name, made.image_HW3)
    Image.fromarray(mask_HW).save(path)
    image_HW3 = read_image(bench.folder / name)
    seen: list[Any] = []
    Sampled(bench, artist("head", seen))(jobs.jobs(bench))
    landmarks_52 = FaceDetector()(np.array(image_HW3)[None])[0][0].landmarks_52
    rng = numpy_rng(bench.seed, "reference background", bench.subjects[0].id)
    wanted = composite(cut_head(image_HW3, mask_HW, landmarks_52, 48), "grey", rng)
    assert torch.equal(seen[0].references[0], wanted)
    person: list[Any] = []
    Sampled(bench, artist("person", person))(jobs.jobs(bench))
    assert not torch.equal(person[0].references[0], wanted)


def test_a_reference_without_a_face_is_named(bench: benchmarks.Benchmark) -> None:
    write_png(bench.folder / bench.subjects[0].references[0], np.full((128, 128, 3), 120, np.uint8))
    with pytest.raises(UserError, match=r"reference '.*' of subject '.*': no face is found"):
        Sampled(bench, artist("head", []))(jobs.jobs(bench))
