"""What learns and what does not."""

from __future__ import annotations

import pytest

from fdlab.errors import UserError
from fdlab.models.backbone import Backbone
from fdlab.models.nano import build_image_encoder, build_unet
from fdlab.models.trainable import SDM, TDM, counts, sdm_choice, select, table


def test_text_driven_trains_the_unet_alone(tiny: Backbone) -> None:
    trained = select(tiny, TDM)
    assert {name.split(".")[0] for name in trained} == {"unet"}
    assert len(trained) == len(list(tiny.unet.parameters()))


def test_subject_augmented_trains_unet_fusion_and_the_last_two_blocks(tiny: Backbone) -> None:
    select(tiny, "vae")
    trained = select(tiny, SDM)
    assert {name.split(".")[0] for name in trained} == {"unet", "fusion", "image_encoder"}
    blocks = {name.split(".")[4] for name in trained if name.startswith("image_encoder.")}
    assert blocks == {"1", "2"} and len(tiny.image_encoder.vision_model.encoder.layers) == 3
    learning = {
        f"{p}.{n}" for p, net in tiny.networks().items() for n, q in net.named_parameters() if q.requires_grad
    }
    assert learning == set(trained)
    assert sdm_choice(2) == SDM


def test_table_adds_up(tiny: Backbone) -> None:
    trained = select(tiny, sdm_choice(0))
    rows = counts(tiny)
    assert sum(row.trained for row in rows) == sum(p.numel() for p in trained.values())
    assert {row.part: row.trained for row in rows}["image_encoder"] == 0
    assert table(rows).splitlines()[-1].split()[1] == f"{sum(row.total for row in rows):,}"


def test_errors(tiny: Backbone) -> None:
    with pytest.raises(UserError, match=r"train_image_blocks is 4; .* has 3 blocks: give 0 to 3"):
        select(tiny, "image_encoder_last_4")
    with pytest.raises(UserError, match=r"unknown part to train 'unets'.*Did you mean 'unet'"):
        select(tiny, "unets")
    tiny.fusion = None
    with pytest.raises(UserError, match="no fusion"):
        select(tiny, SDM)


def test_nano_is_small_and_seeded() -> None:
    unet = build_unet()
    assert sum(p.numel() for p in unet.parameters()) < 6_000_000
    assert unet.conv_in.weight.equal(build_unet().conv_in.weight)
    assert not unet.conv_in.weight.equal(build_unet(seed=1).conv_in.weight)
    vision = build_image_encoder().config
    assert (vision.image_size, vision.patch_size, vision.projection_dim) == (96, 12, 192)
