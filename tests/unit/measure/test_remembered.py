"""Faces that were found once are not looked for again, and are the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fdlab.data.rendered import spec_of
from fdlab.measure.faces import FaceDetector, HeadCrop, SubjectFaces, remembered
from fdlab.measure.faces.remembered import Remembered, RememberingDetector, digest
from fdlab.people import picture
from fdlab.training.faces import teacher


def test_the_last_ones_are_remembered() -> None:
    made = Counter[bytes]()
    memory = Remembered[int](2)

    def ask(*names: bytes) -> None:
        for name in names:
            assert memory.of(name, lambda name=name: made.update([name]) or len(name)) == len(name)  # type: ignore[misc]

    ask(b"a", b"bb", b"a", b"bb")
    assert made == {b"a": 1, b"bb": 1}
    ask(b"ccc", b"bb")
    assert made[b"bb"] == 1, "asked for last but one"
    ask(b"a")
    assert made == {b"a": 2, b"bb": 1, b"ccc": 1}


def test_pictures_of_other_shapes_types_and_contents_are_others() -> None:
    image_HW3 = np.zeros((4, 6, 3), np.uint8)
    other_HW3 = image_HW3.copy()
    other_HW3[3, 5, 2] = 1
    arrays = [image_HW3, image_HW3.reshape(6, 4, 3), image_HW3.view(np.int8), other_HW3]
    assert len({digest(array) for array in arrays}) == 4
    assert digest(image_HW3[:, ::-1]) == digest(image_HW3), "a view of the same pixels"


def test_who_cuts_and_who_looks_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("aligned-portraits", 2, 0, 0)
    made = picture.render(spec, 128)
    mask_HW = made.segments_HW > 0
    detector, recogniser = FaceDetector(), teacher("faceres", None)
    looked: list[Any] = []
    embedded: list[Any] = []
    embed = type(recogniser).embed
    monkeypatch.setattr(type(recogniser), "embed", lambda *given: (embedded.append(given), embed(*given))[1])

    class Counting:
        def __call__(self, images_BHW3: np.ndarray) -> Any:
            looked.append(images_BHW3)
            return detector(images_BHW3)

    one = RememberingDetector(Counting())  # type: ignore[arg-type]
    monkeypatch.setattr(remembered, "FaceDetector", Counting)
    remembered.usual_detector.cache_clear()
    crop, reader = HeadCrop(), SubjectFaces(recogniser)
    for _ in range(2):
        rgba_SS4 = crop(made.image_HW3, mask_HW, 96)
        faces = reader(made.image_HW3, mask_HW[None])
    assert len(looked) == 1 and len(embedded) == 1
    # As without any memory.
    assert (rgba_SS4 == HeadCrop(detector)(made.image_HW3, mask_HW, 96)).all()
    plain = SubjectFaces(recogniser, detector)(made.image_HW3, mask_HW[None])
    assert np.array_equal(faces.landmarks_N52, plain.landmarks_N52)
    assert np.array_equal(faces.embedding_ND, plain.embedding_ND) and len(embedded) == 2
    # What somebody does to a list of faces is theirs.
    one([made.image_HW3])[0].clear()
    assert one([made.image_HW3])[0] and len(looked) == 2
    remembered.usual_detector.cache_clear()
