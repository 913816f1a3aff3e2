"""The page of prepared photos: what is corrected in a browser is what the next run does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from fdlab.preparation import faces, run
from fdlab.preparation.settings import FaceSettings, MaskSettings, PictureSettings, Settings
from fdlab.records import preparation_page
from tests.worlds import album

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SETTINGS = Settings(PictureSettings(shortest_side=48), FaceSettings(small=8), MaskSettings("boxes"))


def prepared(tmp_path: Path) -> run.Prepared:
    made = run.prepare(tmp_path / "photos", tmp_path / "set", SETTINGS, workers=1, show=False)
    assert isinstance(made, run.Prepared)
    return made


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Prepared:
    monkeypatch.setattr(faces, "FaceFinder", album.Finder)
    album.fill(tmp_path / "photos")
    album.write(tmp_path / "photos", "z.png", album.picture(9, [1]), 'a man </script><b id="taken">')
    return prepared(tmp_path)


def test_the_page_is_one_file_and_takes_no_text_for_html(made: run.Prepared) -> None:
    text = preparation_page.write(made).read_text()
    assert not re.search(r'(src|href)="(https?:|//)', text) and "fetch(" not in text
    assert text.count("</script>") == 2 and '<b id="taken">' not in text
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert block
    data = json.loads(block[1])
    assert [p["id"] for p in data["pictures"]] == [some.id for some in made.plan.chosen]
    assert {d["photo"] for d in data["dropped"]} == set(made.plan.dropped)
    assert sum(len(p["people"]) for p in data["pictures"]) == made.numbers["people"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_what_is_corrected_in_a_browser_is_done(made: run.Prepared, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = preparation_page.write(made)
    key = {some.seen.name: some.seen.key for some in made.plan.chosen}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(path.as_uri())
        page.click(f'[data-face="{key["a.png"]}/0"]')
        page.click(f'[data-face="{key["c.png"]}/0"]')
        page.click("#merge")
        page.click(f'[data-face="{key["d.png"]}/0"]')
        page.click("#split")
        page.fill(f'[data-key="{key["e.png"]}"] textarea', "an aunt <|image|> in Rome")
        page.check(f'[data-key="{key["z.png"]}"] input')
        with page.expect_download() as saved:
            page.click("#save")
        saved.value.save_as(made.work / "corrections.json")
        browser.close()
    after = {some.seen.name: some for some in prepared(tmp_path).plan.chosen}
    assert "z.png" not in after and after["e.png"].caption == "an aunt in Rome"
    who = {name: [person.identity for person in some.people] for name, some in after.items()}
    # The first and the third colour are one person now, but for the third in d.png.
    assert who["a.png"][0] == who["b.png"][0] == who["c.png"][0] != who["b.png"][1]
    assert len({who["a.png"][0], *who["d.png"], *who["e.png"]}) == 4
