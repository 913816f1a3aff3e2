"""Who may talk to the page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fdlab.demo.guard import OwnPageOnly, names_of


def status(kind: str = "http", host: str = "127.0.0.1", **headers: str) -> int:
    """What a page served at `host` answers: 200, 403, or a websocket's 1008."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read of what is refused")

    given = [(key.encode(), value.encode()) for key, value in headers.items()]
    asyncio.run(OwnPageOnly(app, names_of(host))({"type": kind, "headers": given}, receive, send))
    return int(sent[0].get("status", sent[0].get("code")))


@pytest.mark.parametrize(
    "name", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "192.168.1.7:80"]
)
def test_this_machine_is_admitted(name: str) -> None:
    assert status(Host=name) == 200
    assert status(Host=name, Origin=f"http://{name}") == 200
    assert status(Host=name, Origin=f"https://{name}") == 200
    assert status("websocket", host=name, Host=name) == 200


@pytest.mark.parametrize(
    "name",
    [
        "evil.com:7860",
        "evil.com",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "127.0.0.1@evil.com",
        "",
        "[",
        "[::1",
    ],
)
def test_a_strangers_name_for_this_machine_is_refused(name: str) -> None:
    assert status(Host=name) == 403
    assert status(Host=name, Origin=f"http://{name}") == 403
    assert status("websocket", Host=name) == 1008


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "http://127.0.0.1:1", "http://localhost:7860", "x"]
)
def test_another_site_is_refused(origin: str) -> None:
    assert status(Host="127.0.0.1:7860", Origin=origin) == 403


def test_no_host_and_two_hosts_are_refused() -> None:
    assert status() == 403
    assert status(Host="127.0.0.1", host_="x") == 200
    headers = [(b"host", b"127.0.0.1"), (b"HOST", b"evil.com")]
    assert not OwnPageOnly(None, names_of("127.0.0.1")).admits(headers)  # type: ignore[arg-type]


def test_a_page_for_others_is_known_by_this_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    assert status(host="0.0.0.0", Host="box:7860") == status(host="0.0.0.0", Host="box.local") == 200
    assert status(host="127.0.0.1", Host="box:7860") == 403
    assert status(host="demo.lab", Host="demo.lab:7860") == 200
