from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.errors import UserError
from fdlab.files import sha256
from tests.worlds import damage


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "benchmark.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_reads_everything(folder: Path) -> None:
    bench = benchmarks.load(folder)
    assert (bench.name, bench.size, len(bench.subjects), len(bench.prompts)) == ("squares", 16, 4, 4)
    assert bench.mask_of("references/s00.png") == folder / "masks/s00.png"
    assert bench.real_path("s01", "p02", 1) == folder / "real/s01-p02-1.png"
    summary = bench.summary()
    assert summary["num_subjects"] == 4 and summary["images_per_prompt"] == 2 and len(summary["sha256"]) == 64


@pytest.mark.parametrize(
    "file", ["references/s01.png", "heldout/s02.png", "masks/s00.png", "real/s03-p03-1.png"]
)
def test_hash_changes_with_any_picture_scored_against(folder: Path, file: str) -> None:
    before = benchmarks.load(folder).sha256
    assert benchmarks.load(folder).sha256 == before
    with (folder / file).open("ab") as stream:
        stream.write(b"x")
    assert benchmarks.load(folder).sha256 != before


def test_hash_does_not_depend_on_place_or_formatting(folder: Path, tmp_path: Path) -> None:
    before = benchmarks.load(folder).sha256
    folder.rename(tmp_path / "elsewhere")
    path = tmp_path / "elsewhere/benchmark.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert benchmarks.load(tmp_path / "elsewhere").sha256 == before


def test_limited_takes_categories_in_turn_and_is_another_benchmark(folder: Path) -> None:
    bench = benchmarks.load(folder)
    small = bench.limited(2, 2, 1)
    assert [s.id for s in small.subjects] == ["s00", "s01"]
    assert [p.category for p in small.prompts] == ["c0", "c1"]
    assert small.images_per_prompt == 1 and small.sha256 != bench.sha256
    assert bench.limited(0, 0, 0).sha256 == bench.limited(99, 99, 99).sha256 == bench.sha256
    with pytest.raises(UserError, match="max_prompts=-1"):
        bench.limited(max_prompts=-1)


