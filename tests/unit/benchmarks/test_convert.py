"""Benchmarks of a user's own photos and prompts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.benchmarks.convert import people_folder, photos, prompt_lists
from fdlab.config import compose as composing
from fdlab.config import locate
from fdlab.data import pictures
from fdlab.errors import UserError
from fdlab.evaluation import measuring, run
from fdlab.evaluation.pages import Evaluated
from fdlab.evaluation.rows import Row

PROMPTS = """\
# place
a {noun} <|image|> on a beach

a photo of a {noun} in a forest
# style
a drawing of a woman <|image|>
"""


def save(path: Path, seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image_HW3 = np.random.default_rng(seed).integers(0, 256, (20, 12, 3), np.uint8)
    Image.fromarray(image_HW3).convert(mode).save(path, **options)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Photos of two people and a list of prompts."""
    for seed, name in enumerate(("ada/b.jpg", "ada/a.JPG", "ada/c.png", "bob/1.jpeg")):
        save(tmp_path / "photos" / name, seed, format=Path(name).suffix[1:].upper().replace("JPG", "JPEG"))
    (tmp_path / "photos/ada/.hidden.jpg").write_text("no photo")
    (tmp_path / "photos/ada/notes.txt").write_text("no photo")
    (tmp_path / "photos/.cache").mkdir()
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    return tmp_path


def convert(root: Path, *more: str) -> int:
    folders = [str(root / name) for name in ("photos", "prompts.txt", "out")]
    return main(["data", "convert", "people-folder", *folders, *more])


