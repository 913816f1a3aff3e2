"""FastComposer's benchmarks from checkouts that these tests write: their prompts are invented."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks.convert import fastcomposer
from fdlab.benchmarks.convert.fastcomposer import CODE, PEOPLE
from fdlab.errors import UserError
from fdlab.leaderboard import published

SINGLE_CODE = """\
IMAGE_TO_GENDER_EVAL = {people!r}

def get_combinations(unique_token, is_fastcomposer=False):
    assert unique_token == "" and is_fastcomposer
    pairs = []
    for subject, noun in sorted(IMAGE_TO_GENDER_EVAL.items()):
        prompts = [f"a {{noun}} {{unique_token}} doing thing {{k}}" for k in range(39)]
        pairs.append(([*prompts, f"an odd picture of a {{noun}} {{unique_token}}"], subject))
    return pairs
"""
MULTI_CODE = """\
def subjects(class_tokens, unique_tokens):
    return " and ".join(f"a {u} {c}" for c, u in zip(class_tokens, unique_tokens))
""" + "".join(
    f"""
def get_{kind}_prompts(class_tokens, unique_tokens):
    return [f"{kind} {{k}} of {{subjects(class_tokens, unique_tokens)}}" for k in range({num})]
"""
    for kind, num in (("style", 7), ("action", 8), ("context", 6))
)


def run(line: str, checkout: Path) -> None:
    """What a user types, with this Python."""
    line = line.replace("CHECKOUT", str(checkout)).replace("python -c", f"{sys.executable} -c")
    subprocess.run(["bash", "-c", line], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with photos, its prompts exported by the documented lines."""
    root = tmp_path_factory.mktemp("checkout")
    for name, code in (("single_object", SINGLE_CODE.format(people=PEOPLE)), ("multi_object", MULTI_CODE)):
        (root / "evaluation" / name).mkdir(parents=True)
        (root / "evaluation" / name / "data.py").write_text(code)
    rng = np.random.default_rng(0)
    for person in PEOPLE:
        folder = root / "data/celeba_test_single" / person
        folder.mkdir(parents=True)
        # The first .jpg counts, as in the published code.
        for name in ("000000001.jpg", "000000002.jpg", "000000000.png"):
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(folder / name)
    run(fastcomposer.EXPORT, root)
    run(fastcomposer.EXPORT_PAIRS, root)
    return root


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.fixture(scope="module")
def digests(made: Path) -> dict[str, str]:
    """Of the invented prompts, computed without the code that is tested."""
    found = {}
    for noun in ("man", "woman"):
        texts = [f"a {noun} doing thing {k}\n" for k in range(39)] + [f"an odd picture of a {noun}\n"]
        found[noun] = hashlib.sha256("".join(texts).encode()).hexdigest()
    return found


def test_single_people(checkout: Path, tmp_path: Path, digests: dict[str, str]) -> None:
    fastcomposer.convert(checkout, tmp_path / "out", digests=digests)
    bench = benchmarks.load(tmp_path / "out")
    summary = bench.summary()
    assert summary["prompts_verified"] is True and len(list(bench.cells())) == 2400
    (quoted, *_) = published.load(published.DEFAULT)
    assert quoted.follows({**bench.scored("fastcomposer").summary()})
    assert (bench.size, bench.images_per_prompt) == (512, 4)
    nouns = [subject.noun for subject in bench.subjects]
    assert (len(nouns), nouns.count("man"), nouns.count("woman")) == (15, 6, 9)
    categories = [prompt.category for prompt in bench.prompts]
    assert [categories.count(c) for c in ("accessory", "style", "action", "context")] == [10] * 4
    assert categories[9:11] == ["accessory", "style"] and categories[29:31] == ["action", "context"]
    texts = [prompt.text for prompt in bench.prompts]
    assert (
        texts[0] == "a {noun} <|image|> doing thing 0" and texts[-1] == "an odd picture of a {noun} <|image|>"
    )
    for subject in bench.subjects:
        source = checkout / "data/celeba_test_single" / subject.id / "000000001.jpg"
        copied = bench.folder / subject.references[0]
        assert copied.read_bytes() == source.read_bytes()
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        assert bench.source["photos"][f"references/{subject.id}.jpg"] == digest
    assert bench.source["prompts"] == digests


