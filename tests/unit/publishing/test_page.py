"""The page: what it holds, and what a browser, a keyboard and a phone make of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.leaderboard import board, collect
from fdlab.leaderboard.evidence import Reader
from fdlab.publishing import page, thumbnails
from fdlab.records import breakdown, per_sample, record

FROZEN = Path(__file__).parent.with_name("leaderboard") / "frozen"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
WITH_PICTURES = ("close", "taught")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frozen tree with some pictures, commands and breakdowns; its page lies beside it."""
    root = tmp_path_factory.mktemp("page")
    shutil.copytree(FROZEN, root / "runs")
    for run in WITH_PICTURES:
        folder = root / "runs" / run / "evaluation"
        rng = np.random.default_rng(len(run))
        for row in per_sample.read(folder):
            path = folder / row["file"]
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
        path = folder / "record.json"
        scored = per_sample.load(path, record.read(path))
        attributes = {name: {"age": "old" if n % 2 else "young"} for n, name in enumerate(scored.subjects)}
        breakdown.write(folder, record.read(path), scored, 0, attributes)
        command = {"command": ["/x/__main__.py", "evaluate", "sampler=average", f"name={run} it"]}
        (folder.parent / "environment.json").write_text(json.dumps(command))
    entries, _ = collect.find([root / "runs"])
    page.write(board.make(collect.group(entries, "identity_similarity")), root / "board.html")
    return root / "board.html"


def test_no_text_turns_the_direction_of_writing() -> None:
    told = {"command": "a\u202eb", "pictures": [("\x1b[201~", 1.5, None)], "x\u2066": "é"}
    shown = {"command": "a\\u202eb", "pictures": [["\\x1b[201~", 1.5, None]], "x\\u2066": "é"}
    assert page._seen(told) == shown


@pytest.fixture(scope="module")
def data(written: Path) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', written.read_text(), re.S)
    assert block
    return dict(json.loads(block[1]))


def test_the_page_holds_the_board_and_refers_to_pictures(written: Path, data: dict[str, Any]) -> None:
    text = written.read_text()
    # A label holds </script>; it ends nothing.
    assert text.count("</script>") == 2 and "<script>alert" not in text
    assert not re.search(r'(src|href)="https?:', text) and "@import" not in text
    first = data["tables"][0]
    rows = {row["label"].partition(" (")[0]: row for row in first["rows"]}
    assert rows["average"]["rank"] == [2, 3] and rows["<script>alert(1)</script>"]["rank"] == [5, 5]
    assert rows["average"]["command"] == "python -m fdlab evaluate sampler=average 'name=close it'"
    assert set(rows["average"]["breakdown"]) == {"category", "age"}
    assert first["scores"] == ["identity_similarity", "prompt_accuracy"]
    shown = rows["average"]
    for place, (name, _, _) in enumerate(first["pictures"]):
        assert (written.parent / shown["folder"] / f"images/{name}.png").is_file()
        known = per_sample.read(written.parent / shown["folder"])[place]
        assert shown["values"]["prompt_accuracy"][place] == known["prompt_accuracy"]
    assert "folder" not in rows["few"] and "folder" not in rows["no pictures"]


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd.png", "../../../x.png", "javascript:alert(1).png", "http://x/y.png", "x.html", "a\\b.png"],
)
def test_a_picture_that_is_none_is_not_referred_to(tmp_path: Path, file: str) -> None:
    shutil.copytree(FROZEN / "close", tmp_path / "close")
    path = tmp_path / "close/evaluation/per_sample.jsonl"
    path.write_text(path.read_text().replace('"images/s0-p0-0.png"', json.dumps(file)))
    other = path.parent / per_sample.read(path.parent)[1]["file"]
    other.parent.mkdir()
    Image.new("RGB", (8, 8)).save(other)
    made = board.make(collect.group(collect.find([tmp_path])[0]))
    text = page.text(made, tmp_path, Reader())
    block = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert block
    files = json.loads(block[1])["tables"][0]["rows"][0]["files"]
    assert files[0] == "" and files[1] == "images/s0-p1-0.png"


