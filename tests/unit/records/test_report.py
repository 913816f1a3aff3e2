"""report.html: its tables fit the width that there is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import pytest

from fdlab.metrics import registry
from fdlab.records import report, table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None or find_spec("playwright") is None, reason="needs a browser")
def test_every_column_is_in_sight_on_a_screen_and_on_a_phone() -> None:
    from playwright import sync_api as driver

    # What only several people have, or who asks for it.
    few = {"identity_similarity_min", "identity_blending", "fid"}
    heads = ["training steps", *(table.heading(name) for name in registry.whole() if name not in few)]
    scores = ["0.785<small>[0.77, 0.80]</small>"] * (len(heads) - 1)
    cells = report._cells(heads, ["4,411 + 9,469", *scores])
    made = report._whole("method", heads, [f"<tr><td>ATTENTION: TDM shipped + SDM shipped</td>{cells}</tr>"])
    page = (
        '<!doctype html><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<style>{report.STYLE}</style><main><div class="scroll">{made}</div></main>'
    )
    hidden = (
        "(() => { const t = document.querySelector('.scroll'); return t.scrollWidth - t.clientWidth; })()"
    )
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        opened.set_content(page)
        for width in (1200, 390):
            opened.set_viewport_size({"width": width, "height": 800})
            assert opened.evaluate(hidden) <= 0, width
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
        # On the phone each value says what it is.
        said = opened.evaluate("getComputedStyle(document.querySelector('td[data-of]'), '::before').content")
        assert said == '"training steps"'
        browser.close()
