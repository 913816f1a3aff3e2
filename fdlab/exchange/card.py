"""What the card of an exported model says of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fdlab import __version__

TOLD = ("steps", "git_commit", "pictures", "lr", "text_encoder_lr", "prior_weight", "seed")
"""What a card says of a training, of what training.json knows."""
_PLAIN = """\
---
library_name: diffusers
pipeline_tag: text-to-image
---

# {name}

A text-driven model, as plain diffusers reads it. Draw with it:

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("FOLDER OR HUB ID")
picture = pipe("a woman on a beach").images[0]
```

"""
_ORIGIN = """\
Made by fdlab {version}'s `checkpoint export` from:

{origin}

`python -m fdlab leaderboard card RECORD` writes what was measured of it. Whose pictures it was trained on,
and what they allow, is for whoever publishes it to say here.
"""


def origin(models: Mapping[str, Mapping[str, Any]], backbone: str) -> str:
    """The end of a card. `models`: tdm or sdm -> what its training.json says; of a backbone's folder no more
    than its name is said."""
    lines = [f"* {kind.upper()}: {_told(facts)}" for kind, facts in models.items()]
    return _ORIGIN.format(
        version=__version__, origin="\n".join([*lines, f"* backbone: {Path(backbone).name}"])
    )


def plain(name: str, facts: Mapping[str, Any], backbone: str) -> str:
    """The card of a folder that plain diffusers loads."""
    return _PLAIN.format(name=name) + origin({"tdm": facts}, backbone)


def _told(facts: Mapping[str, Any]) -> str:
    said = [f"{key.replace('_', ' ')} {facts[key]}" for key in TOLD if facts.get(key) is not None]
    lora = facts.get("lora")
    said += [f"LoRA of rank {lora['rank']}"] if isinstance(lora, Mapping) and "rank" in lora else []
    return ", ".join(said) or "nothing is known of its training"
