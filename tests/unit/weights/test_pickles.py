"""Nothing but tensors is ever unpickled, whoever reads a torch file."""

from __future__ import annotations

import collections
import operator
import os
import pathlib
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


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_what_lightning_leaves_of_its_callbacks_is_passed_over(package: str, tmp_path: Path) -> None:
    """As in Stable Diffusion 1's published files; made without Lightning's own class."""
    name = f"{package}.callbacks.model_checkpoint"
    made = types.ModuleType(name)
    made.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})  # type: ignore[attr-defined]
    before, sys.modules[name] = sys.modules.get(name), made
    try:
        state = {"callbacks": {made.ModelCheckpoint: {"monitor": "loss"}}, "state_dict": {"a": torch.ones(2)}}
        torch.save(state, tmp_path / "x.ckpt")
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
    found = read_pickled(tmp_path / "x.ckpt")
    assert torch.equal(found["state_dict"]["a"], torch.ones(2)) and len(found["callbacks"]) == 1
