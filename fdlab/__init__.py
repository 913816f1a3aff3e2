"""fdlab: fine-tune diffusion models to draw given people in new scenes, and compare such methods honestly."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline

__all__ = ["FaceDiffuserPipeline", "__version__"]

__version__ = "0.1.0"

# Where it is installed it warns, as soon as peft is imported, of four-bit weights, which nothing here has.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    # Not at the top: `python -m fdlab --help` answers without torch.
    if name == "FaceDiffuserPipeline":
        from fdlab.pipeline.face_diffuser import FaceDiffuserPipeline

        return FaceDiffuserPipeline
    raise AttributeError(f"module 'fdlab' has no attribute '{name}'")
