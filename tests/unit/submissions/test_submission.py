"""Submissions: packed alike every time, checked claim by claim, and read as if an enemy had written them."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.__main__ import main
from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config import provenance
from fdlab.errors import UserError
from fdlab.leaderboard import compare
from fdlab.submissions import archive, claims, packing, redraw, remeasure, verify
from fdlab.submissions.claims import FAILS, HOLDS, OPEN, Claim

FROZEN = Path(__file__).parent.with_name("leaderboard") / "frozen"


@pytest.fixture
def packed(squares: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run.zip"
    packing.pack(compare.locate(squares), out, pictures=True)
    return out


def change(path: Path, edit: Callable[[dict[str, bytes]], None], sign: bool = True) -> Path:
    """Another archive with edited files; `sign` writes their digests into the manifest, as a forger would."""
    with zipfile.ZipFile(path) as source:
        files = {name: source.read(name) for name in source.namelist()}
    edit(files)
    if sign:
        import hashlib

        manifest = json.loads(files["manifest.json"])
        listed = {name: data for name, data in files.items() if name != "manifest.json"}
        manifest["files"] = {n: {"sha256": hashlib.sha256(d).hexdigest()} for n, d in listed.items()}
        files["manifest.json"] = json.dumps(manifest).encode()
    out = path.with_name("changed.zip")
    archive.write(out, files)
    return out


def test_packed_scores_are_packed_whole(packed: Path, squares: Path, tmp_path: Path) -> None:
    run = shutil.copytree(squares, tmp_path / "travelled")
    scores = next(run.rglob("per_sample.jsonl"))
    scores.with_name("per_sample.jsonl.gz").write_bytes(gzip.compress(scores.read_bytes()))
    scores.unlink()
    packing.pack(compare.locate(run), tmp_path / "again.zip", pictures=True)
    with packing.opened(tmp_path / "again.zip") as again, packing.opened(packed) as first:
        assert again.manifest == first.manifest and not list(packing.damaged(again))


def check(path: Path, squares: Path, world: ModuleType, **more: Any) -> dict[str, Claim]:
    here = verify.Here(
        cache=path.parent, benchmark=squares.parent / "bench", extractors=world.extractors(), redraw=0, **more
    )
    with packing.opened(path) as found:
        return {claim.what: claim for claim in verify.verify(found, here)}


def failed(found: dict[str, Claim]) -> list[str]:
    return [what for what, claim in found.items() if claim.state == FAILS]


def test_an_honest_run_holds_in_all_that_can_be_checked(
    packed: Path, squares: Path, world: ModuleType
) -> None:
    found = check(packed, squares, world)
    assert not failed(found)
    holding = {what for what, claim in found.items() if claim.state == HOLDS}
    assert {"files", "schema", "pictures", "benchmark", "identity_similarity", "identity_auc"} <= holding
    assert {"clip_score, interval", "identity_auc, interval", "clip_score, measured again"} <= holding
    # A distance is no mean over pictures; measured again it is one number.
    assert (
        found["frechet_distance"].state == OPEN and found["frechet_distance, measured again"].state == HOLDS
    )
    assert found["configuration"].state == found["rank"].state == OPEN


def test_the_same_run_is_the_same_archive(packed: Path, squares: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    packing.pack(compare.locate(squares), again, pictures=True)
    assert again.read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(again) as source:
        assert source.namelist() == sorted(source.namelist())
        assert {info.date_time for info in source.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def edited(name: str, edit: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    """Edit a JSON file, or the first line of one that has a JSON a line."""

    def apply(files: dict[str, bytes]) -> None:
        head, newline, tail = files[name].decode().partition("\n") if name.endswith("l") else (
            files[name].decode(), "", ""
        )  # fmt: skip
        value = json.loads(head)
        edit(value)
        files[name] = (json.dumps(value) + newline + tail).encode()

    return apply


def lower_score(row: dict[str, Any]) -> None:
    row["clip_score"] = round(row["clip_score"] - 0.3, 6)


def raise_value(made: dict[str, Any]) -> None:
    entry = made["metrics"]["clip_score"]
    entry |= {"value": entry["value"] + 0.05, "ci_high": entry["ci_high"] + 0.05}


def narrow(made: dict[str, Any]) -> None:
    entry = made["metrics"]["identity_similarity"]
    entry["ci_low"] = entry["value"] - (entry["value"] - entry["ci_low"]) / 4


def raise_value_and_count(made: dict[str, Any]) -> None:
    made["metrics"]["clip_score"] |= {"value": 0.99, "ci_low": 0.98, "ci_high": 1.0}
    made["metrics"]["clip_score"]["n"] -= 1


def other_benchmark(made: dict[str, Any]) -> None:
    made["benchmark"]["sha256"] = "f" * 64


def raise_auc(made: dict[str, Any]) -> None:
    made["metrics"]["identity_auc"] |= {"value": 0.999, "ci_high": 1.0}


def fewer_for_auc(made: dict[str, Any]) -> None:
    made["metrics"]["identity_auc"]["n"] -= 1


def other_seed(row: dict[str, Any]) -> None:
    row["seed"] += 1


@pytest.mark.parametrize(
    ("name", "edit", "fails"),
    [
        ("per_sample.jsonl", lower_score, "clip_score"),
        ("record.json", raise_value, "clip_score"),
        ("record.json", raise_value_and_count, "clip_score"),
        ("record.json", narrow, "identity_similarity, interval"),
        ("record.json", other_benchmark, "benchmark"),
        ("record.json", raise_auc, "identity_auc"),
        ("record.json", fewer_for_auc, "identity_auc"),
        ("per_sample.jsonl", other_seed, "benchmark"),
    ],
)
def test_tampering_is_caught_even_with_new_digests(
    packed: Path, squares: Path, world: ModuleType, name: str, edit: Callable[[Any], None], fails: str
) -> None:
    assert failed(check(change(packed, edited(name, edit), sign=False), squares, world))[0] == "files"
    found = check(change(packed, edited(name, edit)), squares, world)
    assert found["files"].state == HOLDS and found[fails].state == FAILS


def test_a_score_and_its_mean_edited_together_are_caught_by_the_pictures(
    packed: Path, squares: Path, world: ModuleType
) -> None:
    def edit(files: dict[str, bytes]) -> None:
        lines = [json.loads(line) for line in files["per_sample.jsonl"].decode().splitlines()]
        lower_score(lines[0])
        files["per_sample.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        made = json.loads(files["record.json"])
        entry = made["metrics"]["clip_score"]
        entry |= {key: entry[key] - 0.3 / len(lines) for key in ("value", "ci_low")}
        files["record.json"] = json.dumps(made).encode()

    found = check(change(packed, edit), squares, world)
    assert found["clip_score"].state == HOLDS
    assert found["clip_score, measured again"].state == FAILS
    assert "s00-p00-0 differs by 0.300" in found["clip_score, measured again"].why


def test_an_exchanged_picture_is_caught(packed: Path, squares: Path, world: ModuleType) -> None:
    def edit(files: dict[str, bytes]) -> None:
        shade = np.full((64, 64, 3), 200, np.uint8)
        out = io.BytesIO()
        Image.fromarray(shade).save(out, format="PNG")
        files["images/s01-p02-1.png"] = out.getvalue()

    assert failed(check(change(packed, edit, sign=False), squares, world))[0] == "files"
    found = check(change(packed, edit), squares, world)
    assert any("s01-p02-1" in claim.why for claim in found.values() if claim.state == FAILS)


def test_a_missing_or_broken_picture_is_caught(packed: Path, squares: Path, world: ModuleType) -> None:
    gone = check(change(packed, lambda files: files.pop("images/s00-p00-0.png")), squares, world)
    assert gone["scores"].state == FAILS
    broken = check(change(packed, lambda f: f.update({"images/s00-p00-0.png": b"GIF89a"})), squares, world)
    assert broken["scores"].state == FAILS


def test_missing_pictures_and_no_benchmark(packed: Path, squares: Path, world: ModuleType) -> None:
    def fewer(files: dict[str, bytes]) -> None:
        lines = files["per_sample.jsonl"].decode().splitlines(keepends=True)
        files["per_sample.jsonl"] = "".join(lines[:-2]).encode()

    assert check(change(packed, fewer), squares, world)["pictures"].state == FAILS
    here = verify.Here(cache=packed.parent)
    with packing.opened(packed) as found:
        made = {claim.what: claim for claim in verify.verify(found, here)}
    assert made["benchmark"].state == made["scores"].state == OPEN and not failed(made)


def test_a_configuration_that_asks_for_secrets_is_not_read(
    packed: Path, squares: Path, world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values may come back in messages, which a public log shows."""
    monkeypatch.setenv("SECRET", "hunter2")
    spy = b"evaluation:\n  clip: ${oc.env:SECRET}\n"
    found = check(change(packed, lambda files: files.update({"config.yaml": spy})), squares, world)
    assert found["configuration"].state == FAILS and "asks for values" in found["configuration"].why
    assert not any("hunter2" in claim.why for claim in found.values())


