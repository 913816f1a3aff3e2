"""Released flat checkpoints and folders of pickled weights, in and out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fdlab.cli.checkpoint import main
from fdlab.errors import UserError
from fdlab.exchange import released
from fdlab.exchange.released import export_released, import_folder, import_released, join, read_flat
from fdlab.models.backbone import Backbone, load_backbone, save_backbone
from fdlab.models.nano import build_image_encoder
from tests.worlds.backbones import tiny_sd15


@pytest.fixture(scope="module")
def subjects() -> Backbone:
    return tiny_sd15(seed=5, subjects=True)


@pytest.fixture(scope="module")
def flat(subjects: Backbone) -> dict[str, torch.Tensor]:
    """A file as Face-diffuser's SDM would have it: trained parts fp32, frozen ones bf16."""
    state = join({part: network.state_dict() for part, network in subjects.networks().items()})
    frozen = ("vae.", "text_encoder.")
    return {
        n: t.bfloat16() if n.startswith(frozen) and t.is_floating_point() else t for n, t in state.items()
    }


def test_flat_names_are_the_released_ones(flat: dict[str, torch.Tensor]) -> None:
    for name in (
        "text_encoder.embeddings.token_embedding.weight",
        "text_encoder.embeddings.position_ids",
        "text_encoder.encoder.layers.0.self_attn.q_proj.weight",
        "text_encoder.final_layer_norm.bias",
        "image_encoder.vision_model.embeddings.position_ids",
        "image_encoder.vision_model.embeddings.class_embedding",
        "image_encoder.visual_projection.weight",
        "vae.encoder.mid_block.attentions.0.query.weight",
        "vae.decoder.mid_block.attentions.0.proj_attn.bias",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.weight",
        "postfuse_module.mlp1.layernorm.weight",
        "postfuse_module.mlp2.fc2.bias",
        "postfuse_module.layer_norm.weight",
    ):
        assert name in flat
    assert not any("text_model" in name or (".to_q" in name and name.startswith("vae")) for name in flat)


