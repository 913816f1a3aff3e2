"""The commands of conf/RECIPES.md one after the other, from data and weights to a board, on miniatures.

Preparing photos and asking whether an SDM will learn from them are run in tests of their own.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.assets import hub
from fdlab.measure import choose
from tests.worlds import squares, tiny
from tests.worlds.backbones import write_tiny_sd15

PAGE = Path(__file__).resolve().parents[2] / "conf/RECIPES.md"
SIZES = ("backbone.image_size=64", "backbone.reference_size=24")
SMALL = (
    "data.max_subjects=2", "trainer.accelerator=cpu", "trainer.precision=32", "trainer.max_steps=2",
    "trainer.batch_size=2", "trainer.num_workers=0", "trainer.sample_every=0", "sampler.num_steps=2",
)  # fmt: skip


def walks() -> dict[str, list[list[str]]]:
    """Of each section, its commands."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        block = "".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))
        lines = [line.partition("#")[0] for line in block.splitlines()]
        found[section.splitlines()[0]] = [shlex.split(line)[3:] for line in lines]
    return found


def small(words: list[str]) -> list[str]:
    """The same, for miniatures."""
    if words[0] == "leaderboard" or words[:2] == ["data", "check"]:
        return words
    if words[:2] == ["data", "convert"]:
        return ["64" if word == "512" else word for word in words]
    more = [*SIZES, *(SMALL if words[0] == "train" else ("sampler.num_steps=2", "trainer.accelerator=cpu"))]
    keys = {word.split("=")[0] for word in more}
    return [word for word in words if word.split("=")[0] not in keys] + more


@pytest.mark.parametrize("name", ["models/stable-diffusion-v1-5", hub.CLIP_FOLDER])
def test_what_brings_the_weights_is_what_doctor_says(name: str) -> None:
    assert f"\n{hub.how_to_get(name)}\n" in PAGE.read_text()


@pytest.mark.long
@pytest.mark.parametrize("walk", walks())
def test_a_walk_ends_on_the_board(
    walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDLAB_RUNS", "runs")
    monkeypatch.setenv("FDLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "load_extractors", lambda *_, **__: squares.extractors())
    write_tiny_sd15(Path("models/stable-diffusion-v1-5"))
    write_tiny_sd15(Path("whole"), subjects=True)
    Path("whole/image_encoder").rename("models/clip-vit-large-patch14")
    for s, person in enumerate(("ada", "bob")):
        Path("PHOTOS", person).mkdir(parents=True)
        for k, place in enumerate(("reference", "heldout")):
            Image.fromarray(squares.picture(s, place, s, size=64)).save(f"PHOTOS/{person}/{k}.png")
    Path("prompts.txt").write_text("a {noun} <|image|> on a beach\na {noun} <|image|> in a forest\n")
    (make,) = [line for line in PAGE.read_text().splitlines() if "data convert people-folder" in line]
    assert main(small(shlex.split(make.partition("#")[0])[3:])) == 0
    for name in ("ffhq", "me"):
        tiny.write_folder(Path("data") / name, 6, size=64)
    ran = [words for words in walks()[walk] if words[0] != "data" or words[1] == "check"]
    for words in ran:
        capsys.readouterr()
        assert main(small(words)) == 0, words
    names = {word[5:] for words in ran if words[0] == "evaluate" for word in words if word[:5] == "name="}
    records = Path("runs/evaluate").glob("*/evaluation/record.json")
    assert {path.parts[2] for path in records} == names
    board = capsys.readouterr().out
    assert "SNF" in board and "SDM" in board
