"""What a run says of its own pace, and that saying it changes nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fdlab.engine.callbacks import curves, profile, speed
from fdlab.training.fit import fit
from fdlab.training.initial import make_module
from fdlab.training.settings import FitSettings

Configure = Callable[..., Any]
MORE = ("trainer.max_steps=4", "trainer.log_every=2", "trainer.sample_every=0")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(autouse=True)
def short_runs_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FEWEST", 1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_says_how_fast_it_goes(configure: Configure, accumulate: int) -> None:
    cfg = configure("tdm", f"trainer.accumulate={accumulate}", *MORE)
    found = rows(fit(cfg).run_dir / "speed.csv")
    assert [row["step"] for row in found] == ["2", "4"]
    for row in found:
        assert float(row["images_per_second"]) > 0 and 0 <= float(row["data_wait"]) <= 1
        # A process that has imported torch holds more than 100 MiB.
        assert 0.1 < float(row["memory"]) < 24 and float(row["tflops"]) > 0
        assert "utilisation" not in row, "nobody knows what a CPU can do"


def test_operations_are_those_of_a_pass(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = configure("tdm", *MORE)
    counted: list[float] = []
    operations = speed.operations

    def seen(*given: Any) -> float:
        counted.append(operations(*given))
        return counted[-1]

    monkeypatch.setattr(speed, "operations", seen)
    fit(cfg)
    _, module = make_module(FitSettings.read(cfg))
    unet, batch = module.backbone.unet, int(cfg.trainer.batch_size)
    z = torch.zeros(batch, *module.backbone.latent_shape_CHW)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(z, torch.zeros(batch, dtype=torch.long), torch.zeros(batch, 32, unet.config.cross_attention_dim))
    # Forward and backward are three forward passes, but for the first layer; the text's comes besides.
    assert len(counted) == 1 and counted[0] == pytest.approx(3 * counter.get_total_flops(), rel=0.25)


@pytest.mark.long
def test_counting_and_tracing_change_no_number(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of one step; what three make takes long to put into a table.
    monkeypatch.setattr(profile, "SKIPPED", 1)
    monkeypatch.setattr(profile, "TRACED", 1)
    looked = fit(configure("tdm", "name=looked", "profile=true", *MORE))
    monkeypatch.setattr(speed.Speed, "on_train_batch_start", lambda *_: None)
    plain = fit(configure("tdm", "name=plain", *MORE))
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (looked.model / file).read_bytes() == (plain.model / file).read_bytes()
    trace = (looked.run_dir / "profile" / "trace.json").read_text()
    assert '"traceEvents"' in trace and "aten::convolution" in trace
    assert "Self CPU" in (looked.run_dir / "profile" / "operations.txt").read_text()
    assert not (plain.run_dir / "profile").exists()


def test_the_gradients_norm_is_a_curve(configure: Configure) -> None:
    found = rows(fit(configure("sdm", *MORE)).run_dir / "metrics.csv")
    assert all(float(row["grad_norm"]) > 0 for row in found)


def test_a_file_of_fewer_columns_goes_on_with_those(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds,lr,loss\n1,0.5,0.1,2.0\n2,0.9,0.1,1.5\n")
    assert curves.cut(path, 1) == 0.5
    curves.append(path, {"step": 2, "seconds": 1.0, "lr": 0.1, "loss": 1.0, "grad_norm": 3.0})
    assert [row["loss"] for row in rows(path)] == ["2.0", "1.0"] and "grad_norm" not in path.read_text()


def test_a_device_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert speed.peak_tflops(torch.device("cuda:0")) == 989
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    assert speed.peak_tflops(torch.device("cuda:0")) == 312
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "something else")
    assert speed.peak_tflops(torch.device("cuda:0")) is None is speed.peak_tflops(torch.device("cpu"))
