"""Where a number comes from: code, packages, configuration, device and time."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import fdlab

PACKAGES = ("torch", "diffusers", "transformers", "lightning", "torchmetrics", "numpy", "scipy", "pillow", "hydra-core")


def measured(config: Mapping[str, Any], device: str, seconds: float, seed: int) -> dict[str, Any]:
    """The record's `provenance` for something measured here and now."""
    commit, dirty = git_state()
    return {
        "kind": "measured",
        "source": "python -m fdlab",
        "fdlab_version": fdlab.__version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "config_sha256": config_sha256(config),
        "packages": packages(),
        "device": device_name(device),
        "seconds": round(seconds, 3),
        "seed": seed,
        "image_format": "png",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout this package runs from and whether it was changed; (None, None) where it is installed."""
    root = Path(fdlab.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changes.strip())


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def config_sha256(config: Mapping[str, Any]) -> str:
    """Digest of a resolved configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def device_name(device: str) -> str:
    """A device as a person names it."""
    if device.startswith("cuda"):
        import torch

        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {platform.machine()} {platform.processor()}".strip()
