"""`fdlab demo`, as a person uses it: the page in a browser."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab import FaceDiffuserPipeline
from fdlab.__main__ import main
from fdlab.demo.examples import render_examples
from fdlab.demo.recipe import ask

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed (fdlab[demo])"
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="no Chromium on the PATH, or playwright is not installed (fdlab[test])",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The verb in a process of its own, ended as Ctrl-C does."""
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "FDLAB_CACHE": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "fdlab", "demo", "--port", str(free_port())]
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=env, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", said)
            assert found, said + (folder / "log").read_text()
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(timeout=30)
            finally:
                process.kill()
    assert status == 0
    assert not list(folder.glob("fdlab-demo-*")), "uploads are left behind"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def opened_page(browser: Any, address: str) -> Iterator[Any]:
    """The page, opened; whatever it asks for, it asks of this machine."""
    opened = browser.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.set_default_timeout(20_000)
    opened.goto(address)
    opened.wait_for_selector("#photos img")
    yield opened
    opened.close()
    assert asked and not [url for url in asked if not url.startswith((address, "data:", "blob:"))]


def upload(page: Any, photo: Path) -> None:
    page.get_by_label("Clear").click()
    page.wait_for_selector("#photos img", state="detached")
    page.set_input_files("#photos input[type=file]", photo)
    page.wait_for_selector("#photos img")


def fill(page: Any, name: str, value: float) -> None:
    page.fill(f"#{name} input[type=number]", str(value))


def draw(page: Any, said: str) -> str:
    page.click("#go")
    return str(page.locator("#status", has_text=said).inner_text())


def a_photo_and_a_prompt_become_the_pipelines_picture(page: Any, tmp_path: Path) -> None:
    photo = render_examples(tmp_path)[1].photos[0].rename(tmp_path / "ada.png")
    prompt = "a man <|image|> in a forest"
    upload(page, photo)
    page.fill("#prompt textarea", prompt)
    for name, value in {"alpha": 0.2, "beta": 0.7, "steps": 4, "scale": 4.5, "seed": 11}.items():
        fill(page, name, value)
    draw(page, "drawn in")

    asked = ask(prompt, ["ada.png"], "snf", {"alpha": 0.2, "beta": 0.7}, 4, 4.5, 11)
    expected = FaceDiffuserPipeline.shipped()(prompt, [photo], **asked.arguments).images[0]
    picture = page.locator("#picture img")
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == list(expected.size)
    seen = Image.open(io.BytesIO(page.request.get(picture.get_attribute("src")).body()))
    assert (np.asarray(seen) == np.asarray(expected)).all()

    # Steps 1 and 2 are fused: two saliencies and a mask each; all three have a predicted picture. The fourth
    # is not drawn: the shipped pipeline ends at its noise level.
    widths = page.eval_on_selector_all("#figure img", "images => images.map(image => image.naturalWidth)")
    assert widths == [128] * 9
    assert page.locator("#faces img").count() == 1
    page.get_by_role("tab", name="The same picture again").click()
    assert page.locator("#command .cm-content").inner_text().strip() == asked.command


def what_does_not_fit_is_said_on_the_page(page: Any, tmp_path: Path) -> None:
    fill(page, "alpha", 0.9)
    assert "alpha is 0.9 and beta 0.6; allowed: 0 <= alpha < beta <= 1." in draw(page, "alpha")
    fill(page, "alpha", 0.3)
    page.fill("#prompt textarea", "a woman on a beach")
    assert "has 0 markers <|image|>, but 1 subjects are given" in draw(page, "markers")
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "wall.png")
    upload(page, tmp_path / "wall.png")
    page.fill("#prompt textarea", "a woman <|image|> on a beach")
    line = draw(page, "no face")
    assert line.strip() == "no face found in photo 'wall.png'; give one in which a face can be seen well."


def stop_stops_and_draw_draws_again(page: Any, tmp_path: Path) -> None:
    fill(page, "steps", 100)
    page.click("#go")
    page.click("#halt")
    stopped = page.locator("#status", has_text="stopped after").inner_text()
    done, total = map(int, re.findall(r"\d+", stopped)[:2])
    assert done < total <= 100
    fill(page, "steps", 2)
    assert "drawn in" in draw(page, "drawn in")


@pytest.mark.long
@needs_gradio
@needs_browser
def test_the_page(browser: Any, address: str, tmp_path: Path) -> None:
    """All of it in one: the verb takes longer to start than each of these."""
    for check in (
        a_photo_and_a_prompt_become_the_pipelines_picture,
        what_does_not_fit_is_said_on_the_page,
        stop_stops_and_draw_draws_again,
    ):
        with opened_page(browser, address) as page:
            check(page, tmp_path)
    other_sites_are_refused(address)


def other_sites_are_refused(address: str) -> None:
    def status(**headers: str) -> int:
        """Of what a page asks first, as another site would ask it through a name of its own."""
        request = urllib.request.Request(f"{address}config", headers=headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status() == status(Origin=address.rstrip("/")) == 200
    port = address.rstrip("/").rpartition(":")[2]
    assert status(Host=f"evil.com:{port}", Origin=f"http://evil.com:{port}") == 403
    assert status(Host=f"evil.com:{port}") == status(Origin="http://evil.com") == 403


def test_a_port_in_use_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    assert f"cannot serve at port {port} of 127.0.0.1" in capsys.readouterr().err
    assert main(["demo", "--port", "70000"]) == 2
    assert "'70000' is no port; allowed: 1 to 65535" in capsys.readouterr().err


def test_missing_gradio_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else name)
    assert main(["demo"]) == 2
    assert "pip install 'fdlab[demo]'" in capsys.readouterr().err