def test_pairs_are_not_verified_and_say_so(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = checkout / "evaluation/multi_object/prompts.txt"
    line = ["data", "convert", "fastcomposer-benchmark", str(checkout), str(tmp_path / "out")]
    assert main([*line, "--pairs", str(prompts)]) == 0
    assert "15 people, 21 prompts, 8820 pictures of 512 pixels" in capsys.readouterr().out
    bench = benchmarks.load(tmp_path / "out")
    assert bench.name == "fastcomposer_multi" and bench.groups is not None and len(bench.groups) == 105
    assert bench.summary()["prompts_verified"] is False
    assert bench.source["prompts"] == hashlib.sha256(prompts.read_bytes()).hexdigest()
    group = bench.drawn[2]
    assert [subject.noun for subject in group] == ["man", "woman"]
    assert bench.prompts[0].of(group) == "style 0 of a man <|image|> and a woman <|image|>"
    categories = [prompt.category for prompt in bench.prompts]
    assert [categories.count(c) for c in ("style", "action", "context")] == [7, 8, 6]


def test_the_published_prompts_are_the_only_ones(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "convert", "fastcomposer-benchmark", str(checkout), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "prompts_man.txt' has other prompts than published (sha256 " in error and error.count("\n") == 1
    assert fastcomposer.DIGESTS["man"] in error and not (tmp_path / "out").exists()


def edit(noun: str, old: str, new: str) -> Any:
    def change(root: Path) -> None:
        path = root / CODE / f"prompts_{noun}.txt"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def drop(*names: str) -> Any:
    def change(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def grey(root: Path) -> None:
    path = root / "data/celeba_test_single/000181/000000001.jpg"
    Image.open(path).convert("L").save(path)


def cut(root: Path) -> None:
    path = root / "data/celeba_test_single/000181/000000001.jpg"
    path.write_bytes(path.read_bytes()[:50])


PHOTOS = "data/celeba_test_single"
WRONG: list[tuple[str, Any, str]] = [
    ("no checkout", drop("."), r"no folder '.*'; give a checkout of mit-han-lab/fastcomposer"),
    (
        "another folder",
        drop(f"{CODE}/prompts_man.txt", f"{CODE}/data.py"),
        r"is no checkout of mit-han-lab/fastcomposer: '.*single_object/data\.py' is missing",
    ),
    (
        "not exported",
        drop(f"{CODE}/prompts_woman.txt"),
        r"prompts_woman\.txt' is missing; export the prompts first: \(cd .*/evaluation/single_object &&",
    ),
    ("one word", edit("woman", "doing thing 7", "doing thing 77"), r"prompts_woman\.txt' has other prompts"),
    ("one prompt less", edit("man", "a man  doing thing 3\n", ""), "has 39 prompts, published are 40"),
    ("no photos", drop("data"), r"no photos: .* is missing\. FastComposer's repository does not hold them"),
    (
        "photos of some",
        drop(f"{PHOTOS}/000268", f"{PHOTOS}/004153"),
        r"lacks photos of 000268, 004153 \(2 of 15 subjects\)",
    ),
    ("a grey photo", grey, r"000181/000000001\.jpg' is grey or turned by EXIF: not one of the published"),
    ("a broken photo", cut, r"photo '.*000181/000000001\.jpg' cannot be read"),
]


@pytest.mark.parametrize(("spoil", "said"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_checkout_is_named_with_what_is_wrong(
    checkout: Path, tmp_path: Path, digests: dict[str, str], spoil: Any, said: str
) -> None:
    spoil(checkout)
    with pytest.raises(UserError, match=said) as caught:
        fastcomposer.convert(checkout, tmp_path / "out", digests=digests)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_prompts_that_fit_no_template_are_named(checkout: Path, tmp_path: Path) -> None:
    """Digests alone would do; this guards against a wrong one in the code."""

    def of(noun: str) -> str:
        texts = (checkout / CODE / f"prompts_{noun}.txt").read_text().splitlines()
        return hashlib.sha256("".join(" ".join(t.split()) + "\n" for t in texts).encode()).hexdigest()

    edit("man", "a man  doing thing 3\n", "a boy doing thing 3\n")(checkout)
    with pytest.raises(UserError, match="'a boy doing thing 3' has the word 'man' 0 times"):
        fastcomposer.convert(
            checkout, tmp_path / "out", digests={noun: of(noun) for noun in ("man", "woman")}
        )
    edit("man", "a boy doing thing 3\n", "a man doing nothing\n")(checkout)
    with pytest.raises(UserError, match="differ by more than their noun"):
        fastcomposer.convert(
            checkout, tmp_path / "out", digests={noun: of(noun) for noun in ("man", "woman")}
        )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{noun2}", "woman", r"must name \{noun\} and \{noun2\} once each"),
        ("style 3 of a {noun} <|image|> and a {noun2} <|image|>\n", "", "has 20 prompts, the protocol 21"),
        ("<|image|> and", "and", "has 1 markers"),
    ],
)
def test_wrong_prompts_of_pairs(checkout: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    path = checkout / "evaluation/multi_object/prompts.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=said):
        fastcomposer.convert_pairs(checkout, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_photos_may_lie_elsewhere(checkout: Path, tmp_path: Path, digests: dict[str, str]) -> None:
    (checkout / PHOTOS).rename(tmp_path / "photos")
    made = fastcomposer.convert(checkout, tmp_path / "out", tmp_path / "photos", digests)
    assert len(made.subjects) == 15


def test_a_photo_that_was_changed_afterwards_is_named(
    checkout: Path, tmp_path: Path, digests: dict[str, str]
) -> None:
    made = fastcomposer.convert(checkout, tmp_path / "out", digests=digests)
    path = tmp_path / "out" / made.subjects[3].references[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=rf"'{re.escape(str(path))}' is not the photo that .* was made with"):
        benchmarks.load(tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-1])
    manifest = tmp_path / "out/benchmark.json"
    data = json.loads(manifest.read_text())
    # What the source says of the files is no part of the digest: they are hashed themselves.
    manifest.write_text(json.dumps({**data, "source": {**data["source"], "protocol": "other words"}}))
    assert benchmarks.load(tmp_path / "out").sha256 == made.sha256
    manifest.write_text(json.dumps({**data, "source": {"protcol": "x"}}))
    with pytest.raises(UserError, match=r"unknown key in 'source' of .*Did you mean 'protocol'"):
        benchmarks.load(tmp_path / "out")
