from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fdlab.caches import plan as plan_module
from fdlab.caches import prepare as prepare_module
from fdlab.caches.prepare import prepare
from fdlab.caches.prepared import ARRAYS, Prepared
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Faces, Live, Shape
from fdlab.data.layout import read_ids, read_sample
from fdlab.data.order import rows
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError


@pytest.fixture
def shape(world: ModuleType) -> Shape:
    return Shape(world.IMAGE, (4, world.LATENT, world.LATENT), world.REFERENCE, 2)


@pytest.fixture
def folder(world: ModuleType, tmp_path: Path) -> Path:
    return world.write_folder(tmp_path / "people", 7)


@pytest.fixture
def prepared(world: ModuleType, folder: Path, shape: Shape, tmp_path: Path) -> Prepared:
    return prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)


ALL_ARRAYS = [f"{name}.npy" for name in ARRAYS]


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def batches(source: Prepared | Live, **changes: object) -> Batches:
    settings = {"seed": 3, "batch_size": 4, "max_subjects": 2, "reference_size": 16} | changes
    return Batches(source, BatchSettings(**settings), 10)  # type: ignore[arg-type]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a
    )


def test_prepared_and_live_rows_agree(
    prepared: Prepared, folder: Path, shape: Shape, world: ModuleType
) -> None:
    live = batches(Live(folder, read_ids(folder), world.tokenizer(), shape))[1]
    cached = batches(prepared)[1]
    assert cached["latent_BCHW"].shape == (4, 4, 4, 4)
    vae = world.vae()
    with torch.no_grad():
        expected = vae.encode(live.pop("image_B3HW")).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(cached.pop("latent_BCHW"), expected, atol=2e-3, rtol=2e-3)
    assert equal(live, cached)


def test_batch_contents(prepared: Prepared, world: ModuleType) -> None:
    batch = batches(prepared)[0]
    words = world.tokenizer()
    for b in range(4):
        num = 1 + int(batch["ids"][b]) % 2
        assert batch["subject_valid_BN"][b].tolist() == [True, num == 2]
        nouns = batch["input_ids_BL"][b][batch["subject_token_BL"][b]].tolist()
        assert words.convert_ids_to_tokens(nouns) == ["woman</w>", "man</w>"][:num]
        assert (
            batch["token_index_BN"][b, :num].tolist()
            == batch["subject_token_BL"][b].nonzero().flatten().tolist()
        )
        assert batch["mask_BNHW"][b].flatten(1).any(1).tolist() == [True, num == 2]
        assert batch["references_BN3HW"][b].flatten(1).any(1).tolist() == [True, num == 2]


def test_a_second_call_reads_no_picture(
    prepared: Prepared,
    folder: Path,
    shape: Shape,
    world: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(prepare_module, "read_picture", never)
    again = prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)
    assert again.folder == prepared.folder
    with pytest.raises(AssertionError, match="read again"):
        prepare(folder, tmp_path / "cache", world.vae(seed=1), world.tokenizer(), shape, show=False)


def test_an_interrupted_preparation_goes_on_and_ends_the_same(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "CHUNK", 2)
    arguments = (world.vae(), world.tokenizer(), shape)
    whole = prepare(folder, tmp_path / "a", *arguments, mirror=True, show=False)
    read, done = prepare_module.read_picture, []

    def interrupted(plan: object, p: int, skip_corrupt: bool) -> object:
        if p == 5 and len(done) < 100:
            done.extend([p] * 100)
            raise KeyboardInterrupt
        done.append(p)
        return read(plan, p, skip_corrupt)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "read_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "b", *arguments, mirror=True, show=False)
    done[:] = [-1] * 100
    resumed = prepare(folder, tmp_path / "b", *arguments, mirror=True, show=False)
    assert sorted(done[100:]) == [4, 5, 6]
    assert files(resumed.folder) == files(whole.folder)