def test_bad_input_is_named(folder: Path, tmp_path: Path) -> None:
    good = json.loads((folder / "benchmark.json").read_text())
    with pytest.raises(UserError, match=r"no benchmark\.json in"):
        benchmarks.load(tmp_path / "nowhere")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"subjects": good["subjects"] + good["subjects"][:1]}, "subject id 's00' stands twice"),
        ({"prompts": good["prompts"] + good["prompts"][:1]}, "prompt id 'p00' stands twice"),
        ({"subjects": []}, "'subjects' .* at least one"),
        ({"subjects": [{**good["subjects"][0], "references": []}]}, "no reference picture"),
        ({"subjects": [{**good["subjects"][0], "id": "a/b"}]}, "subject id 'a/b'"),
        ({"subjects": [{**good["subjects"][0], "nouns": 1}]}, "Did you mean 'noun'"),
        ({"prompts": [{"id": "p", "text": "a {noun} on a beach"}]}, "0 markers"),
        ({"prompts": [{"id": "p", "text": "a {nuon} <|image|>"}]}, "only allowed placeholder"),
        ({"images_per_prompt": 0}, "'images_per_prompt' .* is 0"),
        ({"real": "real/{subject}.png", "prompts": good["prompts"]}, "missing in"),
        ({"real": "real/all.png"}, "names one file for all"),
        ({"real": "real/{subjct}.png"}, "placeholders are {subject}, {prompt} and {index}"),
        ({"seeds": 1}, "Did you mean 'seed'"),
    ]
    for change, message in cases:
        (folder / "benchmark.json").write_text(json.dumps(good))
        rewrite(folder, **change)
        with pytest.raises(UserError, match=message):
            benchmarks.load(folder)
    (folder / "benchmark.json").write_text(json.dumps(good))
    (folder / "references/s02.png").unlink()
    with pytest.raises(UserError, match=r"'references/s02\.png', which is missing"):
        benchmarks.load(folder)
    (folder / "benchmark.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        benchmarks.load(folder)


def test_unknown_subject_has_nearest_match(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown subject 's0'"):
        benchmarks.load(folder).subject("s0")


@pytest.mark.parametrize("key", ["references", "heldout", "photos", "real"])
@pytest.mark.parametrize(
    "name", ["../other.png", "ABSOLUTE", "link.png", "links/other.png", "a/../../other.png"]
)
def test_pictures_outside_of_the_folder_are_refused(folder: Path, key: str, name: str) -> None:
    good = json.loads((folder / "benchmark.json").read_text())
    outside = folder.parent / "other.png"
    outside.write_bytes((folder / "references/s00.png").read_bytes())
    (folder / "link.png").symlink_to(outside)
    (folder / "links").symlink_to(folder.parent)
    (folder / "a").mkdir()
    name = str(outside) if name == "ABSOLUTE" else name
    if key == "photos":
        rewrite(folder, source={"photos": {name: sha256(outside)}})
    elif key == "real":
        stem, dot, kind = name.rpartition(".")
        rewrite(folder, real=f"{stem}{{subject}}{{prompt}}{{index}}{dot}{kind}")
        for s, p, i in product(good["subjects"], good["prompts"], range(2)):
            where = folder / f"{stem}{s['id']}{p['id']}{i}.png"
            if not where.exists():
                where.symlink_to(outside)
    else:
        rewrite(folder, subjects=[{**good["subjects"][0], key: [name]}, *good["subjects"][1:]])
    with pytest.raises(UserError, match=r"outside of .*; pictures must lie within"):
        benchmarks.load(folder)


def test_a_folder_that_is_a_link_itself_is_fine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder)
    (folder / "references/s00.png").rename(folder / "references/other.png")
    (folder / "references/s00.png").symlink_to("other.png")
    assert benchmarks.load(tmp_path / "linked").sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "x"}, "'seed' in .* is 'x'; a whole number"),
        ({"seed": 1.5}, "'seed' in .* is 1.5"),
        ({"version": []}, r"'version' in .* is \[\]"),
        ({"name": None}, "'name' in .* is None; text"),
        ({"size": 10**9}, "whole number from 1 to 16,384"),
        ({"size": True}, "'size' in .* is True"),
        ({"images_per_prompt": 10**9}, "from 1 to 10,000,000"),
        ({"images_per_prompt": 9_000_000}, "asks for more than 10,000,000 pictures"),
        ({"real": 3}, "'real' in .* is 3; text"),
        ({"real": "{subject.__class__}{prompt}{index}"}, "nothing else; given: {subject.__class__}"),
        ({"real": "{subject:>1000000000}{prompt}{index}"}, "nothing else; given: {subject:>1000000000}"),
        ({"groups": [["s00", 1]]}, "'groups' in"),
        ({"source": {"photos": []}}, "'photos' in the source"),
        ({"source": {"photos": {"a": 1}}}, "'photos' in the source"),
        ({"source": 1}, "'source' of .* is a int"),
        ({"subjects": ["s00"]}, "is a str; it must be an object"),
    ],
)
def test_values_of_the_wrong_kind_are_named(folder: Path, change: dict[str, Any], said: str) -> None:
    rewrite(folder, **change)
    with pytest.raises(UserError, match=said):
        benchmarks.load(folder)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("subjects", {"references": "references/s00.png"}, "'references' in .* a list of texts"),
        ("subjects", {"references": [1]}, "a list of texts"),
        ("subjects", {"references": ["x" * 300 + ".png"]}, "no file can be called"),
        ("subjects", {"references": ["a\x00b.png"]}, "no file's name|missing"),
        ("subjects", {"heldout": None}, "'heldout' in"),
        ("subjects", {"noun": 1}, "'noun' in .* is 1; text"),
        ("subjects", {"identity": "x"}, "'identity' in"),
        ("subjects", {"id": "x" * 61}, "60 at most"),
        ("subjects", {"id": ["x"]}, "subject id"),
        ("prompts", {"text": 1}, "'text' in"),
        ("prompts", {"truth": ["x"]}, "'truth' in"),
        ("prompts", {"truth": {"x": 1}}, "'truth' in"),
        ("prompts", {"category": 1}, "'category' in"),
        ("prompts", {"text": "a {noun.__class__} <|image|>"}, "nothing else; given: {noun.__class__}"),
        ("prompts", {"text": "a {noun!r} <|image|>"}, "nothing else; given: {noun!r}"),
        ("prompts", {"text": "a {noun:>99999999} <|image|>"}, "nothing else; given: {noun:>99999999}"),
    ],
)
def test_entries_of_the_wrong_kind_are_named(
    folder: Path, part: str, change: dict[str, Any], said: str
) -> None:
    first, *rest = json.loads((folder / "benchmark.json").read_text())[part]
    rewrite(folder, **{part: [{**first, **change}, *rest]})
    with pytest.raises(UserError, match=said) as caught:
        benchmarks.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_manifests_are_named_or_used(folder: Path, seed: int) -> None:
    good = json.loads((folder / "benchmark.json").read_text())
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    for data in damage.files(good, seed, 40):
        (folder / "benchmark.json").write_bytes(data)
        try:
            jobs.jobs(benchmarks.load(folder).limited(1, 1, 1))
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before
