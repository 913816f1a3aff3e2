"""A TDM and an SDM as one folder that FaceDiffuserPipeline.from_pretrained reads, with a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fdlab.assets import resolve
from fdlab.exchange import card
from fdlab.exchange.whole_model import backbone_of, check_parts
from fdlab.files import whole_folder, write_text
from fdlab.foreign import read_yaml
from fdlab.models import finetuned
from fdlab.models.finetuned import BackboneSettings
from fdlab.models.nano import SHIPPED
from fdlab.models.quiet import without_bars
from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline

NANO = "asset:nano"
CARD = """\
---
library_name: fdlab
pipeline_tag: text-to-image
tags: [personalization, face]
---

# {name}

{what} Draw with it:

```python
from fdlab import FaceDiffuserPipeline

pipe = FaceDiffuserPipeline.from_pretrained("FOLDER OR HUB ID")
picture = pipe("a woman <|image|> on a beach", "ada.png", seeds=[1]{how}).images[0]
```

"""


def write_pipeline(out: Path, sdm: str, tdm: str | None, base: str | None, half: bool) -> str:
    """Write an SDM, with a TDM beside it (None: alone), as a pipeline's folder; returns its parts.

    `sdm` and `tdm` are runs' folders or model folders. Parts that they lack come from `base`, else from the
    backbone that the SDM's run was made with. Raises: UserError.
    """
    folder = finetuned.model_folder(sdm)
    settings = backbone_of(sdm, folder, base)
    # The backbone's own, as train, sample and evaluate call it.
    beside = settings.shipped.get("base", settings.path) if tdm == "base" else tdm
    asked = {"sdm": folder} | ({"tdm": finetuned.model_folder(beside)} if beside else {})
    weights = {kind: finetuned.need(settings, kind, str(path.absolute())) for kind, path in asked.items()}
    for kind, given in (("sdm", sdm), ("tdm", tdm)):
        if given is not None:
            check_parts(settings, weights[kind], finetuned.PARTS[kind], given)
    finetuned.check(settings, weights)
    models = {kind: finetuned.load(settings, weights[kind], finetuned.PARTS[kind]) for kind in asked}
    made = FaceDiffuserPipeline.from_backbones(**models)
    made.register_to_config(**_usual(settings, folder.parent))
    if half:
        made.to(torch.float16)
    with whole_folder(out) as temporary, without_bars():
        made.save_pretrained(temporary, safe_serialization=True)
        write_text(temporary / "README.md", _card(out.name, asked, settings.name))
    return ", ".join(name for name, part in made.components.items() if part is not None)


def _usual(settings: BackboneSettings, run: Path) -> dict[str, Any]:
    """What a call takes where it says nothing: of what ships as it ships, else as the run's backbone says."""
    if resolve(settings.path) == resolve(NANO):
        return dict(SHIPPED)
    config = run / "config.yaml"
    said = read_yaml(config, "configuration") if config.is_file() else {}
    node = said.get("backbone") if isinstance(said, Mapping) else None
    usual = node if isinstance(node, Mapping) else {}
    keys = ("guidance_scale", "final_sigma")
    numbers = {key: float(usual[key]) for key in keys if isinstance(usual.get(key), int | float)}
    return {"reference_crop": settings.reference_crop, **numbers}


def _card(name: str, asked: Mapping[str, Path], backbone: str) -> str:
    both = "tdm" in asked
    what = (
        "A text-driven and a subject-augmented diffusion model, sampled together (Face-diffuser, CVPR 2024)."
        if both
        else "A subject-augmented diffusion model (Face-diffuser, CVPR 2024)."
    )
    models = {kind: finetuned.facts(path) for kind, path in asked.items()}
    told = CARD.format(name=name, what=what, how="" if both else ', guider="sdm"')
    return told + card.origin(models, backbone)
