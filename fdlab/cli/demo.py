"""`fdlab demo`: a page to play with the method, in the browser."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import tempfile
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from fdlab.cli.options import parser
from fdlab.config.locate import options
from fdlab.errors import UserError

EPILOG = """example: python -m fdlab demo --sdm runs/sdm/seed0

The page is served to this machine alone, unless --host says otherwise, and fetches nothing from elsewhere.
Photos that are uploaded are deleted at the end."""
PORTS = range(7860, 7960)
"""Where a free one is looked for."""


def main(argv: list[str]) -> int:
    """Run the verb until it is interrupted; returns the exit status."""
    made = parser("demo", "A page to play with the method: photos and a prompt in, a picture out.", EPILOG)
    made.add_argument("--host", default="127.0.0.1", help="address to serve at (127.0.0.1: to this machine)")
    made.add_argument("--port", type=port_number, help=f"port to serve at (the first free from {PORTS[0]})")
    for kind, what in (("tdm", "text-driven"), ("sdm", "subject-augmented")):
        made.add_argument(
            f"--{kind}", default="shipped", metavar="FOLDER", help=f"{what} model: shipped, base or a folder"
        )
    made.add_argument("--backbone", default="nano", choices=options("backbone"), help="what both belong to")
    made.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="what else to change, as in backbone.fusion=FOLDER"
    )
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    arguments = made.parse_intermixed_args(argv)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the demo needs gradio, which is not installed: pip install 'fdlab[demo]'.")
    port = free_port(arguments.host, arguments.port)
    # Whoever ends it, by Ctrl-C or by kill, the uploads go; a shell starts what runs in its background with
    # SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fdlab-demo-", ignore_cleanup_errors=True) as uploads:
        # Gradio reads these when it is imported.
        os.environ |= {"GRADIO_TEMP_DIR": uploads, "GRADIO_ANALYTICS_ENABLED": "False"}
        _serve(arguments, port)
    return 0


def port_number(text: str) -> int:
    """An argument's type: a port."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ArgumentTypeError(f"'{text}' is no port; allowed: 1 to {2**16 - 1}")
    return int(text)


def free_port(host: str, port: int | None) -> int:
    """A port that can be served at, the given one or the first of PORTS. Raises: UserError."""
    reason = ""
    for candidate in PORTS if port is None else (port,):
        try:
            with socket.create_server((host, candidate)):
                return candidate
        except OSError as error:
            reason = str(error.strerror)
    where = f"ports {PORTS[0]} to {PORTS[-1]}" if port is None else f"port {port}"
    raise UserError(f"cannot serve at {where} of {host}: {reason}; choose another --port or --host.")


def _serve(arguments: Namespace, port: int) -> None:
    from fdlab.config.compose import compose
    from fdlab.demo.drawing import Painter
    from fdlab.demo.examples import render_examples
    from fdlab.demo.page import Page, launch
    from fdlab.demo.pipeline import load_artist
    from fdlab.demo.recipe import Models

    models = Models(arguments.backbone, arguments.tdm, arguments.sdm, tuple(arguments.overrides))
    painter = Painter(load_artist(models.tdm, models.sdm, models.backbone, overrides=models.overrides))
    folder = Path(compose().paths.cache).absolute() / "demo"
    blocks = Page(painter, models, render_examples(folder)).build()
    _without_proxy(arguments.host)
    address = launch(blocks, arguments.host, port, folder, arguments.open)
    print(f"open {address}   (Ctrl-C ends it)", flush=True)
    blocks.block_thread()


def _without_proxy(host: str) -> None:
    """Gradio looks whether its page is there, and would ask a proxy for it."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*known, "localhost", "127.0.0.1", host])
