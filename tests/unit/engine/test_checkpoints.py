"""Checkpoints are foreign files: whatever is wrong with one, it is one line, and nothing in it is run."""

from __future__ import annotations

import os
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.engine import checkpoints, continuing
from fdlab.engine.draws import Draws
from fdlab.errors import UserError
from tests.worlds.line import Line, train

NUMBER = int(os.environ.get("FDLAB_FUZZ", "60"))
"""Damaged files a kind of damage; thousands by hand: FDLAB_FUZZ=2000 pytest tests/unit/training."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, Line(), max_steps=2)
    return folder / "checkpoints/last.ckpt"


def take(path: Path) -> str:
    """Go on with a file as a run does; what the user is told, "" where it is taken."""
    module = Line()
    optimizer = module.configure_optimizers()
    try:
        checkpoints.step_of(path)
        state = checkpoints.read_for(module, path)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    checkpoints.restore_weights(state, module)
    checkpoints.restore_optimizer(state, module, optimizer)
    module.losses({"number": 0}, Draws(torch.Generator().manual_seed(0)))["loss"].backward()
    optimizer.step()
    return ""


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 8, 64))):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def splice(data: bytes, chance: random.Random) -> bytes:
    a, b = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:a] + chance.randbytes(chance.randrange(64)) + data[b:]


def flip_pickle(data: bytes, chance: random.Random) -> bytes:
    """Damage in the pickle alone, in a file that is whole otherwise."""
    import io

    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry, flip(content, chance) if entry.filename.endswith("data.pkl") else content)
    return made.getvalue()


@pytest.mark.parametrize("damage", [cut, flip, splice, flip_pickle])
def test_a_damaged_checkpoint_is_one_line(
    good: Path, tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    data, path = good.read_bytes(), tmp_path / "x.ckpt"
    told = 0
    for seed in range(NUMBER):
        path.write_bytes(damage(data, random.Random(seed)))
        told += bool(take(path))
    assert told > NUMBER // 4
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


BAD: dict[str, Any] = {
    "a list": [1, 2],
    "nothing": {},
    "another format": {"format": 2},
    "no tables": {"format": 1, "kind": "Line", "step": 2},
}
ELSEWHERE: list[tuple[str, Any]] = [
    ("step", "2"), ("step", -1), ("step", True), ("step", 2.0), ("kind", 3), ("kind", "Other"),
    ("parameters", []), ("parameters/weight", None), ("parameters/weight", [[0.0] * 4] * 2),
    ("parameters/weight", torch.zeros(2, 4, dtype=torch.int64)), ("parameters/weight", torch.zeros(8)),
    ("parameters/weight", torch.zeros(2, 4).to_sparse()), ("parameters/more", torch.zeros(1)),
    ("average", None), ("average", {"weight": torch.zeros(2, 4)}), ("average/bias", torch.zeros(3)),
    ("average", {3: torch.zeros(1)}), ("optimizer", {"weight": 3}), ("optimizer/weight", {}),
    ("optimizer/weight/exp_avg", torch.zeros(4, 2)), ("optimizer/weight/step", torch.zeros(3)),
    ("optimizer/weight/momentum", torch.zeros(2, 4)), ("optimizer/weight/exp_avg", "x"),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert "no checkpoint of fdlab's format" in take(tmp_path / "x.ckpt")


@pytest.mark.parametrize(("where", "value"), ELSEWHERE)
def test_a_wrong_type_or_shape_anywhere_is_one_line(
    good: Path, tmp_path: Path, where: str, value: Any
) -> None:
    state = checkpoints.read(good)
    *outer, last = where.split("/")
    place = state
    for key in outer:
        place = place[key]
    place[last] = value
    torch.save(state, tmp_path / "x.ckpt")
    assert str(tmp_path / "x.ckpt") in take(tmp_path / "x.ckpt")


class Evil:
    """What runs when a pickle is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_checkpoint_is_run(good: Path, tmp_path: Path, zipped: bool) -> None:
    state = {**checkpoints.read(good), "kind": Evil(tmp_path / "ran")}
    torch.save(state, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.read(tmp_path / "x.ckpt")
    assert "cannot be read" in take(tmp_path / "x.ckpt")
    assert not (tmp_path / "ran").exists()


def test_depth_is_no_harm(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(sys.getrecursionlimit() // 8):
        deep = {"parameters": deep}
    torch.save({"format": 1, **deep}, tmp_path / "x.ckpt")
    assert take(tmp_path / "x.ckpt")


@pytest.mark.parametrize(("optimizer", "other"), [("adamw", "muon"), ("muon", "adamw")])
def test_the_state_of_another_optimiser_is_refused(tmp_path: Path, optimizer: str, other: str) -> None:
    train(tmp_path, Line(optimizer=optimizer), max_steps=1)
    with pytest.raises(UserError, match=f"of another optimiser than {other}"):
        checkpoints.read_for(Line(optimizer=other), tmp_path / "checkpoints/last.ckpt")


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    state = {
        "format": 1,
        "step": 3,
        "kind": "SDM",
        "parameters": {"w": torch.zeros(100_000)},
        "optimizer": {},
        "average": {},
    }
    torch.save(state, tmp_path / "last.ckpt")
    checkpoints.read(tmp_path / "last.ckpt")
    data = bytearray((tmp_path / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "last.ckpt").write_bytes(data)
    with pytest.raises(UserError, match="checksum"):
        checkpoints.read(tmp_path / "last.ckpt")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages as Linux does")
def test_a_process_beside_the_first_holds_no_copy_of_what_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(Line):
        def __init__(self) -> None:
            super().__init__()
            self.network = torch.nn.Linear(1 << 12, 1 << 9)
            self.start(dict(self.network.named_parameters()))

    module = Wide()
    optimizer = module.configure_optimizers()
    sum(p.square().sum() for p in module.network.parameters()).backward()
    optimizer.step()
    checkpoints.write(tmp_path / "checkpoints" / "last.ckpt", checkpoints.collect(module, optimizer))

    found = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        resumed = continuing.resume_from(module, tmp_path, "auto")
        assert resumed is not None
        found[rank] = resumed.state
    for slot in ("exp_avg", "exp_avg_sq"):
        one, other = (found[rank]["optimizer"]["weight"][slot] for rank in "01")
        assert torch.equal(one, other) and one.any()
        assert not is_mapped(one) and is_mapped(other)


def is_mapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies in pages of a checkpoint's file, not in this process's own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= tensor.data_ptr() < end:
            return line.endswith(".ckpt")
    raise AssertionError("a tensor lies nowhere")
