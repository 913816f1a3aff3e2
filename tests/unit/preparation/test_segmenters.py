"""Segmentation models of transformers as sources of masks: tiny ones of the same layout, made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fdlab.errors import UserError
from fdlab.preparation.segmenters import MATTING, InstanceSegmenter, assigned, body_box, segmenter_of

IMAGE_HW3 = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
FACES_F4 = np.array([[10.0, 8, 20, 20], [40, 10, 50, 22]])


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that calls every query a person."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        SwinConfig,
    )

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=stages,
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        dim_feedforward=16, num_queries=3, id2label={0: "Person", 1: "kite"},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        model.class_predictor.weight.zero_()
        model.class_predictor.bias.copy_(torch.tensor([9.0, 0, 0]))
    folder = tmp_path_factory.mktemp("mask2former")
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def tiny_sam() -> Any:
    """SAM of one layer, at 64 px."""
    from transformers import SamConfig, SamModel
    from transformers.models.sam.configuration_sam import (
        SamMaskDecoderConfig,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=8, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=64,
        patch_size=16, mlp_dim=8, window_size=2, global_attn_indexes=[0], num_pos_feats=8,
    )  # fmt: skip
    prompts = SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    return SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    )


def tiny_sam2() -> Any:
    """SAM 2 of a block a stage, at 64 px."""
    from transformers import Sam2Config, Sam2Model
    from transformers.models.sam2.configuration_sam2 import (
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[2, 2, 2, 2], global_attention_blocks=[],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=16,
    )  # fmt: skip
    prompts = Sam2PromptEncoderConfig(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    return Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    )


def test_instances_of_people_go_to_faces(mask2former: Path) -> None:
    segmenter = segmenter_of(str(mask2former))
    assert isinstance(segmenter, InstanceSegmenter)
    found = segmenter(IMAGE_HW3, FACES_F4)
    assert all(person.mask_HW.shape == (40, 60) and 0.5 <= person.score <= 1 for person in found)
    # What a trained one would say: two people side by side, a kite everywhere, and a guess.
    mask_1Qhw = torch.full((1, 4, 16, 16), -9.0)
    mask_1Qhw[0, 0, :, 8:] = mask_1Qhw[0, 1, :, :8] = mask_1Qhw[0, 2] = mask_1Qhw[0, 3] = 9.0
    class_1QK = torch.tensor([[[9.0, 0, 0], [4, 0, 0], [0, 9, 0], [0, 0, 1]]])
    said = SimpleNamespace(class_queries_logits=class_1QK, masks_queries_logits=mask_1Qhw)
    segmenter.model = lambda **given: said
    left, right = segmenter(IMAGE_HW3, FACES_F4)
    assert (left.face, left.box) == (0, (0, 0, 30, 40)) and (right.face, right.box) == (1, (30, 0, 60, 40))
    assert 0.9 < left.score < right.score <= 1


def test_a_model_without_people_is_refused(mask2former: Path, tmp_path: Path) -> None:
    for file in mask2former.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "cat", "1": "kite"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no class 'person', but cat, kite"):
        segmenter_of(str(tmp_path))


@pytest.mark.parametrize("make", [tiny_sam, tiny_sam2])
def test_sam_is_asked_about_each_face(make: Callable[[], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    if make is tiny_sam2:
        # As the released checkpoints call themselves, which also hold what follows people through a film.
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    segmenter = segmenter_of(str(tmp_path))
    found = segmenter(IMAGE_HW3, FACES_F4)
    assert found and {person.face for person in found} <= {0, 1}
    assert all(person.mask_HW.shape == (40, 60) and 0 <= person.score <= 1 for person in found)
    assert segmenter(IMAGE_HW3, np.zeros((0, 4))) == []


def test_sam_is_asked_as_its_own_processor_asks(tmp_path: Path) -> None:
    from transformers import SamImageProcessorPil

    torch.manual_seed(1)
    model = tiny_sam().eval()
    model.save_pretrained(tmp_path)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    given = processor(IMAGE_HW3, return_tensors="pt")
    scale = 64 / 60
    asked_F4 = np.array([body_box(box_4, (40, 60)) for box_4 in FACES_F4]) * scale
    with torch.no_grad():
        output = model(given["pixel_values"], input_boxes=torch.tensor(asked_F4[None], dtype=torch.float32))
    masks = processor.post_process_masks(
        output.pred_masks,
        given["original_sizes"],
        given["reshaped_input_sizes"],
        pad_size={"height": 64, "width": 64},
    )[0]
    for person in segmenter_of(str(tmp_path))(IMAGE_HW3, FACES_F4):
        best = int(output.iou_scores[0, person.face].argmax())
        same = np.asarray(masks[person.face][best]).astype(bool) == person.mask_HW
        assert same.mean() > 0.97


def test_a_mask_goes_to_the_face_that_it_covers_most() -> None:
    mask_NHW = np.zeros((3, 40, 60), bool)
    mask_NHW[0, :, 30:] = True
    mask_NHW[1, :, :18] = True
    mask_NHW[2, 30:] = True  # on no face
    found = assigned(mask_NHW, [0.9, 0.8, 0.7], FACES_F4)
    assert [(person.face, person.score) for person in found] == [(0, 0.8), (1, 0.9)]
    assert found[0].box == (0, 0, 18, 40)
    assert [person.face for person in assigned(mask_NHW[:1], [0.9], FACES_F4)] == [1]
    assert assigned(mask_NHW[:0], [], FACES_F4) == []


def test_the_box_of_a_body_stays_in_the_picture() -> None:
    assert body_box(np.array([10.0, 8, 20, 20]), (40, 60)) == [0, 0, 34, 40]


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'mating': allowed: matting.*Did you mean 'matting'"):
        segmenter_of("mating")
    with pytest.raises(UserError, match="hf download facebook/no-such"):
        segmenter_of("facebook/no-such")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="of the kind 'bert'; allowed: mask2former, sam"):
        segmenter_of(str(tmp_path))


def test_the_matting_that_ships_is_a_source() -> None:
    assert segmenter_of(MATTING)(IMAGE_HW3, np.zeros((0, 4))) == []
