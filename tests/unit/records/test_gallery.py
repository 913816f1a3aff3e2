"""samples.html: what it holds, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fdlab.errors import UserError
from fdlab.records import gallery, per_sample, record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def data_of(page: Path) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert block
    return dict(json.loads(block[1]))


@pytest.fixture
def data(squares: Path) -> dict[str, Any]:
    return data_of(squares / "evaluation/samples.html")


def test_every_picture_is_there_with_what_its_row_says(squares: Path, data: dict[str, Any]) -> None:
    rows = per_sample.read(squares / "evaluation")
    assert [p["id"] for p in data["pictures"]] == [row["id"] for row in rows]
    for picture, row in zip(data["pictures"], rows, strict=True):
        assert picture["seed"] == str(row["seed"]) and picture["category"] == row["category"]
        assert (squares / "evaluation" / picture["file"]).is_file()
        assert "<|image|>" not in picture["text"] and "woman" in picture["text"]
        assert picture["scores"].get("clip_score") == row["clip_score"]
        if row["face"] is None:
            assert picture["state"] == "none" and not picture["faces"]
            assert not any(name.startswith("identity") for name in picture["scores"])
        else:
            assert picture["state"] == ("right" if row["identity_rank1"] else "wrong")
            # The squares' face is the middle half of a picture.
            assert picture["faces"][0]["box"] == [25, 25, 50, 50]
    thumbnail = data["pictures"][0]["thumbnail"].removeprefix("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(thumbnail))) as image:
        assert image.size == (64, 64)
    assert set(data["references"]) == {"s00", "s01", "s02", "s03"}


def test_sections_are_the_extremes_and_the_failures(data: dict[str, Any]) -> None:
    pictures = {p["id"]: p for p in data["pictures"]}
    found = {section["id"]: section for section in data["sections"]}
    name = "identity_similarity_detected"
    ranked = sorted((p["scores"][name] for p in pictures.values() if name in p["scores"]), reverse=True)

    def shown(section: str, score: str) -> list[float]:
        return [pictures[i]["scores"][score] for i in found[section]["pictures"]]

    assert shown("best-identity", name) == ranked[:10] and shown("worst-identity", name) == ranked[:-11:-1]
    shares = sorted(p["scores"]["prompt_accuracy"] for p in pictures.values())
    # The painter draws a beach, whatever is asked: half of the prompts fail.
    assert shown("worst-prompt", "prompt_accuracy") == shares[:10] == [0.0] * 10
    assert shown("best-prompt", "prompt_accuracy") == [1.0] * 10
    for state in ("none", "wrong"):
        every = [p for p in pictures.values() if p["state"] == state]
        section = found[f"failed-{state}"]
        assert section["num"] == len(every) > 0 and len(section["pictures"]) == min(10, len(every))
        assert all(pictures[i]["state"] == state for i in section["pictures"])
        assert f"{len(every)} of {len(pictures)}" in section["note"]
    nearest = [m for p in pictures.values() for m in p["mistakes"]]
    assert nearest and all(m["asked"] != m["nearest"] for m in nearest)


def test_the_page_is_one_file_and_takes_no_text_for_html(squares: Path) -> None:
    text = (squares / "evaluation/samples.html").read_text()
    assert not re.search(r'(src|href)="(https?:|//)', text) and "@import" not in text and "fetch(" not in text
    assert "default-src 'none'" in text
    assert "SNF &lt;b&gt;" in text and "SNF <b>" not in text
    assert 'href="../report.html"' in text and (squares / "report.html").is_file()
    assert text.count("</script>") == 2
    report = (squares / "report.html").read_text()
    links = re.findall(r'href="([^"]+)"', report)
    assert set(links) == {"evaluation/samples.html", "evaluation/rows/real/samples.html"}
    for link in links:
        back = re.search(r'href="([^"]*report\.html)"', (squares / link).read_text())
        assert back and ((squares / link).parent / back[1]).resolve() == squares / "report.html"


def test_a_prompt_cannot_end_the_data(squares: Path, tmp_path: Path) -> None:
    rows = per_sample.read(squares / "evaluation")
    rows[0]["text"] = 'a woman <|image|> </script><script>document.title="taken"</script>'
    written = record.read(squares / "evaluation/record.json")
    (tmp_path / "images").symlink_to(squares / "evaluation/images")
    references = {f"s0{i}": squares.parent / f"bench/references/s0{i}.png" for i in range(4)}
    page = gallery.write(tmp_path, written, per_sample.arrays(rows, written["metrics"]), references)
    assert page.read_text().count("</script>") == 2
    assert "</script>" in data_of(page)["pictures"][0]["text"]
    (tmp_path / "images").unlink()
    with pytest.raises(UserError, match="is missing"):
        gallery.write(tmp_path, written, per_sample.arrays(rows, written["metrics"]), references)


def test_boxes_are_cut_at_the_border_and_big_pictures_made_small(tmp_path: Path) -> None:
    assert gallery.box((-10, 20, 50, 220), (100, 200)) == [0, 10, 50, 90]
    Image.new("RGB", (512, 256)).save(tmp_path / "big.png")
    uri, size = gallery.thumbnail(tmp_path / "big.png")
    assert size == (512, 256)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert image.size == (192, 96)


def test_a_picture_of_two_names_who_is_nearer_to_a_stranger() -> None:
    face = {"box": [0, 0, 8, 8], "score": 1.0}
    row = {
        "id": "a-b-p-0", "subject": "a-b", "subjects": ["a", "b"], "prompt": "p", "index": 0, "file": "x.png",
        "faces": [{**face, "similarity_to": [0.9, 0.1, 0.0]}, {**face, "similarity_to": [0.0, 0.3, 0.5]}],
        "matches": [
            {"subject": "a", "face": 0, "identity_similarity": 0.9},
            {"subject": "b", "face": 1, "identity_similarity": 0.3},
        ],
    }  # fmt: skip
    one = {**row, "id": "a-c-p-0", "subject": "a-c", "subjects": ["a", "c"], "faces": row["faces"][:1]}
    # In the place of either, c would get the second face, 0.5; in the place of a, b would get the other
    # picture's, 0.1. Own similarities 0.9, 0.3, 0.9 and none win 3, 1, 3 and half of these three.
    metrics = {"identity_auc": {"value": (3 + 1 + 3 + 1.5) / 12, "n": 2}}
    made = per_sample.arrays([row, one], metrics)
    assert made.matches is not None
    state, mistakes = gallery.states(made)
    assert state == ["wrong", "few"]
    assert mistakes == [[{"asked": "b", "nearest": "c"}], []]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_browser_sorts_filters_and_asks_nobody(squares: Path, data: dict[str, Any]) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; not installed")
    pictures = data["pictures"]
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((squares / "evaluation/samples.html").as_uri())

        def shown() -> list[str]:
            return list(page.eval_on_selector_all("#all .card", "cards => cards.map(c => c.dataset.id)"))

        def choose(**values: str) -> None:
            for name, value in values.items():
                page.select_option(f"#{name}", value)

        assert shown() == [p["id"] for p in pictures]
        choose(sort="clip_score", order="worst")
        scores = {p["id"]: p["scores"]["clip_score"] for p in pictures}
        assert [scores[i] for i in shown()] == sorted(scores.values())
        choose(order="best")
        assert [scores[i] for i in shown()] == sorted(scores.values(), reverse=True)
        # Lower is better, and pictures without a face come last either way.
        choose(sort="copy_paste", order="best")
        pasted = [p["scores"]["copy_paste"] for p in pictures if "copy_paste" in p["scores"]]
        by_id = {p["id"]: p["scores"].get("copy_paste") for p in pictures}
        assert [by_id[i] for i in shown()] == sorted(pasted) + [None] * (len(pictures) - len(pasted))
        choose(subject="s02", category="c1", state="right")
        wanted = {
            p["id"]
            for p in pictures
            if p["subjects"] == ["s02"] and p["category"] == "c1" and p["state"] == "right"
        }
        assert set(shown()) == wanted and 0 < len(wanted) < len(pictures)
        assert page.inner_text("#count") == f"{len(wanted)} of {len(pictures)} pictures"
        choose(subject="", category="", state="none", prompt="p01")
        assert set(shown()) == {p["id"] for p in pictures if p["state"] == "none" and p["prompt"] == "p01"}
        boxes = page.locator("#worst-identity .box").first
        assert boxes.is_visible()
        page.uncheck("#boxes")
        assert not boxes.is_visible()
        assert page.locator("#best-identity .card").count() == 10
        loaded = page.eval_on_selector_all(
            "#all img", "found => found.every(i => i.complete && i.naturalWidth)"
        )
        assert loaded
        browser.close()
    assert not wrong
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
