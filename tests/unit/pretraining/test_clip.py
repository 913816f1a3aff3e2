from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from fdlab.errors import UserError
from fdlab.models.tokenizer import load_tokenizer
from fdlab.pretraining.clip import PackedPeople, lay_on_noise, pretrain, shorten, text_labels, whole_pictures

SMALL = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 24,
}
CONFIG = {
    "text": {**SMALL, "max_position_embeddings": 24},
    "image": {**SMALL, "image_size": 24, "patch_size": 6},
}


def test_held_out_identities_are_in_no_batch(packed, tokenizer_folder):
    data = PackedPeople.open(packed, load_tokenizer(tokenizer_folder))
    heldout = set(data.identity_M[data.heldout_crops].tolist())
    assert len(heldout) == 2 and not heldout & set(data.crops_of)
    chosen = data.people(np.random.default_rng(0), 200)
    assert not heldout & set(data.identity_M[chosen].tolist())
    pairs = data.identity_M[chosen].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and (
        chosen.reshape(-1, 2)[:, 0] != chosen.reshape(-1, 2)[:, 1]
    ).all()


def test_too_few_people_are_refused(tmp_path, packed, tokenizer_folder):
    for name in ("crops.npy", "images.npy", "captions.json", "crop_caption.json"):
        (tmp_path / name).symlink_to(packed / name)
    np.save(tmp_path / "crop_identity.npy", np.arange(96))
    with pytest.raises(UserError, match="more than once"):
        PackedPeople.open(tmp_path, load_tokenizer(tokenizer_folder))


def test_noise_lies_behind_people_only():
    crops = np.zeros((2, 8, 8, 4), np.uint8)
    crops[:, 2:6, 2:6] = 255
    one, two = (lay_on_noise(crops, np.random.default_rng(seed), jitter=False) for seed in (0, 1))
    assert torch.equal(one[..., 2:6, 2:6], two[..., 2:6, 2:6]) and not torch.equal(one, two)
    assert one[0, :, 3, 3] == pytest.approx(((1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258,
                                             (1 - 0.40821073) / 0.27577711))  # fmt: skip


def test_a_half_transparent_pixel_is_half_itself_and_half_the_noise_behind():
    crops = np.full((1, 4, 4, 4), 255, np.uint8)
    found = {}
    for alpha in (0, 102, 255):
        crops[..., 3] = alpha
        found[alpha] = lay_on_noise(crops, np.random.default_rng(0), jitter=False)
    assert torch.allclose(found[102], 0.4 * found[255] + 0.6 * found[0], atol=1e-5)
    # Where it is clear, the same noise lies under any colour.
    crops[...] = 0
    assert torch.equal(found[0], lay_on_noise(crops, np.random.default_rng(0), jitter=False))


def test_whole_pictures_are_resized_and_mirrored():
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    assert whole_pictures(images, 24).shape == (2, 3, 24, 24)
    mirrored = whole_pictures(images, 32, np.array([True, False]))
    plain = whole_pictures(images, 32)
    assert torch.equal(mirrored[0], plain[0].flip(2)) and torch.equal(mirrored[1], plain[1])


def test_padding_is_dropped_and_equal_texts_share_a_label():
    ids = np.array([[1, 5, 2, 2, 2], [1, 2, 2, 2, 2], [1, 5, 2, 2, 2]])
    assert shorten(ids, 2).tolist() == [[1, 5, 2], [1, 2, 2], [1, 5, 2]]
    labels = text_labels(ids)
    assert labels[0] == labels[2] != labels[1]


def test_pretraining_learns_what_is_worn_and_who_wears_it(packed, tokenizer_folder, tmp_path):
    assert pretrain(packed, tokenizer_folder, tmp_path, 1.0, 12, 12, lr=0.02, config=CONFIG, max_steps=20)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["steps"] == 20 and scores["heldout_pictures"] == 4 and scores["heldout_people"] == 2
    image = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "image_encoder")
    text = CLIPTextModel.from_pretrained(tmp_path / "text_encoder")
    assert image.dtype == text.dtype == torch.float16
    assert image.config.projection_dim == text.config.hidden_size == 24
    assert "identity" in (tmp_path / "metrics.csv").read_text()
    assert pretrain(packed, tokenizer_folder, tmp_path, 1.0, 12, 12, lr=0.02, config=CONFIG, max_steps=20)
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