BOMB = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'clip: "\\x24{oc.env:SECRET}"\n', "asks for values"),
        (b'clip: "\\u0024\\\n  {oc.env:SECRET}"\n', "asks for values"),
        (b'"\\x24{oc.env:SECRET}": 1\n', "asks for values"),
        (b'clip: &a !!str "$\\x7Boc.env:SECRET}"\n', "an anchor or an alias"),
        (b"[" * 5000, "nested more than"),
        (b"a: " + b"{a: " * 500 + b"1" + b"}" * 500, "nested more than"),
        (BOMB, "an anchor or an alias"),
        (b"a: [" + b"1," * 100_000 + b"1]", "more than 100,000 values"),
        (b"a: !!int x", "does not fit its tag"),
    ],
)
def test_a_configuration_is_read_as_if_an_enemy_had_written_it(
    packed: Path, squares: Path, world: ModuleType, monkeypatch: pytest.MonkeyPatch, text: bytes, said: str
) -> None:
    """What YAML spells otherwise is asked for all the same, and what is deep or grows costs one line."""
    monkeypatch.setenv("SECRET", "hunter2")
    found = check(change(packed, lambda files: files.update({"config.yaml": text})), squares, world)
    assert found["configuration"].state == FAILS and said in found["configuration"].why
    assert not any("hunter2" in claim.why for claim in found.values())


