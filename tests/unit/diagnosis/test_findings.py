"""A sound data set has no fault, and each planted one is found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from fdlab.data.layout import write_ids, write_sample
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.diagnosis import findings, judge, look
from fdlab.diagnosis.findings import BEWARE, FINE, NOT
from fdlab.diagnosis.look import Asked, Shown, matched
from fdlab.errors import UserError
from fdlab.layouts.convert import Options, convert
from tests.worlds import tiny

WORDS = tiny.tokenizer()
SIZE, NUM = 32, 12
RED = (255, 0, 0)
PLACES = ("beach", "lake", "hill", "road", "bed", "sofa")
TRAINING = judge.Training(reference="mixed", skip_corrupt=False, head=False)


class Finder:
    """Finds what is red."""

    def __call__(self, images_BHW3: np.ndarray) -> list[list[Any]]:
        found = []
        for image_HW3 in images_BHW3:
            parts, _ = ndimage.label((image_HW3 == RED).all(2))
            boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
            found.append([SimpleNamespace(box=box) for box in boxes])
        return found


ASKED = Asked((lambda: WORDS,), SIZE, (Finder,))


def sample(n: int, face: int = 8, who: int | None = None, looks: int = 0) -> PersonSample:
    """A person of coloured patches, no two alike, below a red face; each is in two pictures."""
    rng = np.random.default_rng(n)
    image_HW3 = np.kron(rng.integers(0, 90, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    pattern = np.random.default_rng(1000 + (looks or n)).integers(0, 250, (12, 8, 3))
    image_HW3[8:, 8:24] = np.kron(pattern, np.ones((2, 2, 1)))
    segments_HW = np.zeros((SIZE, SIZE), np.int32)
    segments_HW[8:, 8:24] = 1
    image_HW3[10 : 10 + face, 12 : 12 + face] = RED
    caption = f"a woman {PLACES[n % len(PLACES)]} {n}"
    subject = ShownSubject(1, len("a woman"), n // 2 if who is None else who)
    return PersonSample(f"{n:07d}", caption, image_HW3, segments_HW, (subject,))


def with_stranger(one: PersonSample) -> PersonSample:
    image_HW3 = one.image_HW3.copy()
    image_HW3[2:7, 1:6] = RED
    return replace(one, image_HW3=image_HW3)


def missed(one: PersonSample) -> PersonSample:
    segments_HW = one.segments_HW.copy()
    segments_HW[:20] = 0
    return replace(one, segments_HW=segments_HW)


def same_words(one: PersonSample) -> PersonSample:
    return replace(one, caption="a woman smiles")


def other_noun(one: PersonSample) -> PersonSample:
    return replace(one, caption=one.caption.replace("woman", "table"))


def nobody(one: PersonSample) -> PersonSample:
    return one if int(one.id) in (0, 1, 4, 5) else replace(one, subjects=())


FAULTS: dict[str, tuple[Callable[[int], PersonSample], str, str]] = {
    "small faces": (lambda n: sample(n, face=3), "faces", NOT),
    "some small faces": (lambda n: sample(n, face=3 if n % 3 == 0 else 8), "faces", BEWARE),
    "one look": (lambda n: sample(n, looks=7), "references", NOT),
    "a look twice": (lambda n: sample(n, looks=5 if n in (5, 9) else 0), "references", BEWARE),
    "no person's noun": (lambda n: other_noun(sample(n)), "nouns", BEWARE),
    "one picture each": (lambda n: sample(n, who=n), "other photos", BEWARE),
    "masks without faces": (lambda n: missed(sample(n)), "masks", NOT),
    "strangers": (lambda n: with_stranger(sample(n)), "masks", BEWARE),
    "one caption": (lambda n: same_words(sample(n)), "captions", BEWARE),
    "nobody named": (lambda n: nobody(sample(n)), "subjects", NOT),
    "few people": (lambda n: sample(n, who=0), "amount", BEWARE),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen pictures of two people are enough here."""
    monkeypatch.setattr(judge, "FEW_PICTURES", NUM)
    monkeypatch.setattr(judge, "FEW_PEOPLE", 2)


def write(root: Path, made: list[PersonSample]) -> Path:
    for one in made:
        write_sample(root, one)
    write_ids(root, [one.id for one in made])
    return root


def diagnosed(root: Path, training: judge.Training = TRAINING) -> list[findings.Finding]:
    looked = look.look(root, "folder", ASKED, root.with_name("notes"), workers=1, show=False)
    return judge.findings(looked, training)


def faults(found: list[findings.Finding]) -> dict[str, str]:
    return {one.name: one.verdict for one in found if one.verdict != FINE}


