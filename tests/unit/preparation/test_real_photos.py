"""Real photos, which are fetched and not kept here: an astronaut (public domain, in scikit-image's wheel) and
six groups of people with their EXIF (MIT, in the npm package of face-api)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.data.captions import mark
from fdlab.data.folder import FastComposerFolder
from fdlab.marker import MARKER
from fdlab.preparation import run
from fdlab.preparation.people_masks import face_oval
from fdlab.preparation.settings import Settings, SplitSettings

PACKAGE = "@vladmandic/face-api@1.7.15"
SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
PEOPLE = {
    "astronaut.png": 1, "sample1.jpg": 3, "sample2.jpg": 3, "sample3.jpg": 3, "sample4.jpg": 4,
    "sample5.jpg": 5, "sample6.jpg": 4,
}  # fmt: skip
"""Counted by looking at them."""
HARD = {"sample2.jpg", "sample5.jpg"}
"""A profile and two who look down, whose faces the detector does not find; five in the dark, two of whom lie
beyond what the matte sees."""


def fetched(folder: Path) -> None:
    """The package's archive, unpacked as far as its photos go."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which fetches the photos")
    command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(folder)]
    quick = {**os.environ, "npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "60000"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=quick, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not fetch {PACKAGE} in time")
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {(done.stderr.strip() or 'no network').splitlines()[-1]}")
    (archive,) = folder.glob("*.tgz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = Path(member.name).name
            if name in PEOPLE and (stream := tar.extractfile(member)) is not None:
                (folder / name).write_bytes(stream.read())
    archive.unlink()


@pytest.mark.long
def test_photos_of_people_become_training_data(tmp_path: Path) -> None:
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed, which has the astronaut")
    photos = tmp_path / "photos"
    photos.mkdir()
    fetched(photos)
    shutil.copy(Path(skimage.__file__).parent / "data/astronaut.png", photos)
    with Image.open(photos / "sample1.jpg") as image:
        assert image.getexif().get_ifd(0x8825), "the photos say where they were taken"
    settings = Settings(split=SplitSettings(test_share=0.0))
    made = run.prepare(photos, tmp_path / "set", settings, workers=1, show=False)
    assert isinstance(made, run.Prepared) and not made.plan.dropped
    found = {some.seen.name: some for some in made.plan.chosen}
    faces = {name: len(some.seen.faces) for name, some in found.items()}
    people = {name: len(some.people) for name, some in found.items()}
    print(faces, people)
    assert faces == PEOPLE | {"sample2.jpg": 1}
    for name in PEOPLE.keys() - HARD:
        assert people[name] == PEOPLE[name]
    assert sum(people.values()) >= 0.75 * sum(PEOPLE.values())

    folder = FastComposerFolder(tmp_path / "set")
    covered = []
    for name, some in found.items():
        sample = folder.sample(some.id)
        # The template names each once, and each marker stands behind a person.
        marked = mark(sample.caption, [subject.end for subject in sample.subjects])
        assert marked.count(f"a person {MARKER}") == people[name] == len(sample.subjects)
        assert marked.startswith(f"a photo of a person {MARKER}") and sample.caption.isprintable()
        for number, person in enumerate(some.people, 1):
            oval_HW = face_oval(some.seen.faces[person.face].box, sample.segments_HW.shape)
            covered.append(float((sample.segments_HW[oval_HW] == number).mean()))
        with Image.open(folder.root / f"{some.id[:5]}/{some.id}.jpg") as image:
            assert not dict(image.getexif()) and not {"exif", "icc_profile", "comment"} & image.info.keys()
    print(sorted(covered))
    assert np.mean(np.array(covered) > 0.9) >= 0.9
    # Neither where nor by which camera, nor from which file, nor on which machine.
    files = [path for path in folder.root.rglob("*") if path.is_file() and path.suffix != ".npy"]
    written = b"".join(path.read_bytes() for path in files)
    for word in (b"SONY", b"samsung", b"paint.net", b"sample1", b"astronaut", str(tmp_path).encode()):
        assert word not in written
    card = json.loads((folder.root / "preparation.json").read_text())
    assert card["report"]["people"] == sum(people.values())
