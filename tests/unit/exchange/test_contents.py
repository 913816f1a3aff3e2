"""`checkpoint info`: what ships, as it lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fdlab.cli.checkpoint import main
from fdlab.errors import UserError
from fdlab.exchange.contents import describe
from fdlab.files import write_json


def test_weights_in_eight_bits_are_said_to_be() -> None:
    rows = {row.part: row for row in describe("asset:nano/early")}
    assert rows["unet"].dtypes == "float16+int8"
    plain = next(row for row in describe("asset:nano/base") if row.part == "unet")
    assert (rows["unet"].tensors, rows["unet"].parameters) == (plain.tensors, plain.parameters)


def test_the_judge_is_its_clip_and_what_answers() -> None:
    clip, heads = describe("asset:nano/judge")
    assert (clip.part, clip.class_name) == ("clip", "CLIPModel")
    assert (heads.part, heads.class_name, heads.dtypes) == ("heads", "Answering", "float16+int8")
    assert heads.parameters > 800_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("shipped", r"What ships: .*asset:nano/sdm, asset:nano/tdm\.$"),
        ("early", "Did you mean 'asset:nano/early'"),
    ],
)
def test_what_is_not_there_is_told_what_ships(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        describe(given)


def test_a_pipelines_folder_shows_both_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unet, text = ["diffusers", "UNet2DConditionModel"], ["transformers", "CLIPTextModel"]
    listed = {"text_encoder": text, "tdm_text_encoder_2": text, "tdm_unet": unet, "sdm_unet": unet}
    for part, (_, name) in listed.items():
        write_json(tmp_path / part / "config.json", {"_class_name": name})
        save_file({"a": torch.ones(2, 3)}, tmp_path / part / "model.safetensors")
    none = {"vae": [None, None], "../tdm_unet": unet, "zero_empty_prompt": False}
    write_json(tmp_path / "model_index.json", {**listed, **none})
    rows = {row.part: row for row in describe(tmp_path)}
    assert rows.keys() == listed.keys()
    assert all((rows[part].class_name, rows[part].parameters) == (listed[part][1], 6) for part in listed)
    assert main(["info", str(tmp_path)]) == 0
    assert len({line.index("  float") for line in capsys.readouterr().out.splitlines()[1:]}) == 1


def test_what_a_file_is_that_has_no_place_here(tmp_path: Path) -> None:
    save_file({"decoder.conv_in.weight": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors' is an autoencoder alone"):
        describe(tmp_path / "x.safetensors")
