"""A world of a few kilobytes for the tests of data and training: random networks, and people who are coloured
discs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdlab.data.layout import write_ids, write_sample
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.randomness import numpy_rng

IMAGE, LATENT, REFERENCE, LENGTH, WIDTH = 32, 4, 16, 16, 16
CAPTIONS = {1: "a woman on a beach", 2: "a woman and a man on a beach"}
ENDS = {1: [7], 2: [7, 17]}


def sample(index: int, num_subjects: int, size: int = IMAGE, seed: int = 0) -> PersonSample:
    """One picture: discs of a person's own colour on noise."""
    rng = numpy_rng(seed, "picture", index)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    segments = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    subjects, people = [], []
    for n in range(num_subjects):
        identity = (index + n) % 3
        centre, radius = size * (n + 1) / (num_subjects + 1), size / 6
        disc = (x - centre) ** 2 + (y - size / 2) ** 2 < radius**2
        image[disc] = [80 * identity, 250 - 80 * identity, 128]
        segments[disc] = n + 1
        subjects.append(ShownSubject(n + 1, ENDS[num_subjects][n], identity))
        people.append({"segment": n + 1, "identity": identity, "noun": "woman"})
    truth = {"scene": "beach", "style": "photograph", "people": people}
    return PersonSample(f"{index:07d}", CAPTIONS[num_subjects], image, segments, tuple(subjects), truth)


def write_folder(root: Path, num: int = 8, size: int = IMAGE, seed: int = 0) -> Path:
    """A data set in FastComposer's layout, one and two people in turn."""
    samples = [sample(index, 1 + index % 2, size, seed) for index in range(num)]
    for item in samples:
        write_sample(root, item)
    write_ids(root, [item.id for item in samples], test=[samples[-1].id])
    return root


def tokenizer() -> Any:
    """A CLIP tokenizer that knows letters, and a few words as one token each."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,.'0123456789"
    vocab = {token: i for i, token in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
    merges = [("a", "n</w>"), ("m", "an</w>"), ("w", "o"), ("wo", "man</w>"), ("a", "n"), ("an", "d</w>")]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def vae(seed: int = 0) -> Any:
    """A random AutoencoderKL of factor 8, 4 channels."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=IMAGE,
            scaling_factor=0.5,
        ).eval()


def write_backbone(folder: Path, seed: int = 0) -> Path:
    """A Stable-Diffusion-like folder with random weights of a few kilobytes."""
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=WIDTH,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=LENGTH,
                projection_dim=WIDTH,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=REFERENCE,
                patch_size=8,
                projection_dim=WIDTH,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=LATENT,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    for name, part in {"vae": vae(seed), "text_encoder": text, "image_encoder": vision, "unet": unet}.items():
        part.save_pretrained(folder / name)
    words.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "name": "tiny"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


RELEASED = (
    "model.optimizer=adamw", "model.lr=1e-4", "model.schedule=constant", "model.warmup_steps=0",
    "model.ema_decay=0.999", "model.train_image_blocks=2", "model.masked_loss=0.5",
    "model.localization_weight=1e-3", "model.face_weight=0", "model.identity_weight=0", "data.own_share=0.5",
)  # fmt: skip
"""The SDM as released, in place of what the main experiment makes of it: every part learns, no recogniser
looks."""


def overrides(root: Path, backbone: Path, people: Path, *more: str) -> list[str]:
    """Overrides that train on the tiny backbone and folder, below `root`."""
    return [
        f"backbone.path={backbone}",
        "backbone.name=tiny",
        *(f"backbone.{key}=null" for key in ("base", "tdm", "sdm")),
        f"backbone.image_size={IMAGE}",
        "backbone.reference_crop=person",
        "backbone.final_sigma=0",
        f"backbone.reference_size={REFERENCE}",
        f"backbone.max_tokens={LENGTH}",
        "data=fastcomposer",
        f"data.root={people}",
        "data.max_subjects=2",
        "data.mirror=false",
        "data.cache_latents=true",
        "trainer=smoke",
        "trainer.accelerator=cpu",
        "trainer.sample_every=0",
        "sampler.num_steps=2",
        "init=base",
        f"paths.runs={root / 'runs'}",
        f"paths.cache={root / 'cache'}",
        *more,
    ]
