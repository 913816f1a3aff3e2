"""Folders in, backbones out; and one clear line for every folder that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from fdlab.errors import UserError
from fdlab.models.backbone import ALL, Backbone, load_backbone, part_folders, save_backbone
from tests.worlds.backbones import tiny_backbone, tiny_sd15


@pytest.fixture
def broken(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def same(a: Backbone, b: Backbone) -> bool:
    ours, theirs = a.networks(), b.networks()
    return ours.keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[part].state_dict()[name])
        for part, network in ours.items()
        for name, tensor in network.state_dict().items()
    )


def test_what_is_saved_is_loaded(tiny: Backbone) -> None:
    fresh = tiny_backbone()
    assert same(fresh, tiny)
    assert (tiny.image_size, tiny.latent_shape_CHW) == (64, (4, 8, 8))
    assert (tiny.max_tokens, tiny.reference_size) == (32, 24)
    assert tiny.scheduler_config == fresh.scheduler_config
    for network in tiny.networks().values():
        assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert not same(fresh, tiny_backbone(seed=1))


def test_loaded_networks_compute_the_same(tiny: Backbone) -> None:
    fresh = tiny_backbone()
    ids = torch.arange(32)[None]
    pixels = torch.linspace(-1, 1, 3 * 24 * 24).view(1, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(tiny.text_encoder(ids)[0], fresh.text_encoder(ids)[0])
        assert torch.equal(tiny.image_encoder(pixels).image_embeds, fresh.image_encoder(pixels).image_embeds)


def test_loading_leaves_the_global_random_stream(tiny_folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_backbone(tiny_folder)
    tiny_backbone()
    assert torch.equal(torch.rand(2), expected)


def test_stable_diffusion_layout(sd15_folder: Path) -> None:
    backbone = load_backbone(sd15_folder)
    assert backbone.image_encoder is None and backbone.fusion is None
    assert (backbone.image_size, backbone.latent_shape_CHW, backbone.max_tokens) == (64, (4, 8, 8), 77)
    assert (
        backbone.scheduler_config is not None and backbone.scheduler_config["_class_name"] == "PNDMScheduler"
    )
    assert same(backbone, tiny_sd15())
    assert load_backbone(sd15_folder, image_size=128).latent_shape_CHW == (4, 16, 16)
    with pytest.raises(UserError, match="image_size=100: must be a multiple of 64"):
        load_backbone(sd15_folder, image_size=100)
    with pytest.raises(UserError, match=r"no image_encoder.*backbone\.image_encoder=FOLDER"):
        load_backbone(sd15_folder, parts=["unet", "image_encoder"])
    with pytest.raises(UserError, match="no fusion"):
        backbone.need("fusion")


def test_half_precision_is_loaded_as_full(tmp_path: Path) -> None:
    fresh = tiny_backbone()
    save_backbone(tmp_path / "half", fresh, half=True)
    save_backbone(tmp_path / "full", fresh)
    sizes = [
        (tmp_path / kind / "unet/diffusion_pytorch_model.safetensors").stat().st_size
        for kind in ("half", "full")
    ]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_backbone(tmp_path / "half")
    for part, network in loaded.networks().items():
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, fresh.networks()[part].state_dict()[name].half().float())


def test_overrides_replace_parts(tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny_backbone(seed=1)
    save_backbone(tmp_path / "tuned", Backbone(name="tuned", unet=other.unet, fusion=other.fusion))
    assert sorted(part_folders(tmp_path / "tuned")) == ["fusion", "unet"]
    mixed = load_backbone(tiny_folder, {**part_folders(tmp_path / "tuned"), "vae": None})
    fresh = tiny_backbone()
    assert same(Backbone(name="", unet=mixed.unet), Backbone(name="", unet=other.unet))
    assert same(Backbone(name="", vae=mixed.vae), Backbone(name="", vae=fresh.vae))
    assert mixed.folders["unet"] == tmp_path / "tuned" / "unet"
    absent = {"image_encoder": tmp_path / "absent"}
    assert list(load_backbone(tiny_folder, absent, parts=["vae", "unet"]).networks()) == ["vae", "unet"]
    with pytest.raises(UserError, match="absent' does not exist"):
        load_backbone(tiny_folder, absent)


def test_parts_and_their_sizes_without_the_rest(tiny_folder: Path) -> None:
    backbone = load_backbone(tiny_folder, parts=["vae"])
    assert list(backbone.networks()) == ["vae"] and backbone.latent_shape_CHW == (4, 8, 8)
    with pytest.raises(UserError, match=r"unknown part of a backbone 'unett'.*'unet'"):
        load_backbone(tiny_folder, parts=["unett"])


def test_saving_over_a_folder_replaces_it_whole(tmp_path: Path) -> None:
    save_backbone(tmp_path / "model", tiny_backbone())
    (tmp_path / "model" / "left-over").touch()
    save_backbone(tmp_path / "model", Backbone(name="", unet=tiny_backbone(1).unet))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model_index.json", "unet"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_folder(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    save_backbone(tmp_path / "model", backbone)
    backbone.fusion.layer_norm.weight.fill_(1e6)
    with pytest.raises(UserError, match=r"layer_norm\.weight.*fp16"):
        save_backbone(tmp_path / "model", backbone, half=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert same(load_backbone(tmp_path / "model"), tiny_backbone())


def test_missing_folder_or_part(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        load_backbone("nowhere")
    with pytest.raises(UserError, match="no asset 'asset:nanno'"):
        load_backbone("asset:nanno")
    shutil.rmtree(broken / "vae")
    with pytest.raises(UserError, match=r"no vae in .*backbone\.vae=FOLDER"):
        load_backbone(broken)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no part of a model"):
        part_folders(tmp_path / "empty")
    (tmp_path / "pipe/sdm_unet").mkdir(parents=True)
    (tmp_path / "pipe/vae").mkdir()
    with pytest.raises(UserError, match=r"is a pipeline's folder \(sdm_unet\).*give a run's folder"):
        part_folders(tmp_path / "pipe")


def test_pickled_weights_are_refused_and_named(broken: Path, tmp_path: Path) -> None:
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(
        UserError, match=r"diffusion_pytorch_model\.bin' is not safetensors.*fdlab checkpoint import"
    ):
        load_backbone(broken)
    (tmp_path / "sd.ckpt").touch()
    with pytest.raises(UserError, match=r"sd\.ckpt' is not safetensors"):
        load_backbone(tmp_path / "sd.ckpt")


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"version https://git-lfs.github.com/spec/v1\n", None]
)
def test_corrupt_weights(broken: Path, content: bytes | None) -> None:
    file = broken / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10] if content is None else content)
    with pytest.raises(
        UserError, match=r"text_encoder/model\.safetensors' is (corrupt|cut short|empty|a git-lfs pointer)"
    ):
        load_backbone(broken)


def test_weights_of_another_architecture(broken: Path, sd15_folder: Path) -> None:
    name = "diffusion_pytorch_model.safetensors"
    shutil.copy(sd15_folder / "unet" / name, broken / "unet" / name)
    with pytest.raises(
        UserError, match=r"another architecture: tensor '\S+' is \([\d, ]+\) there and \([\d, ]+\) here"
    ):
        load_backbone(broken)


def test_parts_that_do_not_fit_each_other(tiny_folder: Path, tmp_path: Path) -> None:
    from fdlab.models.nano import build_unet

    save_backbone(tmp_path / "nano", Backbone(name="", unet=build_unet()))
    with pytest.raises(UserError, match="unet does not fit the vae: in_channels is 16, latent_channels is 4"):
        load_backbone(tiny_folder, part_folders(tmp_path / "nano"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"_class_name": "Evil"}', "unknown class for the unet.*'Evil'.*UNet2DConditionModel"),
        ("{", "is no JSON"),
        (
            '{"_class_name": "UNet2DConditionModel", "down_block_types": ["Nothing"]}',
            "does not make a UNet2DConditionModel",
        ),
    ],
)
def test_bad_config(broken: Path, text: str, message: str) -> None:
    (broken / "unet" / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_backbone(broken)


def test_shards(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    file.unlink()
    names = sorted(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, part in shards.items():
        save_file({name: state[name] for name in part}, file.with_name(shard))
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    file.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert same(load_backbone(broken), tiny_backbone())
    file.with_name("b.safetensors").unlink()
    with pytest.raises(UserError, match=r"b\.safetensors' are missing"):
        load_backbone(broken)


def test_transformers_and_diffusers_read_what_is_saved(tiny_folder: Path, tiny: Backbone) -> None:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    text = CLIPTextModel.from_pretrained(tiny_folder / "text_encoder")
    unet = UNet2DConditionModel.from_pretrained(tiny_folder / "unet", low_cpu_mem_usage=False)
    assert all(torch.equal(t, tiny.text_encoder.state_dict()[n]) for n, t in text.state_dict().items())
    assert all(torch.equal(t, tiny.unet.state_dict()[n]) for n, t in unet.state_dict().items())


def test_whole_clip_model_serves_as_image_encoder(tiny_folder: Path, tmp_path: Path, tiny: Backbone) -> None:
    from safetensors.torch import save_file
    from transformers import CLIPConfig

    config = CLIPConfig(vision_config=tiny.image_encoder.config.to_dict(), projection_dim=32)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**written, "architectures": ["CLIPModel"]}))
    state = {name: t.contiguous() for name, t in tiny.image_encoder.state_dict().items()}
    state |= {"text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.ones(())}
    state |= {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_backbone(tiny_folder, {"image_encoder": tmp_path}, parts=["image_encoder"])
    assert same(loaded, Backbone(name="", image_encoder=tiny.image_encoder))


def test_all_names_every_part() -> None:
    encoders = {"text_encoder", "text_encoder_2", "image_encoder", "fusion"}
    assert set(ALL) == {"vae", *encoders, "unet", "tokenizer", "tokenizer_2", "scheduler"}