def test_parts_hold_what_one_holds(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, references, people and faces; a part that is lost is made again alone, with the same bytes."""
    arguments = (folder, tmp_path / "a", world.vae(), world.tokenizer(), shape)
    one = prepare(*arguments, mirror=True, show=False, reader=Corners())
    for module in (plan_module, prepare_module):
        monkeypatch.setattr(module, "PART", 3)
    arguments = (folder, tmp_path / "b", *arguments[2:])
    some = prepare(*arguments, mirror=True, show=False, reader=Corners())
    assert [path.name for path in sorted(some.folder.glob("0*"))] == ["00000", "00001", "00002"]
    for row in one.usable:
        kept, read = some.entry(row), one.entry(row)
        assert (kept.id, kept.positions_N, kept.keys_N) == (read.id, read.positions_N, read.keys_N)
        for name in ("picture", "input_ids_L", "masks_NHW"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(read, name))
        assert kept.faces is not None and read.faces is not None
        np.testing.assert_array_equal(kept.faces.landmarks_N52, read.faces.landmarks_N52)
        for key in read.keys_N:
            np.testing.assert_array_equal(some.reference(key), one.reference(key))
            assert some.same_person(key) == one.same_person(key)
    before, read_anew = files(some.folder), []
    shutil.rmtree(some.folder / "00001")
    reading = prepare_module.read_picture

    def noted(plan: object, p: int, skip_corrupt: bool) -> object:
        read_anew.append(p)
        return reading(plan, p, skip_corrupt)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "read_picture", noted)
    assert files(prepare(*arguments, mirror=True, show=False, reader=Corners()).folder) == before
    assert sorted(read_anew) == [3, 4, 5]


def test_the_key_is_what_the_files_hold(
    prepared: Prepared, folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    """Not where they lie or when they were written."""

    def key(root: Path) -> str:
        made = prepare(root, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)
        return made.folder.name

    path = folder / "00000/0000001.png"
    os.utime(path, (1, 1))
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    assert key(folder) == key(copy) == prepared.folder.name
    time = path.stat()
    changed = Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    changed.save(path)
    assert key(folder) != prepared.folder.name == key(copy) and time.st_mtime == 1


def test_corrupt_pictures_are_named_or_skipped(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "00000" / "0000002.png").write_bytes(b"broken")
    arguments = (folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape)
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        prepare(*arguments, show=False)
    source = prepare(*arguments, skip_corrupt=True, show=False)
    seen = {id for step in range(5) for id in batches(source)[step]["ids"]}
    assert seen == set(read_ids(folder)) - {"0000002"}
    with pytest.raises(UserError, match=r"0000002\.png' cannot be read"):
        prepare(*arguments, show=False)
    live = Live(folder, read_ids(folder), world.tokenizer(), shape)
    shown = batches(live, skip_corrupt=True)
    assert "0000002" not in {id for step in range(5) for id in shown[step]["ids"]}
    # Said once, however often it is drawn.
    (record,) = caplog.records
    assert record.getMessage().startswith("skipped: ") and "0000002.png" in record.getMessage()


def crowded(folder: Path, num: int = 6) -> Path:
    """Every picture shows `num` people side by side, each named by a letter of its caption."""
    from fdlab.data.layout import write_sample
    from fdlab.data.sample import PersonSample, ShownSubject

    for id in read_ids(folder):
        stripes_W = np.arange(1, num + 1, dtype=np.uint8).repeat(32 // num + 1)[:32]
        segments_HW = np.tile(stripes_W, (32, 1))
        image_HW3 = np.random.default_rng(int(id)).integers(0, 256, (32, 32, 3), np.uint8)
        subjects = tuple(ShownSubject(k, 2 * k - 1) for k in range(1, num + 1))
        write_sample(folder, PersonSample(id, "a b c d e f g"[: 2 * num], image_HW3, segments_HW, subjects))
    return folder


@pytest.mark.parametrize("live", [True, False])
def test_of_many_subjects_some_are_drawn_anew_each_time(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, live: bool
) -> None:
    words = world.tokenizer()
    crowded(folder)
    fine = replace(shape, latent_CHW=(4, 8, 8))
    source: Prepared | Live = Live(folder, read_ids(folder), words, fine)
    if not live:
        source = prepare(folder, tmp_path / "cache", world.vae(), words, shape, show=False)
    data = batches(source, reference="other")
    shown: dict[str, set[tuple[int, ...]]] = {}
    for step in range(10):
        batch, again = data[step], data[step]
        assert equal(batch, again), "the same step draws the same subjects"
        assert batch["subject_valid_BN"].all(), "as many as may be shown are"
        for b, id in enumerate(batch["ids"]):
            positions = tuple(batch["token_index_BN"][b].tolist())
            assert positions[0] < positions[1], "in the order of the caption"
            assert batch["subject_token_BL"][b].nonzero().flatten().tolist() == list(positions)
            shown.setdefault(id, set()).add(positions)
    assert all(len(pairs) > 1 for pairs in shown.values()), "each time others"
    assert {place for pairs in shown.values() for pair in pairs for place in pair} == {1, 2, 3, 4, 5, 6}


def test_who_is_drawn_depends_on_the_place_in_the_stream_alone(
    folder: Path, shape: Shape, world: ModuleType
) -> None:
    live = Live(crowded(folder), read_ids(folder), world.tokenizer(), shape)
    one = [batches(live, batch_size=4)[0]["token_index_BN"]]
    two = [batches(live, batch_size=2)[step]["token_index_BN"] for step in range(2)]
    ranks = [batches(live, batch_size=2, rank=rank, world=2)[0]["token_index_BN"] for rank in range(2)]
    assert torch.equal(torch.cat(one), torch.cat(two)) and torch.equal(torch.cat(two), torch.cat(ranks))


def test_masks_and_references_are_those_of_the_subjects_drawn(
    folder: Path, shape: Shape, world: ModuleType
) -> None:
    fine = replace(shape, latent_CHW=(4, 32, 32))
    live = Live(crowded(folder), read_ids(folder), world.tokenizer(), fine)
    batch = batches(live)[0]
    for b in range(4):
        centres = [np.nonzero(mask.numpy())[1].mean() for mask in batch["mask_BNHW"][b]]
        # Subject k's noun is token k, and its stripe the k-th from the left.
        for position, centre in zip(batch["token_index_BN"][b].tolist(), centres, strict=True):
            assert abs(centre - 6 * (position - 0.5)) < 3


def test_labels_that_are_not_asked_for_are_no_subjects(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    path = folder / "00000/0000001.json"
    path.write_text(path.read_text().replace('"coco_label": "person"', '"coco_label": "dog"', 1))
    words = world.tokenizer()
    live = Live(folder, read_ids(folder), words, shape, labels=["person"])
    assert len(live.entry(1).keys_N) == 1 and len(live.entry(3).keys_N) == 2
    arguments = (folder, tmp_path / "c", world.vae(), words, shape)
    some = prepare(*arguments, labels=["person"], show=False)
    assert len(some.entry(1).keys_N) == 1
    np.testing.assert_array_equal(
        some.reference(some.entry(1).keys_N[0]), live.reference(live.entry(1).keys_N[0])
    )
    everything = prepare(*arguments, show=False)
    assert everything.folder != some.folder and len(everything.entry(1).keys_N) == 2


class Corners:
    """A reader of faces to which a face is where a mask begins, and an embedding the picture's colour there;
    it finds none in pictures that are dark in a corner."""

    name, dim = "corners", 3

    def __call__(self, image_HW3: np.ndarray, masks_NHW: np.ndarray) -> Faces:
        landmarks_N52 = np.full((len(masks_NHW), 5, 2), np.nan, np.float32)
        embedding_ND = np.zeros((len(masks_NHW), 3), np.float32)
        for n, mask_HW in enumerate(masks_NHW):
            if mask_HW.any() and image_HW3[0, 0].sum() > 200:
                row, column = np.argwhere(mask_HW)[0]
                landmarks_N52[n], embedding_ND[n] = (column, row), image_HW3[row, column]
        return Faces(landmarks_N52, embedding_ND)


def test_faces_are_kept_with_their_subjects(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    arguments = (folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape)
    plain = prepare(*arguments, mirror=True, show=False)
    cached = prepare(*arguments, mirror=True, show=False, reader=Corners())
    assert plain.folder != cached.folder and plain.entry(0).faces is None
    live = Live(folder, read_ids(folder), world.tokenizer(), shape, 2, reader=Corners())
    found = []
    for row in range(len(cached.usable)):
        kept, read = cached.entry(row).faces, live.entry(row).faces
        assert kept is not None and read is not None
        np.testing.assert_array_equal(kept.landmarks_N52, read.landmarks_N52)
        np.testing.assert_array_equal(kept.embedding_ND, read.embedding_ND)
        found += np.isfinite(kept.landmarks_N52).all((1, 2)).tolist()
    assert True in found
    batch = batches(cached)[0]
    for b, row in enumerate(rows(3, len(cached.usable), 4, 0, 0, 1)):
        faces, num = cached.entry(cached.usable[row]).faces, int(batch["subject_valid_BN"][b].sum())
        assert faces is not None
        np.testing.assert_array_equal(batch["landmark_BN52"][b, :num].numpy(), faces.landmarks_N52)
        np.testing.assert_array_equal(batch["face_BND"][b, :num].numpy(), faces.embedding_ND)
        assert batch["landmark_BN52"][b, num:].isnan().all() and not batch["face_BND"][b, num:].any()
    assert "landmark_BN52" not in batches(plain)[0]


def test_a_mixed_reference_is_the_own_picture_as_often_as_told(prepared: Prepared) -> None:
    key = next(key for key in range(9) if prepared.same_person(key))
    for share in (0.0, 0.25, 1.0):
        chooser = batches(prepared, reference="mixed", own_share=share)
        rng = np.random.default_rng(0)
        own = np.mean([chooser._choose(key, rng) == key for _ in range(400)])
        assert own == share if share in (0, 1) else abs(own - share) < 0.06


@pytest.fixture(scope="module")
def sound(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of people and, beside it, a cache of it in which nothing is damaged."""
    root = tmp_path_factory.mktemp("sound")
    of = (root / "cache", world.vae(), world.tokenizer())
    shape = Shape(world.IMAGE, (4, world.LATENT, world.LATENT), world.REFERENCE, 2)
    prepare(world.write_folder(root / "people", 7), *of, shape, show=False, reader=Corners())
    return root


@pytest.mark.parametrize("harm", ["emptied", "torn", "removed", "another", "changed"])
@pytest.mark.parametrize("name", ["rows.json", *(f"00000/{name}" for name in ("part.json", *ALL_ARRAYS))])
def test_a_damaged_cache_is_made_anew(
    sound: Path, shape: Shape, world: ModuleType, tmp_path: Path, name: str, harm: str
) -> None:
    cache = shutil.copytree(sound / "cache", tmp_path / "cache")
    (made,) = (rows.parent for rows in cache.rglob("rows.json"))
    before, path = files(made), made / name
    whole = path.read_bytes()
    if harm == "removed":
        path.unlink()
    else:
        other = b'{"ids": 3}' if name.endswith("json") else before["00000/masks.npy"]
        changed = whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]
        new = {"emptied": b"", "torn": whole[:200], "another": other if other != whole else b"PK"}
        path.write_bytes((new | {"changed": changed})[harm])
    of = (sound / "people", cache, world.vae(), world.tokenizer(), shape)
    again = prepare(*of, show=False, reader=Corners())
    assert again.folder == made and files(again.folder) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_folder_in_the_making_is_begun_again(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, content: bytes
) -> None:
    arguments = (folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape)
    whole = prepare(*arguments, show=False)
    before = files(whole.folder)
    partial = whole.folder / "00000.partial"
    (whole.folder / "00000").rename(partial)
    (partial / "progress.json").write_bytes(content)
    assert files(prepare(*arguments, show=False).folder) == before


