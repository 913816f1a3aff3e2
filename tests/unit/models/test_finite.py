"""Numbers that are none are refused wherever weights are written or read, and where pictures are drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fdlab.assets import asset_path
from fdlab.errors import UserError
from fdlab.exchange.contents import describe
from fdlab.exchange.released import export_released, import_released, join, read_flat
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.clip import load_clip
from fdlab.models.judge import Judge
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline
from fdlab.weights.files import check_finite
from tests.worlds.backbones import tiny_backbone

BAD = (float("nan"), float("inf"), -float("inf"))
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64)


@pytest.mark.parametrize("place", [0, 7, -1])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_bad_value_among_good_ones_is_found(dtype: torch.dtype, value: float, place: int) -> None:
    values = torch.linspace(-50, 50, 15)
    good = {"a": torch.zeros(0), "b": torch.arange(3), "c": values.to(dtype), "d": torch.tensor([True])}
    check_finite(good, "file")
    values[place] = value
    with pytest.raises(UserError, match="'file': tensor 'c' has values that are not finite"):
        check_finite({**good, "c": values.to(dtype).reshape(3, 5)}, "file")
    with pytest.raises(UserError, match="'file': tensor 'c'"):
        check_finite({**good, "c": values.to(dtype).reshape(3, 5).T}, "file")


def test_the_largest_numbers_are_numbers() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        largest = torch.finfo(dtype).max
        check_finite({"a": torch.full((1000,), largest, dtype=dtype)}, "file")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    save_backbone(root / "tiny", tiny_backbone())
    return root


def spoil(file: Path, name: str, value: float = float("nan")) -> None:
    state = load_file(file)
    state[name].view(-1)[3] = value
    save_file(state, file, metadata={"format": "pt"})


def flat(folder: Path, suffix: str) -> Path:
    state = join({part: net.state_dict() for part, net in tiny_backbone().networks().items()})
    state["unet.conv_in.bias"].view(-1)[1] = float("nan")
    file = folder / f"flat{suffix}"
    if suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    else:
        torch.save(state, file)
    return file


READERS: dict[str, Callable[[Path], Any]] = {
    "backbone": load_backbone,
    "checkpoint info": describe,
    "checkpoint import, with a folder's own": lambda folder: describe(folder / "unet"),
}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("reader", READERS)
def test_a_folder_is_refused(reader: str, value: float, sound: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sound / "tiny", tmp_path / "model")
    READERS[reader](folder)
    spoil(folder / "unet/diffusion_pytorch_model.safetensors", "conv_in.bias", value)
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors': tensor 'conv_in\.bias'"):
        READERS[reader](folder)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_flat_file_is_refused(suffix: str, sound: Path, tmp_path: Path) -> None:
    file = flat(tmp_path, suffix)
    for read in (read_flat, describe, lambda path: import_released(path, sound / "tiny")):
        with pytest.raises(UserError, match=rf"flat\{suffix}': tensor 'unet\.conv_in\.bias' has values"):
            read(file)


@pytest.mark.parametrize("value", BAD)
def test_nothing_is_written(value: float, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.fusion.layer_norm.weight.view(-1)[0] = value
    for half in (False, True):
        with pytest.raises(UserError, match=r"tensor 'layer_norm\.weight' has values that are not finite"):
            save_backbone(tmp_path / "model", Backbone(name="", fusion=backbone.fusion), half)
    for name in ("flat.bin", "flat.safetensors"):
        with pytest.raises(UserError, match=rf"{name}': tensor 'postfuse_module\.layer_norm\.weight'"):
            export_released(tmp_path / name, backbone)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("file", "name"), [("model", "visual_projection.weight"), ("heads", None)])
def test_the_judge_is_refused(file: str, name: str | None, tmp_path: Path) -> None:
    folder = shutil.copytree(asset_path("nano/judge"), tmp_path / "judge")
    weights = folder / f"{file}.safetensors"
    spoil(weights, name or next(n for n, t in load_file(weights).items() if t.numel() > 3))
    with pytest.raises(UserError, match="has values that are not finite"):
        Judge.load(folder)
    if file == "model":
        with pytest.raises(UserError, match=r"judge': tensor 'visual_projection\.weight'"):
            load_clip(folder)


def test_no_picture_is_drawn(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    pipe = FaceDiffuserPipeline.from_backbones(tdm=backbone, sdm=backbone)
    pipe.set_progress_bar_config(disable=True)
    call = {"guider": "tdm", "num_inference_steps": 2, "seeds": [0], "height": 64, "width": 64}
    assert pipe("a woman", **call).images
    pipe.save_pretrained(tmp_path / "pipe")
    backbone.vae.decoder[0].bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="the pixels are not finite"):
        pipe("a woman", **call)
    assert pipe("a woman", **call, output_type="latent").images.isfinite().all()
    backbone.unet.conv_in.bias.data[0] = float("inf")
    for output_type in ("pil", "latent"):
        with pytest.raises(UserError, match="the latents are not finite"):
            pipe("a woman", **call, output_type=output_type)
    spoil(tmp_path / "pipe/tdm_unet/diffusion_pytorch_model.safetensors", "conv_in.bias")
    with pytest.raises(UserError, match=r"pipe/tdm_unet/.*': tensor 'conv_in\.bias'"):
        FaceDiffuserPipeline.from_pretrained(tmp_path / "pipe")
