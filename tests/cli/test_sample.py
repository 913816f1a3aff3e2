"""`fdlab sample`: what it refuses, what it leaves, and what it does not draw again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.data.pictures import read_image

FACES = Path(__file__).resolve().parents[1] / "golden" / "faces"
ADA, BEN, GROUP, CAT = (FACES / name for name in ("astronaut-0.png", "sample1-0.png", "group.jpg", "cat.png"))
WOMAN, PAIR = "a woman <|image|> on a beach", "a woman <|image|> and a man <|image|>"


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before a model is read."""

    def loads(*_: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("fdlab.models.parts.load_network", loads)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of error."""
    assert main(["sample", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


BAD: list[tuple[str, list[str], str]] = [
    (
        "subjects without markers",
        ["prompt=a woman", f"subjects=[{ADA}]"],
        "0 markers <|image|>, but 1 subjects",
    ),
    ("markers without subjects", [f"prompt={WOMAN}"], "has 1 markers <|image|>, but 0 subjects"),
    ("more markers than subjects", [f"prompt={PAIR}", f"subjects=[{ADA}]"], "has 2 markers <|image|>, but 1"),
    (
        "a guider without subjects",
        [f"prompt={WOMAN}", f"subjects=[{ADA}]", "sampler=tdm"],
        "has subjects, and",
    ),
    ("a guider with subjects", ["prompt=a woman on a beach"], "no marker <|image|>"),
    (
        "too many subjects",
        ["prompt=a <|image|> b <|image|> c <|image|>", f"subjects=[{ADA},{BEN},{GROUP}]"],
        "has 3 subjects; at most 2",
    ),
    (
        "a photo that is not there",
        [f"prompt={WOMAN}", "subjects=[/nowhere.jpg]"],
        "'/nowhere.jpg' does not exist",
    ),
    ("a photo that is none", [f"prompt={WOMAN}", f"subjects=[{__file__}]"], "cannot be read: no picture"),
    ("a photo without a face", [f"prompt={WOMAN}", f"subjects=[{CAT}]"], "no face found in photo"),
    (
        "a face that is not there",
        [f"prompt={WOMAN}", f"subjects=[{GROUP}]", "faces=[5]"],
        "5 were found; allowed: 0",
    ),
    (
        "faces of no photo",
        [f"prompt={WOMAN}", f"subjects=[{ADA}]", "faces=[0,0]"],
        "2 faces are chosen for 1",
    ),
    (
        "a face that is no number",
        [f"prompt={WOMAN}", f"subjects=[{ADA}]", "faces=[left]"],
        "face left was asked",
    ),
    (
        "a marker past the last token",
        [f"prompt={'very ' * 70}{WOMAN}", f"subjects=[{ADA}]"],
        "past the text encoder's last",
    ),
    (
        "alpha beyond beta",
        [f"prompt={WOMAN}", f"subjects=[{ADA}]", "sampler.alpha=0.6", "sampler.beta=0.6"],
        "allowed: 0 <= alpha < beta <= 1",
    ),
    (
        "a trace of one model",
        ["prompt=a woman", "sampler=tdm", "trace=true"],
        "guider 'tdm' does not fuse by place; guiders that do: attention, snf",
    ),
    (
        "a step that is none",
        [f"prompt={WOMAN}", f"subjects=[{ADA}]", "trace=true", "trace_steps=[0,50]"],
        "trace_steps has 50; allowed: whole numbers from 0 to 49",
    ),
    (
        "more steps than timesteps",
        ["prompt=a woman", "sampler=tdm", "sampler.num_steps=1001"],
        "must lie between 1 and the model's 1000",
    ),
    (
        "noise on the way without DDIM",
        ["prompt=a woman", "sampler=tdm", "sampler.eta=0.5", "sampler.scheduler=unipc"],
        "has no eta",
    ),
    ("nothing", [], "there is nothing to draw"),
    ("an empty prompt", ["prompt=", "sampler=tdm"], "there is nothing to draw"),
    ("both ways to ask", ["prompts=a.csv", "prompt=a woman"], "prompts=a.csv has its own prompts"),
    ("a file that is not there", ["prompts=nowhere.csv"], "prompts file 'nowhere.csv' does not exist"),
    ("a key that is none", ["prompt=a woman", "face=[0]"], "Did you mean 'faces'"),
]


@pytest.mark.parametrize(("arguments", "said"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input_is_named(
    arguments: list[str], said: str, no_weights: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused([*arguments, f"out={tmp_path / 'out'}"], capsys)
    assert not (tmp_path / "out").exists()


def test_dry_says_what_would_be_drawn_and_writes_nothing(
    no_weights: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", f"out={tmp_path / 'out'}", "--dry"]
    assert main(["sample", *asked, "num_images=2", "seed=3"]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "out") in said and "2 to draw" in said and "TDM shipped, SDM shipped" in said
    for number in range(2):
        assert f"{WOMAN} ({ADA.name}), seed 3, picture {number}" in said
    for wrong in (["sdm=/nowhere"], ["faces=[7]"], ["trace=true", "trace_steps=[50]"], ["num_images=0"]):
        refused([*asked, *wrong], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{WOMAN},nowhere.jpg,,", "nowhere.jpg' does not exist"),
        (f"{WOMAN},,,", "has 1 markers <|image|>, but 0 subjects"),
        (f"{WOMAN},{CAT},,", "no face found"),
        (f"{WOMAN},{ADA},,1", "face 1 of photo"),
        (f"{WOMAN},{ADA},,0;0", "2 faces are chosen for 1 subjects"),
    ],
)
def test_a_bad_row_is_named(
    row: str, said: str, no_weights: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(f"prompt,subjects,seed,face\n{WOMAN},{ADA},,\n{row}\n")
    error = refused([f"prompts={path}", f"out={tmp_path / 'out'}"], capsys)
    assert f"{path}, line 3: " in error and said in error


@pytest.mark.parametrize(
    "prompt", ['it\'s "she" <|image|>, [a={b}] \\ 100%', "a, b: c", "end\\", "null", "[1,2]"]
)
def test_a_prompt_is_plain_text(prompt: str, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert main(["sample", f"prompt={prompt}", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["prompt"] == prompt


def sample(tiny: list[str], out: Path, *more: str) -> list[dict[str, Any]]:
    """Draw with the tiny backbone; the list of what was drawn."""
    backbone = [key for key in tiny if key.startswith("backbone.")]
    common = ["tdm=base", "sdm=base", "sampler.num_steps=5", f"out={out}"]
    assert main(["sample", *backbone, *common, *more]) == 0
    images: list[dict[str, Any]] = json.loads((out / "samples.json").read_text())["images"]
    return images


def pixels(out: Path, image: dict[str, Any]) -> np.ndarray:
    return read_image(out / image["file"], 64)


def test_pictures_say_what_they_are(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"prompt={PAIR}", f"subjects=[{ADA},{GROUP}]", "faces=[null,1]", "num_images=2"]
    images = sample(tiny, tmp_path, *asked)
    assert len(images) == 2 and (pixels(tmp_path, images[0]) != pixels(tmp_path, images[1])).any()
    for image in images:
        path = tmp_path / image["file"]
        assert json.loads(path.with_suffix(".json").read_text()) == image
        assert image["generated"] is True and image["prompt"] == PAIR and image["sampler"]["num_steps"] == 5
        assert [subject["face"] for subject in image["subjects"]] == ["largest", 1]
        assert len({image[part]["sha256"] for part in ("backbone", "tdm", "sdm")}) == 2  # both are the base
        with Image.open(path) as opened:
            assert opened.info["prompt"] == PAIR and opened.info["seed"] == str(image["seed"])
            assert "generated" in opened.info["Software"] and json.loads(opened.info["settings"])["sdm"]
            assert b"trainedAlgorithmicMedia" in path.read_bytes()
        for subject in image["subjects"]:
            assert (tmp_path / subject["reference"]).is_file()
    printed = capsys.readouterr().out
    assert all(str(tmp_path / name) in printed for name in ("grid.png", "samples.json", images[1]["file"]))
    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.width > 4 * 192


def test_a_second_call_draws_what_is_missing(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", "num_images=3"]
    images = sample(tiny, tmp_path, *asked)
    paths = [tmp_path / image["file"] for image in images]
    before = [(path.read_bytes(), path.stat().st_ino) for path in paths]
    paths[1].unlink()
    sample(tiny, tmp_path, *asked)
    after = [(path.read_bytes(), path.stat().st_ino) for path in paths]
    assert [a[0] for a in after] == [b[0] for b in before]
    assert (
        after[0] == before[0]
        and after[2] == before[2]
        and "1 drawn now, 2 were there" in capsys.readouterr().out
    )
    # A kill between a picture and its JSON leaves a picture that nothing vouches for.
    paths[2].with_suffix(".json").write_text("{")
    assert sample(tiny, tmp_path, *asked) == images
    # Nor does one that is cut short, or a JSON that tells of something else.
    paths[0].write_bytes(before[0][0][:200])
    told = json.loads(paths[1].with_suffix(".json").read_text())
    for place, wrong in ((1, {"a": 1}), (2, {**told, "trace": 5})):
        paths[place].with_suffix(".json").write_text(json.dumps(wrong))
    left = [path.stat().st_ino for path in paths]
    assert sample(tiny, tmp_path, *asked) == images
    assert [path.read_bytes() for path in paths] == [data for data, _ in before]
    assert all(path.stat().st_ino != number for path, number in zip(paths, left, strict=True))
    # Another prompt takes nothing away, and with all there no weights are read.
    other = sample(tiny, tmp_path, "prompt=a man <|image|>", f"subjects=[{ADA}]")
    monkeypatch.setattr("fdlab.models.parts.load_network", None)
    assert sample(tiny, tmp_path, *asked) == images
    assert all(path.is_file() for path in (*paths, tmp_path / other[0]["file"]))


def test_a_step_that_is_not_drawn_cannot_be_shown(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = [key for key in tiny if key.startswith("backbone.")]
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", "tdm=base", "sdm=base", "sampler.num_steps=5"]
    ends = ["sampler.final_sigma=0.9", "trace=true", "trace_steps=[0,4]", f"out={tmp_path}"]
    error = refused([*backbone, *asked, *ends], capsys)
    assert "trace_steps has 4; the drawing ends at noise level 0.9, after step" in error


@pytest.mark.long
def test_a_damaged_trace_is_drawn_anew(tiny: list[str], tmp_path: Path) -> None:
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", "trace=true", "sampler=snf_demo"]
    (image,) = sample(tiny, tmp_path, *asked)
    file = (tmp_path / image["file"]).with_suffix(".json")
    for trace in (5, []):
        file.write_text(json.dumps({**image, "trace": trace}))
        assert sample(tiny, tmp_path, *asked) == [image]


@pytest.mark.parametrize("length", [300, 5000])
def test_a_name_that_no_file_can_have_is_a_photo_that_does_not_exist(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x" * length + ".png"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": WOMAN, "subjects": [name]}) + "\n")
    for asked, row in (
        ([f"prompt={WOMAN}", f"subjects=[{name}]"], ""),
        ([f"prompts={tmp_path / 'rows.jsonl'}"], "rows.jsonl"),
        ([f"prompts={name}"], ""),
    ):
        error = refused([*asked, f"out={tmp_path / 'out'}"], capsys)
        assert "does not exist" in error and row in error and len(error) < 1000


def test_a_picture_does_not_depend_on_its_file(tiny: list[str], tmp_path: Path) -> None:
    """Alone, from the command line; and third of a file with other prompts, seeds and numbers of subjects."""
    alone = sample(tiny, tmp_path / "alone", f"prompt={WOMAN}", f"subjects=[{ADA}]", "seed=4")
    rows = [
        {"prompt": PAIR, "subjects": ["ben.png", str(GROUP)], "face": [0, 3]},
        {"prompt": "a man <|image|>", "subjects": ["ben.png"], "seed": 9},
        {"prompt": WOMAN, "subjects": str(ADA), "seed": 4},
        {"prompt": WOMAN, "subjects": str(ADA), "seed": 4},
        {"prompt": WOMAN, "subjects": "ben.png", "seed": 4},
    ]
    (tmp_path / "ben.png").write_bytes(BEN.read_bytes())
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = sample(tiny, tmp_path / "file", f"prompts={tmp_path / 'rows.jsonl'}")
    assert images[2] == images[3] == alone[0] and len({image["file"] for image in images}) == 4
    assert (pixels(tmp_path / "file", images[2]) == pixels(tmp_path / "alone", alone[0])).all()
    assert images[4]["seed"] == images[2]["seed"] != images[1]["seed"]
    assert (pixels(tmp_path / "file", images[4]) != pixels(tmp_path / "file", images[2])).any()


def test_a_trace_is_written_beside_the_picture(tiny: list[str], tmp_path: Path) -> None:
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", "sampler.final_sigma=0"]
    before = sample(tiny, tmp_path / "plain", *asked)
    images = sample(tiny, tmp_path / "traced", *asked, "trace=true")
    for one, other in zip(before, images, strict=True):
        assert (pixels(tmp_path / "plain", one) == pixels(tmp_path / "traced", other)).all()
        trace = other["trace"]
        assert [step["stage"] for step in trace["steps"]] == ["tdm", "tdm", "snf", "snf", "sdm"]
        assert [step["sdm_share"] for step in trace["steps"]][::4] == [0.0, 1.0]
        with Image.open(tmp_path / "traced" / trace["animation"]) as animation:
            assert animation.n_frames == 5  # type: ignore[attr-defined]
        with Image.open(tmp_path / "traced" / trace["figure"]) as figure:
            whole = figure.size
    # Fewer steps are another figure of the same picture.
    again = sample(tiny, tmp_path / "traced", *asked, "trace=true", "trace_steps=[4,0,2,2]")
    with Image.open(tmp_path / "traced" / again[0]["trace"]["figure"]) as figure:
        assert figure.width < whole[0] and again[0]["file"] == images[0]["file"]


@pytest.mark.parametrize("sampler", ["tdm", "attention"])
def test_other_guiders_draw_too(sampler: str, tiny: list[str], tmp_path: Path) -> None:
    asked = (
        ["prompt=a man on a beach"]
        if sampler == "tdm"
        else [f"prompt={WOMAN}", f"subjects=[{ADA}]", "trace=true"]
    )
    (image,) = sample(tiny, tmp_path, f"sampler={sampler}", *asked)
    assert pixels(tmp_path, image).std() > 0 and ("trace" in image) == (sampler != "tdm")


def test_what_the_text_encoder_does_not_see_is_said(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = f"{WOMAN} in snow", f"{WOMAN} " + "in snow " * 20 + "with a hat"
    for prompt in (short, long):
        (image,) = sample(tiny, tmp_path, f"prompt={prompt}", f"subjects=[{ADA}]")
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: prompt")]
        if prompt == short:
            assert not said and "prompt_left_out" not in image
    cut = image["prompt_left_out"]
    assert cut.endswith("with a hat") and long.endswith(cut) and "woman" not in cut
    assert len(said) == 1 and f"left out: '{cut}'" in said[0]


@pytest.mark.parametrize("write", [pytest.param(2, marks=pytest.mark.long), 4])
def test_ctrl_c_leaves_whole_files_and_the_same_call_goes_on(
    write: int, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted with half a picture written: the reference, figure and animation come before the first."""
    asked = [f"prompt={WOMAN}", f"subjects=[{ADA}]", "num_images=2", "trace=true"]
    whole = sample(tiny, tmp_path / "whole", *asked)
    save, written = Image.Image.save, []

    def half(self: Image.Image, path: Any, **options: Any) -> None:
        save(self, path, **options)
        written.append(path)
        if len(written) == write:
            Path(path).write_bytes(Path(path).read_bytes()[:50])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", half)
        backbone = [key for key in tiny if key.startswith("backbone.")]
        common = ["tdm=base", "sdm=base", "sampler.num_steps=5", f"out={tmp_path / 'killed'}"]
        assert main(["sample", *backbone, *common, *asked]) == 130
    assert not (tmp_path / "killed/samples.json").exists()
    assert sample(tiny, tmp_path / "killed", *asked) == whole
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    assert {path.relative_to(tmp_path / "killed") for path in (tmp_path / "killed").rglob("*")} == files
    for file in files:
        if (tmp_path / "whole" / file).is_file():
            assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
