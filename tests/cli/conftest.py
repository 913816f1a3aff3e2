"""A backbone of random weights for the verbs that need one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a backbone so small that a step takes milliseconds."""
    from fdlab.models.backbone import save_backbone
    from tests.worlds.backbones import tiny_backbone

    folder = tmp_path_factory.mktemp("backbone")
    backbone = tiny_backbone()
    save_backbone(folder / "tiny", backbone)
    sizes = {"image_size": backbone.image_size, "reference_size": 24, "max_tokens": 32}
    sizes |= {"reference_crop": "person"}
    paths = {"path": folder / "tiny", "base": "null", "tdm": "null", "sdm": "null"}
    keys = [f"backbone.{key}={value}" for key, value in {**paths, **sizes}.items()]
    return [*keys, "init=base", "trainer=smoke", "data.num=16", "evaluate=false", "trainer.accelerator=cpu"]
