from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.errors import UserError


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
        ({"real": "real/{subjct}.png"}, "allowed: {subject}"),
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
