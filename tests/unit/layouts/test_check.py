"""`check` against damage that is planted: each kind is found where it is, and nothing else is."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.data.layout import write_ids, write_sample
from fdlab.errors import UserError
from fdlab.layouts import check as module
from fdlab.layouts.check import Asked, Report, check, fix
from fdlab.layouts.choose import open_folder
from fdlab.layouts.convert import Options, convert
from fdlab.layouts.tars import index_path
from tests.worlds import tiny

WORDS = tiny.tokenizer()
ASKED = Asked((lambda: WORDS,))
Damage = Callable[[Path], object]
"""Of a sample, by its path without suffix."""


def edit(stem: Path, **changes: object) -> None:
    """Change keys of a sample's JSON, or of its first segment."""
    path = Path(f"{stem}.json")
    value = json.loads(path.read_text())
    for key, change in changes.items():
        (value if key in ("caption", "segments", "truth") else value["segments"][0])[key] = change
    path.write_text(json.dumps(value))


def cut(stem: Path, suffix: str, length: int) -> None:
    path = Path(f"{stem}{suffix}")
    path.write_bytes(path.read_bytes()[:length])


def flip(stem: Path, suffix: str, place: int) -> None:
    path = Path(f"{stem}{suffix}")
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def labels(stem: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(f"{stem}.npy", change(np.load(f"{stem}.npy")))


def remove(suffix: str) -> Damage:
    return lambda stem: Path(f"{stem}{suffix}").unlink()


def write(suffix: str, content: bytes) -> Damage:
    return lambda stem: Path(f"{stem}{suffix}").write_bytes(content)


def shrink(stem: Path) -> None:
    Image.new("RGB", (5, 40)).save(f"{stem}.png")
    np.save(f"{stem}.npy", np.ones((40, 5), np.uint8))


def twice(stem: Path) -> None:
    (segment,) = json.loads(Path(f"{stem}.json").read_text())["segments"]
    edit(stem, segments=[segment, segment])


def lists(text: str, *names: str) -> Damage:
    def change(stem: Path) -> None:
        for name in names:
            path = stem.parents[1] / f"image_ids{name}.txt"
            path.write_text(path.read_text() + text.format(id=stem.name))

    return change


SAMPLES: dict[str, tuple[Damage, str]] = {
    "no picture": (remove(".png"), "is missing"),
    "an empty picture": (write(".png", b""), "cannot be read"),
    "no picture at all": (write(".png", b"<html>404</html>"), "no picture of a known format"),
    "a picture cut short": (lambda s: cut(s, ".png", 900), "cannot be read"),
    "a bit of a picture flipped": (lambda s: flip(s, ".png", 1500), "cannot be read"),
    "a picture of nothing": (shrink, "is 5 x 40, too small"),
    "no label map": (remove(".npy"), "is missing"),
    "a label map cut short": (lambda s: cut(s, ".npy", 300), "is corrupt"),
    "a label map that is a pickle": (lambda s: np.save(f"{s}.npy", np.array({})), "is corrupt"),
    "a label map of another picture": (lambda s: labels(s, lambda a: a[:, :-1]), "but its label map"),
    "a label map with channels": (lambda s: labels(s, lambda a: a[..., None]), "numbers are needed"),
    "a label map of NaN": (lambda s: labels(s, lambda a: a * np.nan), "not whole"),
    "a label map of minus one": (lambda s: labels(s, lambda a: a - 1 + (a > 0)), "holds -1"),
    "a label map of shares": (lambda s: labels(s, lambda a: a / 2), "not whole"),
    "a map without the person": (lambda s: labels(s, np.zeros_like), "has no pixel"),
    "no annotation": (remove(".json"), "no file"),
    "half an annotation": (lambda s: cut(s, ".json", 30), "not valid JSON"),
    "an annotation in another encoding": (write(".json", b'{"caption": "\xe9t\xe9"}'), "not text in UTF-8"),
    "an annotation that is a list": (write(".json", b"[]"), "holds a list"),
    "no caption": (lambda s: edit(s, caption=None), "has no 'caption'"),
    "a caption that is a number": (lambda s: edit(s, caption=7), "a str is needed"),
    "an empty caption": (lambda s: edit(s, caption="  ", segments=[]), "caption is empty"),
    "a caption with a marker": (lambda s: edit(s, caption="a woman <|image|>"), "holds a marker"),
    "a caption that lost letters": (lambda s: edit(s, caption="a woman in Orl\ufffdans"), "lost letters"),
    "a caption of two lines": (lambda s: edit(s, caption="a woman\nin snow"), "line break"),
    "a noun past the end": (lambda s: edit(s, end=70), "ends at character 70"),
    "a noun before the beginning": (lambda s: edit(s, end=0), "ends at character 0"),
    "a noun that is a space": (lambda s: edit(s, end=8), "after a space"),
    "a noun that nobody reads": (lambda s: edit(s, caption="x " * 20 + "man", end=43), "past the text"),
    "a segment without an id": (lambda s: edit(s, id=None), "has no 'id'"),
    "a segment that is background": (lambda s: edit(s, id=0), "the background"),
    "a segment that is text": (lambda s: edit(s, id="one"), "a whole number"),
    "a segment twice": (twice, "stands twice"),
    "segments that are none": (lambda s: edit(s, segments={"1": 7}), "a list is needed"),
}
"""What cannot be used."""
MENDED: dict[str, tuple[Damage, str]] = {
    "a box of three": (lambda s: edit(s, bbox=[1, 2, 3]), "box of subject 1 is no"),
    "a box inside out": (lambda s: edit(s, bbox=[9, 2, 3, 4]), "box of subject 1 is no"),
    "a box elsewhere": (lambda s: edit(s, bbox=[0, 0, 4, 4]), "elsewhere than its mask"),
    "a box beyond the picture": (lambda s: edit(s, bbox=[0, 0, 400, 4]), "out of the picture"),
    "two pictures": (lambda s: shutil.copy(f"{s}.png", f"{s}.jpg"), "has 2 pictures"),
    "listed twice": (lists("{id}\n", ""), "twice"),
    "train and test": (lists("{id}\n", "_test"), "train and of test"),
}
"""What a clean copy is without, the sample's own or the lists'."""
LISTED: dict[str, tuple[Damage, str]] = {
    "a path for an id": (lists("../{id}\n", ""), "an id is a file's name"),
    "a split of its own": (lists("9999999\n", "_train"), "image_ids.txt does not"),
    "listed, and not there": (lists("8888888\n", "", "_train"), "no file"),
}


def reasons(report: Report) -> dict[str, str]:
    found: dict[str, str] = {}
    for problem in report.problems:
        found[problem.entry] = f"{found.get(problem.entry, '')}\n{problem.reason}"
    return found


def people(root: Path, num: int) -> Path:
    """One person a picture."""
    samples = [tiny.sample(index, 1) for index in range(num)]
    for sample in samples:
        write_sample(root, sample)
    write_ids(root, [s.id for s in samples], test=[samples[-1].id])
    return root


def test_each_kind_of_damage_is_found_and_nothing_else(tmp_path: Path) -> None:
    kinds = SAMPLES | MENDED | LISTED
    root = people(tmp_path / "people", 2 * len(kinds))
    spoilt = {name: 2 * place + 1 for place, name in enumerate(kinds)}
    for name, index in spoilt.items():
        kinds[name][0](root / "00000" / f"{index:07d}")
    found = reasons(check(root, ASKED, tmp_path / "list.jsonl", show=False))
    for name, (_, said) in kinds.items():
        id = f"{spoilt[name]:07d}"
        id = {"a path for an id": f"../{id}", "a split of its own": "9999999"}.get(name, id)
        id = "8888888" if name == "listed, and not there" else id
        assert said in found.pop(id, ""), name
    assert not found
    # The list is the same, for programs; what is left out of a clean copy is told from what is mended there.
    lines = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()]
    assert len({line["entry"] for line in lines}) == len(kinds)
    assert {line["id"] for line in lines if line["id"]} == {
        *(f"{spoilt[name]:07d}" for name in SAMPLES),
        "8888888",
    }
    report = check(root, ASKED, tmp_path / "list.jsonl", show=False)
    made = fix(root, tmp_path / "clean", ASKED, report, show=False)
    assert made.pictures == 2 * len(kinds) - len(SAMPLES)
    assert not check(tmp_path / "clean", ASKED, tmp_path / "clean.jsonl", show=False).problems
    assert (tmp_path / "clean.jsonl").read_text() == ""


