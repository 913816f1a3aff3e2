"""Captions by a network: any image-to-text model of transformers, from a folder or the hub's cache.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdlab.assets import resolve
from fdlab.data.pictures import read_photo
from fdlab.errors import UserError
from fdlab.foreign import said
from fdlab.preparation.settings import CaptionSettings
from fdlab.preparation.work import Stage, packed

VERSION = 1
MOST_TOKENS = 60
"""What a text encoder of 77 tokens takes, with room for what is put before it."""


def stage_of(pictures: Stage, work: Path, settings: CaptionSettings) -> Stage:
    """The stage; notes by the content's key. Raises: UserError where there is no such model."""
    if not settings.model:
        raise UserError(
            "prepare.captions.source=model: name the model, as in prepare.captions.model=FOLDER "
            "(BLIP-2, Florence-2, Qwen-VL or another of transformers)."
        )
    folder = resolve(settings.model)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"prepare.captions.model={settings.model}: no folder with a model's config.json; download it "
            f"with: hf download {settings.model if '/' in settings.model else 'NAME'}"
        )
    told = {"model": str(folder), "question": settings.question}
    facts = {"version": VERSION, "after": pictures.folder.name, **told}
    return Stage.of(work, "captions", facts, Captioner, str(pictures.folder), packed(asdict(settings)))


class Captioner:
    """Says what a picture shows, one picture at a time, always the likeliest next word."""

    def __init__(self, pictures: str, told: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        settings = CaptionSettings(**json.loads(told))
        self.pictures, self.question = Path(pictures), settings.question
        self.device = torch.device(settings.device)
        folder = resolve(str(settings.model))
        try:
            self.processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise UserError(
                f"prepare.captions.model={settings.model} is no image-to-text model that can be loaded: "
                f"{said(error)}."
            ) from error
        self.model = model.to(self.device).eval()

    def __call__(self, stage: Stage, key: str) -> dict[str, Any]:
        """A picture's caption."""
        return {"caption": self.caption(read_photo(self.pictures / key[:2] / f"{key}.jpg"))}

    def caption(self, image_HW3: np.ndarray) -> str:
        """What a picture shows, on one line."""
        import torch

        given = self._given(Image.fromarray(image_HW3)).to(self.device)
        with torch.no_grad():
            ids = self.model.generate(**given, max_new_tokens=MOST_TOKENS, do_sample=False, num_beams=1)[0]
        asked = given.get("input_ids")
        # Models that only decode repeat what they were asked.
        if asked is not None and not self.model.config.is_encoder_decoder:
            start = asked[0].tolist()
            ids = ids[len(start) :] if ids[: len(start)].tolist() == start else ids
        text = self.processor.decode(ids, skip_special_tokens=True)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())

    def _given(self, image: Image.Image) -> Any:
        if getattr(self.processor, "chat_template", None):
            asked = self.question or "Describe the picture in one sentence."
            content = [{"type": "image", "image": image}, {"type": "text", "text": asked}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        text = {"text": self.question} if self.question else {}
        return self.processor(images=image, **text, return_tensors="pt")
