"""What a run was made of: its configuration, the overrides that led to it, and the machine and packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab import __version__
from fdlab.config import naming
from fdlab.errors import UserError
from fdlab.files import write_json, write_text

DIGEST_VERSIONS = (1, 2)
DIGEST_VERSION = DIGEST_VERSIONS[-1]
"""What `config_sha256` is the digest of; a record says which, so that an older one is not held to a newer."""

PACKAGES = (
    "torch",
    "lightning",
    "diffusers",
    "transformers",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "scipy",
    "safetensors",
)


def save(configuration: Mapping[str, Any], run_dir: Path, overrides: Sequence[str]) -> None:
    """Write config.yaml, overrides.yaml and environment.json into a run directory."""
    import yaml
    from omegaconf import OmegaConf

    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(configuration))
    write_text(
        run_dir / "overrides.yaml",
        yaml.safe_dump(list(overrides), default_flow_style=False, allow_unicode=True),
    )
    write_json(run_dir / "environment.json", environment())


def load(path: Path) -> Any:
    """Read the configuration of an earlier run from its directory or its config.yaml. Raises: UserError."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(path)
    path = path / "config.yaml" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no configuration at '{path}'; give a run directory that holds config.yaml.")
    try:
        cfg = OmegaConf.load(path)
        OmegaConf.to_container(cfg, resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"'{path}' is damaged: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(cfg) or not cfg:
        raise UserError(f"'{path}' is damaged: it holds no keys.")
    OmegaConf.set_struct(cfg, True)
    return cfg


def config_sha256(resolved: Mapping[str, Any], version: int = DIGEST_VERSION) -> str:
    """Digest of a resolved configuration, whatever the order of its keys and the folders of this machine (in
    version 1: but for values below them)."""
    told = resolved if version == 1 else naming.without_folders(resolved)
    moved = {key: value for key, value in told.items() if key != "paths"}
    return hashlib.sha256(json.dumps(moved, sort_keys=True).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Versions, device, commit and command of this process."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "fdlab_version": __version__,
        **git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": gpus[0] if gpus else platform.processor() or platform.machine(),
        "num_gpus": len(gpus),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "packages": packages(),
        "command": sys.argv,
    }


def packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git() -> dict[str, Any]:
    """Commit of the checkout this package runs from and whether it was changed; nulls where there is none."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