def test_a_whole_cache_is_not_written_to(
    prepared: Prepared, folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    places = [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in places}
    prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)
    assert {path: path.stat().st_mtime_ns for path in places} == before


def test_a_broken_picture_of_the_same_person_is_passed_over(
    folder: Path, shape: Shape, world: ModuleType
) -> None:
    for id in read_ids(folder)[3:]:
        (folder / f"00000/{id}.png").write_bytes(b"broken")
    (folder / "00000/0000006.json").write_bytes(b"broken")
    live = Live(folder, read_ids(folder), world.tokenizer(), shape)
    drawn = batches(live, reference="other", skip_corrupt=True)
    assert {id for step in range(5) for id in drawn[step]["ids"]} == set(read_ids(folder)[:3])
    with pytest.raises(CorruptFile, match="cannot be read"):
        for step in range(5):
            batches(live, reference="other")[step]


def test_a_broken_picture_is_one_line_from_a_worker_too(
    folder: Path, shape: Shape, world: ModuleType
) -> None:
    for id in read_ids(folder):
        (folder / f"00000/{id}.png").write_bytes(b"broken")
    live = Live(folder, read_ids(folder), world.tokenizer(), shape)
    with pytest.raises(CorruptFile, match=r"^picture '.*\.png' cannot be read: [^\n]*$"):
        next(iter(DataLoader(batches(live), batch_size=None, sampler=range(2), num_workers=1)))


