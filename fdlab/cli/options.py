"""Command-line parsing shared by the verbs: flags by argparse, `KEY=VALUE` left for the configuration."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from fdlab.config.locate import groups, options
from fdlab.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are UserErrors: one line, and the nearest of its flags."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint. Raises: UserError."""
        start = "unrecognized arguments: "
        if message.startswith(f"{start}-"):
            raise unknown("option", message.removeprefix(start).split()[0], self._option_string_actions)
        raise UserError(f"{message}; see {self.prog} --help.")

    # The one place where argparse still knows what was given and what is allowed.
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = argparse._get_action_name(action) if action.option_strings else f"{self.prog} command"
            raise unknown(str(name), str(value), action.choices)


def parser(verb: str, description: str, epilog: str = "") -> Parser:
    """A parser for one verb, `--help` included; text is printed as it is written."""
    return Parser(
        prog=f"fdlab {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def configurable(verb: str, description: str, example: str) -> Parser:
    """A parser for a verb that composes a configuration: overrides, and `--cfg job`."""
    made = parser(verb, description, epilog=f"{choices()}\n\nexample: {example}")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="--cfg job shows every key")
    made.add_argument("--cfg", choices=["job"], help="print the resolved configuration and exit")
    return made


def positive(text: str) -> int:
    """An argument's type: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def choices() -> str:
    """Every group of the configuration with its options, one a line."""
    lines = [f"  {'+' if group == 'exp' else ''}{group}={'|'.join(options(group))}" for group in groups()]
    return "\n".join(["choices:", *lines])


def print_config(cfg: object) -> None:
    """Print a resolved configuration as YAML."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(cfg, resolve=True), end="")
