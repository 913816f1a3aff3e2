from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.benchmarks.jobs import Job
from fdlab.data import pictures
from fdlab.errors import UserError
from fdlab.evaluation import generation


def digest(paths: list[Path]) -> list[bytes]:
    return [np.asarray(Image.open(path)).tobytes() for path in paths]


def test_jobs_have_distinct_stable_seeds(folder: Path) -> None:
    bench = benchmarks.load(folder)
    todo = jobs.jobs(bench)
    assert len(todo) == 4 * 4 * 2 and len({job.seed for job in todo}) == len(
        {job.file for job in todo}
    ) == len(todo)
    assert todo[0].text == "a woman <|image|> on a beach" and todo[0].file == "s00-p00-0.png"
    # A selection draws the same pictures as the whole.
    whole = {job.id: job.seed for job in todo}
    assert all(whole[job.id] == job.seed for job in jobs.jobs(bench.limited(2, 2, 1)))


def test_pictures_do_not_depend_on_batch_or_order(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    one = generation.generate(todo, world.Painter(), tmp_path / "a", batch_size=5)
    generation.generate(todo[::-1], world.Painter(), tmp_path / "b", batch_size=32)
    assert digest(one) == digest([tmp_path / "b" / path.name for path in one])


def test_interrupted_generation_goes_on_without_drawing_again(
    folder: Path, tmp_path: Path, world: ModuleType
) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    whole = generation.generate(todo, world.Painter(), tmp_path / "whole")

    class Dies(world.Painter):  # type: ignore[name-defined, misc]
        def __call__(self, batch: list[Job]) -> np.ndarray:
            if len(self.drawn) >= 10:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        generation.generate(todo, Dies(), tmp_path / "parts", batch_size=5)
    rest = world.Painter()
    paths = generation.generate(todo, rest, tmp_path / "parts", batch_size=5)
    assert len(rest.drawn) == len(todo) - 10 and digest(paths) == digest(whole)
    idle = world.Painter()
    generation.generate(todo, idle, tmp_path / "parts")
    assert idle.drawn == []


def together(batch: list[Job]) -> np.ndarray:
    """A method whose pictures do depend on what is drawn with them, as rounding makes those of models."""
    digest = hashlib.sha256("".join(job.id for job in batch).encode()).digest()
    return np.stack([np.full((8, 8, 3), list(digest[:3]), np.uint8) for _ in batch])


@pytest.mark.parametrize("gone", [(0,), (3, 4), (1, 7, 31), range(3, 32), range(32)])
def test_a_kill_inside_a_batch_changes_no_bit(folder: Path, tmp_path: Path, gone: Sequence[int]) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    paths = generation.generate(todo, together, tmp_path / "a", batch_size=5)
    whole = [path.read_bytes() for path in paths]
    kept = {path: path.stat().st_mtime_ns for path in paths}
    for index in gone:
        kept.pop(paths[index])
        paths[index].unlink()
    assert [
        path.read_bytes() for path in generation.generate(todo, together, tmp_path / "a", batch_size=5)
    ] == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "written again"


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_shards_of_whole_batches_are_the_same_to_the_last_bit(
    folder: Path, tmp_path: Path, count: int
) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    whole = [path.read_bytes() for path in generation.generate(todo, together, tmp_path / "a", batch_size=5)]
    shares = [jobs.share(todo, f"{index}/{count}", 5) for index in range(count)]
    assert sorted(job.id for share in shares for job in share) == sorted(job.id for job in todo)
    for share in shares[::-1]:
        generation.generate(share, together, tmp_path / "b", batch_size=5)
    assert [(tmp_path / "b" / job.file).read_bytes() for job in todo] == whole


def test_other_settings_draw_again(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    generation.generate(todo, world.Painter(), tmp_path, {"steps": 10})
    again = world.Painter()
    generation.generate(todo, again, tmp_path, {"steps": 20})
    assert len(again.drawn) == len(todo)


def test_png_says_what_it_is(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    job = jobs.jobs(benchmarks.load(folder))[0]
    path = generation.generate([job], world.Painter(), tmp_path)[0]
    with Image.open(path) as image:
        assert (
            image.format == "PNG" and image.info["prompt"] == job.text and image.info["seed"] == str(job.seed)
        )


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "grey.png")
    Image.new("RGBA", (16, 16)).save(tmp_path / "alpha.png")
    Image.new("RGB", (8, 16)).save(tmp_path / "size.png")
    (tmp_path / "corrupt.png").write_bytes(b"no image")
    for name, message in (
        ("grey", "mode L"),
        ("alpha", "mode RGBA"),
        ("size", "8 x 16"),
        ("corrupt", "cannot be read"),
        ("gone", "missing"),
    ):
        with pytest.raises(UserError, match=message):
            pictures.read_image(tmp_path / f"{name}.png", 16)


def test_a_method_of_wrong_shape_is_a_bug(folder: Path, tmp_path: Path) -> None:
    todo = jobs.jobs(benchmarks.load(folder))[:2]
    with pytest.raises(TypeError, match="must return uint8"):
        generation.generate(todo, lambda batch: np.zeros((1, 4, 4, 3), np.uint8), tmp_path)


def test_shards_hold_every_job_once(folder: Path) -> None:
    todo = jobs.jobs(benchmarks.load(folder))
    shards = [jobs.share(todo, f"{index}/3") for index in range(3)]
    assert sorted(job.id for shard in shards for job in shard) == sorted(job.id for job in todo)
    assert jobs.share(todo, None) == todo
    for wrong in ("3/3", "1", "-1/3", "a/b", "0/0"):
        with pytest.raises(UserError, match=f"shard={wrong}: allowed are"):
            jobs.share(todo, wrong)


def test_processes_that_begin_together_keep_each_others_pictures(
    folder: Path, tmp_path: Path, world: ModuleType
) -> None:
    """All find the pictures of other settings; only the first to come may remove them."""
    todo = jobs.jobs(benchmarks.load(folder))
    generation.generate(todo, world.Painter(), tmp_path, {"sampler": "old"}, show=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}

    def draw(index: int) -> None:
        mine = jobs.share(todo, f"{index}/4")
        generation.generate(mine, world.Painter(), tmp_path, {"sampler": "new"}, batch_size=1, show=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(4)))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert after.keys() == before.keys() and all(after[path] > before[path] for path in after)