def test_mirrored_captions(folder: Path, shape: Shape, world: ModuleType, tmp_path: Path) -> None:
    path, words = folder / "00000/0000001.json", world.tokenizer()
    segments = [{"id": 1, "end": 10}, {"id": 2, "end": 17}]
    path.write_text(json.dumps({"caption": "a left man, a man", "segments": segments}))
    cached = prepare(folder, tmp_path / "c", world.vae(), words, shape, mirror=True, show=False)
    live = Live(folder, read_ids(folder), words, shape, views=2)
    for source in (cached, live):
        plain, mirrored = source.entry(2), source.entry(3)
        # One token a letter, but for "man".
        assert (plain.positions_N, mirrored.positions_N) == ([6, 9], [7, 10])
        ids = mirrored.input_ids_L.tolist()
        assert words.decode(ids, skip_special_tokens=True).replace(" ", "") == "arightman,aman"
        assert words.decode(plain.input_ids_L, skip_special_tokens=True).replace(" ", "") == "aleftman,aman"
    # Where the longer word leaves no room for the second man, both captions are one.
    caption = "a left man, xxxxx a man"
    segments[1]["end"] = len(caption)
    path.write_text(json.dumps({"caption": caption, "segments": segments}))
    for row in (2, 3):
        assert live.entry(row).positions_N == [6, 14]