@pytest.fixture(scope="module")
def opened(written: Path) -> Iterator[Any]:
    """The page in a browser that keeps what went wrong and what was asked for."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; not installed")
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        made = browser.new_page(viewport={"width": 1300, "height": 900})
        wrong: list[str] = []
        asked: list[str] = []
        made.on("pageerror", lambda error: wrong.append(str(error)))
        made.on("request", lambda request: asked.append(request.url))
        made.goto(written.as_uri())
        yield made
        browser.close()
    assert not wrong
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def names(opened: Any) -> list[str]:
    texts = opened.locator("#table-1 tbody .name").all_inner_texts()
    return [text.partition(" (")[0] for text in texts]


@needs_browser
def test_sorting_filtering_searching_and_columns(opened: Any, data: dict[str, Any]) -> None:
    rows = data["tables"][0]["rows"]
    original = [row["label"].partition(" (")[0] for row in rows]
    assert names(opened) == original
    header = opened.locator("#table-1 [data-sort=prompt_accuracy]")
    header.click()
    values = {row["label"].partition(" (")[0]: row["cells"]["prompt_accuracy"][0] for row in rows}
    assert [values[name] for name in names(opened)] == sorted(values.values(), reverse=True)
    assert opened.locator("#table-1 th[aria-sort=descending]").count() == 1
    header.click()
    assert [values[name] for name in names(opened)] == sorted(values.values())
    header.click()
    assert names(opened) == original
    opened.select_option("#table-1 .controls select", "ranked")
    assert names(opened) == [n for n, row in zip(original, rows, strict=True) if row["rank"]]
    opened.select_option("#table-1 .controls select", "all")
    opened.fill("#table-1 input[type=search]", "taught judge")
    assert names(opened) == ["taught"] and opened.inner_text("#table-1 .count").startswith("1 of 9")
    opened.fill("#table-1 input[type=search]", "")
    opened.click("#table-1 details.menu summary")
    opened.uncheck("#table-1 details.menu input >> nth=1")
    assert opened.locator("#table-1 td[data-metric=prompt_accuracy]").count() == 0
    opened.check("#table-1 details.menu input >> nth=1")
    opened.click("#table-1 details.menu summary")
    assert opened.inner_text("#table-1 tbody tr:nth-child(4) .rank") == "2–3"
    # A name with a tag in it is text.
    assert "<script>alert(1)</script> (script)" in opened.locator("#table-1 tbody .name").all_inner_texts()
    assert "Apart because: not in table 1" in opened.inner_text("#table-2")


@needs_browser
def test_a_row_opens_with_command_settings_pictures_and_worst_cases(opened: Any) -> None:
    opened.get_by_role("button", name="average (close)").first.click()
    dialog = opened.locator("#dialog")
    assert dialog.locator("h2").inner_text() == "average (close)"
    assert (
        dialog.locator("#command").inner_text() == "python -m fdlab evaluate sampler=average 'name=close it'"
    )
    assert dialog.locator(".panel").count() == 2 and "method.sampler.guider" in dialog.inner_text()
    worst = dialog.locator(".worst").first.locator("figure")
    scores = [float(text.split()[1]) for text in worst.locator(".numbers").all_inner_texts()]
    assert len(scores) == 12 and scores == sorted(scores)
    picture = dialog.locator("figure img").first
    picture.scroll_into_view_if_needed()
    opened.wait_for_function("document.querySelector('#dialog figure img').naturalWidth === 8")
    before = picture.get_attribute("src")
    dialog.get_by_label("prompt").select_option("1")
    assert dialog.locator("figure img").first.get_attribute("src") != before
    opened.keyboard.press("Escape")
    assert not dialog.is_visible()


@needs_browser
def test_two_rows_stand_side_by_side(opened: Any, data: dict[str, Any]) -> None:
    for name in ("average (close)", "taught (taught)"):
        opened.get_by_label(f"compare {name}").check()
    opened.click("#compare")
    dialog = opened.locator("#dialog")
    assert "A: average (close)" in dialog.inner_text() and "B: taught (taught)" in dialog.inner_text()
    assert dialog.locator("#pairs figure").count() == 24
    # Two values do not say who is better, paired differences do.
    assert dialog.locator(".better").count() == 0 and "leaderboard diff A B" in dialog.inner_text()
    first, second = dialog.locator("#pairs figure").first.locator("img").all()
    assert "close/evaluation/images" in first.get_attribute("src")
    assert "taught/evaluation/images" in second.get_attribute("src")
    # The greatest gain in identity first.
    rows = {row["label"].partition(" (")[0]: row for row in data["tables"][0]["rows"]}
    pairs = zip(*(rows[n]["values"]["identity_similarity"] for n in ("average", "taught")), strict=True)
    gains = {data["tables"][0]["pictures"][k][0]: b - a for k, (a, b) in enumerate(pairs)}
    shown = dialog.locator("#pairs figure").evaluate_all("found => found.map(f => f.dataset.id)")
    assert [gains[i] for i in shown] == sorted(gains.values(), reverse=True)
    # On a phone no name is broken into letters, and the difference is in sight.
    opened.set_viewport_size({"width": 390, "height": 844})
    heights = opened.evaluate(
        "[...document.querySelectorAll('#dialog table.plain')[0].rows].map((r) => r.clientHeight)"
    )
    assert max(heights) < 80
    edge = opened.locator("#dialog table.plain").first.locator("th").last.bounding_box()
    assert edge["x"] + edge["width"] <= 390
    opened.set_viewport_size({"width": 1300, "height": 900})
    opened.keyboard.press("Escape")
    opened.get_by_label("clear").click()
    assert not opened.locator("#tray").is_visible()


@needs_browser
def test_the_keyboard_reaches_everything(opened: Any) -> None:
    opened.keyboard.press("/")
    assert opened.evaluate("document.activeElement.type") == "search"
    opened.locator("#table-1 tbody .name").first.focus()
    opened.keyboard.press("ArrowDown")
    assert opened.evaluate("document.activeElement.textContent") == "taught (taught)"
    opened.keyboard.press("c")
    assert opened.locator("#tray").is_visible()
    opened.keyboard.press("c")
    opened.keyboard.press("Enter")
    assert opened.inner_text("#dialog h2") == "taught (taught)"
    opened.keyboard.press("Escape")
    assert opened.evaluate("document.activeElement.textContent") == "taught (taught)"
    opened.locator("#table-1 td[data-metric=identity_similarity]").nth(2).hover()
    tip = opened.inner_text("#tip")
    assert "95 % interval [" in tip and "mtcnn+faceres" in tip and "24 pictures" in tip


CROWDED = """() => {
    const view = views[0], [x, y] = view.table.axes, kept = view.visible;
    const row = view.rows.find((r) => r.front);
    const at = (label, u, v) => ({ ...row, label, cells: { [x]: [u, null, null], [y]: [v, null, null] } });
    view.visible = [at("method 0", 0.5, 0.5), at("method 1", 0.50001, 0.49999),
      at("method 2", 0.50002, 0.49998), at("elsewhere", 0.1, 0.9)];
    view.drawFront();
    const said = [...view.front.querySelectorAll(".point text")].map((text) => text.textContent);
    view.visible = kept;
    view.drawFront();
    return said.sort().reverse();
}"""
"""Labels of a front whose points lie on one another but for one."""

ALIKE = """() => {
    const view = views[0], row = view.rows[1], [x, y] = view.table.axes;
    const cell = (value) => [value, null, null, 1, null];
    const by = (u, v) => ({ ...row, cells: { [x]: cell(0.5 + u), [y]: cell(0.5 + v) } });
    openPair(view, by(0, 0), by(-0.0001, 0.001));
    const said = [...dialog.querySelectorAll(".sides tbody tr")].map((line) => line.lastChild.textContent);
    dialog.close();
    return said;
}"""
"""Differences as two rows side by side have them."""


@needs_browser
def test_plots_and_a_phone(opened: Any) -> None:
    opened.locator("#table-1 .forest").scroll_into_view_if_needed()
    opened.wait_for_selector("#table-1 .front-plot .point.on")
    assert opened.locator("#table-1 .forest .name").count() == 9
    assert opened.locator("#table-1 .front-plot .point.on").count() == 3
    assert opened.locator("#table-1 .panel").count() == 2
    # Where groups of people lack what is plotted, as they do AUC, identity stands for it.
    headings = """() => {
        const groups = (name) => ({ a: { [name]: [0.5, 0.4, 0.6, 9] } });
        const breakdown = { category: groups("identity_auc"), age: groups("identity_similarity") };
        const own = { cells: {}, breakdown };
        const names = ["identity_auc", "identity_similarity"];
        const chosen = (found) => names.find((name) => Object.values(found)[0][name]);
        return panels([own], own, chosen).map((panel) => panel.querySelector("h4").textContent);
    }"""
    assert opened.evaluate(headings) == ["prompt category · identity AUC", "age · identity"]
    # Worse for some: where the interval leaves out the whole on the worse side, and enough pictures say so.
    whole = "[0.5, 0.4, 0.6, 60, null]"
    for entry, marked in (
        ("[0.3, 0.2, 0.4, 30]", True),
        ("[0.3, 0.2, 0.4, 9]", False),
        ("[0.4, 0.3, 0.55, 30]", False),
    ):
        assert opened.evaluate(f"isWorse('identity_similarity', {entry}, {whole})") is marked
    assert opened.evaluate(f"isWorse('copy_paste', [0.7, 0.6, 0.8, 30], {whole})") is True
    assert opened.evaluate(CROWDED) == ["method 0", "elsewhere"]
    assert opened.evaluate(ALIKE) == ["0.000", "+0.001"]
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.emulate_media(color_scheme="dark")
    # The table scrolls within its frame; the page itself does not go sideways.
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    opened.locator("#table-1 tbody .name").first.click()
    assert opened.evaluate("document.getElementById('dialog').scrollWidth") <= 390
    opened.keyboard.press("Escape")


@pytest.mark.parametrize("num", [0, 3, 5, 8, 100])
def test_carried_pictures_are_spread_over_prompts_then_people(num: int) -> None:
    pictures = [[f"s{s}-p{p}", f"s{s}", p] for s in range(6) for p in range(4)]
    chosen = [pictures[place] for place in thumbnails.places(pictures, num)]
    assert len({name for name, *_ in chosen}) == len(chosen) == min(num, 24)
    prompts = [sum(prompt == p for *_, prompt in chosen) for p in range(4)]
    assert max(prompts) - min(prompts) <= 1
    assert len({who for _, who, _ in chosen}) >= min(num, 6) - 1


@needs_browser
def test_a_page_that_travels_alone_shows_what_it_carries(opened: Any, written: Path, tmp_path: Path) -> None:
    entries, _ = collect.find([written.parent / "runs"])
    made = board.make(collect.group(entries, "identity_similarity"))
    (tmp_path / "alone.html").write_text(page.text(made, written.parent, Reader(), carried=4))
    alone = opened.context.browser.new_page()
    alone.goto((tmp_path / "alone.html").as_uri())
    alone.get_by_role("button", name="average (close)").first.click()
    shown = "[...document.querySelectorAll('#dialog figure img')]"
    alone.wait_for_function(f"{shown}.length > 1 && {shown}.every((e) => e.naturalWidth === 8)")
    # What else a prompt has is asked for, and found to be elsewhere.
    alone.locator("#dialog button.more").first.click()
    alone.locator("#dialog figure img[alt^='not here: ']").first.wait_for()
    alone.close()


def test_pictures_that_did_not_travel_are_not_asked_for(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "close", tmp_path / "close")
    text = page.text(board.make(collect.group(collect.find([tmp_path])[0])), tmp_path, Reader())
    block = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert block
    (row,) = json.loads(block[1])["tables"][0]["rows"]
    assert "folder" not in row and row["values"]
