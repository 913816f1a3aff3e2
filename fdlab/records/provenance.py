"""Where a number comes from: code, packages, configuration, device and time."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fdlab
from fdlab.config import provenance


def measured(config_sha256: str, image_format: str, device: str, seconds: float, seed: int) -> dict[str, Any]:
    """The record's `provenance` for something measured here and now under a configuration."""
    return {
        "kind": "measured",
        "source": "python -m fdlab",
        "fdlab_version": fdlab.__version__,
        **provenance.git(),
        "config_sha256": config_sha256,
        "config_sha256_version": provenance.DIGEST_VERSION,
        "packages": {"python": platform.python_version(), **provenance.packages()},
        "device": device_name(device),
        "seconds": round(seconds, 3),
        "seed": seed,
        "image_format": image_format,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: str) -> str:
    """A device as a person names it."""
    if device.startswith("cuda"):
        import torch

        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {platform.machine()} {platform.processor()}".strip()


def drawing_code_sha256() -> str:
    """Digest of the code that draws, so that pictures of an older version are not taken for new ones."""
    root = Path(fdlab.__file__).parent
    files = [
        p for room in ("diffusion", "models", "data", "pipeline") for p in sorted((root / room).rglob("*.py"))
    ]
    files.append(root / "evaluation" / "methods.py")
    return hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in files)).hexdigest()