def test_mirrored_views(folder: Path, shape: Shape, world: ModuleType, tmp_path: Path) -> None:
    source = prepare(folder, tmp_path / "c", world.vae(), world.tokenizer(), shape, mirror=True, show=False)
    plain, mirrored = source.entry(2), source.entry(3)
    assert plain.id == mirrored.id
    np.testing.assert_array_equal(plain.masks_NHW[..., ::-1], mirrored.masks_NHW)
    np.testing.assert_array_equal(
        source.reference(plain.keys_N[0])[:, ::-1], source.reference(mirrored.keys_N[0])
    )
    live = Live(folder, read_ids(folder), world.tokenizer(), shape, views=2)
    np.testing.assert_array_equal(
        live.reference(live.entry(3).keys_N[1]), source.reference(mirrored.keys_N[1])
    )


@pytest.mark.parametrize("views", [1, 2])
def test_the_other_reference_is_the_same_person_in_another_picture(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, views: int
) -> None:
    words = world.tokenizer()
    source = prepare(folder, tmp_path / "c", world.vae(), words, shape, mirror=views == 2, show=False)
    for key, identity in enumerate(source.rows.identities):
        others = source.same_person(key)
        assert others and all(source.rows.identities[k] == identity for k in others)
        assert all(source._picture_S[k] != source._picture_S[key] for k in others)
    live = Live(folder, read_ids(folder), words, shape, views=views)
    counts = sorted(
        len(source.same_person(k)) for row in range(len(source.usable)) for k in source.entry(row).keys_N
    )
    assert counts == sorted(len(live.same_person(k)) for row in live.usable for k in live.entry(row).keys_N)
    own, other = (batches(source, reference=kind)[0] for kind in ("own", "other"))
    assert not torch.equal(own["references_BN3HW"], other["references_BN3HW"])
    assert torch.equal(own["latent_BCHW"], other["latent_BCHW"])