def known_parts(packed: Path, squares: Path) -> tuple[dict[str, Any], Any, Any]:
    """The record of a submission, its pictures, and the benchmark that they are of."""
    with packing.opened(packed) as found:
        made, _ = claims.of_record(found)
        assert made is not None
        scored, _ = claims.of_pictures(found, made)
    return made, scored, remeasure.benchmark_of(made, squares.parent / "bench", packed.parent)


def test_pictures_are_held_against_all_that_the_benchmark_asks(packed: Path, squares: Path) -> None:
    made, scored, known = known_parts(packed, squares)
    assert claims.of_benchmark(made, scored, known) == Claim("benchmark", HOLDS, claims_why(known))
    line = scored.pictures[1]
    for key, other in (
        ("subject", "s01"), ("subjects", ["s01"]), ("prompt", "p01"), ("text", "a face"), ("index", 7),
        ("category", "other"), ("seed", True),
    ):  # fmt: skip
        before, line[key] = line[key], other
        claim = claims.of_benchmark(made, scored, known)
        assert claim.state == FAILS and f"{line['id']} has another {key}" in claim.why
        line[key] = before
    for picture in scored.pictures:
        del picture["seed"]
    claim = claims.of_benchmark(made, scored, known)
    num = len(scored.pictures)
    assert claim.state == HOLDS and f"{num} pictures without seed, which cannot be checked" in claim.why


def claims_why(known: Any) -> str:
    return f"{known.name}, {known.sha256[:10]}"


def test_what_a_record_says_of_its_benchmark_is_held_against_it(packed: Path, squares: Path) -> None:
    made, scored, known = known_parts(packed, squares)
    people = tuple(replace(subject, identity=n) for n, subject in enumerate(known.subjects))
    numbered = replace(known, subjects=people)
    made["benchmark"] |= {"sha256": numbered.sha256, "people": [[0, len(people) - 1]]}
    assert claims.of_benchmark(made, scored, numbered).why == claims_why(numbered)
    for key, other in (
        ("version", "9"), ("name", "people_single"), ("people", [[7, 7]]), ("num_groups", 2),
        ("num_prompts", 9),
    ):  # fmt: skip
        claim = claims.of_benchmark(
            {**made, "benchmark": {**made["benchmark"], key: other}}, scored, numbered
        )
        assert claim.state == FAILS and f"the record says {key} " in claim.why
    del made["benchmark"]["people"]
    claim = claims.of_benchmark(made, scored, numbered)
    assert claim.state == HOLDS and "does not say whom it shows" in claim.why


