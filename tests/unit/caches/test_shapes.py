"""Pictures that are framed anew at each step, changed references, and pictures of several shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fdlab.caches.contents import contents
from fdlab.caches.prepare import prepare
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Live, Shape
from fdlab.data.folder import FastComposerFolder
from fdlab.data.layout import read_ids, write_ids, write_sample
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.transforms.augment import Augment
from fdlab.transforms.buckets import assigned, shapes
from fdlab.transforms.framing import Framing

SIDES = ((48, 32), (32, 32), (32, 48))
COLOURS = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]], np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shapes in turn; two people, each of one colour."""
    root = tmp_path / "people"
    for index in range(27):
        height, width = (3 * side for side in SIDES[index % 3])
        segments_HW = np.zeros((height, width), np.uint8)
        segments_HW[height // 4 : height - 4, 6 : width // 3] = 1
        segments_HW[height // 3 : height - 9, width // 2 : width - 9] = 2
        subjects = (ShownSubject(1, 7, index % 3), ShownSubject(2, 17, 3 + index % 3))
        caption = "a woman and a man on a beach"
        write_sample(root, PersonSample(f"{index:07d}", caption, COLOURS[segments_HW], segments_HW, subjects))
    write_ids(root, [f"{index:07d}" for index in range(27)])
    return root


@pytest.fixture
def shape(world: ModuleType) -> Shape:
    return Shape(32, (4, 4, 4), world.REFERENCE, 2)


def live(
    folder: Path, world: ModuleType, shape: Shape, framing: Framing | None = None, **more: object
) -> Live:
    return Live(folder, read_ids(folder), world.tokenizer(), shape, framing=framing, **more)  # type: ignore[arg-type]


def batches(source: object, **changes: object) -> Batches:
    settings = {"seed": 3, "batch_size": 4, "max_subjects": 2, "reference_size": 16} | changes
    return Batches(source, BatchSettings(**settings), 20)  # type: ignore[arg-type]


def same(a: dict, b: dict, *but: str) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]
        for key in a.keys() - set(but)
    )


def test_pictures_framed_anew_keep_their_people_and_masks(
    folder: Path, world: ModuleType, shape: Shape
) -> None:
    """Masks at the pictures' own size, held to their colours."""
    fine = replace(shape, latent_CHW=(4, 32, 32))
    data = batches(live(folder, world, fine, Framing("random", 0.4), views=2))
    still = batches(live(folder, world, fine, views=2))
    others = []
    for step in range(6):
        batch, unmoved = data[step], still[step]
        assert same(batch, data[step]), "the same step draws the same"
        assert batch["ids"] == unmoved["ids"] and batch["subject_valid_BN"].all()
        for b, id in enumerate(batch["ids"]):
            image_3HW, mask_NHW = batch["image_B3HW"][b], batch["mask_BNHW"][b] > 0
            if int(id) % 3 == 1:
                # In a square picture there is room to move; in the others hardly, with both in view.
                others.append(not torch.equal(image_3HW, unmoved["image_B3HW"][b]))
            for n in range(2):
                told = (image_3HW.argmax(0) == n) & (image_3HW.amax(0) > 0)
                both, either = (told & mask_NHW[n]).sum(), (told | mask_NHW[n]).sum()
                assert both / either > 0.8, (id, n)
    assert np.mean(others) > 0.8 and len(others) > 4
    ranks = [
        batches(live(folder, world, fine, Framing("random", 0.4), views=2), batch_size=2, rank=rank, world=2)[
            0
        ]
        for rank in range(2)
    ]
    assert torch.equal(torch.cat([part["image_B3HW"] for part in ranks]), data[0]["image_B3HW"])


def test_changed_references_change_nothing_else(folder: Path, world: ModuleType, shape: Shape) -> None:
    source = live(folder, world, shape)
    plain, strong = batches(source), Augment(0.2, 20, 0.03, 0.2, 0.02, 0.2)
    data = batches(source, augment=strong)
    for step in range(3):
        assert same(data[step], data[step])
        assert same(plain[step], data[step], "references_BN3HW")
        assert not torch.equal(plain[step]["references_BN3HW"], data[step]["references_BN3HW"])
    ranks = [batches(source, augment=strong, batch_size=2, rank=rank, world=2)[1] for rank in range(2)]
    joined = torch.cat([part["references_BN3HW"] for part in ranks])
    assert torch.equal(joined, data[1]["references_BN3HW"])
    assert same(batches(source, augment=Augment())[0], plain[0])


def test_pictures_of_several_shapes(folder: Path, world: ModuleType, shape: Shape, tmp_path: Path) -> None:
    """Read anew and encoded once, by the shapes that their own sizes are nearest to."""
    ids = read_ids(folder)
    read = contents(FastComposerFolder(folder), ids, tmp_path / "cache", show=False)
    assert read.sizes == [tuple(3 * side for side in SIDES[index % 3]) for index in range(27)]
    sizes = assigned(read.sizes, shapes(32, 8, 2.0))
    assert sizes == [((40, 24), (32, 32), (24, 40))[index % 3] for index in range(27)]
    anew = live(folder, world, shape, views=2, sizes=sizes)
    vae = world.vae()
    cached = prepare(
        folder, tmp_path / "c", vae, world.tokenizer(), shape, mirror=True, show=False, sizes=sizes
    )
    met = set()
    for step in range(6):
        batch, kept = batches(anew)[step], batches(cached)[step]
        image_B3HW, z_BCHW = batch.pop("image_B3HW"), kept.pop("latent_BCHW")
        met.add(tuple(image_B3HW.shape[2:]))
        assert z_BCHW.shape[2:] == batch["mask_BNHW"].shape[2:] == tuple(s // 8 for s in image_B3HW.shape[2:])
        with torch.no_grad():
            expected = vae.encode(image_B3HW).latent_dist.mean * vae.config.scaling_factor
        torch.testing.assert_close(z_BCHW, expected, atol=2e-3, rtol=2e-3)
        assert same(batch, kept)
    assert met == {(40, 24), (32, 32), (24, 40)}
    # What is learnt by captions alone has no masks.
    bare = Shape(shape.image_size, shape.latent_CHW, None, 0)
    alone = prepare(
        folder, tmp_path / "c", vae, world.tokenizer(), bare, mirror=True, show=False, sizes=sizes
    )
    kept = batches(cached, max_subjects=0, reference_size=None)[0]
    assert torch.equal(
        batches(alone, max_subjects=0, reference_size=None)[0]["latent_BCHW"], kept["latent_BCHW"]
    )
    square = prepare(folder, tmp_path / "c", vae, world.tokenizer(), shape, mirror=True, show=False)
    assert square.folder != cached.folder and square.groups == [square.usable]
