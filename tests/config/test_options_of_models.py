"""A new option of a model is one line in conf, one in the class that uses it, and one limit if needed."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fdlab.config import locate, rules
from fdlab.config.compose import compose
from fdlab.config.instantiate import class_of, instantiate
from fdlab.config.rules import Rule
from fdlab.engine.module import Optimization
from fdlab.errors import UserError
from fdlab.training import text_driven
from tests.worlds.backbones import tiny_sd15


def test_a_new_option_needs_no_other_line(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Novel(text_driven.TDM):
        def __init__(self, *parts: Any, novelty: float = 0.5, **others: Any) -> None:
            super().__init__(*parts, **others)
            self.novelty = novelty

    Novel.__module__ = text_driven.__name__
    monkeypatch.setattr(text_driven, "TDM", Novel)
    with (conf / "model/tdm.yaml").open("a") as stream:
        stream.write("novelty: 0.5            # how new\n")
    cfg = compose(["model=tdm", "model.novelty=0.75"])
    assert cfg.name == "seed0_model-tdm_model.novelty-0.75"
    assert instantiate(cfg.model, backbone=tiny_sd15(), seed=0).novelty == 0.75
    with pytest.raises(UserError, match=r"model\.novelty=much: a number is needed"):
        compose(["model=tdm", "model.novelty=much"])
    monkeypatch.setitem(rules.RULES, "model.novelty", Rule(low=0, high=1))
    with pytest.raises(UserError, match=r"model\.novelty=2\.0: must be >= 0 and <= 1"):
        compose(["model=tdm", "model.novelty=2"])


@pytest.mark.parametrize("model", locate.options("model"))
def test_every_key_is_an_argument_of_the_class_and_every_argument_a_key(model: str) -> None:
    cfg = compose([f"model={model}"]).model
    own = inspect.signature(class_of(cfg._target_)).parameters
    arguments = {*own, *(item.name for item in fields(Optimization))} - {"backbone", "seed", "optimization"}
    assert {str(key) for key in cfg} - {"_target_"} == arguments