@pytest.mark.parametrize(
    ("digest_of", "version", "state"),
    [
        (2, 2, HOLDS), (1, 1, HOLDS), (2, None, HOLDS), (1, None, HOLDS), (0, None, OPEN), (0, 9, OPEN),
        (0, [], OPEN), (None, 2, OPEN), (1, 2, FAILS), (0, 2, FAILS), (0, 1, FAILS),
    ],
)  # fmt: skip
def test_a_digest_is_held_to_its_own_version(
    packed: Path, digest_of: int | None, version: Any, state: str
) -> None:
    config = {"paths": {"cache": "/x"}, "clip": "/x/clip"}
    digest = "0" * 64 if digest_of == 0 else digest_of and provenance.config_sha256(config, digest_of)

    def edit(files: dict[str, bytes]) -> None:
        files["config.yaml"] = json.dumps(config).encode()
        made = json.loads(files["record.json"])
        made["provenance"] |= {"config_sha256": digest, "config_sha256_version": version}
        files["record.json"] = json.dumps(made).encode()

    with packing.opened(change(packed, edit)) as found:
        made, _ = claims.of_record(found)
        assert made is not None
        claim = claims.of_config(found, made)
    assert claim.state == state and (digest is None or state != OPEN or "another fdlab's digest" in claim.why)


def test_the_rank_on_a_board(tmp_path: Path) -> None:
    out = tmp_path / "close.zip"
    packing.pack(compare.locate(FROZEN / "close"), out)
    with packing.opened(out) as found:
        made, _ = claims.of_record(found)
        assert made is not None
        claim = claims.of_rank(found, made, [FROZEN])
        alone = claims.of_rank(found, made, [FROZEN / "else"])
    assert (
        claim.state == HOLDS and claim.why.startswith("2-3 of 6 ranked by identity") and alone.state == OPEN
    )


def test_a_folder_that_is_no_benchmark_is_said_before_any_claim(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "verify", str(packed), "--benchmark", str(tmp_path / "gone")]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "gone" in err


def test_the_folder_that_an_evaluation_rendered_is_a_benchmark(tmp_path: Path) -> None:
    name = "people_single"
    settings = BenchmarkSettings("people", name, tmp_path / name, 2, 1, 1)
    known = settings.open()
    said = {"name": name, "num_subjects": 2, "num_prompts": 1, "images_per_prompt": 1}
    for folder in (known.folder, tmp_path / name):
        found = remeasure.benchmark_of({"benchmark": said}, folder, tmp_path / "cache")
        assert found is not None and found.sha256 == known.sha256
    (known.folder / known.files()[0]).unlink()
    with pytest.raises(UserError, match=r"no benchmark\.json"):
        remeasure.benchmark_of({"benchmark": said}, known.folder, tmp_path / "cache")


# ---- archives of an enemy


def build(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = True) -> Path:
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as out:
        for name, data in members:
            out.writestr(name, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../record.json", "/etc/passwd", "images/../../x.png", "images/a/b.png", "C:\\x.png", "images\\a.png",
        "images/", "images/.x.png", "images/x.html", "x.py", "images/a\nb.png", "model/unet.safetensors",
        "./record.json", "images//a.png", "Record.json",
    ],
)  # fmt: skip
def test_no_path_leads_anywhere_else(tmp_path: Path, name: str) -> None:
    path = build(tmp_path / "x.zip", ("manifest.json", b"{}"), (name, b"x"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"is no file of a submission|is a link or a folder"):
        archive.unpack(path, tmp_path / "out", packing.KNOWN)
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "record.json").exists()


