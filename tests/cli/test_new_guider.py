"""A new guider is one file and its conf/sampler/NAME.yaml: everything else finds it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdlab.__main__ import main
from fdlab.demo import choices
from fdlab.demo.recipe import ask
from fdlab.diffusion import guiders
from fdlab.diffusion.settings import SamplerSettings
from fdlab.errors import UserError
from fdlab.sampling import filmstrip
from fdlab.sampling.trace import check_traced

ADA = Path(__file__).resolve().parents[1] / "golden/faces/astronaut-0.png"
CODE = '''
from typing import Annotated

from fdlab.diffusion.guiders.options import Base, Limit, share
from fdlab.diffusion.guiders.staged import Masked, StagedFusion
from fdlab.diffusion.stages import Stages


class LeftAndRight(StagedFusion):
    """The SDM left of a line."""

    DESCRIPTION = "the SDM on the left"

    def __init__(
        self, tdm, sdm, guidance, num_steps, recorder=None, *,
        left: Annotated[float, share("how much of the width is the SDM's")] = 0.5,
        side: Annotated[str, Limit(("left", "right"))] = "left",
        base: Base = "text",
    ):
        super().__init__(tdm, sdm, guidance, Stages(-1, num_steps), base, recorder)
        self.left = left

    def mask(self, t, step, text, subject):
        mask_BCHW = subject.target_BCHW * 0
        mask_BCHW[..., : round(self.left * mask_BCHW.shape[-1])] = 1
        return Masked(mask_BCHW, text.target_BCHW.abs(), subject.target_BCHW.abs())
'''
FILE = """defaults:
  - _shared
  - _self_

guider: leftright   # a toy
left: 0.25          # the SDM's share
side: left          # left or right
base: text          # text or null
"""


@pytest.fixture
def toy(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the guider: a module in a folder that the package looks into, and a file of settings."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/leftright.py").write_text(CODE)
    (conf / "sampler/leftright.yaml").write_text(FILE)
    monkeypatch.setattr(guiders, "__path__", [*guiders.__path__, str(tmp_path / "more")])
    importlib.invalidate_caches()
    monkeypatch.setitem(guiders.GUIDERS, "leftright", guiders.discover()["leftright"])
    yield "leftright"
    del sys.modules["fdlab.diffusion.guiders.leftright"]
    choices.defaults.cache_clear()


def test_the_checks_know_its_options_and_their_limits(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leftright" in guiders.GUIDERS and guiders.needs(toy) == ("tdm", "sdm")
    SamplerSettings(toy, options={"left": 1.0}).check()
    for given, said in (
        ("sampler.left=1.5", "left is 1.5; it must lie in [0, 1]"),
        ("sampler.side=lef", "unknown side 'lef'; allowed: left, right. Did you mean 'left'?"),
        ("sampler.base=nul", "Did you mean 'null'?"),
        ("sampler.lefft=1", "Did you mean 'sampler.left'?"),
    ):
        assert main(["train", "+exp=sdm", f"sampler={toy}", given, "--cfg", "job"]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="leftright"):
        guiders.options("leftrigt")


def test_the_demo_offers_it_with_a_slider(toy: str) -> None:
    assert choices.offered()[toy] == "the SDM on the left" and choices.sliders(toy) == {
        "left": "how much of the width is the SDM's"
    }
    assert "left" in choices.all_sliders() and choices.shares(toy) == {"left": 0.25}
    asked = ask("a woman <|image|>", ["a.jpg"], toy, {"left": 0.75}, 3, 5.0, 0)
    assert "sampler=leftright" in asked.command and "sampler.left=0.75" in asked.command
    assert '"left": 0.75' in asked.script().replace("'", '"')


def test_it_draws_and_is_traced(toy: str, tiny: list[str], tmp_path: Path) -> None:
    check_traced(toy)
    assert filmstrip.words(toy, "text")[0][0] == "TDM's saliency"
    keys = [key for key in tiny if key.startswith("backbone.")]
    asked = ["prompt=a woman <|image|>", f"subjects=[{ADA}]", f"sampler={toy}", "sampler.num_steps=2"]
    assert main(["sample", *keys, *asked, "tdm=base", "sdm=base", "trace=true", f"out={tmp_path}"]) == 0
    (image,) = json.loads((tmp_path / "samples.json").read_text())["images"]
    assert image["sampler"]["guider"] == toy
    assert [step["sdm_share"] for step in image["trace"]["steps"]] == [0.25, 0.25]
