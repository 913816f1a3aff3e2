"""`fdlab data prepare` with the networks that ship: from renders, whose truth is withheld, to a set that is
sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.data.folder import FastComposerFolder
from fdlab.data.rendered import spec_of
from fdlab.people import picture


def test_renders_become_a_sound_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(2):
        spec = spec_of("aligned-portraits", 2, 0, index)
        Image.fromarray(picture.render(spec, 128).image_HW3).save(photos / f"{index}.webp", lossless=True)
        (photos / f"{index}.txt").write_text(picture.describe(spec)[0])
    (photos / "no.jpg").write_text("a picture? no")
    asked = ["data", "prepare", str(photos), str(tmp_path / "set"), "prepare.pictures.shortest_side=128"]
    assert main([*asked, "--json", "workers=1"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["pictures"] == numbers["people"] == numbers["subjects"] == 2
    assert numbers["dropped"] == {"unreadable": 1} and numbers["masks"]["score"]["p05"] > 0.8
    folder = FastComposerFolder(tmp_path / "set")
    assert [folder.annotation(id).caption for id in folder.ids()] == [
        (photos / f"{index}.txt").read_text() for index in range(2)
    ]
    assert main(["data", "check", str(tmp_path / "set"), "--reference-crop", "head", "--workers", "1"]) == 0
    assert (tmp_path / "set.work/prepared.html").is_file()
    assert main([*asked, "shard=2/2"]) == 2
    assert "allowed are 0/N to (N-1)/N" in capsys.readouterr().err
    assert main([*asked, "prepare.faces.smal=3"]) == 2
    assert "Did you mean 'prepare.faces.small'?" in capsys.readouterr().err
