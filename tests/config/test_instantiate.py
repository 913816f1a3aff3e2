"""Objects are built in one place, from an allow-list."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fdlab.config.compose import compose
from fdlab.config.instantiate import instantiate
from fdlab.config.locate import options
from fdlab.errors import UserError


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "fdlabx.y", "subprocess.run"])
def test_targets_outside_the_list_are_refused_wherever_they_stand(target: str) -> None:
    with pytest.raises(UserError, match="only fdlab"):
        instantiate({"_target_": target})
    with pytest.raises(UserError, match="only fdlab"):
        instantiate({"_target_": "fdlab.errors.unknown", "choices": [{"deep": {"_target_": target}}]})


def test_a_part_without_a_target_is_refused() -> None:
    with pytest.raises(UserError, match="names no _target_"):
        instantiate({"lr": 1})


def test_lists_and_mappings_arrive_as_plain_python() -> None:
    node = OmegaConf.create({"_target_": "fdlab.errors.unknown", "kind": "k", "choices": ["a", "b"]})
    made = instantiate(node, given="aa")
    assert isinstance(made, UserError) and "allowed: a, b" in str(made)


def test_what_the_object_says_about_a_bad_value_reaches_the_user() -> None:
    with pytest.raises(UserError, match="name=/: allowed are"):
        instantiate({"_target_": "fdlab.config.naming.check", "name": "/"})


@pytest.mark.parametrize("experiment", [name for name in options("exp") if not name.endswith("_sd15")])
def test_every_experiment_builds_its_training_on_the_network_handed_in(experiment: str) -> None:
    from fdlab.models.tiny import tiny_backbone

    cfg, backbone = compose([f"+exp={experiment}"]), tiny_backbone()
    module = instantiate(cfg.model, backbone=backbone, seed=cfg.seed)
    assert module.backbone.unet is backbone.unet
    assert module.optimization.lr == cfg.model.lr
    assert all(name.split(".")[0] in module.PARTS for name in module.trainable_parameters())


@pytest.mark.parametrize("experiment", [name for name in options("exp") if name.endswith("_sd15")])
def test_the_twins_build_on_stable_diffusions_parts(experiment: str) -> None:
    from fdlab.models.tiny import tiny_sd15

    cfg = compose([f"+exp={experiment}", "data.root=/somewhere"])
    module = instantiate(cfg.model, backbone=tiny_sd15(subjects=True), seed=cfg.seed)
    assert (
        type(module).__name__.lower() == experiment.replace("base", "tdm").replace("fastcomposer", "sdm")[:3]
    )
    assert module.backbone.unet.is_gradient_checkpointing
