"""What fdlab/README.md says of adding things is all there is to it: one file each, and everything finds it.

Guiders: tests/cli/test_new_guider.py; metrics: tests/unit/metrics/test_registry.py; options of a model:
tests/config/test_options_of_models.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fdlab.__main__ import main
from fdlab.data.layout import write_ids, write_sample
from fdlab.measure import choose
from tests.worlds import squares, tiny
from tests.worlds.backbones import write_tiny_sd15

BACKBONE = """name: mine
path: {folder}
base: null
tdm: null
sdm: null
own_image_encoder: {folder}/image_encoder
vae: null
text_encoder: null
image_encoder: null
unet: null
fusion: null
image_size: 64
reference_size: 24
max_tokens: 77
"""

EXPERIMENT = """# @package _global_
# A recipe of somebody's own.
defaults:
  - override /model: tdm
  - override /data: fastcomposer
  - override /sampler: tdm
  - override /benchmark: mine
  - override /backbone: mine

experiment: mine
init: base
tdm: base

sampler:
  num_steps: 2
"""


@pytest.mark.long
def test_backbone_benchmark_layout_and_experiment(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "load_extractors", lambda *_, **__: squares.extractors())
    # A backbone: a folder in diffusers' layout, and a file that names it.
    write_tiny_sd15(tmp_path / "backbone", subjects=True)
    (conf / "backbone/mine.yaml").write_text(BACKBONE.format(folder=tmp_path / "backbone"))
    # A benchmark: a folder with benchmark.json, and a file that names it.
    squares.write_benchmark(tmp_path / "bench", subjects=2, prompts=2, images=1, size=64)
    own = (conf / "benchmark/own.yaml").read_text()
    (conf / "benchmark/mine.yaml").write_text(own.replace("folder: ???", f"folder: {tmp_path / 'bench'}"))
    # A person layout: whatever it is, written as samples.
    samples = [tiny.sample(index, 1, size=64) for index in range(4)]
    for sample in samples:
        write_sample(tmp_path / "people", sample)
    write_ids(tmp_path / "people", [sample.id for sample in samples])
    # An experiment: what differs from the defaults.
    (conf / "exp/mine.yaml").write_text(EXPERIMENT)

    trainer = ["trainer=smoke", "trainer.accelerator=cpu", "trainer.max_steps=1", "trainer.sample_every=0"]
    folders = [
        f"data.root={tmp_path / 'people'}",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'c'}",
    ]
    assert main(["data", "check", str(tmp_path / "people")]) == 0
    assert main(["train", "+exp=mine", *trainer, *folders, "name=x"]) == 0
    record = json.loads((tmp_path / "runs/mine/x/evaluation/record.json").read_text())
    assert record["benchmark"]["name"] == "squares" and record["method"]["backbone"] == "mine"
    assert record["method"]["tdm"]["source"] == "this run"