def test_released_file_becomes_the_same_backbone(
    tmp_path: Path, subjects: Backbone, flat: dict[str, torch.Tensor], sd15_folder: Path
) -> None:
    torch.save(flat, tmp_path / "pytorch_model.bin")
    save_backbone(tmp_path / "encoder", Backbone(name="", image_encoder=subjects.image_encoder))
    encoder = str(tmp_path / "encoder" / "image_encoder")
    arguments = [
        "import",
        str(tmp_path / "pytorch_model.bin"),
        str(tmp_path / "out"),
        "--base",
        str(sd15_folder),
    ]
    assert main([*arguments, "--image-encoder", encoder]) == 0
    loaded = load_backbone(tmp_path / "out")
    assert loaded.networks().keys() == subjects.networks().keys()
    for part, network in subjects.networks().items():
        rounded = part in ("vae", "text_encoder")
        for name, tensor in network.state_dict().items():
            expected = tensor.bfloat16().float() if rounded else tensor
            assert torch.equal(loaded.networks()[part].state_dict()[name], expected)
    # Nothing is widened on the way, and configurations say so.
    stored = load_file(tmp_path / "out/text_encoder/model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/text_encoder/config.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(UserError, match="exists; give another name"):
        main(arguments)
    assert main(["export", str(tmp_path / "out"), str(tmp_path / "again.bin")]) == 0
    again = read_flat(tmp_path / "again.bin")
    assert again.keys() == flat.keys()
    assert all(torch.equal(again[name].float(), tensor.float()) for name, tensor in flat.items())


def test_what_is_only_written_on_stays_in_its_file(
    tmp_path: Path, flat: dict[str, torch.Tensor], sd15_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of five gigabytes needs no five more: its tensors are mapped, and written from there."""
    read, given = released.read_flat, dict[str, torch.Tensor]()
    monkeypatch.setattr(released, "read_flat", lambda path: given.update(read(path)) or given)
    torch.save(flat, tmp_path / "x.bin")
    encoder = tmp_path / "encoder"
    save_backbone(encoder, Backbone(name="", image_encoder=tiny_sd15(subjects=True).image_encoder))
    made = import_released(tmp_path / "x.bin", sd15_folder, encoder / "image_encoder", to_write=True)
    held = {t.data_ptr() for network in made.networks().values() for t in network.state_dict().values()}
    assert {t.data_ptr() for name, t in given.items() if not name.endswith("position_ids")} == held


def test_text_driven_file_has_no_subject_parts(
    tmp_path: Path, flat: dict[str, torch.Tensor], sd15_folder: Path
) -> None:
    torch.save({n: t for n, t in flat.items() if n.startswith("unet.")}, tmp_path / "tdm.bin")
    loaded = import_released(tmp_path / "tdm.bin", sd15_folder)
    assert sorted(loaded.networks()) == ["text_encoder", "unet", "vae"]
    assert torch.equal(loaded.unet.conv_in.weight, flat["unet.conv_in.weight"])
    assert not torch.equal(loaded.vae.quant_conv.weight, flat["vae.quant_conv.weight"].float())


def test_image_encoder_is_made_from_its_tensors(
    tmp_path: Path, subjects: Backbone, sd15_folder: Path
) -> None:
    size = {"hidden_size": 128, "intermediate_size": 64, "projection_dim": 32, "num_hidden_layers": 1}
    encoder = build_image_encoder({**size, "num_attention_heads": 2, "image_size": 42, "patch_size": 14})
    state = join({"image_encoder": encoder.state_dict(), "fusion": subjects.fusion.state_dict()})
    torch.save(state, tmp_path / "sdm.bin")
    made = import_released(tmp_path / "sdm.bin", sd15_folder)
    keys = [*size, "num_attention_heads", "image_size", "patch_size"]
    assert [getattr(made.image_encoder.config, k) for k in keys] == [getattr(encoder.config, k) for k in keys]
    pixels = torch.ones(1, 3, 42, 42)
    with torch.no_grad():
        assert torch.allclose(
            made.image_encoder(pixels).image_embeds, encoder.eval()(pixels).image_embeds, atol=1e-6
        )
    assert made.fusion.config.width == 32


def test_wrong_files(tmp_path: Path, flat: dict[str, torch.Tensor], sd15_folder: Path) -> None:
    file = tmp_path / "x.bin"
    torch.save(flat, file)
    with pytest.raises(UserError, match="width 32 is no CLIP's; give its config"):
        import_released(file, sd15_folder)
    flat = {n: t for n, t in flat.items() if not n.startswith("image_encoder.")}
    torch.save({**flat, "lora.down": torch.ones(1)}, file)
    with pytest.raises(UserError, match=r"tensor 'lora\.down' belongs to no part"):
        import_released(file, sd15_folder)
    torch.save({**flat, "unet.conv_in.weight": torch.ones(3, 3)}, file)
    said = (
        r"x\.bin' does not fit '.*/unet/config\.json' in its unet: tensor 'conv_in\.weight' is \(3, 3\) there"
    )
    with pytest.raises(UserError, match=said):
        import_released(file, sd15_folder)
    torch.save({n: t for n, t in flat.items() if n != "unet.conv_in.weight"}, file)
    with pytest.raises(UserError, match=r"'conv_in\.weight' \(8, 4, 3, 3\) is not in it"):
        import_released(file, sd15_folder)
    torch.save({"model": Path("x")}, file)
    with pytest.raises(UserError, match="nothing else is unpickled"):
        import_released(file, sd15_folder)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"x\.bin'"):
        import_released(file, sd15_folder)
    with pytest.raises(UserError, match="does not exist"):
        import_released(tmp_path / "none.bin", sd15_folder)
    torch.save(flat, file)
    with pytest.raises(UserError, match="give --base"):
        main(["import", str(file), str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"must end in \.bin"):
        main(["export", str(sd15_folder), str(tmp_path / "out.ckpt")])
    for option in ("--tokenizer", "--prediction-type"):
        with pytest.raises(UserError, match=f"{option} epsilon: '.*x.bin' is a flat file, which takes none"):
            main(["import", str(file), str(tmp_path / "out"), "--base", str(sd15_folder), option, "epsilon"])
    with pytest.raises(UserError, match=r"--base x: '.*' is a folder, which takes none"):
        main(["import", str(sd15_folder), str(tmp_path / "out"), "--base", "x"])
    with pytest.raises(UserError, match=r"--image-encoder nowhere: there is no config\.json"):
        import_released(file, sd15_folder, "nowhere")
    with pytest.raises(UserError, match=r"does not exist; .*\(get it: hf download a/b --include"):
        import_released(file, "a/b")
    assert not (tmp_path / "out").exists()


def test_what_became_of_every_tensor_is_told(
    tmp_path: Path, flat: dict[str, torch.Tensor], sd15_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that was saved in the wrapper of data-parallel training, too."""
    file = tmp_path / "x.bin"
    given = {n: t for n, t in flat.items() if n.startswith(("unet.", "text_encoder."))}
    torch.save({f"module.{name}": tensor for name, tensor in given.items()}, file)
    assert main(["import", str(file), str(tmp_path / "out"), "--base", str(sd15_folder)]) == 0
    told = capsys.readouterr().out.splitlines()
    counted = [line.replace(",", "").split(": ") for line in told if " tensors of" in line]
    counts = {part: int(text.split()[0]) for part, text in counted}
    assert counts.keys() == {"unet", "text_encoder"} and sum(counts.values()) == len(given) - 1
    assert f"vae, tokenizer, scheduler: not in it; those of '{sd15_folder}'" in told
    assert "left out, as nothing needs them today: text_encoder.embeddings.position_ids" in told
    unet = load_backbone(tmp_path / "out").unet.state_dict()
    assert all(torch.equal(unet[name], flat[f"unet.{name}"]) for name in unet)


def test_a_folder_of_pickled_weights_is_converted(tmp_path: Path, sd15_folder: Path) -> None:
    shutil.copytree(sd15_folder, tmp_path / "old")
    for file in (tmp_path / "old").rglob("*.safetensors"):
        stem = "pytorch_model" if file.stem == "model" else file.stem
        torch.save(load_file(file), file.with_name(f"{stem}.bin"))
        file.unlink()
    with pytest.raises(UserError, match="fdlab checkpoint import"):
        load_backbone(tmp_path / "old")
    assert main(["import", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    new, reference = load_backbone(tmp_path / "new"), load_backbone(sd15_folder)
    for part, network in reference.networks().items():
        state = new.networks()[part].state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert import_folder(sd15_folder).networks().keys() == reference.networks().keys()


def test_info(
    tmp_path: Path, sd15_folder: Path, subjects: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    export_released(tmp_path / "flat.safetensors", subjects)
    main(["info", str(tmp_path / "flat.safetensors")])
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    parameters = sum(p.numel() for p in subjects.unet.parameters())
    assert f"{parameters:,}" in rows["unet"] and "float32" in rows["fusion"]
    main(["info", str(sd15_folder)])
    assert "UNet2DConditionModel" in capsys.readouterr().out


def test_nothing_that_is_read_is_written_over(
    tmp_path: Path, sd15_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sd15_folder, tmp_path / "sd")
    before = sorted(path.name for path in (tmp_path / "sd").iterdir())
    held = ["import", str(tmp_path / "sd/unet"), str(tmp_path / "sd"), "--force"]
    with pytest.raises(UserError, match=r"sd' is, or holds, '.*/sd/unet', which is read; give another name"):
        main(held)
    monkeypatch.chdir(tmp_path)
    export = ["export", "sd", "sd", "--layout", "diffusers", "--force"]
    with pytest.raises(UserError, match="'sd' is, or holds, 'sd', which is read"):
        main(export)
    with pytest.raises(UserError, match=r"'\.' is where this works"):
        main([*export[:2], ".", *export[3:]])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"'file/out' cannot be written in '.*file'"):
        main([*export[:2], "file/out", *export[3:]])
    assert sorted(path.name for path in (tmp_path / "sd").iterdir()) == before