def test_any_folder_and_any_prompts_become_a_benchmark(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(own, "--noun", "ada=woman", "--noun", "man", "--size", "64", "--images", "2") == 0
    shown = capsys.readouterr().out
    assert "2 people, 3 prompts, 12 pictures of 64 pixels" in shown
    assert f"evaluate benchmark=own benchmark.folder={own / 'out'}" in shown
    made = benchmarks.load(own / "out")
    assert (made.name, made.size, made.images_per_prompt, made.real) == ("out", 64, 2, None)
    ada, bob = made.subjects
    assert (ada.id, ada.noun, ada.references) == ("ada", "woman", ("references/ada.jpg",))
    assert ada.heldout == ("heldout/ada-1.jpg", "heldout/ada-2.png")
    assert (bob.id, bob.noun, bob.references, bob.heldout) == ("bob", "man", ("references/bob.jpeg",), ())
    # Photos that are upright and RGB are copied byte for byte.
    for source, target in (("ada/a.JPG", "references/ada.jpg"), ("ada/c.png", "heldout/ada-2.png")):
        assert (own / "photos" / source).read_bytes() == (own / "out" / target).read_bytes()
    assert [(prompt.id, prompt.category) for prompt in made.prompts] == [
        ("p00", "place"), ("p01", "place"), ("p02", "style"),
    ]  # fmt: skip
    assert [prompt.of([bob]) for prompt in made.prompts] == [
        "a man <|image|> on a beach", "a photo of a man <|image|> in a forest",
        "a drawing of a woman <|image|>",
    ]  # fmt: skip


def test_one_photo_a_person_and_all_pairs(tmp_path: Path) -> None:
    for seed, name in enumerate(("ada.png", "bob.png", "eve.png")):
        save(tmp_path / "photos" / name, seed)
    (tmp_path / "prompts.txt").write_text("a {noun} and a {noun2} in snow\n")
    assert convert(tmp_path, "--pairs", "--name", "friends") == 0
    made = benchmarks.load(tmp_path / "out")
    assert made.name == "friends" and [s.noun for s in made.subjects] == ["person"] * 3
    assert made.groups == (("ada", "bob"), ("ada", "eve"), ("bob", "eve"))
    assert made.prompts[0].of(made.drawn[0]) == "a person <|image|> and a person <|image|> in snow"


def test_a_photo_that_is_not_upright_rgb_and_named_for_what_it_is_is_written_anew(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    turned = photos.look(save(tmp_path / "turned.jpg", exif=exif))
    others = [save(tmp_path / f"{mode}.png", mode=mode) for mode in ("L", "LA", "P", "RGBA", "1")]
    others += [save(tmp_path / "jpeg.png", format="JPEG"), save(tmp_path / "png.jpg", format="PNG")]
    for photo, shape in ((turned, (12, 20, 3)), *((photos.look(path), (20, 12, 3)) for path in others)):
        assert photo.suffix == ".png" and not photo.as_it_is
        photo.copy(tmp_path / "copy.png")
        assert pictures.read_image(tmp_path / "copy.png").shape == shape
        assert (pictures.read_image(tmp_path / "copy.png") == pictures.read_photo(photo.path)).all()
    photo = Image.open(tmp_path / "turned.jpg")
    turned.copy(tmp_path / "copy.png")
    upright_HW3 = np.rot90(np.asarray(photo), -1)
    assert (pictures.read_image(tmp_path / "copy.png") == upright_HW3).all()


def test_the_benchmark_is_drawn_and_measured(
    tmp_path: Path, world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coloured squares as people, from photos to a record."""
    monkeypatch.setattr(Evaluated, "write", lambda *_: [])
    for s in range(3):
        for k in range(2):
            path = tmp_path / f"photos/s{s:02d}/{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(world.picture(s, "photo", s, k)).save(path)
    (tmp_path / "prompts.txt").write_text("a {noun} on a beach\na {noun} by the sea\n")
    assert convert(tmp_path, "--size", "16") == 0

    class OnTheBeach(world.Painter):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(scene="beach")

    cfg = composing.compose(
        [
            "benchmark=own", f"benchmark.folder={tmp_path / 'out'}", "trainer.accelerator=cpu",
            f"paths.cache={tmp_path / 'cache'}", "logger=csv",
        ]
    )  # fmt: skip
    (made,) = run.evaluate(cfg, tmp_path / "run", [Row("x", "x", OnTheBeach)], world.extractors())
    assert made["benchmark"]["name"] == "out" and made["benchmark"]["num_subjects"] == 3
    assert made["metrics"]["identity_rank1"]["value"] == 1.0
    assert made["metrics"]["identity_heldout"]["n"] == 6 and "frechet_distance" not in made["metrics"]


def test_a_benchmark_is_added_by_a_file(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert convert(own) == 0
    conf = tmp_path / "conf"
    shutil.copytree(locate.conf_dir(), conf)
    text = (conf / "benchmark/own.yaml").read_text()
    assert text.count("folder: ???") == 1
    (conf / "benchmark/mine.yaml").write_text(text.replace("folder: ???", f"folder: {own / 'out'}"))
    monkeypatch.setattr(locate, "conf_dir", lambda: conf)
    monkeypatch.setattr(composing, "conf_dir", lambda: conf)
    composing._hydra.cache_clear()
    try:
        cfg = composing.compose(["benchmark=mine", "trainer=full"])
    finally:
        composing._hydra.cache_clear()
    assert BenchmarkSettings.read(cfg.benchmark).open().name == "out"


def corrupt(root: Path) -> None:
    path = root / "photos/ada/b.jpg"
    path.write_bytes(path.read_bytes()[:100])


def unnamed(root: Path) -> None:
    (root / "photos/bob").rename(root / "photos/Bob B.")


def doubled(root: Path) -> None:
    shutil.rmtree(root / "photos")
    save(root / "photos/ada.png")
    save(root / "photos/ada.jpg")


def nobody(root: Path) -> None:
    for name in ("ada", "bob"):
        shutil.rmtree(root / "photos" / name)


def emptied(root: Path) -> None:
    (root / "photos/bob/1.jpeg").unlink()


def written(text: str | bytes) -> Any:
    return lambda root: (root / "prompts.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


FAULTS: list[tuple[str, Any, list[str], str]] = [
    ("a corrupt photo", corrupt, [], r"photo '.*ada/b\.jpg' cannot be read: "),
    ("no photo of a person", emptied, [], r"person 'bob' has no photo in '.*bob'; allowed: \.jpg"),
    ("nobody", nobody, [], "no photo in"),
    ("no folder", lambda r: shutil.rmtree(r / "photos"), [], r"no folder '.*photos' with photos"),
    ("a name with a space", unnamed, [], r"person 'Bob B\.' .*rename it, to 'Bob_B\.'"),
    ("a name twice", doubled, [], "person id 'ada' stands twice"),
    ("pictures beside folders", lambda r: save(r / "photos/x.png"), [], r"holds folders \('ada'\)"),
    ("a noun of nobody", str, ["--noun", "aad=woman"], r"unknown person in --noun 'aad'.*Did you mean 'ada'"),
    ("no noun", str, ["--noun", "ada="], "noun ''; a word such as woman"),
    ("a noun with a marker", str, ["--noun", "man <|image|>"], r"noun 'man <\|image\|>'; a word"),
    ("no file of prompts", lambda r: (r / "prompts.txt").unlink(), [], r"no file of prompts '.*\.txt'"),
    ("no prompt", written("\n# a heading\n"), [], r"'.*prompts\.txt' has no prompt; give one a line"),
    ("a prompt of nobody", written("a beach\n"), [], r"prompt 'a beach' in '.*prompts\.txt' has 0 markers"),
    ("a prompt of two", written("a {noun} and a {noun2}\n"), [], "has 2 markers .*; it needs exactly one"),
    ("an unknown placeholder", written("a {nuon} <|image|>\n"), [], r"only allowed placeholder is \{noun\}"),
    ("a prompt twice", written("a {noun}\n\na  {noun} \n"), [], "line 3 repeats the prompt of line 1"),
    ("no text", written(b"\xff\xfe a {noun}"), [], r"prompts\.txt' is not text in UTF-8"),
    ("pairs of one", lambda r: shutil.rmtree(r / "photos/bob"), ["--pairs"], "there is only one subject"),
    ("no size", str, ["--size", "0"], "'0' is not a whole number from 1"),
    ("a file in the way", lambda r: (r / "out").write_text(""), [], r"out' is a file; give a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "more", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    own: Path, spoil: Any, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(own)
    if more == ["--pairs"]:
        (own / "prompts.txt").write_text("a {noun} and a {noun2}\n")
    assert convert(own, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and re.search(said, error)
    assert not (own / "out").is_dir()


def test_a_benchmark_is_not_overwritten_and_half_a_one_is_completed(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fdlab.benchmarks.convert.folder.write_json", stop)
        assert convert(own) == 130
    assert (own / "out/references/ada.jpg").is_file() and not (own / "out/benchmark.json").exists()
    with pytest.raises(UserError, match=r"no benchmark\.json in .*`python -m fdlab data convert` makes one"):
        benchmarks.load(own / "out")
    assert convert(own) == 0
    before = (own / "out/benchmark.json").read_bytes()
    capsys.readouterr()
    (own / "prompts.txt").write_text("another {noun}\n")
    assert convert(own) == 2
    assert "holds a benchmark already" in capsys.readouterr().err
    assert (own / "out/benchmark.json").read_bytes() == before


def test_every_picture_that_can_be_read_is_taken_and_all_else_is_named(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eve = own / "photos/eve"
    for seed, suffix in enumerate((".gif", ".tif", ".tiff", ".bmp", ".webp", ".GIF")):
        save(eve / f"{seed}{suffix}", seed)
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    save(eve / "6.tiff", 6, exif=exif)
    for number in range(5):
        (eve / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (eve / "gone.jpg").symlink_to(eve / "nowhere.jpg")
    (eve / "older").mkdir()
    (own / "photos/list.csv").touch()
    assert convert(own) == 0
    shown = capsys.readouterr()
    made = benchmarks.load(own / "out").subject("eve")
    assert len(made.references) + len(made.heldout) == 7
    assert made.references == ("references/eve.png",) and made.heldout[4] == "heldout/eve-5.png"
    assert pictures.read_image(own / "out/heldout/eve-6.png").shape == (12, 20, 3)
    assert [line for line in shown.err.splitlines() if line.startswith("skipped")] == [
        "skipped 2 (a name that begins with a dot): '.cache', 'ada/.hidden.jpg'",
        "skipped 1 (.csv is not read): 'list.csv'",
        "skipped 1 (.txt is not read): 'ada/notes.txt'",
        "skipped 5 (.heic is not read): 'eve/IMG_0.HEIC', 'eve/IMG_1.HEIC', 'eve/IMG_2.HEIC', ...",
        "skipped 1 (a link to nothing): 'eve/gone.jpg'",
        "skipped 1 (a folder within a person's): 'eve/older/'",
    ]


def test_who_has_no_photo_is_told_what_there_is(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "photos/bob/1.jpeg").rename(own / "photos/bob/1.heic")
    assert convert(own) == 2
    error = capsys.readouterr().err
    assert "person 'bob' has no photo" in error and "Skipped: 1 (.heic is not read): '1.heic'." in error


def test_ids_of_many_prompts_sort_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("".join(f"a {{noun}} in place {k}\n" for k in range(101)))
    ids = [entry["id"] for entry in prompt_lists.read(tmp_path / "p.txt")]
    assert ids == sorted(ids) and (ids[0], ids[-1]) == ("p000", "p100")


def test_a_face_is_looked_for_when_it_is_measured(own: Path, world: ModuleType) -> None:
    black = Image.new("RGB", (16, 16))
    for path in (own / "photos/bob").iterdir():
        path.unlink()
    black.save(own / "photos/bob/1.png")
    people_folder.convert(own / "photos", own / "prompts.txt", own / "out")
    assert json.loads((own / "out/benchmark.json").read_text())["subjects"][1]["id"] == "bob"
    with pytest.raises(UserError, match=r"no face found in reference '.*out/references/bob\.png'"):
        measuring.references(benchmarks.load(own / "out"), world.extractors())
