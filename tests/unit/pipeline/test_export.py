"""A run of an SDM, and a TDM beside it, as a folder that the pipeline reads by itself."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fdlab import FaceDiffuserPipeline
from fdlab.cli.checkpoint import main
from fdlab.files import write_text
from fdlab.models.backbone import load_backbone, save_backbone
from fdlab.models.nano import SHIPPED
from fdlab.pipeline.export import write_pipeline
from tests.worlds.backbones import tiny_sd15


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone's folder, and what two trainings of it left."""
    folder = tmp_path_factory.mktemp("world")
    whole = tiny_sd15(subjects=True)
    save_backbone(folder / "base", whole)
    for kind, parts in (("tdm", ("unet", "scheduler")), ("sdm", ("unet", "scheduler", "fusion"))):
        own = deepcopy(whole)
        with torch.no_grad():
            for p in own.unet.parameters():
                p += 0.01 if kind == "tdm" else -0.01
        for part in ("vae", "text_encoder", "image_encoder", "tokenizer", "fusion"):
            if part not in parts:
                setattr(own, part, None)
        save_backbone(folder / kind / "model", own)
        write_text(
            folder / kind / "config.yaml",
            f"backbone: {{name: sd15, path: '{folder / 'base'}', image_size: 64, guidance_scale: 2.5}}\n",
        )
    write_text(folder / "sdm/model/training.json", '{"steps": 12, "kind": "sdm", "lr": 0.001}')
    return folder


def test_the_folder_draws_as_the_models_do(world: Path, tmp_path: Path) -> None:
    line = ["export", str(world / "sdm"), str(tmp_path / "out"), "--layout", "pipeline"]
    assert main([*line, "--tdm", str(world / "tdm")]) == 0
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "out")
    models = {
        kind: load_backbone(
            world / "base", {p.name: p for p in (world / kind / "model").iterdir() if p.is_dir()}
        )
        for kind in ("tdm", "sdm")
    }
    made = FaceDiffuserPipeline.from_backbones(**models)
    assert read.config.guidance_scale == 2.5
    drawn = []
    for pipe in (read, made):
        pipe.set_progress_bar_config(disable=True)
        face = Image.new("RGB", (24, 24), (200, 150, 120))
        asked = {"seeds": [1], "num_inference_steps": 5, "guidance_scale": 2.5, "output_type": "latent"}
        drawn.append(pipe("a man <|image|> on a beach", face, **asked).images)
    torch.testing.assert_close(drawn[0], drawn[1])
    card = (tmp_path / "out/README.md").read_text()
    assert "* SDM: steps 12, lr 0.001" in card and "* TDM: nothing is known of its training" in card
    assert "library_name: fdlab" in card and str(world) not in card


def test_an_sdm_alone_and_half(world: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "out", str(world / "sdm"), None, None, half=True)
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "out")
    assert read.tdm_unet is None and read.sdm_unet is not None
    stored = load_file(tmp_path / "out/sdm_unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert 'guider="sdm"' in (tmp_path / "out/README.md").read_text()


def test_the_base_may_stand_beside_it(world: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "out", str(world / "sdm"), "base", None, half=False)
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "out")
    base = load_backbone(world / "base").unet.state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in read.tdm_unet.state_dict().items())


def test_what_ships_goes_on_as_it_ships(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "out", "asset:nano/sdm", "asset:nano/tdm", "asset:nano", half=True)
    read = FaceDiffuserPipeline.from_pretrained(tmp_path / "out")
    assert {key: read.config[key] for key in SHIPPED} == SHIPPED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["out.bin", "--layout", "pipeline"], "writes a folder"),
        (["out.bin", "--tdm", "x"], "--tdm goes with --layout pipeline alone"),
        (["out", "--layout", "pipeline", "--tdm", "nowhere"], "nowhere"),
    ],
)
def test_wrong_words_are_one_line(world: Path, tmp_path: Path, words: list[str], said: str) -> None:
    from fdlab.errors import UserError

    with pytest.raises(UserError, match=said):
        main(["export", str(world / "sdm"), str(tmp_path / words[0]), *words[1:]])
