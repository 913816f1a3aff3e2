"""What a submission claims, checked one by one: it holds, it does not, or it cannot be checked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdlab import foreign
from fdlab.benchmarks.attributes import attributes
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import jobs
from fdlab.config import provenance
from fdlab.errors import UserError
from fdlab.foreign import shown
from fdlab.leaderboard import board, collect, marks
from fdlab.leaderboard.collect import Entry
from fdlab.leaderboard.evidence import AUC, drawn, interval, intervals_differ, is_interval
from fdlab.leaderboard.pooling import CONFIG
from fdlab.metrics.registry import METRICS
from fdlab.records import breakdown, per_sample, record
from fdlab.records.breakdown import BREAKDOWN
from fdlab.records.per_sample import ScoredPictures
from fdlab.submissions import packing
from fdlab.submissions.packing import Submission

SCORES = "scores"
"""What is said of all scores together, where they are not measured again."""
AGAIN = ", measured again"
"""Behind a metric's name, where its pictures are."""
HOLDS, FAILS, OPEN = STATES = ("holds", "does not hold", "cannot be checked")


_SAID_OF_IT = (
    "name", "version", "profile", "num_subjects", "num_prompts", "images_per_prompt", "num_groups", "people",
)  # fmt: skip
"""What a record says of its benchmark beside the digest; `departures` are of what measured it."""
_TOLD = ("git_commit", "device", "seconds", "seed", "created")
_SAME_GROUP = 2e-3
"""By how much a group's value or interval may differ: scores are kept to six decimals."""
_ASKED = ("subject", "subjects", "prompt", "index", "seed", "text", "category")
"""What a picture's line says of what was asked for."""


@dataclass(frozen=True)
class Claim:
    """One thing that a submission says."""

    what: str
    state: str
    why: str = ""


def of_files(found: Submission) -> Iterator[Claim]:
    """That every file is the one packed, that the record keeps its contract, and that its pictures are all
    there."""
    problems = list(packing.damaged(found))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    count = f"{len(found.names)} files"
    yield Claim("files", FAILS, problems[0] + more) if problems else Claim("files", HOLDS, count)


def of_record(found: Submission) -> tuple[dict[str, Any] | None, Claim]:
    """The record, and whether it keeps its contract."""
    try:
        made = record.read(found.record)
    except UserError as error:
        return None, Claim("schema", FAILS, _beside(error, found))
    return made, Claim("schema", HOLDS, f"version {made['schema_version']}")


def of_pictures(found: Submission, made: Mapping[str, Any]) -> tuple[ScoredPictures | None, Claim]:
    """The scores of single pictures, and whether they are as many as the benchmark asks for."""
    asked = record.num_pictures(made["benchmark"])
    try:
        scored = per_sample.arrays(per_sample.read(found.folder), made["metrics"])
    except UserError as error:
        return None, Claim("pictures", FAILS, _beside(error, found))
    there = len(scored.pictures)
    claimed = marks.pictures_of(made)
    if there != claimed:
        return scored, Claim("pictures", FAILS, f"the record counts {claimed}, {there} are listed")
    if asked is not None and there < asked:
        return scored, Claim("pictures", FAILS, f"{there} of the {asked} that the benchmark asks for")
    return scored, Claim("pictures", HOLDS, f"{there} listed")


def of_metrics(made: Mapping[str, Any], scored: ScoredPictures) -> Iterator[Claim]:
    """Every value and interval, computed again from single pictures."""
    for name, entry in made["metrics"].items():
        why = scored.left_out.get(name, "")
        if name == AUC:
            yield _auc_claim(entry, scored)
        elif why:
            yield Claim(name, FAILS if why.startswith(per_sample.CONTRADICT) else OPEN, why)
        else:
            yield Claim(name, HOLDS, f"{entry['value']:.6g} from {entry['n']} pictures")
        given = drawn(scored, name)
        if given is None or entry["ci_low"] is None or entry["ci_high"] is None:
            continue
        yield _interval_claim(name, entry, interval(scored, name, given))


def _auc_claim(entry: Mapping[str, Any], scored: ScoredPictures) -> Claim:
    # Every picture counts, also one without a face.
    if entry["n"] != len(scored.pictures):
        return Claim(AUC, FAILS, f"it counts {entry['n']} pictures of {len(scored.pictures)} listed")
    if scored.matches is not None:
        return Claim(AUC, HOLDS, f"{entry['value']:.6g} from {entry['n']} pictures")
    if AUC in scored.contradictions:
        return Claim(AUC, FAILS, f"the similarities of pictures do not give {entry['value']:.6g}")
    return Claim(AUC, OPEN, "no similarities of single pictures")


def _interval_claim(name: str, entry: Mapping[str, Any], found: tuple[float, float] | None) -> Claim:
    what = f"{name}, interval"
    if is_interval(entry, found):
        return Claim(what, HOLDS, f"[{entry['ci_low']:.4g}, {entry['ci_high']:.4g}]")
    return Claim(what, FAILS, intervals_differ(entry, found))


def of_breakdown(
    found: Submission, made: Mapping[str, Any], scored: ScoredPictures, known: Benchmark | None
) -> Claim:
    """The scores by category, by person and by what people are like, computed again from single pictures."""
    if BREAKDOWN not in found.names:
        return Claim("breakdown", OPEN, f"no {BREAKDOWN}")
    if known is None:
        return Claim("breakdown", OPEN, "without the benchmark nobody knows what its people are like")
    try:
        said = foreign.read_json(found.folder / BREAKDOWN, "breakdown")
    except UserError as error:
        return Claim("breakdown", FAILS, _beside(error, found))
    again = breakdown.content(made, scored, known.seed, attributes(known))
    differs = next(_differing(said, again, ""), None)
    if differs is not None:
        return Claim("breakdown", FAILS, differs)
    return Claim("breakdown", HOLDS, "by category, by person and by what people are like")


