"""A whole evaluation given something wrong: one clear line, before anything is drawn; what was done stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from fdlab.__main__ import main
from fdlab.errors import UserError
from fdlab.evaluation import run
from fdlab.evaluation.pages import Evaluated
from fdlab.evaluation.rows import Row
from fdlab.measure.networks import Extractors
from fdlab.records import record


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and pages take most of the time, and come after everything that is tested here."""
    monkeypatch.setattr(Evaluated, "write", lambda *_: [])


def settings(folder: Path, cache: Path) -> Any:
    benchmark = {
        "kind": "folder", "name": "squares", "folder": str(folder), "max_subjects": 0, "max_prompts": 0,
        "max_images": 0, "batch_size": 8, "baselines": True,
    }  # fmt: skip
    parts = {"benchmark": benchmark, "trainer": {"accelerator": "cpu"}}
    return OmegaConf.create({**parts, "paths": {"cache": str(cache)}})


def picture(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / name))


def change(edit: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = json.loads((folder / "benchmark.json").read_text())
        edit(data)
        (folder / "benchmark.json").write_text(json.dumps(data))

    return spoil


def saved(name: str, mode: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        Image.open(folder / name).convert(mode).save(folder / name)

    return spoil


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:60])


def smaller(name: str) -> Callable[[Path], None]:
    return lambda folder: Image.open(folder / name).resize((8, 8)).save(folder / name)


def dark(name: str) -> Callable[[Path], None]:
    return lambda folder: Image.new("RGB", (16, 16)).save(folder / name)


def doubled(data: dict[str, Any]) -> None:
    data["subjects"][1]["id"] = "s00"


def stranger(data: dict[str, Any]) -> None:
    text = "a {noun} <|image|> and a {noun2} <|image|>"
    data |= {"groups": [["s00", "s01"], ["s02", "s3"]], "real": None}
    data["prompts"] = [{"id": "p", "text": text}]


def is_list(folder: Path) -> None:
    (folder / "benchmark.json").write_text("[]")