def test_a_sound_set_has_none(tmp_path: Path) -> None:
    found = diagnosed(write(tmp_path / "set", [sample(n) for n in range(NUM)]))
    assert faults(found) == {} and findings.will_learn(found) and not any(one.cure for one in found)
    assert json.loads(json.dumps([dict(one.numbers) for one in found]))
    assert "12 of 12 (100 %)" in findings.text(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(fault: str, tmp_path: Path) -> None:
    make, name, verdict = FAULTS[fault]
    found = diagnosed(write(tmp_path / "set", [make(n) for n in range(NUM)]))
    assert faults(found) == {name: verdict}
    (one,) = (one for one in found if one.name == name)
    assert one.cure and one.cure in findings.text(found)
    assert findings.will_learn(found) == (verdict != NOT)


def test_too_few_are_too_few(tmp_path: Path) -> None:
    assert faults(diagnosed(write(tmp_path / "set", [sample(n) for n in range(6)]))) == {"amount": NOT}
    assert faults(diagnosed(write(tmp_path / "ten", [sample(n) for n in range(10)]))) == {"amount": BEWARE}


def test_a_reference_from_the_picture_itself_is_told(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [sample(n) for n in range(NUM)])
    found = diagnosed(root, replace(TRAINING, reference="own"))
    assert faults(found) == {"other photos": BEWARE}
    assert "data.reference=mixed" in findings.text(found)


def test_what_cannot_be_read_stops_a_training_that_does_not_skip_it(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [sample(n) for n in range(NUM)])
    (root / "00000/0000003.npy").write_bytes(b"no array")
    (root / "00000/0000004.json").write_text("{")
    assert faults(diagnosed(root))["readable"] == NOT
    found = diagnosed(root, replace(TRAINING, skip_corrupt=True))
    assert found[0].verdict == BEWARE and found[0].numbers["unusable"] == 2
    assert found[0].says.startswith("10 of 12 (83 %)")


def test_every_layout_is_read(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [sample(n) for n in range(NUM)])
    for to in ("webdataset", "plain"):
        convert(root, tmp_path / to, Options(to), show=False)
    assert [one.numbers for one in diagnosed(tmp_path / "webdataset")] == [
        one.numbers for one in diagnosed(root)
    ]
    assert faults(diagnosed(tmp_path / "plain")) == {"subjects": NOT}


def test_an_interruption_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "set", [sample(n) for n in range(NUM)])
    whole = look.look(root, "folder", ASKED, tmp_path / "whole", workers=1, show=False)
    monkeypatch.setattr(look, "CHUNK", 3)
    seen: list[str] = []
    original = look.look_at

    def until(folder: Any, id: str, asked: Asked, rendered: bool = False) -> Shown:
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(id)
        return original(folder, id, asked, rendered)

    monkeypatch.setattr(look, "look_at", until)
    with pytest.raises(KeyboardInterrupt):
        look.look(root, "folder", ASKED, tmp_path / "notes", workers=1, show=False)
    seen.clear()
    again = look.look(root, "folder", ASKED, tmp_path / "notes", workers=1, show=False)
    assert again.shown == whole.shown and len(seen) == 6


def test_pictures_of_one_person_are_looked_at_together() -> None:
    told = [look.Told(str(n), "", ("man",), (n % 5,)) for n in range(20)]
    order = look.by_person(told, seed=0)
    people = [int(id) % 5 for id in order]
    assert sorted(order) == sorted(each.id for each in told)
    assert [len(set(people[n : n + 4])) for n in range(0, 20, 4)] == [1] * 5
    assert order != look.by_person(told, seed=1)


def box(x1: float, y1: float, x2: float, y2: float) -> Any:
    return SimpleNamespace(box=(x1, y1, x2, y2))


def test_faces_are_given_to_the_masks_they_lie_on() -> None:
    segments_HW = np.zeros((100, 100), int)
    segments_HW[20:90, 10:40], segments_HW[40:90, 50:70], segments_HW[20:90, 80:99] = 1, 2, 9
    own, above, nameless, far = box(15, 25, 35, 45), box(54, 26, 66, 38), box(82, 30, 96, 44), box(1, 0, 9, 9)
    found = matched([far, own, above, nameless], segments_HW, [1, 2])
    assert found == ((0.2, 0.12), (1.0, 0.0), 1, 1)
    assert matched([], segments_HW, [1]) == ((None,), (None,), 0, 0)
    half = matched([box(0, 25, 24, 45)], segments_HW, [1])
    assert half[1][0] is not None and 0.5 < half[1][0] < judge.COVERED
    # Reaching past the border is no more than lying there.
    assert matched([box(-50, -50, -40, -40)], segments_HW, [1]) == ((None,), (None,), 0, 0)


@pytest.mark.parametrize(
    ("word", "is_one"),
    [("woman", True), ("people", True), ("co-worker", True), ("she", True), ("sofa", False), ("", False)],
)
def test_words_for_people(word: str, is_one: bool) -> None:
    assert judge.is_person(word) == is_one


def test_notes_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [sample(0)])
    with pytest.raises(UserError, match="give --out FILE"):
        look.look(root, "folder", ASKED, Path("/proc/notes"), workers=1, show=False)


def test_the_conclusion_promises_what_was_seen() -> None:
    fine, beware, wrong = (findings.Finding("a", verdict, "") for verdict in (FINE, BEWARE, NOT))
    assert findings.conclusion([fine, fine]) == "It will learn."
    said = findings.conclusion([fine, beware, beware])
    assert "will learn" not in said and "beware of 2" in said
    assert findings.conclusion([beware, wrong]) == "It will not learn."
