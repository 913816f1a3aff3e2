"""One or a few steps of the real trainings, on networks of a few kilobytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.caches.prepare import prepare
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Shape
from fdlab.diffusion.noise import NoiseSchedule, draw_timesteps
from fdlab.diffusion.timesteps import TimestepDensity
from fdlab.engine.averaging import Averaging
from fdlab.engine.callbacks import curves
from fdlab.engine.draws import Draws
from fdlab.engine.module import Optimization
from fdlab.engine.precision import lightning_precision
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone, load_backbone, part_folders
from fdlab.models.compiling import BLOCKS, compile_denoiser, uncompiled
from fdlab.training import objective
from fdlab.training.callbacks.compiled import gradients, wrong_parameters
from fdlab.training.fit import describe, fit
from fdlab.training.initial import load_start
from fdlab.training.objective import SubjectNetworks, SubjectSettings
from fdlab.training.settings import FitSettings
from fdlab.training.subject_augmented import SDM
from fdlab.training.text_driven import TDM

Configure = Callable[..., Any]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{file.parent.name}.{name}": tensor
        for file in sorted(folder.glob("*/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def batch(world: ModuleType, backbone_folder: Path, people_folder: Path, tmp_path: Path) -> dict[str, Any]:
    backbone = load_backbone(backbone_folder, parts=("vae", "tokenizer"))
    shape = Shape(world.IMAGE, backbone.latent_shape_CHW, world.REFERENCE, 2)
    source = prepare(people_folder, tmp_path, backbone.vae, backbone.tokenizer, shape, show=False)
    return Batches(source, BatchSettings(0, 6, 2, world.REFERENCE), 1)[0]


@pytest.fixture
def sdm(configure: Configure) -> SDM:
    cfg = configure("sdm")
    return SDM(load_start(FitSettings.read(cfg)).backbone, seed=0)


def test_sdm_run_directory(configure: Configure) -> None:
    cfg = configure("sdm", "trainer.max_steps=4", "trainer.sample_every=2", "trainer.keep_checkpoints=1")
    result = fit(cfg)
    names = {
        path.relative_to(result.run_dir).as_posix() for path in result.run_dir.rglob("*") if path.is_file()
    }
    assert {"config.yaml", "metrics.csv", "samples/step-2.png", "samples/step-4.png"} <= names
    assert {name for name in names if name.startswith("checkpoints/")} == {
        "checkpoints/last.ckpt",
        "checkpoints/step-4.ckpt",
    }
    assert [int(row["step"]) for row in rows(result.run_dir / "metrics.csv")] == [1, 2, 3, 4]
    assert all(np.isfinite(float(row["loss"])) for row in rows(result.run_dir / "metrics.csv"))
    assert set(part_folders(result.model)) == {"unet", "image_encoder", "fusion", "scheduler"}
    assert json.loads((result.model / "training.json").read_text())["steps"] == 4
    # The exported weights are the averages of the checkpoint, and only what learns is in that.
    state = torch.load(result.run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    exported = weights(result.model)
    for name, average in state["average"].items():
        assert torch.equal(exported[name], average), name
        assert not torch.equal(average, state["parameters"][name])
    learnt = {name.split(".")[0] for name in state["parameters"]}
    assert learnt == {"unet", "image_encoder", "fusion"}
    layers = {name.split("layers.")[1][0] for name in state["parameters"] if name.startswith("image_encoder")}
    assert layers == {"1", "2"}


def test_a_model_can_be_gone_on_with_and_counts_its_steps(configure: Configure) -> None:
    first = fit(configure("tdm", "trainer.max_steps=2", "model.lr=0.01", "name=first"))
    cfg = configure("tdm", f"init={first.run_dir}", "trainer.max_steps=1", "name=second")
    start = load_start(FitSettings.read(cfg))
    before = weights(first.model)
    assert all(torch.equal(before[f"unet.{name}"], p) for name, p in start.backbone.unet.state_dict().items())
    assert fit(cfg).total_steps == 3


def test_only_what_should_learn_changes(configure: Configure) -> None:
    cfg = configure("sdm", "trainer.max_steps=2", "model.lr=0.01")
    untouched = load_start(FitSettings.read(cfg)).backbone
    result = fit(cfg)
    after = weights(result.model)
    frozen = {name: p for name, p in untouched.image_encoder.state_dict().items() if "layers.0." in name}
    assert frozen and all(torch.equal(after[f"image_encoder.{name}"], p) for name, p in frozen.items())
    for part in ("unet", "fusion"):
        changed = [
            not torch.equal(after[f"{part}.{n}"], p) for n, p in getattr(untouched, part).state_dict().items()
        ]
        assert np.mean(changed) > 0.8


def test_sample_grids_do_not_touch_the_training(configure: Configure) -> None:
    plain = fit(configure("sdm", "trainer.sample_every=0", "name=plain"))
    busy = fit(configure("sdm", "trainer.sample_every=1", "name=busy"))
    a, b = weights(plain.model), weights(busy.model)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls(configure: Configure) -> None:
    cfg = configure(
        "tdm", "trainer.max_steps=30", "model.lr=0.01", "trainer.sample_every=0", "trainer.log_every=10",
        "trainer.precision=32",
    )  # fmt: skip
    losses = [float(row["loss"]) for row in rows(fit(cfg).run_dir / "metrics.csv")]
    assert losses[-1] < 0.93 * losses[0]


def test_accumulating_equals_the_larger_batch(configure: Configure) -> None:
    """Two passes of four make the step that one pass of eight makes, where nothing is drawn per pass."""
    cfg = configure("tdm")
    module = TDM(load_start(FitSettings.read(cfg)).backbone, seed=0, condition_dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    z0 = torch.randn(8, 4, 4, 4, generator=generator)
    ids = module.noise.null_ids_L.expand(8, -1)
    noised = objective.add_noise(z0, module.noise, Draws(generator))
    context = objective.encode_text(module.backbone.text_encoder, ids)

    def gradient(parts: list[slice]) -> torch.Tensor:
        module.zero_grad()
        for part in parts:
            output = objective.denoiser_of(module.backbone.unet)(
                noised.z_BCHW[part], noised.t_B[part], context[part]
            )
            (objective.noise_loss(output, noised.target_BCHW[part]) / len(parts)).backward()
        return torch.cat(
            [p.grad.flatten() for p in module.trainable_parameters().values() if p.grad is not None]
        )

    torch.testing.assert_close(
        gradient([slice(0, 4), slice(4, 8)]), gradient([slice(0, 8)]), atol=1e-5, rtol=1e-4
    )


def losses_of(
    sdm: SDM, batch: dict[str, Any], seed: int = 0, common: dict | None = None, **subjects: Any
) -> dict:
    networks = SubjectNetworks(
        *(getattr(sdm.backbone, n) for n in ("unet", "text_encoder", "image_encoder", "fusion")),
        maps=sdm.maps if subjects.get("localization_weight", 1.0) > 0 else None,
    )
    return objective.subject_augmented_losses(
        batch,
        batch["latent_BCHW"],
        networks,
        replace(sdm.noise, **(common or {})),
        SubjectSettings(**subjects),
        Draws(torch.Generator().manual_seed(seed)),
    )


def test_without_subjects_the_sdm_learns_like_the_tdm(sdm: SDM, batch: dict[str, Any]) -> None:
    """Text-only samples, dropped subjects and dropped conditions leave the plain noise loss."""
    noise = replace(sdm.noise, condition_dropout=0.0)
    plain = objective.text_driven_losses(
        batch, batch["latent_BCHW"], sdm.backbone.unet, sdm.backbone.text_encoder, noise,
        Draws(torch.Generator().manual_seed(0)),
    )["loss"]  # fmt: skip
    common = {"condition_dropout": 0.0}
    for switch in ({"text_only": 1.0}, {"subject_keep": 0.0}):
        found = losses_of(sdm, batch, common=common, localization_weight=0.0, masked_loss=1.0, **switch)
        torch.testing.assert_close(found["loss"], plain)
    augmented = losses_of(
        sdm, batch, common=common, localization_weight=0.0, masked_loss=0.0, subject_keep=1.0
    )
    assert (augmented["loss"] - plain).abs() > 1e-6


def test_condition_dropout_replaces_caption_and_subjects(sdm: SDM, batch: dict[str, Any]) -> None:
    dropped = losses_of(sdm, batch, common={"condition_dropout": 1.0}, localization_weight=0.0)["loss"]
    empty = {**batch, "input_ids_BL": sdm.noise.null_ids_L.expand(6, -1)}
    empty["subject_valid_BN"] = torch.zeros_like(batch["subject_valid_BN"])
    torch.testing.assert_close(
        dropped, losses_of(sdm, empty, common={"condition_dropout": 0.0}, localization_weight=0.0)["loss"]
    )


def test_masked_loss_sees_the_subjects_only(sdm: SDM, batch: dict[str, Any]) -> None:
    """With every coin heads, a change of the target outside the masks changes nothing."""
    options = {"masked_loss": 1.0, "subject_keep": 1.0, "localization_weight": 0.0}
    common = {"condition_dropout": 0.0}
    everywhere = {**batch, "mask_BNHW": torch.ones_like(batch["mask_BNHW"])}
    full = losses_of(sdm, everywhere, common=common, **options)["loss"]
    unmasked = losses_of(sdm, batch, common=common, **{**options, "masked_loss": 0.0})["loss"]
    torch.testing.assert_close(full, unmasked)
    assert (losses_of(sdm, batch, common=common, **options)["loss"] - full).abs() > 1e-4
    released = losses_of(sdm, batch, common=common, masked_loss_per_sample=False, **options)["loss"]
    assert released < full


def test_localization_is_added_with_its_weight_and_reaches_the_unet(sdm: SDM, batch: dict[str, Any]) -> None:
    common = {"condition_dropout": 0.0}
    options = {"masked_loss": 0.0, "subject_keep": 1.0}
    without = losses_of(sdm, batch, common=common, localization_weight=0.0, **options)
    found = losses_of(sdm, batch, common=common, localization_weight=2.0, **options)
    assert set(without) == {"loss"} and -1 <= found["localization_loss"] <= 1
    torch.testing.assert_close(found["noise_loss"], without["loss"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["loss"], found["noise_loss"] + 2 * found["localization_loss"])
    found["loss"].backward()
    assert all(
        p.grad is not None for name, p in sdm.trainable_parameters().items() if name.startswith("fusion")
    )


def test_prediction_type_and_min_snr(sdm: SDM, batch: dict[str, Any]) -> None:
    schedule = NoiseSchedule(sdm.noise.schedule.alphas_cumprod_T, "v_prediction")
    z0 = batch["latent_BCHW"]

    def noised(**changes: Any) -> objective.Noised:
        settings = replace(sdm.noise, **changes)
        return objective.add_noise(z0, settings, Draws(torch.Generator().manual_seed(1)))

    eps, v = noised(), noised(schedule=schedule)
    torch.testing.assert_close(v.target_BCHW, schedule.target(z0, eps.target_BCHW, eps.t_B))
    weight = noised(min_snr_gamma=5.0).weight_B
    assert weight is not None and weight.max() <= 1 and weight.min() > 0 and eps.weight_B is None


def test_timesteps_follow_the_density(sdm: SDM) -> None:
    z0 = torch.zeros(512, 4, 2, 2)

    def drawn(density: TimestepDensity) -> objective.Noised:
        settings = replace(sdm.noise, timesteps=density)
        return objective.add_noise(z0, settings, Draws(torch.Generator().manual_seed(1)))

    schedule = sdm.noise.schedule
    generator = torch.Generator().manual_seed(1)
    eps = torch.randn(z0.shape, generator=generator)
    assert torch.equal(drawn(TimestepDensity()).t_B, draw_timesteps(512, schedule.num_timesteps, generator))
    narrow = drawn(TimestepDensity("log_normal", 0.0, 0.05, 0.0))
    # Half the variance is noise at sigma 1.
    assert float(narrow.z_BCHW.std() / eps.std()) == pytest.approx(0.5**0.5, rel=0.01)
    assert (schedule.log_sigma_T[narrow.t_B]).abs().max() < 0.25


def test_v_prediction_is_written_into_the_model(configure: Configure) -> None:
    cfg = configure(
        "tdm", "model.prediction_type=v_prediction", "trainer.max_steps=1", "trainer.sample_every=1"
    )
    config = json.loads((fit(cfg).model / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(
    "more",
    [
        ["model.gradient_checkpointing=true"],
        ["data.cache_latents=false"],
        ["model.timesteps=log_normal", "model.schedule=wsd", "model.prediction_type=v_prediction"],
        ["trainer.precision=bf16", "trainer.accumulate=2"],
        ["model.ema_decay=0", "init=scratch"],
        ["model.face_weight=3", "data.own_share=0.3", "data.reference=mixed"],
    ],
)
def test_options_run(configure: Configure, more: list[str]) -> None:
    result = fit(configure("sdm", "trainer.max_steps=2", "trainer.sample_every=0", *more))
    assert all(np.isfinite(float(row["loss"])) for row in rows(result.run_dir / "metrics.csv"))


@pytest.mark.parametrize("background", [pytest.param("grey", marks=pytest.mark.long), "noise"])
def test_references_are_encoded_once_where_nothing_changes_them(
    configure: Configure, background: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fdlab.training import objective

    encoded: list[int] = []
    embed = objective.embed_references

    def counted(*given: object) -> torch.Tensor:
        encoded.append(1)
        return embed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "embed_references", counted)
    more = ["trainer.max_steps=3", "trainer.sample_every=0", "model.train_image_blocks=0"]
    more += ["trainer.precision=32"]
    kept = fit(configure("sdm", "name=kept", f"data.background={background}", *more))
    assert len(encoded) == (3 if background == "noise" else 0)
    # At every step, as where the encoder learns: the same training.
    monkeypatch.setattr("fdlab.training.fit.embedded", lambda *_: None)
    anew = fit(configure("sdm", "name=anew", f"data.background={background}", *more))
    losses = [[float(row["loss"]) for row in rows(run.run_dir / "metrics.csv")] for run in (kept, anew)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.long
def test_who_taught_is_written_into_the_model_and_what_begins_with_it(configure: Configure) -> None:
    more = ["trainer.max_steps=1", "trainer.sample_every=0"]
    first = fit(configure("sdm", "model.identity_weight=0.2", "model.face_weight=3", "name=a", *more))
    (row,) = rows(first.run_dir / "metrics.csv")
    assert {"noise_loss", "identity_loss"} <= set(row)
    second = fit(configure("sdm", f"init={first.model}", "name=b", *more))
    for model in (first.model, second.model):
        facts = json.loads((model / "training.json").read_text())
        (shown,) = facts["people"]
        assert facts["taught_by"] == ["faceres"] and (shown["folder"], shown["num_pictures"]) == ("people", 9)
    plain = fit(configure("sdm", "name=c", *more))
    assert "taught_by" not in json.loads((plain.model / "training.json").read_text())


def test_gradient_checkpointing_changes_no_gradient(sdm: SDM, batch: dict[str, Any]) -> None:
    def gradients() -> list[torch.Tensor]:
        sdm.zero_grad()
        losses_of(sdm, batch)["loss"].backward()
        return [p.grad.clone() for p in sdm.trainable_parameters().values() if p.grad is not None]

    plain = gradients()
    sdm.backbone.unet.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.long
def test_describe_needs_no_data(configure: Configure) -> None:
    facts = describe(FitSettings.read(configure("sdm", "data.root=/"))).texts
    assert facts["parameters"].endswith(" learn: image_encoder, unet, fusion") and facts["steps"].startswith(
        "3 "
    )


def test_learning_rate() -> None:
    o = Optimization(lr=1.0, warmup_steps=4, schedule="cosine")
    assert [o.lr_at(step, 12) for step in (0, 3, 4, 8, 12)] == pytest.approx([0.25, 1, 1, 0.5, 0])
    assert Optimization(lr=1.0).lr_at(999, 1000) == 1.0
    o = Optimization(lr=2.0, warmup_steps=4, schedule="wsd", decay_share=0.25)
    assert [o.lr_at(step, 40) for step in (0, 3, 4, 29, 30, 35, 39, 40, 50)] == pytest.approx(
        [0.5, 2, 2, 2, 2, 1, 0.2, 0, 0]
    )
    assert replace(o, decay_share=0.0).lr_at(39, 40) == 2.0


def test_averaging_is_the_textbook_recursion() -> None:
    p = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    averaging, expected = Averaging({"p": p}, 0.9), np.zeros(2)
    for step in range(200):
        p.data = torch.tensor([1.0, float(step)])
        averaging.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.array([1.0, step])
    np.testing.assert_allclose(averaging.average["p"].numpy(), expected, rtol=1e-4)
    with averaging.swapped_in():
        assert float(p[0].detach()) == pytest.approx(1.0, abs=1e-4) and p[1] < 199
    assert p[1] == 199
    with pytest.raises(RuntimeError), averaging.swapped_in():
        raise RuntimeError
    assert p[1] == 199
    assert Averaging({"p": p}, 0.0).average == {}


def test_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert lightning_precision("auto", "cpu") == "32-true"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert lightning_precision("auto", "cpu") == "bf16-mixed"
    assert lightning_precision("32", "cpu") == "32-true"
    with pytest.raises(UserError, match="unknown precision"):
        lightning_precision("bf61", "cpu")


def test_frozen_networks_stay_in_evaluation_mode(sdm: SDM) -> None:
    sdm.train()
    b: Backbone = sdm.backbone
    assert b.unet.training and b.fusion.training and not b.vae.training and not b.text_encoder.training


def test_curves_are_cut_at_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for step in (1, 2, 3):
        curves.append(path, {"step": step, "seconds": step / 2, "loss": 0.5})
    with path.open("a") as stream:
        stream.write("4,2.0")
    assert curves.cut(path, 2) == 1.0
    assert [row["step"] for row in rows(path)] == ["1", "2"]
    curves.append(path, {"step": 3, "seconds": 9, "loss": 0.5})
    assert [row["step"] for row in rows(path)] == ["1", "2", "3"]
    assert curves.cut(path, 0) == 0.0 and not path.exists()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("how", ["blocks", "whole"])
@pytest.mark.long
def test_a_compiler_is_asked_once_and_must_learn_what_the_plain_one_learns(sdm: SDM, how: str) -> None:
    """A faithful compiler passes, and compiles once; one that loses gradients is named before anything is
    learned."""
    unet = sdm.backbone.unet
    made: list[int] = []

    def faithful(graph: Any, _: Any) -> Any:
        made.append(1)
        return graph.forward

    def lossy(graph: Any, _: Any) -> Any:
        return lambda *inputs: tuple(0 * out + out.detach() for out in graph(*inputs))

    wanted = gradients(unet, 4, 12)
    try:
        compile_denoiser(unet, how, backend=faithful)
        assert wrong_parameters(gradients(unet, 4, 12), wanted) == []
        num = len(made)
        assert (
            num == 1 if how == "whole" else 1 < num < sum(type(m).__name__ in BLOCKS for m in unet.modules())
        )
        gradients(unet, 4, 12)
        assert len(made) == num

        torch._dynamo.reset()
        compile_denoiser(unet, how, backend=lossy)
        assert wrong_parameters(gradients(unet, 4, 12), wanted)
        with uncompiled(unet):
            assert wrong_parameters(gradients(unet, 4, 12), wanted) == []
    finally:
        for module in unet.modules():
            module._compiled_call_impl = None
        torch._dynamo.reset()


def test_a_compiled_denoiser_must_learn_what_the_plain_one_learns(sdm: SDM) -> None:
    """What a compiler makes of a block stands in for its call: gradients that it loses are named."""
    unet: Any = sdm.backbone.unet
    wanted = gradients(unet, 4, 12)

    def lossy(*given: Any, **named: Any) -> torch.Tensor:
        output = unet.mid_block.forward(*given, **named)
        return output.detach() + 0 * output

    unet.mid_block._compiled_call_impl = lossy
    wrong = wrong_parameters(gradients(unet, 4, 12), wanted)
    assert any(name.startswith("mid_block") for name in wrong)
    assert not any(name.startswith("up_blocks") for name in wrong)
    with uncompiled(unet):
        assert wrong_parameters(gradients(unet, 4, 12), wanted) == []
    assert all(p.grad is None for p in unet.parameters())
    nans = {name: torch.full_like(g, torch.nan) for name, g in wanted.items()}
    assert wrong_parameters(nans, wanted)
