"""A submission's pictures measured again, and some of them drawn again, by the evaluation's own code.

N pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.benchmarks import jobs, profiles
from fdlab.benchmarks.benchmark import MANIFEST, Benchmark, parse
from fdlab.benchmarks.benchmark import load as load_benchmark
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config.compose import compose
from fdlab.errors import UserError
from fdlab.evaluation import departures, measuring, scoring
from fdlab.evaluation.settings import EvaluationSettings
from fdlab.foreign import shown
from fdlab.leaderboard.marks import CEILINGS
from fdlab.measure import choose
from fdlab.measure.faces.choice import CHOICES
from fdlab.measure.networks import Extractors
from fdlab.metrics.registry import METRICS
from fdlab.people import benchmark as rendered
from fdlab.records import per_sample
from fdlab.records.per_sample import ScoredPictures
from fdlab.submissions.claims import AGAIN, FAILS, HOLDS, OPEN, SCORES, Claim
from fdlab.submissions.packing import Submission

_SAME = 0.01
"""By how much a score may differ on another device or with other versions of packages."""


def benchmark_of(made: Mapping[str, Any], folder: Path | None, cache: Path) -> Benchmark | None:
    """The benchmark that a record names, with the selection that it was drawn with: of a folder that the user
    names, or that an evaluation rendered, else of what was rendered here before; None where it is not here.
    Raises: UserError for a folder that is no benchmark."""
    said = made["benchmark"]
    selection = (said["num_subjects"], said["num_prompts"], said["images_per_prompt"])
    profile = said.get("profile") or profiles.STRICT
    if folder is not None:
        known = _rendered(said["name"], folder, selection)
        return (known or load_benchmark(folder).limited(*selection)).scored(profile)
    if said["name"] not in rendered.EMBEDDED:
        return None
    where = cache / "benchmarks" / said["name"]
    settings = BenchmarkSettings("people", said["name"], where, *selection, profile=profile)
    found = settings.outline()
    there = where / f"v{found.version}"
    # Rendering it would take minutes; who asks for a check did not ask for that.
    return None if not all((there / name).is_file() for name in found.files()) else settings.open()


def _rendered(name: str, folder: Path, selection: tuple[int, int, int]) -> Benchmark | None:
    """A selection of rendered people in a folder as evaluations leave it: pictures without a manifest. None
    where any is missing, or the folder has its own."""
    if name not in rendered.EMBEDDED or (folder / MANIFEST).exists():
        return None
    manifest = rendered.manifest(name)
    for where in (folder, folder / f"v{manifest['version']}"):
        found = parse(manifest, where, where / MANIFEST).limited(*selection)
        if all((where / file).is_file() for file in found.files()):
            return found
    return None


def extractors_of(
    made: Mapping[str, Any], known: Benchmark, words: Sequence[str], device: str
) -> tuple[Extractors, Claim] | str:
    """The networks that a record names, of those that ship and those that `words`, overrides of the checker's
    own, name; and whether the record says how they depart from its profile. Or why they are not here: the
    submission has no say in what is opened here."""
    profile = profiles.profile_of(known.profile)
    try:
        asked = [f"evaluation.recogniser={name}" for name in _recogniser_of(made)]
        settings = EvaluationSettings.read(compose([*asked, *words], "evaluate")).extractors
        loaded = choose.load_extractors(settings, device, profile.min_face)
        settled, loaded = departures.settle(known, loaded, settings.clip, {})
    except UserError as error:
        return str(error)
    said, here = made["benchmark"].get("departures", []), list(settled.departures)
    if said == here:
        return loaded, Claim("departures", HOLDS, f"{len(here)} from profile {known.profile}")
    return loaded, Claim("departures", FAILS, f"the record says {_listed(said)}; they are {_listed(here)}")


def _recogniser_of(made: Mapping[str, Any]) -> list[str]:
    """The recogniser that ships and that a record names, if any."""
    said = {str(entry["extractor"]["name"]) for entry in made["metrics"].values()}
    names = [name for name, choice in CHOICES.items() if choice.ships]
    return [name for name in names if any(name in each.partition("+")[2] for each in said)][:1]


def _listed(departures: Sequence[str]) -> str:
    return "; ".join(departures) or "none"


def measured_again(
    found: Submission,
    made: Mapping[str, Any],
    scored: ScoredPictures,
    known: Benchmark,
    extractors: Extractors,
) -> Iterator[Claim]:
    """Every value by the pictures themselves, and every picture's scores."""
    if not found.pictures:
        yield Claim(SCORES, OPEN, "no pictures were packed")
        return
    todo = [job for job in jobs.jobs(known) if job.id in set(scored.ids)]
    lacking = [job.file for job in todo if f"images/{job.file}" not in found.names]
    if lacking:
        yield Claim(SCORES, FAILS, f"picture {lacking[0]} is not there ({len(lacking)} in all)")
        return
    profile = profiles.profile_of(known.profile)
    paths = [found.folder / "images" / job.file for job in todo]
    try:
        measuring.check_png(paths)
        seen = measuring.measure(
            paths, extractors, known.size, description="measuring again",
            num_subjects=known.subjects_per_picture, jpeg_quality=profile.jpeg_quality,
        )  # fmt: skip
    except UserError as error:
        yield Claim(SCORES, FAILS, str(error).replace(f"{found.folder}/", "").rstrip("."))
        return
    references = measuring.references(known, extractors)
    real = made["method"]["name"] in CEILINGS[:1]
    metrics, pictures = scoring.score(known, todo, seen, references, extractors, compare_with_real=not real)
    yield from _compared(made, scored, metrics, pictures, extractors.summary())


def _compared(
    made: Mapping[str, Any],
    scored: ScoredPictures,
    metrics: Mapping[str, Any],
    pictures: list[dict[str, Any]],
    here: Mapping[str, Any],
) -> Iterator[Claim]:
    again = per_sample.arrays(pictures, metrics)
    place = {name: n for n, name in enumerate(scored.ids)}
    order = np.array([place[name] for name in again.ids])
    for name, entry in made["metrics"].items():
        what = f"{name}{AGAIN}"
        network = here[METRICS[name].by]
        if name not in metrics or network is None:
            yield Claim(what, OPEN, "nothing here measures it")
            continue
        if network["sha256"] != entry["extractor"]["sha256"]:
            said = shown(entry["extractor"]["name"])
            yield Claim(what, OPEN, f"it was measured by {said}; here is {network['name']}, of other weights")
            continue
        value = metrics[name]["value"]
        # Distances have no limits: what counts is how far they are off for their size.
        allowed = _SAME * max(1.0, abs(value)) if METRICS[name].unit == "distance" else _SAME
        if name in scored.values and name in again.values:
            off_N = np.abs(np.nan_to_num(again.values[name]) - np.nan_to_num(scored.values[name][order]))
            worst = int(off_N.argmax())
            if off_N[worst] > _SAME:
                yield Claim(what, FAILS, f"picture {again.ids[worst]} differs by {off_N[worst]:.3f}")
                continue
        if abs(value - entry["value"]) > allowed:
            yield Claim(what, FAILS, f"the record says {entry['value']:.6g}, pictures give {value:.6g}")
        else:
            yield Claim(what, HOLDS, f"{value:.6g}")