def test_links_doubles_and_secrets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def refused(path: Path, said: str) -> None:
        with pytest.raises(UserError, match=said):
            archive.unpack(path, tmp_path / "out", packing.KNOWN)
        assert not list((tmp_path / "out").iterdir())

    refused(build(tmp_path / "l.zip", (link("record.json"), b"/etc/passwd")), "a link or a folder")
    with pytest.warns(UserWarning, match="Duplicate name"):
        double = build(tmp_path / "d.zip", ("record.json", b"a"), ("record.json", b"b"))
    refused(double, "stands there twice")
    secret = build(tmp_path / "e.zip", ("record.json", b"abc"))
    data = bytearray(secret.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    secret.write_bytes(bytes(data))
    refused(secret, "is encrypted")
    (tmp_path / "n.zip").write_bytes(b"PK\x03\x04 not a zip")
    refused(tmp_path / "n.zip", "no zip file")


def test_bombs_do_not_go_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()

    def refused(path: Path, said: str) -> None:
        with pytest.raises(UserError, match=said):
            archive.unpack(path, tmp_path / "out", packing.KNOWN)
        assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.parent.name == "out") < 1 << 21

    refused(build(tmp_path / "b.zip", ("record.json", bytes(8 << 20))), "more than 200 times its size")
    # One that lies about its size: what comes out is counted.
    liar = build(tmp_path / "l.zip", ("record.json", bytes(1 << 20)))
    data = bytearray(liar.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.index(mark) + offset
        data[place : place + 4] = struct.pack("<I", 100)
    liar.write_bytes(bytes(data))
    refused(liar, "larger or smaller than it says|no zip file")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    monkeypatch.setattr(archive, "MOST_FILES", 5)
    many = build(tmp_path / "m.zip", *((f"images/{n}.png", b"x") for n in range(6)))
    refused(many, "holds 6 files; allowed: 5")
    monkeypatch.setattr(archive, "MOST_PICTURE", 10)
    refused(build(tmp_path / "p.zip", ("images/a.png", b"x" * 11)), "has 11 bytes; allowed: 10")


def test_the_sub_commands(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FROZEN / "close", tmp_path / "close")
    assert main(["leaderboard", "submit", "close"]) == 0
    assert "close.zip: 3 files" in capsys.readouterr().out
    assert main(["leaderboard", "verify", "close.zip", "--board", str(FROZEN)]) == 0
    shown = capsys.readouterr().out
    assert "holds              identity_similarity" in shown and "0 does not hold" in shown
    change(
        tmp_path / "close.zip",
        edited("record.json", lambda made: made["metrics"]["prompt_accuracy"].update(value=0.9)),
    )
    assert main(["leaderboard", "verify", "changed.zip"]) == 1
    assert "does not hold      prompt_accuracy" in capsys.readouterr().out
    (tmp_path / "x.zip").write_bytes(b"x")
    assert main(["leaderboard", "verify", "x.zip"]) == 2
    assert main(["leaderboard", "submit", "close", "--pictures"]) == 2
    assert "no picture" in capsys.readouterr().err


def named(*names: str) -> dict[str, Any]:
    return {"metrics": {name: {"extractor": {"name": name}} for name in names}}


def test_the_record_and_not_the_submission_says_who_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remeasure._recogniser_of(named("clip:judge", "mtcnn+dlib_resnet_centered")) == ["dlib"]
    assert remeasure._recogniser_of(named("mtcnn+faceres")) == ["faceres"]
    assert remeasure._recogniser_of(named("mtcnn+arcface", "clip:judge")) == []
    asked: list[Any] = []

    def load(settings: Any, *_: Any) -> Any:
        asked.append(settings)
        raise UserError("not here")

    monkeypatch.setattr(remeasure.choose, "load_extractors", load)
    known = SimpleNamespace(profile="strict")
    words = ["evaluation.recogniser=arcface", "evaluation.recogniser_weights=mine.onnx"]
    for made, own in ((named("mtcnn+faceres"), []), (named("mtcnn+arcface"), words)):
        assert remeasure.extractors_of(made, known, own, "cpu") == "not here"  # type: ignore[arg-type]
    assert [settings.recogniser for settings in asked] == ["faceres", "arcface"]
    assert asked[1].recogniser_weights == "mine.onnx"


@pytest.mark.parametrize(
    "sampler", [None, [], {"guider": ["snf"]}, {"guider": "snf", "num_steps": "x"}, {"guider": "/etc/passwd"}]
)
def test_a_sampler_that_is_none_draws_nothing(
    packed: Path, squares: Path, sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, known = known_parts(packed, squares)
    made["method"]["sampler"] = sampler
    with packing.opened(packed) as found:
        claim = redraw.row_of(found, made, known, (), "cpu")
    assert isinstance(claim, Claim) and claim.state in (OPEN, FAILS)


def test_strict_wants_scores_measured(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["leaderboard", "verify", str(packed), "--no-measuring", "--redraw", "0"]
    assert main(line) == 0
    assert main([*line, "--strict"]) == 1
    assert "--strict: the scores were not measured again" in capsys.readouterr().out
    assert main([*line, "--with", "sampler.nonsense=1"]) == 2


def drawn_by(**more: Any) -> Any:
    """A row as `evaluation.rows` makes it, of one model; `more` goes to the record's method."""
    model = {
        "sha256": "a" * 64,
        "training_steps": 7,
        "people": [{"rendered": [0, 9]}],
        "taught_by": ["faceres"],
    }
    method = {"backbone": "nano", "background": "noise", "sdm": model, **more}
    return SimpleNamespace(name="sdm", method=method, make=lambda: lambda jobs: PICTURES[: len(jobs)])


PICTURES = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("key", "value"),
    [("people", None), ("taught_by", []), ("training_steps", 1)],
)
def test_marks_cannot_be_wiped_off(key: str, value: Any) -> None:
    row = drawn_by()
    said = {"name": "sdm", "label": "mine", **json.loads(json.dumps(row.method))}
    assert redraw.of_method({"method": said}, row).state == HOLDS
    said["sdm"][key] = value
    assert redraw.of_method({"method": said}, row).why.startswith(f"it says sdm.{key}")
    assert redraw.of_method({"method": {**said, "sdm": None}}, row).state == FAILS
    assert redraw.of_method({"method": {**said, "backbone": "my own"}}, row).state == FAILS


def test_pictures_are_drawn_again_where_nobody_knows(
    packed: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, known = known_parts(packed, squares)
    todo = remeasure.jobs.jobs(known)
    seen: list[tuple[str, ...]] = []
    with packing.opened(packed) as found:
        whole = {job.id: np.asarray(Image.open(found.folder / "images" / job.file)) for job in todo}

        def draw(chosen: Any) -> np.ndarray:
            seen.append(tuple(job.id for job in chosen))
            return np.stack([whole[job.id] for job in chosen])

        row = SimpleNamespace(make=lambda: draw)
        made = [redraw.drawn_again(found, known, row, 3, seed) for seed in (1, 1, 2, 3)]  # type: ignore[arg-type]
        assert {claim.state for claim in made} == {HOLDS} and "--redraw-seed 3" in made[-1].why
        assert seen[0] == seen[1] and len(set(seen)) == 3 and all(len(set(ids)) == 3 for ids in seen)
        whole[seen[0][1]] = 255 - whole[seen[0][1]]
        assert redraw.drawn_again(found, known, row, 3, 1).state == FAILS  # type: ignore[arg-type]


def test_a_forged_breakdown_is_seen(packed: Path, squares: Path) -> None:
    made, scored, known = known_parts(packed, squares)

    def claim(edit: Callable[[dict[str, Any]], None]) -> Claim:
        changed = change(packed, lambda files: files.update({"breakdown.json": edited_json(files, edit)}))
        with packing.opened(changed) as found:
            return claims.of_breakdown(found, made, scored, known)

    def edited_json(files: dict[str, bytes], edit: Callable[[dict[str, Any]], None]) -> bytes:
        said = json.loads(files["breakdown.json"])
        edit(said)
        return json.dumps(said).encode()

    assert claim(lambda said: None).state == HOLDS
    category = next(iter(json.loads(json.dumps(scored.column("category").tolist()))))
    for edit in (
        lambda said: said["by_category"][category]["identity_similarity"].update(value=0.9),
        lambda said: said["by_category"].pop(category),
        lambda said: said["by_category"].update(more={}),
        lambda said: said.update(by_attribute={"age": {}}),
    ):
        assert claim(edit).state == FAILS  # type: ignore[arg-type]


def test_links_are_not_packed(squares: Path, tmp_path: Path) -> None:
    run = shutil.copytree(squares, tmp_path / "run")
    (tmp_path / "secret").write_text("hunter2")
    picture = next((run / "evaluation/images").glob("*.png"))
    for spoil in (lambda: picture.symlink_to(tmp_path / "secret"), lambda: picture.write_text("no picture")):
        picture.unlink()
        spoil()
        with pytest.raises(UserError, match="a link that leads elsewhere, or no PNG"):
            packing.pack(compare.locate(run), tmp_path / "out.zip", pictures=True)


def test_one_other_network_leaves_the_others_measured(packed: Path, squares: Path, world: ModuleType) -> None:
    def edit(made: dict[str, Any]) -> None:
        made["metrics"]["clip_score"]["extractor"] = {"name": "mine", "sha256": "a" * 64}
        made["metrics"]["identity_similarity"]["value"] += 0.05

    found = check(change(packed, edited("record.json", edit)), squares, world)
    assert found["clip_score, measured again"].state == OPEN
    assert found["identity_similarity, measured again"].state == FAILS
    assert found["face_detection_rate, measured again"].state == HOLDS
