"""The speed benchmark: it compares the same pictures, counts what is known, and writes what can be read."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fdlab import FaceDiffuserPipeline
from fdlab.diffusion.schedulers import make_scheduler
from tests.worlds.backbones import tiny_backbone, tiny_sd15

FOLDER = Path(__file__).parents[3] / "experiments" / "sampling_speed"
NAMES = ("benchmark", "flops", "machine", "released_loop", "workloads")


@pytest.fixture(scope="module")
def speed() -> Iterator[SimpleNamespace]:
    """The scripts' modules, which import each other as they do when run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        modules = SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
        # Matrix products of a size that takes no time.
        patch.setattr(modules.flops, "SIDES", {"cpu": (64,)})
        yield modules
    for name in NAMES:
        del sys.modules[name]


def tiny(speed: SimpleNamespace, make: Callable[[int], Any]) -> Any:
    """Two models and two pictures."""
    sdm = make(2)
    tdm = replace(make(1), text_encoder=sdm.text_encoder)
    pipeline = FaceDiffuserPipeline.from_backbones(tdm, sdm, make_scheduler("ddim", {}))
    return speed.workloads.Workload("tiny", pipeline, *speed.workloads.random_embeddings(2, 7, 32), 64)


@pytest.mark.long
def test_both_draw_the_same_pictures_and_the_table_is_written(speed: SimpleNamespace, tmp_path: Path) -> None:
    said: list[str] = []
    work = tiny(speed, tiny_backbone)
    result = speed.benchmark.measure(work, [1, 2], 8, repeats=1, ceiling_seconds=0, say=said.append)
    speed.benchmark.write(result, tmp_path)
    assert result["float32_difference"]["latent_max"] < 1e-3
    assert all(row["difference"]["pixel_max"] < 1e-3 for row in result["rows"])
    assert result["unet_rows"] == 2 * 3 + 4 * 2 + 2 * 3, "steps 0-2 TDM, 3-4 both, 5-7 SDM"
    assert 0 < result["flops"]["fdlab"] < result["flops"]["released"]
    read = json.loads((tmp_path / "results.json").read_text())
    assert [len(row["fdlab"]["seconds"]) for row in read["rows"]] == [1, 1]
    lines = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["1", "2"]
    assert len({line.count("|") for line in lines}) == 1 and len(said) == 4


def test_different_pictures_are_not_compared(speed: SimpleNamespace) -> None:
    work = tiny(speed, tiny_sd15)
    released = speed.benchmark.Released(work)
    inputs = speed.benchmark.inputs_of(work, 1, torch.device("cpu"), torch.float32)
    speed.benchmark.check_agreement(speed.benchmark.compare(work, released, inputs, 4))
    released.unets[1].conv_out.weight.data.mul_(1.5)
    difference = speed.benchmark.compare(work, released, inputs, 4)
    with pytest.raises(RuntimeError, match="different pictures"):
        speed.benchmark.check_agreement(difference)


@pytest.mark.long
def test_operations_of_stable_diffusion(speed: SimpleNamespace) -> None:
    """SD-1.5 at 512 px: 803 GFLOP a call, 130 calls, 107 TFLOP a picture."""
    with torch.device("meta"):
        parts = speed.workloads.sd15_networks()
    flops = speed.flops.count(parts["tdm_unet"], parts["vae"], (4, 64, 64), 77, 50)
    assert speed.released_loop.unet_rows(50) == 130
    assert round(flops.unet_row / 1e9) == 803 and round(flops.released / 1e12) == 107
    # 16 layers' keys and values of 77 tokens, which fdlab computes 4 times in place of 130.
    kept = 126 * 2 * 2 * 77 * 768 * (5 * 320 + 5 * 640 + 6 * 1280)
    assert flops.released - flops.fdlab == kept


def test_recompiling_fails_loudly(speed: SimpleNamespace) -> None:
    """Of ten steps, the SDM enters at step 4 and the TDM leaves after step 6."""
    nothing = [0] * 10

    def compiled(*steps: int) -> list[int]:
        return [int(step in steps) for step in range(10)]

    for fine in (compiled(0), compiled(0, 4)):
        speed.benchmark.check_compiles(fine, nothing)
    for steps, later in (((0, 1), nothing), ((0, 7), nothing), ((), nothing), ((0,), compiled(4))):
        with pytest.raises(RuntimeError, match="graphs"):
            speed.benchmark.check_compiles(compiled(*steps), later)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--backbone", "nan"], "nano"),
        (["--width", "64"], "width is 64"),
        (["--backbone", "sd15-random", "--size", "100"], "such as 128"),
        (["--batch", "0"], "batch is"),
    ],
)
def test_wrong_input_is_told_in_a_line(
    speed: SimpleNamespace, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert speed.benchmark.main(given) == 2
    assert said in capsys.readouterr().err
