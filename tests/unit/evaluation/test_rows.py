"""The rows of a table: labels say all in which they differ; the same weights and sampler are one row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fdlab.assets import asset_path
from fdlab.benchmarks import benchmark as benchmarks
from fdlab.config.compose import compose
from fdlab.evaluation.rows import Row, standard
from fdlab.evaluation.settings import MethodSettings
from tests.worlds import squares


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark, and copies of what ships, under other names."""
    root = tmp_path_factory.mktemp("rows")
    squares.write_benchmark(root / "bench", subjects=2, prompts=1, images=1, size=128)
    for name in ("sdm", "base"):
        shutil.copytree(asset_path(f"nano/{name}"), root / name)
    # Weights of its own: to a digest any change is one.
    shutil.copytree(root / "sdm", root / "other")
    config = root / "other/fusion/config.json"
    config.write_text(config.read_text() + "\n")
    return root


def table(disk: Path, *overrides: str) -> list[Row]:
    cfg = compose([*overrides, f"paths.cache={disk / 'cache'}"], config_name="evaluate")
    return standard(MethodSettings.read(cfg), benchmarks.load(disk / "bench"), disk / "nowhere", "cpu")


CASES: dict[tuple[str, ...], list[str]] = {
    ("sampler=snf_demo",): ["base, no reference", "SDM shipped", "SNF: TDM shipped + SDM shipped"],
    ("sampler=sdm",): ["base, no reference", "SDM shipped"],
    ("sampler=sdm", "sdm={disk}/sdm"): [
        "base, no reference",
        "SDM shipped (base=null)",
        "SDM shipped (base=text)",
    ],
    ("sampler=sdm", "sdm={disk}/sdm", "sampler.base=null"): ["base, no reference", "SDM shipped"],
    ("sampler=sdm", "sdm={disk}/other"): [
        "base, no reference",
        "SDM shipped (base=null)",
        "SDM {disk}/other (base=text)",
    ],
    ("sampler=snf_demo", "sdm={disk}/sdm"): [
        "base, no reference",
        "SDM shipped",
        "SNF: TDM shipped + SDM shipped",
    ],
    ("sampler=delayed",): ["base, no reference", "SDM shipped", "DELAYED: SDM shipped"],
    ("sampler=delayed", "benchmark.baselines=false"): ["DELAYED: SDM shipped"],
    ("sampler=tdm",): ["base, no reference", "TDM shipped"],
    ("sampler=tdm", "tdm=base"): ["TDM base"],
    ("sampler=tdm", "tdm={disk}/base"): ["TDM base"],
}


@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_labels(disk: Path, overrides: tuple[str, ...]) -> None:
    rows = [row for row in table(disk, *(o.format(disk=disk) for o in overrides)) if row.method["sampler"]]
    assert [row.label for row in rows] == [label.format(disk=disk) for label in CASES[overrides]]
    # No two rows are the same, and none says of another's what is not so.
    same = [(row.method["sampler"], row.method.get("tdm"), row.method.get("sdm")) for row in rows]
    assert all(a != b for i, a in enumerate(same) for b in same[:i])


def test_another_autoencoder_is_another_picture(disk: Path) -> None:
    """What is drawn once for all runs is not taken for what another part of the backbone would draw."""
    shutil.copytree(asset_path("nano/vae"), disk / "vae", dirs_exist_ok=True)
    (disk / "vae/config.json").write_text((disk / "vae/config.json").read_text() + "\n")
    before, after = (table(disk, *more)[-1] for more in ((), (f"backbone.vae={disk / 'vae'}",)))
    assert before.drawn_with and before.drawn_with != after.drawn_with


def test_a_row_says_that_references_were_cropped_to_heads(disk: Path) -> None:
    whole, heads = (
        table(disk, "sampler=snf_demo", *more) for more in (("backbone.reference_crop=person",), ())
    )
    assert not any("reference_crop" in row.method for row in whole)
    assert [row.method.get("reference_crop") for row in heads[-2:]] == ["head", "head"]
    assert all("reference_crop" not in row.method for row in heads if "sdm" not in row.method)


@pytest.mark.parametrize(
    ("init", "compared", "expected"),
    [
        ("asset:nano/early", "shipped", ["SDM start", "SDM shipped"]),
        ("asset:nano/early", "asset:nano/early", ["SDM asset:nano/early"]),
        ("asset:nano/base", "shipped", ["SDM shipped"]),
        ("base", "shipped", ["SDM shipped"]),
        ("shipped", "shipped", ["SDM shipped"]),
    ],
)
def test_a_run_stands_beside_the_sdm_that_it_began_with(
    disk: Path, tmp_path: Path, init: str, compared: str, expected: list[str]
) -> None:
    shutil.copytree(disk / "other", tmp_path / "model")
    cfg = compose(["+exp=sdm", f"init={init}", f"sdm={compared}", f"paths.cache={disk / 'cache'}"])
    rows = standard(MethodSettings.read(cfg), benchmarks.load(disk / "bench"), tmp_path, "cpu")
    labels = [row.label for row in rows if row.method["sampler"]]
    assert labels == [
        "base, no reference",
        *expected,
        "SDM this run",
        "SNF: TDM shipped + SDM this run",
    ]