def _differing(said: Any, again: Any, where: str) -> Iterator[str]:
    """In what two values differ, by their keys."""
    if isinstance(again, Mapping):
        keys = [*again, *(said if isinstance(said, Mapping) else ())]
        for key in dict.fromkeys(keys):
            there = said.get(key) if isinstance(said, Mapping) else None
            yield from _differing(there, again.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(again, float) and isinstance(said, int | float) and not isinstance(said, bool):
        if not abs(said - again) <= _SAME_GROUP:
            yield f"it says {where} {said:.4g}, pictures give {again:.4g}"
    elif said != again:
        yield f"it says {where} {shown(said)}, pictures give {shown(again)}"


def of_provenance(made: Mapping[str, Any]) -> Claim:
    """What is told of a run and leaves no trace in what was packed."""
    said = made["provenance"]
    told = [f"{key.replace('_', ' ')} {shown(said[key])}" for key in _TOLD if said.get(key) is not None]
    return Claim("provenance", OPEN, f"by its own word: {', '.join(told) or 'nothing'}")


def of_config(found: Submission, made: Mapping[str, Any]) -> Claim:
    """That the configuration is the one that the record has the digest of."""
    if CONFIG not in found.names:
        return Claim("configuration", OPEN, f"no {CONFIG}")
    from omegaconf import OmegaConf

    try:
        resolved: Any = OmegaConf.to_container(found.config(), resolve=True)
    except UserError as error:
        return Claim("configuration", FAILS, _beside(error, found))
    return _digest_claim(resolved, made["provenance"])


def _digest_claim(resolved: Mapping[str, Any], said: Mapping[str, Any]) -> Claim:
    what, digest, version = "configuration", said.get("config_sha256"), said.get("config_sha256_version")
    if digest is None:
        return Claim(what, OPEN, "the record has no digest of it")
    known = version in provenance.DIGEST_VERSIONS
    # Older records do not say which they have.
    for each in provenance.DIGEST_VERSIONS:
        if (each == version or not known) and provenance.config_sha256(resolved, each) == digest:
            return Claim(what, HOLDS, str(digest)[:10])
    if known:
        return Claim(what, FAILS, "its digest is not the record's")
    commit = f", commit {str(said['git_commit'])[:10]}" if said.get("git_commit") else ""
    return Claim(what, OPEN, f"another fdlab's digest ({said.get('fdlab_version')}{commit})")


def of_benchmark(made: Mapping[str, Any], scored: ScoredPictures, known: Benchmark | None) -> Claim:
    """That it is the benchmark known here, that the record says nothing else of it, and that pictures are
    those that it asks for."""
    from fdlab.evaluation.scoring import asked

    what, said = "benchmark", made["benchmark"]
    if known is None:
        return Claim(what, OPEN, f"'{said['name']}' is not here; give --benchmark FOLDER")
    if known.sha256 != said["sha256"]:
        return Claim(what, FAILS, f"the record's is {said['sha256'][:10]}, that here is {known.sha256[:10]}")
    summary = known.summary()
    for key in _SAID_OF_IT:
        if key in said and said[key] != summary.get(key):
            theirs, own = shown(said[key]), shown(summary[key]) if key in summary else "none"
            return Claim(what, FAILS, f"the record says {key} {theirs}, that here has {own}")
    todo = {job.id: asked(job) for job in jobs(known)}
    for picture in scored.pictures:
        job = todo.get(picture["id"])
        if job is None:
            return Claim(what, FAILS, f"it asks for no picture {picture['id']}")
        for key in _ASKED:
            if picture.get(key) is not None and picture[key] != job[key]:
                return Claim(what, FAILS, f"picture {picture['id']} has another {key} than it asks for")
    return Claim(what, HOLDS, ", ".join([known.name, known.sha256[:10], *_not_said(said, summary, scored)]))


def _not_said(said: Mapping[str, Any], summary: Mapping[str, Any], scored: ScoredPictures) -> Iterator[str]:
    """What of a benchmark a submission leaves out, so that it cannot be checked."""
    if "people" in summary and "people" not in said:
        yield "the record does not say whom it shows"
    for key in _ASKED:
        lacking = sum(picture.get(key) is None for picture in scored.pictures)
        # Either says whom a picture shows.
        if lacking and key not in ("subject", "subjects"):
            yield f"{lacking} pictures without {key}, which cannot be checked"


def of_rank(found: Submission, made: Mapping[str, Any], folders: Sequence[Path]) -> Claim:
    """Where it would stand on the board of the records below some folders."""
    if not folders:
        return Claim("rank", OPEN, "no board to stand on; give --board DIR")
    if made["provenance"]["kind"] == "quoted":
        return Claim("rank", OPEN, "quoted, not measured")
    own = Entry(found.record, dict(made))
    entries, _ = collect.find(folders)
    others = [entry for entry in entries if entry.record != own.record]
    tables = board.make(collect.group([*others, own])).tables
    table = next(t for t in tables if any(own in row.entries for row in t.rows))
    row = next(row for row in table.rows if own in row.entries)
    if len(table.rows) == 1:
        return Claim("rank", OPEN, "no record there may be compared with it")
    if row.rank is None:
        return Claim("rank", OPEN, row.unranked)
    by = METRICS[table.ordered_by].label
    ranked = sum(each.rank is not None for each in table.rows)
    return Claim("rank", HOLDS, f"{row.rank_text} of {ranked} ranked by {by}, {table.title}")


def _beside(error: UserError, found: Submission) -> str:
    """A message without the folder that the archive was unpacked to."""
    return str(error).replace(f"{found.folder}/", "").rstrip(".")