def test_lists_may_be_a_choice(tmp_path: Path) -> None:
    root = people(tmp_path / "people", 4)
    write_ids(root, ["0000001", "0000002"])
    report = check(root, ASKED, tmp_path / "list.jsonl", show=False)
    assert (report.num_samples, report.num_unlisted, report.problems) == (2, 2, [])


def rewrite(path: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None]) -> None:
    """Change members of a tar; its index goes."""
    made = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read()  # type: ignore[union-attr]
            if (kept := change(member, content)) is not None:
                member.name, member.size = kept[0], len(kept[1])
                new.addfile(member, io.BytesIO(kept[1]))
    path.write_bytes(made.getvalue())
    index_path(path).unlink(missing_ok=True)


def test_damage_within_shards(tmp_path: Path) -> None:
    convert(people(tmp_path / "people", 13), tmp_path / "shards", Options("webdataset", shard=4), show=False)
    paths = sorted((tmp_path / "shards").glob("train*.tar"))

    def change(member: tarfile.TarInfo, content: bytes) -> tuple[str, bytes] | None:
        new: dict[str, tuple[str, bytes] | None] = {
            "0000000.json": None,
            "0000001.npy": None,
            "0000002.png": (member.name, content[:500]),
            "0000003.json": (member.name, b'{"caption": 3}'),
            "0000004.png": None,
            "0000005.npy": ("0000006.npy", content),
        }
        return new.get(member.name, (member.name, content))

    for path in paths[:2]:
        rewrite(path, change)
    shutil.copy(paths[1], tmp_path / "shards/train-9.tar")
    index_path(paths[2]).unlink()
    with paths[2].open("r+b") as stream:
        stream.truncate(11_000)
    report = check(tmp_path / "shards", ASKED, tmp_path / "list.jsonl", show=False)
    found = reasons(report)
    expected = {
        "0000000": "neither a .json nor a .txt",
        "0000001": "is missing",
        "0000002": "cannot be read",
        "0000003": "a str is needed",
        "0000004": "has no picture",
        "0000005": "is missing",
        "0000006.npy": "twice",
        "0000006": "and again in",
        "0000007": "and again in",
        "train-000002.tar": "cut short at byte",
    }
    for entry, said in expected.items():
        if entry not in ("0000004", "0000005"):
            assert said in found.pop(entry), entry
    # Of the copied shard every sample is there twice, the broken ones too.
    assert set(found) - {"0000004", "0000005"} <= {"0000008", "0000009", "0000010", "0000011"}
    with pytest.raises(UserError):
        open_folder(tmp_path / "shards").ids()
    fix(tmp_path / "shards", tmp_path / "clean", ASKED, report, show=False)
    assert not check(tmp_path / "clean", ASKED, tmp_path / "list.jsonl", show=False).problems


