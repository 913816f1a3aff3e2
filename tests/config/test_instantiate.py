"""Objects are built in one place, from an allow-list."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fdlab.config.compose import compose
from fdlab.config.instantiate import instantiate
from fdlab.config.locate import options
from fdlab.config.rules import Rule
from fdlab.errors import UserError

SAFE = "fdlab.config.rules.Rule"


ELSEWHERE = [
    "os.system", "builtins.eval", "fdlabx.y", "subprocess.run", "fdlab", "fdlab.", "fdlab..os", "",
    "torch.optim.SGD",
    "fdlab.config.locate\n.x", 3, None,
]  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE)
def test_targets_outside_fdlab_are_refused_wherever_they_stand_and_import_nothing(
    target: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    for node in (
        {"_target_": target},
        {"_target_": SAFE, "message": [{"deep": {"_target_": target}}]},
        {"_target_": SAFE, "message": {"_target_": target, "_partial_": True}},
    ):
        with pytest.raises(UserError, match="only fdlab"):
            instantiate(node)


@pytest.mark.parametrize(
    "target",
    [
        "fdlab.config.provenance.subprocess.run", "fdlab.config.provenance.subprocess.Popen",
        "fdlab.config.locate.Path",
        "fdlab.config.provenance.os.system", "fdlab.config.locate.conf_dir", "fdlab.config.locate.nothing",
        "fdlab.nowhere.Nothing", "fdlab.training.fit.SDM",
    ],
)  # fmt: skip
def test_what_a_module_of_fdlab_has_imported_is_not_fdlabs(target: str) -> None:
    with pytest.raises(UserError, match="fdlab has no such class"):
        instantiate({"_target_": target})


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system", "model._target_=builtins.exec", "model.betas=[{_target_:os.system}]",
        "+evil={_target_:os.system}", "++model.x={_target_:os.system}", "+model._partial_=true",
        "+a._target_=os.system", "model.min_snr_gamma={_target_:os.system}",
        "validation={_target_:os.system}",
    ],
)  # fmt: skip
def test_the_command_line_brings_no_target_in(override: str) -> None:
    with pytest.raises(UserError, match=r"only fdlab|unknown key|is needed"):
        compose([override])


def test_a_part_without_a_target_is_refused() -> None:
    with pytest.raises(UserError, match="names no _target_"):
        instantiate({"lr": 1})


def test_lists_and_mappings_arrive_as_plain_python() -> None:
    values = {"choices": ["a", "b"], "low": {"x": 1}}
    made = instantiate(OmegaConf.create({"_target_": SAFE, **values}), high=2)
    assert made == Rule(**values, high=2) and type(made.choices) is list and type(made.low) is dict


@pytest.mark.parametrize("experiment", [name for name in options("exp") if "_sd" not in name])
def test_every_experiment_builds_its_training_on_the_network_handed_in(experiment: str) -> None:
    from tests.worlds.backbones import tiny_backbone

    cfg, backbone = compose([f"+exp={experiment}"]), tiny_backbone()
    module = instantiate(cfg.model, backbone=backbone, seed=cfg.seed)
    assert module.backbone.unet is backbone.unet
    assert module.optimization.lr == cfg.model.lr
    assert all(name.split(".")[0] in module.PARTS for name in module.trainable_parameters())


@pytest.mark.parametrize("experiment", [name for name in options("exp") if "_sd15" in name])
def test_the_twins_build_on_stable_diffusions_parts(experiment: str) -> None:
    from tests.worlds.backbones import tiny_sd15

    cfg = compose([f"+exp={experiment}", "data.root=/somewhere"])
    module = instantiate(cfg.model, backbone=tiny_sd15(subjects=True), seed=cfg.seed)
    assert (
        type(module).__name__.lower() == experiment.replace("base", "tdm").replace("fastcomposer", "sdm")[:3]
    )
    assert module.backbone.unet.is_gradient_checkpointing


@pytest.mark.parametrize("experiment", [name for name in options("exp") if "_sdxl" in name or "_sd3" in name])
def test_the_larger_twins_build_on_their_own_parts(experiment: str) -> None:
    from tests.worlds import pairs

    make = pairs.tiny_xl if "_sdxl" in experiment else pairs.tiny_sd3
    cfg, backbone = compose([f"+exp={experiment}", "data.root=/somewhere"]), make(subjects=True)
    module = instantiate(cfg.model, backbone=backbone, seed=cfg.seed)
    assert type(module).__name__.lower() == experiment[:3] and cfg.backbone.image_size == 1024
    assert module.lora.rank == (16 if experiment.endswith("_lora") else 0)
    assert module.backbone.unet.is_gradient_checkpointing
