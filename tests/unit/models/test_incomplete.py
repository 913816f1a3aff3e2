"""Folders and files from which something is missing: what, and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fdlab.assets import hub
from fdlab.errors import UserError
from fdlab.exchange.unpacking import read_backbone
from fdlab.models.backbone import load_backbone, missing_part, part_folders, save_backbone
from fdlab.models.parts import save_part
from fdlab.weights.files import read_weights
from fdlab.weights.lora_files import LoraChoice, read_lora
from tests.worlds.backbones import tiny_sd15, tiny_tokenizer
from tests.worlds.original import tiny_original, write_original


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_backbone(tmp_path / "sd", tiny_sd15())
    return tmp_path / "sd"


def test_a_part_without_its_config(folder: Path) -> None:
    (folder / "unet/config.json").unlink()
    with pytest.raises(UserError, match=r"/unet' has no config\.json, so that nobody knows what its weights"):
        load_backbone(folder)


def test_an_inpainting_model_is_named(folder: Path) -> None:
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps({**config, "in_channels": 9}))
    with pytest.raises(UserError, match=r"backbone\.path=.* holds an inpainting model .*, which is not"):
        read_backbone({"name": "sd15", "path": str(folder)}, folder)


def test_a_pickled_part_is_brought_in_with_its_folder(folder: Path) -> None:
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=f"checkpoint import '{folder}' OUT"):
        load_backbone(folder)


def test_no_scheduler_is_named_by_no_key() -> None:
    assert str(missing_part("scheduler", "x")) == "no scheduler in 'x'; copy the whole folder again."


def test_the_rest_of_a_download_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (Path("models/stable-diffusion-v1-5"), Path("models/stable-diffusion-v1-5/unet")):
        assert "; get the rest: hf download stable-diffusion-v1-5/" in hub.how_to_complete(place)
    assert hub.how_to_complete(tmp_path) == ""
    pieces = "--include '*/diffusion_pytorch_model-*.safetensors'"
    asked = ("models/stable-diffusion-v1-5", "stabilityai/stable-diffusion-3.5-large")
    assert [pieces in hub.how_to_get(name) for name in asked] == [False, True]
    Path("models/stable-diffusion-v1-5").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no part of a model; .*; get the rest: hf download"):
        part_folders("models/stable-diffusion-v1-5")


def test_a_single_file_without_an_autoencoder(tmp_path: Path) -> None:
    file = write_original(tmp_path / "model.safetensors", tiny_original("sd1"))
    save_file({n: v for n, v in load_file(file).items() if not n.startswith("first_stage_model.")}, file)
    save_part(tmp_path / "tokenizer", "tokenizer", tiny_tokenizer(77))
    node = {"name": "x", "path": str(file), "image_size": 64}
    with pytest.raises(UserError, match=r"model\.safetensors' holds no autoencoder; give one as backbone\.v"):
        read_backbone(node, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/backbones/[!.]*"))


def test_what_is_no_model_is_said_before_a_tokenizer_is_asked_for(tmp_path: Path) -> None:
    save_file({"lora_unet_down.lora_down.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is a LoRA"):
        read_backbone({"name": "x", "path": str(tmp_path / "x.safetensors")}, tmp_path / "cache")


def test_what_a_training_made_is_no_backbone(folder: Path) -> None:
    (folder / "training.json").write_text("{}")
    read_backbone({"name": "sd15", "path": str(folder)}, folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(UserError, match=r"is what a training made; .* as tdm=, sdm= or init="):
        read_backbone({"name": "sd15", "path": str(folder)}, folder)


def test_a_runs_state_is_named_by_its_run(tmp_path: Path) -> None:
    state = tmp_path / "run/checkpoints/last.ckpt"
    state.parent.mkdir(parents=True)
    (tmp_path / "run/config.yaml").touch()
    with pytest.raises(
        UserError, match=f"is the state of a run; give the run's folder, '{tmp_path / 'run'}'"
    ):
        read_weights(state)


@pytest.mark.parametrize("place", ["model/pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"])
def test_a_lora_is_a_runs_folder_or_a_pickled_file_too(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(32, 2)}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    given = str(tmp_path if file.suffix == ".safetensors" else file)
    assert LoraChoice.read(given).path == str(file)
    (update,) = read_lora(given)["unet"].values()
    assert update.rank == 2 and float(update.delta(torch.empty(32, 32)).mean()) == 2
    with pytest.raises(UserError, match=r"backbone\.loras: '.*' has no pytorch_lora_weights\.safetensors"):
        (tmp_path / "empty").mkdir()
        LoraChoice.read(str(tmp_path / "empty"))
