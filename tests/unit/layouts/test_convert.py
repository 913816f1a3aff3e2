"""Conversion: the same bytes however it was interrupted, and nothing in the way of what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Live, Shape
from fdlab.errors import UserError
from fdlab.layouts import convert as module
from fdlab.layouts.choose import check_teaches, open_folder
from fdlab.layouts.convert import Options, convert
from tests.worlds import tiny


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "people", 5)


def digest(root: Path) -> dict[str, str]:
    files = [p for p in sorted(root.rglob("*")) if p.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("to", ["fastcomposer", "webdataset", "plain"])
def test_killed_anywhere_and_run_again_the_bytes_are_the_same(
    to: str, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    options = Options(to, shard=2)
    convert(people, tmp_path / "whole", options, workers=1, show=False)
    expected, killed, point = digest(tmp_path / "whole"), True, 0
    names = ("write_bytes", "write_text", "write_json", "write_tar", "write_sample", "write_ids")
    places = (module, module.plain, module.layout)
    originals = {(place, n): getattr(place, n) for place in places for n in names if hasattr(place, n)}
    while killed:
        left = point = point + 4

        def dies(original: object) -> object:
            def step(*arguments: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
                return original(*arguments, **more)  # type: ignore[operator]

            return step

        for (place, name), original in originals.items():
            monkeypatch.setattr(place, name, dies(original))
        out = tmp_path / f"killed-{point}"
        killed = False
        try:
            convert(people, out, options, workers=1, show=False)
        except KeyboardInterrupt:
            killed = True
        for (place, name), original in originals.items():
            monkeypatch.setattr(place, name, original)
        assert convert(people, out, options, workers=1, show=False).pictures == 5
        assert digest(out) == expected, point
    assert point > 8


def test_what_is_there_is_not_written_to(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = convert(people, out, Options("webdataset"), show=False)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert convert(people, out, Options("webdataset"), show=False) == first
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    for options, folder, said in [
        (Options("plain"), out, "holds another conversion"),
        (Options("plain"), people / "inside", "lie in each other"),
        (Options("plain"), people, "lie in each other"),
        (Options("plain"), tmp_path / "full", "holds something already"),
        (Options("zip"), tmp_path / "new", r"unknown layout 'zip'; allowed: fastcomposer"),
    ]:
        (tmp_path / "full").mkdir(exist_ok=True)
        (tmp_path / "full/mine.txt").touch()
        with pytest.raises(UserError, match=said):
            convert(people, folder, options, show=False)


def test_a_broken_sample_stops_it_or_is_left_out(people: Path, tmp_path: Path) -> None:
    (people / "00000/0000003.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"0000003\.npy' is corrupt"):
        convert(people, tmp_path / "out", Options("webdataset"), show=False)
    made = convert(people, tmp_path / "some", Options("webdataset", skip_corrupt=True), show=False)
    assert made.pictures == 4 and list(made.skipped) == ["0000003"]
    assert open_folder(tmp_path / "some").ids() == [f"000000{n}" for n in (4, 0, 1, 2)]


def test_what_cannot_be_listed_is_told_and_pictures_alone_stay_without_masks(
    people: Path, tmp_path: Path
) -> None:
    convert(people, tmp_path / "plain", Options("plain"), show=False)
    picture = next((tmp_path / "plain").rglob("*.png"))
    picture.with_name("line\nbreak.png").write_bytes(picture.read_bytes())
    with pytest.raises(UserError, match="cannot be an id"):
        convert(tmp_path / "plain", tmp_path / "no", Options("webdataset"), show=False)
    made = convert(tmp_path / "plain", tmp_path / "out", Options("webdataset", skip_corrupt=True), show=False)
    assert (
        made.pictures == 5
        and len(made.skipped) == 1
        and "cannot be an id" in next(iter(made.skipped.values()))
    )
    assert not open_folder(tmp_path / "out").has_masks
    with pytest.raises(UserError, match="captions but no masks"):
        check_teaches(open_folder(tmp_path / "out"), subjects=True)


def test_training_sees_the_same_from_either(people: Path, tmp_path: Path) -> None:
    """Batch for batch, at any step, of each of several processes."""
    convert(people, tmp_path / "shards", Options("webdataset", shard=2), show=False)
    shape = Shape(tiny.IMAGE, (4, tiny.LATENT, tiny.LATENT), tiny.REFERENCE, 2)
    seen = []
    for root in (people, tmp_path / "shards"):
        folder = open_folder(root)
        live = Live(folder, folder.ids("train"), tiny.tokenizer(), shape)
        settings = [
            BatchSettings(5, 2, 2, tiny.REFERENCE, reference="other", rank=r, world=2) for r in (0, 1)
        ]
        # Steps in any order, as after a restart.
        seen.append([Batches(live, s, 9)[step] for s in settings for step in (4, 0)])
    for ours, theirs in zip(*seen, strict=True):
        assert ours["ids"] == theirs["ids"]
        for key, value in ours.items():
            assert key == "ids" or value.equal(theirs[key]), key
    assert not {*seen[0][0]["ids"]} & {*seen[0][2]["ids"]}