def test_damage_in_a_plain_folder(tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    for index in range(12):
        Image.new("RGB", (16, 16)).save(root / f"{index}.png")
        (root / f"{index}.txt").write_text("a woman")
    (root / "0.txt").unlink()
    (root / "1.txt").write_bytes(b"\xff\xfe")
    (root / "2.txt").write_text(" \n")
    (root / "3.png").write_bytes(b"GIF89a")
    (root / "4.png").unlink()
    shutil.copy(root / "5.png", root / "5.jpg")
    Image.new("RGB", (4, 4)).save(root / "6.png")
    (root / "7.txt").write_text("<|image|> a woman")
    (root / "README.txt").write_text("Ada's")
    lines = [
        {"file_name": "20.png", "text": "a"},
        {"text": "a"},
        {"file_name": "8.png"},
        [],
        {"file_name": "9.png", "text": "a man"},
    ]
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "{\n")
    found = reasons(check(root, ASKED, tmp_path / "list.jsonl", show=False))
    expected = {
        "0": "has no caption",
        "1": "not text in UTF-8",
        "2": "caption is empty",
        "3": "cannot be read",
        "4.txt": "no picture beside it",
        "5.png": "have one name",
        "6": "too small",
        "7": "must follow the noun",
        "metadata.jsonl:1": "there is no picture",
        "metadata.jsonl:2": "'file_name' is needed",
        "metadata.jsonl:3": "has no caption",
        "metadata.jsonl:4": "'file_name' is needed",
        "metadata.jsonl:6": "not valid JSON",
    }
    assert set(found) == set(expected)
    for entry, said in expected.items():
        assert said in found[entry], entry


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = people(tmp_path / "people", 8), tmp_path / "list.jsonl"
    for index in (1, 6):
        (root / f"00000/{index:07d}.npy").unlink()
    monkeypatch.setattr(module, "CHUNK", 2)
    expected = check(root, ASKED, out, show=False)
    before, read, examine = out.read_bytes(), [], module._examine

    def dies(job: module._Job) -> object:
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(job.number)
        return examine(job)

    monkeypatch.setattr(module, "_examine", dies)
    with pytest.raises(KeyboardInterrupt):
        check(root, ASKED, out, show=False)
    partial = out.with_name("list.jsonl.partial")
    # A kill cuts the last line short: its samples are read again.
    partial.write_bytes(partial.read_bytes()[:-7])
    seen: list[int] = []
    monkeypatch.setattr(module, "_examine", lambda job: [seen.append(job.number), examine(job)][1])
    assert check(root, ASKED, out, show=False) == expected and out.read_bytes() == before
    assert seen == [1, 2, 3] and not partial.exists()