REFERENCE, HELDOUT, REAL = "references/s02.png", "heldout/s03.png", "real/s01-p02-1.png"
FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("no reference", lambda f: (f / REFERENCE).unlink(), rf"names '{REFERENCE}', which is missing in"),
    ("no held-out picture", lambda f: (f / HELDOUT).unlink(), rf"names '{HELDOUT}', which is missing in"),
    ("no true picture", lambda f: (f / REAL).unlink(), rf"names '{REAL}', which is missing in"),
    ("a grey reference", saved(REFERENCE, "L"), rf"image '.*{REFERENCE}' has mode L; allowed: RGB"),
    ("a reference with alpha", saved(REFERENCE, "RGBA"), rf"image '.*{REFERENCE}' has mode RGBA; "),
    ("a grey held-out picture", saved(HELDOUT, "L"), rf"image '.*{HELDOUT}' has mode L"),
    ("a grey true picture", saved(REAL, "L"), rf"image '.*{REAL}' has mode L"),
    ("a cut reference", cut(REFERENCE), rf"image '.*{REFERENCE}' cannot be read: "),
    ("a cut held-out picture", cut(HELDOUT), rf"image '.*{HELDOUT}' cannot be read: "),
    ("a cut true picture", cut(REAL), rf"image '.*{REAL}' cannot be read: "),
    ("a small true picture", smaller(REAL), rf"'.*{REAL}' is 8 x 8; the benchmark asks for 16 x 16"),
    ("nobody in a reference", dark(REFERENCE), rf"no face found in reference '.*{REFERENCE}'"),
    ("an id twice", change(doubled), r"subject id 's00' stands twice in"),
    ("a subject unknown", change(stranger), r"unknown subject in a group of .*'s3'; .* Did you mean 's03'"),
    ("a manifest that is a list", is_list, "holds a list; it must hold an object"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_wrong_input_costs_nothing(
    folder: Path, tmp_path: Path, world: ModuleType, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(folder)
    painter = world.Painter()
    with pytest.raises(UserError, match=said) as caught:
        run.evaluate(
            settings(folder, tmp_path), tmp_path / "run", [Row("x", "x", lambda: painter)], world.extractors()
        )
    assert "\n" not in str(caught.value)
    assert painter.drawn == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spoil", "said"), [(change(doubled), "'s00' stands twice"), (is_list, "holds a list")]
)
def test_the_verb_ends_with_status_two(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    spoil(folder)
    line = ["evaluate", "benchmark=own", f"benchmark.folder={folder}", "trainer.accelerator=cpu"]
    assert main([*line, f"paths.runs={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not list(tmp_path.rglob("runs/**/*.png"))


def broken(parts: Extractors, name: str, number: int) -> Extractors:
    """The extractors, one of which gives a NaN in its `number`-th call."""
    calls = 0

    def spoiled(features: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return features * np.nan if calls == number else features

    whole: Any = getattr(parts, name)

    class Broken(type(whole)):  # type: ignore[misc]
        def __call__(self, images_BHW3: np.ndarray) -> np.ndarray:
            return spoiled(super().__call__(images_BHW3))

        def embed(self, images_BHW3: np.ndarray, faces: Any) -> np.ndarray:
            return spoiled(super().embed(images_BHW3, faces))

    return Extractors(**{**vars(parts), name: Broken()})


# The benchmark has 8 references and held-out pictures, 32 true pictures, 32 of each method: calls of 32.
@pytest.mark.parametrize(
    ("name", "number", "called"),
    [("faces", 3, "squares"), ("features", 3, "thumbnails"), ("clip", 3, "brightness")],
)
def test_nan_features_stop_the_evaluation_and_what_was_done_stays(
    folder: Path, tmp_path: Path, world: ModuleType, name: str, number: int, called: str
) -> None:
    cfg = settings(folder, tmp_path)
    painters = [world.Painter(wrong=0.5), world.Painter()]
    rows = [Row(f"r{k}", f"r{k}", lambda k=k: painters[k], {"number": k}) for k in range(2)]
    with pytest.raises(UserError, match=f"extractor '{called}' gave features that are not finite") as caught:
        run.evaluate(cfg, tmp_path / "run", rows, broken(world.extractors(), name, number))
    assert "\n" not in str(caught.value)
    first, second = tmp_path / "run/evaluation/rows/r0", tmp_path / "run/evaluation"
    # The first method is recorded, the second drawn.
    kept = record.read(first / "record.json")
    assert len(list((second / "images").glob("*.png"))) == 32 and not (second / "record.json").exists()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.png")}
    again = [Row(row.name, row.label, pytest.fail, row.method) for row in rows]
    records = run.evaluate(cfg, tmp_path / "run", again, world.extractors())
    assert records[0]["metrics"] == kept["metrics"] and (second / "record.json").is_file()
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_nan_of_a_reference_is_found_before_anything_is_drawn(
    folder: Path, tmp_path: Path, world: ModuleType
) -> None:
    painter = world.Painter()
    with pytest.raises(UserError, match="extractor 'squares' gave features that are not finite"):
        run.evaluate(
            settings(folder, tmp_path),
            tmp_path / "run",
            [Row("x", "x", lambda: painter)],
            broken(world.extractors(), "faces", 1),
        )
    assert painter.drawn == []


def test_a_drawn_picture_that_was_spoilt_is_named_and_drawn_again_alone(
    folder: Path, tmp_path: Path, world: ModuleType
) -> None:
    cfg, images = settings(folder, tmp_path), tmp_path / "run/evaluation/images"
    (whole,) = run.evaluate(cfg, tmp_path / "run", [Row("x", "x", world.Painter)], world.extractors())
    name = "s01-p01-1.png"
    sound = (images / name).read_bytes()
    for spoil, said in (
        (cut(name), "cannot be read: "),
        (smaller(name), "is 8 x 8; the benchmark asks for 16 x 16"),
        (lambda f: Image.open(f / name).save(f / name, format="JPEG"), "is no PNG inside"),
        (saved(name, "L"), "has mode L; allowed: RGB"),
        (saved(name, "RGBA"), "has mode RGBA; allowed: RGB"),
    ):
        (images / name).write_bytes(sound)
        spoil(images)
        with pytest.raises(UserError, match=rf"'.*images/{name}' {said}") as caught:
            run.evaluate(cfg, tmp_path / "run", [Row("x", "x", pytest.fail)], world.extractors())
        assert "\n" not in str(caught.value) and len(list(images.glob("*.png"))) == 32
    # The record of what was whole is still there, and a missing picture is drawn, not left out.
    assert record.read(images.parent / "record.json") == whole
    (images / name).unlink()
    painter = world.Painter()
    (again,) = run.evaluate(cfg, tmp_path / "run", [Row("x", "x", lambda: painter)], world.extractors())
    # Its whole batch is drawn, so that the picture is the same to the last bit.
    assert "s01-p01-1" in painter.drawn and len(painter.drawn) == 8
    assert again["metrics"] == whole["metrics"]


def test_a_method_of_another_size_is_named(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    rows = [Row("x", "x", lambda: world.Painter(size=8))]
    with pytest.raises(UserError, match=r"s00-p00-0\.png' is 8 x 8; the benchmark asks for 16 x 16"):
        run.evaluate(settings(folder, tmp_path), tmp_path / "run", rows, world.extractors())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("shard=4/4", "shard=4/4: allowed are 0/N to"),
        ("shard=0/0", "shard=0/0: allowed are"),
        ("shard=a/b", "shard=a/b: allowed are"),
        ("label=mine", "label=mine: it names pictures that are given"),
        ("sampler.final_sigma=1e9", "final_sigma"),
    ],
)
@pytest.mark.parametrize("flags", [["--dry"], []])
def test_wrong_words_are_said_before_anything_is_loaded(
    word: str, said: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["evaluate", word, f"paths.runs={tmp_path}", f"paths.cache={tmp_path}", *flags]
    assert main(line) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
