"""Training small matrices beside a denoiser's weights: one step by hand, exact resume, what is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

from fdlab.caches.prepare import prepare
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Shape
from fdlab.engine.draws import Draws
from fdlab.models.backbone import load_backbone
from fdlab.training import objective
from fdlab.training.fit import fit
from fdlab.training.initial import make_module
from fdlab.training.settings import FitSettings
from fdlab.training.subject_augmented import SDM
from fdlab.weights.lora_files import DIFFUSERS_FILE

Configure = Callable[..., Any]
LORA = ("model.lora_rank=2", "model.lora_alpha=6", "model.lora_targets=[transformer]", "trainer.precision=32")


@pytest.fixture
def batch(world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path: Path) -> dict[str, Any]:
    backbone = load_backbone(backbone_folder, parts=("vae", "tokenizer"))
    shape = Shape(world.IMAGE, backbone.latent_shape_CHW, world.REFERENCE, 2)
    source = prepare(people_folder, tmp_path, backbone.vae, backbone.tokenizer, shape, show=False)
    return Batches(source, BatchSettings(0, 6, 2, world.REFERENCE), 1)[0]


def plain_loss(backbone: Any, batch: dict[str, Any], noised: objective.Noised, deltas: dict[str, Any]) -> Any:
    """The SDM's noise loss written out: subject after subject, on a denoiser whose weights are W + 3 B A."""
    unet = backbone.unet
    names = [name.removesuffix(".lora_A") for name in deltas if name.endswith(".lora_A")]
    base = dict(unet.state_dict())
    for name in names:
        weight = base[f"{name}.weight"]
        product = deltas[f"{name}.lora_B"].flatten(1) @ deltas[f"{name}.lora_A"].flatten(1)
        base[f"{name}.weight"] = weight + 3.0 * product.reshape(weight.shape)
    text = backbone.text_encoder(batch["input_ids_BL"])[0].clone()
    for row in range(len(text)):
        places = batch["subject_token_BL"][row].nonzero().flatten().tolist()
        for n, place in enumerate(places):
            if batch["subject_valid_BN"][row, n]:
                seen = backbone.image_encoder(
                    pixel_values=batch["references_BN3HW"][row, n][None]
                ).image_embeds
                text[row, place] = backbone.fusion.fuse(text[row, place][None], seen)[0]
    output = functional_call(unet, base, (noised.z_BCHW, noised.t_B, text))[0]
    return ((output - noised.target_BCHW) ** 2).mean()


def test_one_step_of_the_sdm_equals_a_plain_computation(configure: Configure, batch: dict[str, Any]) -> None:
    options = ["model.masked_loss=0", "model.localization_weight=0", "model.condition_dropout=0"]
    options += ["model.subject_keep=1", "model.lr=0.01", "model.clip=1e9"]
    settings = FitSettings.read(configure("sdm", *LORA, *options))
    module: Any = make_module(settings)[1]
    plain = make_module(FitSettings.read(configure("sdm", *options)))[1].backbone
    assert isinstance(module, SDM)
    trained = module.trainable_parameters()
    assert {name.partition(".")[0] for name in trained} == {"unet", "fusion", "image_encoder"}
    assert all(".lora_" in name for name in trained if name.startswith("unet."))
    with torch.no_grad():
        for number, (name, parameter) in enumerate(trained.items()):
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.manual_seed(number)) * 0.1)
    # The same numbers, held by hand.
    ours = {
        name.removeprefix("unet.").removesuffix(".default.weight"): p.detach().clone().requires_grad_()
        for name, p in trained.items()
        if ".lora_" in name
    }
    others = {name: dict(plain.networks()[name.split(".")[0]].named_parameters())[name.partition(".")[2]]
              for name in trained if ".lora_" not in name}  # fmt: skip
    for p in others.values():
        p.requires_grad_()

    losses = module.losses(batch, Draws(torch.Generator().manual_seed(7)))
    losses["loss"].backward()
    optimizer = module.configure_optimizers()
    optimizer.step()

    noised = objective.add_noise(batch["latent_BCHW"], module.noise, Draws(torch.Generator().manual_seed(7)))
    loss = plain_loss(plain, batch, noised, ours)
    torch.testing.assert_close(losses["loss"], loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    by_hand = {f"unet.{name}.default.weight": p for name, p in ours.items()} | others
    for name, parameter in trained.items():
        hand = by_hand[name]
        assert hand.grad is not None and parameter.grad is not None
        torch.testing.assert_close(parameter.grad, hand.grad, rtol=1e-4, atol=1e-7, msg=name)
        # AdamW's first step: both moments corrected are the gradient and its square.
        step = hand.detach() * (1 - 0.01 * 1e-2) - 0.01 * hand.grad / (hand.grad.abs() + 1e-8)
        sure = hand.grad.abs() > 1e-5
        torch.testing.assert_close(parameter.detach()[sure], step[sure], rtol=1e-4, atol=1e-6)


def states(run: Path) -> Iterator[tuple[str, torch.Tensor]]:
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    for table in ("parameters", "average"):
        yield from ((f"{table} {name}", tensor) for name, tensor in state[table].items())


def test_a_run_keeps_its_adapter_alone_and_goes_on_exactly(
    configure: Configure, backbone_folder: Path, tmp_path: Path
) -> None:
    options = (*LORA, "model.lora_dropout=0.3", "model.lr=0.01", "trainer.sample_every=0")
    whole = fit(configure("sdm", *options, "trainer.max_steps=2", "name=whole"))
    fit(configure("sdm", *options, "trainer.max_steps=1", "name=halves"))
    halves = fit(configure("sdm", *options, "trainer.max_steps=2", "name=halves"))
    once, twice = dict(states(whole.run_dir)), dict(states(halves.run_dir))
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)
    learnt = {name for name in once if name.startswith("parameters unet.")}
    assert learnt and all(".lora_" in name for name in learnt)

    # model/ is a folder as of any training: the adapter is merged, and lies beside for others.
    model = load_backbone(whole.model, parts=["unet"]).unet.state_dict()
    base = load_backbone(backbone_folder, parts=["unet"]).unet.state_dict()
    file = load_file(whole.model / DIFFUSERS_FILE)
    layers = {name.removeprefix("unet.").split(".lora_")[0] for name in file}
    for name, tensor in model.items():
        layer = name.removesuffix(".weight")
        if layer in layers:
            a, b = (file[f"unet.{layer}.lora_{side}.weight"].flatten(1) for side in "AB")
            torch.testing.assert_close(
                tensor, base[name] + (b @ a).reshape(tensor.shape), rtol=1e-5, atol=1e-6
            )
            assert not torch.equal(tensor, base[name])
        else:
            assert torch.equal(tensor, base[name])
    assert json.loads((whole.model / "training.json").read_text())["lora"]["rank"] == 2
    # It begins where the file ends.
    more = (f"model.lora_init={whole.model / DIFFUSERS_FILE}", "trainer.max_steps=1", "name=again")
    module: Any = make_module(FitSettings.read(configure("sdm", *LORA, *more)))[1]
    from fdlab.models.adapter import merged

    again = merged(module.backbone.unet).state_dict()
    assert all(torch.allclose(again[name], tensor, atol=1e-6) for name, tensor in model.items())