def test_batches_do_not_depend_on_workers_or_on_where_one_starts(prepared: Prepared) -> None:
    data = batches(prepared)
    direct = [data[step] for step in (6, 7)]
    loaded = list(DataLoader(data, batch_size=None, sampler=range(6, 8), num_workers=1))
    assert all(equal(a, b) for a, b in zip(direct, loaded, strict=True))


def test_a_worker_opens_its_own_map(prepared: Prepared) -> None:
    batches(prepared)[0]
    assert len(pickle.dumps(prepared)) < 4000


def test_every_epoch_shows_every_row_once_and_ranks_share_it() -> None:
    epoch = [row for step in range(3) for rank in range(2) for row in rows(5, 12, 2, step, rank, 2)]
    assert sorted(epoch) == list(range(12))
    after = [row for step in range(3, 6) for rank in range(2) for row in rows(5, 12, 2, step, rank, 2)]
    assert sorted(after) == list(range(12)) and after != epoch
    assert rows(5, 12, 4, 1) == [*rows(5, 12, 2, 2), *rows(5, 12, 2, 3)]


def test_batches_larger_than_the_data(prepared: Prepared) -> None:
    assert len(batches(prepared, batch_size=20)[0]["ids"]) == 20


def test_no_space_left_is_one_clear_line(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match="no space left"):
        prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)


def test_text_only_data_need_no_references(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    bare = Shape(shape.image_size, shape.latent_CHW, None, 2)
    source = prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), bare, show=False)
    assert not (source.folder / "00000/references.npy").exists()
    assert "references_BN3HW" not in batches(source, reference_size=None)[0]


class TopLeft:
    """A crop that fails on dark pictures."""

    name = "top left"
    dark = -1

    def __call__(self, image_HW3: np.ndarray, mask_HW: np.ndarray | None, size: int) -> np.ndarray:
        if image_HW3[0, 0, 0] == self.dark:
            raise UserError("no face is found.")
        assert mask_HW is not None and mask_HW.shape == image_HW3.shape[:2]
        return np.dstack([image_HW3, mask_HW * np.uint8(255)])[:size, :size]


def test_references_may_be_cut_another_way(
    prepared: Prepared, folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    shared = (folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape)
    cut = prepare(*shared, show=False, crop=TopLeft())
    assert cut.folder != prepared.folder, "the choice is part of the key"
    key = cut.entry(0).keys_N[0]
    assert not np.array_equal(cut.reference(key), prepared.reference(key))
    live = Live(folder, read_ids(folder), world.tokenizer(), shape, crop=TopLeft())
    assert np.array_equal(live.reference(live.entry(0).keys_N[0]), cut.reference(key))
    without = replace(shape, reference_size=None)
    plain = prepare(*shared[:-1], without, show=False)
    assert prepare(*shared[:-1], without, show=False, crop=TopLeft()).folder == plain.folder


def test_a_reference_that_cannot_be_cut_is_named_or_passed_over(
    folder: Path, shape: Shape, world: ModuleType, tmp_path: Path
) -> None:
    crop, id = TopLeft(), read_ids(folder)[2]
    crop.dark = int(read_sample(folder, id).image_HW3[0, 0, 0])
    shared = (folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape)
    with pytest.raises(CorruptFile, match=r"sample '.*': no face is found; leave such pictures out"):
        prepare(*shared, show=False, crop=crop)
    kept = prepare(*shared, show=False, crop=crop, skip_corrupt=True)
    assert id in kept.rows.skipped and 0 < len(kept.usable) < 7
    live = Live(folder, read_ids(folder), world.tokenizer(), shape, crop=crop)
    with pytest.raises(CorruptFile, match="no face is found"):
        live.entry(2)
