"""Who may talk to the page: a browser that was sent to this machine, and no other site in that browser."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

REFUSED = b"refused: open the address that fdlab demo printed.\n"


class OwnPageOnly:
    """An ASGI middleware that answers 403 where Host or Origin name anybody but this machine.

    A name that a stranger controls may be made to mean this machine (DNS rebinding): then his page may ask
    whatever it likes, and only the name in Host tells. An address in figures cannot be made to mean another.
    """

    def __init__(self, app: App, names: Collection[str]) -> None:
        self.app, self.names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket") or self.admits(scope["headers"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REFUSED)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSED})

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request's headers name one host, this machine's, and no origin but the same."""
        given = [(key.lower(), value.decode("latin-1").lower()) for key, value in headers]
        hosts = [value for key, value in given if key == b"host"]
        origins = [value for key, value in given if key == b"origin"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return False
        return all(origin in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or _is_address(name)


def names_of(host: str) -> list[str]:
    """The names under which a page served at `host` is known; of a page for others, this machine's too."""
    names = ["localhost", host]
    if not (host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)):
        names += [socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"]
    return names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
