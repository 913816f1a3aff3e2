"""The preparation of an album: what comes of it, killed and shared out or not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from fdlab.data.folder import FastComposerFolder
from fdlab.data.pictures import read_photo
from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.layouts.check import list_path
from fdlab.preparation import run, work, write
from fdlab.preparation.colours import read_srgb
from fdlab.preparation.plan import Chosen
from fdlab.preparation.settings import (
    CaptionSettings,
    FaceSettings,
    MaskSettings,
    PictureSettings,
    Settings,
    SplitSettings,
)
from tests.worlds import album

SMALL = Settings(
    pictures=PictureSettings(shortest_side=48),
    faces=FaceSettings(small=8),
    masks=MaskSettings("boxes"),
    split=SplitSettings(test_share=0.3),
)


def prepared(photos: Path, folder: Path, settings: Settings = SMALL) -> run.Prepared:
    made = run.prepare(photos, folder, settings, workers=1, show=False)
    assert isinstance(made, run.Prepared)
    return made


def chosen(made: run.Prepared) -> dict[str, Chosen]:
    return {some.seen.name: some for some in made.plan.chosen}


def test_an_album_becomes_a_data_set(photos: Path, tmp_path: Path) -> None:
    made = prepared(photos, tmp_path / "set")
    assert made.plan.dropped == {
        "broken.png": made.plan.dropped["broken.png"],
        "more/a again.jpg": "duplicate: looks like a.png",
        "nobody.png": "no face",
        "tiny.png": "too small: 30 x 30",
    }
    assert "broken.png' cannot be read" in made.plan.dropped["broken.png"]
    folder = FastComposerFolder(tmp_path / "set")
    assert sorted(folder.ids()) == sorted(folder.ids("train") + folder.ids("test"))
    samples = [folder.sample(id) for id in folder.ids()]
    nouns = [[s.caption[: p.end].rpartition(" ")[2] for p in s.subjects] for s in samples]
    assert nouns == [["woman"], ["woman", "woman"], ["man"], ["man", "boy"], ["person"]]
    who = [{p.segment: p.identity for p in s.subjects} for s in samples]
    assert who == [{1: 0}, {1: 0, 2: 1}, {1: 2}, {1: 2, 2: 3}, {1: 4}]
    # The man on the right is the fourth colour, though the caption names him first.
    assert [p.segment for p in samples[3].subjects] == [2, 1]
    for sample in samples:
        for person in sample.subjects:
            assert (sample.segments_HW == person.segment).any()
    numbers = made.numbers
    assert numbers["people"] == 7 and numbers["faces_without_mask"] == numbers["people_without_noun"] == 0
    assert numbers["photos"] == 9 and numbers["other_files"] == 6 and numbers["pictures"] == 5
    assert numbers["dropped"] == {"unreadable": 1, "duplicate": 1, "no face": 1, "too small": 1}
    assert numbers["nouns_from"] == {"noun": 4, "template": 1} and numbers["identities"]["number"] == 5
    held = {s.identity for id in folder.ids("test") for s in folder.sample(id).subjects}
    assert held and not held & {s.identity for id in folder.ids("train") for s in folder.sample(id).subjects}
    # What is given away names no photo.
    public = "".join(p.read_text() for p in (tmp_path / "set").rglob("*.json"))
    assert "again" not in public and "photos/" not in public
    assert not list_path(tmp_path / "set").exists()


class Killed(BaseException):
    """As by SIGKILL: nothing may catch it."""


def killing(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, at: int) -> None:
    """Have the `at`-th call of a function be the last."""
    count, function = itertools.count(), getattr(place, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(count) == at:
            raise Killed
        return function(*arguments, **options)

    monkeypatch.setattr(place, name, dying)


def deaths() -> Iterator[tuple[Any, str, int]]:
    yield from ((work, "write_json", at) for at in (3, 20))
    yield from ((write, "write_sample", at) for at in (2,))
    yield write, "write_json", 0


def test_killed_anywhere_and_started_again_it_writes_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    prepared(photos, tmp_path / "whole")
    for number, death in enumerate(deaths()):
        folder = tmp_path / f"killed{number}"
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, *death)
            with pytest.raises(Killed):
                prepared(photos, folder)
        assert not folder.exists()
        prepared(photos, folder)
        assert sha256(folder) == sha256(tmp_path / "whole"), death


def test_shards_share_the_work_and_the_last_writes(photos: Path, tmp_path: Path) -> None:
    prepared(photos, tmp_path / "whole")
    folder = tmp_path / "shared"
    for index in (2, 0):
        said = run.prepare(photos, folder, SMALL, f"{index}/3", 1, show=False)
        assert isinstance(said, str) and "of others are left" in said and not folder.exists()
    assert isinstance(run.prepare(photos, folder, SMALL, "1/3", 1, show=False), run.Prepared)
    assert sha256(folder) == sha256(tmp_path / "whole")
    with pytest.raises(UserError, match="shard=3/3: allowed are 0/N"):
        run.prepare(photos, folder, SMALL, "3/3", show=False)


def test_what_is_done_is_kept_and_what_is_new_is_added(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepared(photos, tmp_path / "set")
    noted: list[Path] = []
    real = work.write_json
    monkeypatch.setattr(work, "write_json", lambda path, *a, **k: (noted.append(path), real(path, *a, **k)))
    stamp = (tmp_path / "set/image_ids.txt").stat().st_mtime_ns
    prepared(photos, tmp_path / "set")
    assert not noted and (tmp_path / "set/image_ids.txt").stat().st_mtime_ns == stamp
    album.write(photos, "new.png", album.picture(20, [1, 4]))
    after = prepared(photos, tmp_path / "set")
    assert len(noted) == 3 and len(after.plan.chosen) == len(before.plan.chosen) + 1


def test_corrections_by_hand_are_honoured(photos: Path, tmp_path: Path) -> None:
    before = chosen(prepared(photos, tmp_path / "set"))
    keys = {name: some.seen.key for name, some in before.items()}
    told = {
        "version": 1,
        "drop": [keys["e.png"], "0123456789abcdef"],
        "captions": {keys["c.png"]: "my uncle <|image|> in Spain"},
        "identities": {
            f"{keys['a.png']}/0": "ann", f"{keys['b.png']}/1": "ann", f"{keys['b.png']}/0": "eve",
        },
    }  # fmt: skip
    path = tmp_path / "set.work/corrections.json"
    path.write_text(json.dumps(told))
    (photos / "a.png").rename(photos / "0.png")
    made = prepared(photos, tmp_path / "set")
    after = chosen(made)
    assert made.plan.dropped["e.png"] == "by hand" and made.numbers["unused_corrections"]
    assert after["c.png"].caption == "my uncle in Spain" and after["c.png"].people[0].end == len("my uncle")
    ann = after["0.png"].people[0].identity
    assert [p.identity == ann for p in after["b.png"].people] == [False, True]
    path.write_text(json.dumps({**told, "captions": {keys["c.png"]: "<|image|> alone"}}))
    with pytest.raises(UserError, match="must follow the noun"):
        prepared(photos, tmp_path / "set")
    path.write_text(json.dumps({**told, "identities": {"somebody": "x"}}))
    with pytest.raises(UserError, match="PICTURE/NUMBER is needed"):
        prepared(photos, tmp_path / "set")
    path.write_text(json.dumps({"version": 1, "dorp": []}))
    with pytest.raises(UserError, match=r"unknown key 'dorp'.*Did you mean 'drop'"):
        prepared(photos, tmp_path / "set")
    path.write_text(json.dumps({**told, "identities": {f"{keys['a.png']}/0": 1}}))
    with pytest.raises(UserError, match=f"identities, {keys['a.png']}/0: 1 where a text is needed"):
        prepared(photos, tmp_path / "set")


def test_a_caption_that_is_none_costs_its_own_photo_alone(photos: Path, tmp_path: Path) -> None:
    (photos / "c.txt").write_text("<|image|> a man")
    (photos / "e.txt").write_bytes(b"\xff\xfe broken")
    made = prepared(photos, tmp_path / "set")
    why = made.plan.dropped["c.png"]
    assert why.startswith("caption: ") and "must follow the noun" in why
    # What cannot be read is as good as not there, and said.
    assert chosen(made)["e.png"].how == "template"
    (line,) = made.numbers["unreadable_captions"]
    assert "e.txt" in line and any("1 captions beside photos" in note for note in made.numbers["notes"])
    # Whoever gets the data set learns no name of a photo.
    assert "e.txt" not in (tmp_path / "set/preparation.json").read_text()


def test_small_faces_are_blurred_or_their_pictures_dropped(photos: Path, tmp_path: Path) -> None:
    image_HW3 = album.picture(30, [0, 1])
    image_HW3[60:68, 40:48] = album.COLOURS[2]
    image_HW3[60:68:2, 40:48, 1] += 30
    album.write(photos, "small.png", image_HW3)
    for what, pictures in (("keep", 6), ("blur", 6), ("drop", 5)):
        settings = Settings(
            SMALL.pictures, FaceSettings(small=10, small_faces=what), SMALL.masks, split=SMALL.split
        )  # type: ignore[arg-type]
        made = prepared(photos, tmp_path / what, settings)
        assert len(made.plan.chosen) == pictures
        if what == "drop":
            assert made.plan.dropped["small.png"] == "small face: 1 below 10 pixels"
            continue
        some = chosen(made)["small.png"]
        assert len(some.people) == 2
        written_HW3 = read_photo(tmp_path / what / f"00000/{some.id}.jpg").astype(int)
        stripes = np.abs(np.diff(written_HW3[61:67, 41:47, 1], 2, axis=0)).mean()
        assert stripes > 30 if what == "keep" else stripes < 12
        assert np.abs(written_HW3[20:32, 18:30] - album.COLOURS[0]).max() < 40


def test_a_folder_of_something_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something else already"):
        run.prepare(photos, tmp_path / "set", SMALL, show=False)
    with pytest.raises(UserError, match="lie in each other"):
        run.prepare(photos, photos / "set", SMALL, show=False)
    with pytest.raises(UserError, match="no folder"):
        run.prepare(tmp_path / "nowhere", tmp_path / "other", SMALL, show=False)
    model = Settings(captions=CaptionSettings("model", str(tmp_path)))
    with pytest.raises(UserError, match="no folder with a model"):
        run.prepare(photos, tmp_path / "other", model, show=False)


def test_photos_come_out_upright_in_srgb_and_bare(photos: Path, tmp_path: Path) -> None:
    image_HW3 = album.picture(40, [0])
    exif = Image.Exif()
    exif[0x0112], exif[0x8298], exif[0x8825] = 6, "an owner", {1: "N"}
    album.write(photos, "turned.jpg", np.rot90(image_HW3), exif=exif, quality=95)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    album.write(photos, "profiled.png", image_HW3, icc_profile=profile)
    shown_HW3 = read_srgb(photos / "turned.jpg").astype(int)
    assert np.abs(shown_HW3 - image_HW3).mean() < 6
    assert np.abs(read_srgb(photos / "profiled.png").astype(int) - image_HW3).max() <= 2
    made = prepared(photos, tmp_path / "set")
    (picture,) = [
        made.stages.pictures.path(c.seen.key, ".jpg")
        for c in made.plan.chosen
        if "turned" in c.seen.name or "profiled" in c.seen.name
    ]
    for path in (picture, *sorted((tmp_path / "set").rglob("*.jpg"))):
        with Image.open(path) as image:
            assert not image.getexif() and not {"exif", "icc_profile", "comment"} & set(image.info)
            assert b"owner" not in path.read_bytes()
