"""Where the configuration files lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from fdlab.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """The folder of configuration groups.

    Raises: UserError when neither the checkout's nor the wheel's folder is there.
    """
    for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UserError(
        f"no configuration in '{_PACKAGE / 'conf'}' or '{_PACKAGE.parent / 'conf'}'; reinstall fdlab."
    )


def groups() -> list[str]:
    """Names of the configuration groups: the folders in `conf_dir()`."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and any(path.glob("*.yaml")))


def options(group: str) -> list[str]:
    """Names one may choose in a group: its files without `.yaml` and without a `_` in front."""
    return sorted(path.stem for path in (conf_dir() / group).glob("[!_]*.yaml"))
