"""Nothing but tensors is ever unpickled, whoever reads a torch file."""

from __future__ import annotations

import collections
import operator
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.engine import checkpoints
from fdlab.errors import UserError
from fdlab.exchange.contents import describe
from fdlab.exchange.released import import_folder, import_released, read_flat
from fdlab.exchange.single_file import look_into
from fdlab.measure.extractors.efficientnet import EfficientNetExtractor
from fdlab.measure.weights import load_state
from fdlab.weights.files import read_pickled

CALLS: dict[str, Callable[[Path], tuple[Any, tuple[Any, ...]]]] = {
    "a shell": lambda marker: (os.system, (f"touch '{marker}'",)),
    "eval": lambda marker: (eval, (f"open({str(marker)!r}, 'w').close()",)),
    "exec": lambda marker: (exec, (f"open({str(marker)!r}, 'w').close()",)),
    "a path": lambda marker: (pathlib.Path.touch, (marker,)),
    "a method by name": lambda marker: (operator.methodcaller("touch"), (marker,)),
    "a call within": lambda marker: (collections.OrderedDict, ([("x", Calls((Path.touch, (marker,))))],)),
}


class Calls:
    """What runs code as soon as it is unpickled."""

    def __init__(self, call: tuple[Any, tuple[Any, ...]]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "read_pickled": ("x.bin", read_pickled),
    "read_flat": ("x.bin", read_flat),
    "checkpoint info": ("x.ckpt", describe),
    "checkpoint import, a file": ("x.bin", lambda file: import_released(file, file.parent)),
    "checkpoint import, a folder": (
        "model/unet/diffusion_pytorch_model.bin",
        lambda file: import_folder(file.parent.parent),
    ),
    "what measures": ("x.pt", load_state),
    "its features": ("x.pth", lambda file: EfficientNetExtractor(path=file)),
    "resume": ("step-1.ckpt", checkpoints.read),
    "the step of a run": ("step-1.ckpt", checkpoints.step_of),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reader", READERS)
def test_no_code_runs(reader: str, call: str, zipped: bool, tmp_path: Path) -> None:
    name, read = READERS[reader]
    marker, file = tmp_path / "ran", tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    state = {"state_dict": {"a": torch.ones(1), "b": Calls(CALLS[call](marker))}, "format": 1}
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as caught:
        read(file)
    assert not marker.exists() and "\n" not in str(caught.value)
    # The file does run code where it is let to: else this would show nothing.
    torch.load(file, weights_only=False)
    assert marker.exists()


def test_a_state_dict_is_finite_tensors_by_name(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**6, 10**6, 10**3)
    named = ({"a": 1}, {1: torch.ones(1)}, {"a": torch.ones(2, 2).to_sparse()}, {"a": huge})
    for wrong in ([1], torch.ones(1), *named):
        torch.save(wrong, tmp_path / "x.bin")
        with pytest.raises(UserError, match=r"x\.bin' is no flat state dict of tensors"):
            read_flat(tmp_path / "x.bin")
    good = {"a": torch.ones(2, 3).T, "b": torch.arange(4)}
    torch.save({"state_dict": good}, tmp_path / "x.bin")
    found = read_flat(tmp_path / "x.bin")
    assert found.keys() == good.keys() and all(torch.equal(found[name], good[name]) for name in good)


LIGHTNING = "pytorch_lightning.callbacks.model_checkpoint"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_lightning_filed_beside_the_tensors_is_passed_over(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the published sd-v1-4.ckpt; another class is named."""
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", LIGHTNING):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    own = [type(name, (), {"__module__": LIGHTNING}) for name in ("ModelCheckpoint", "Other")]
    for each, file in zip(own, (tmp_path / "good.ckpt", tmp_path / "bad.ckpt"), strict=True):
        monkeypatch.setattr(sys.modules[LIGHTNING], each.__name__, each, raising=False)
        state = {"state_dict": {"a": torch.ones(2)}, "callbacks": {each: {"best": torch.ones(1)}}}
        torch.save(state, file, _use_new_zipfile_serialization=zipped)
    assert read_flat(tmp_path / "good.ckpt")["a"].tolist() == [1, 1]
    assert look_into(tmp_path / "good.ckpt").shapes == {"a": (2,)}
    with pytest.raises(
        UserError, match=rf"more than tensors \({re.escape(LIGHTNING)}\.Other\), and nothing else"
    ):
        read_pickled(tmp_path / "bad.ckpt")
