"""Embeddings of references, made once: what encoding them at every step would give."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fdlab.caches import embedded as embedded_module
from fdlab.caches.embedded import EmbeddedReferences, embed_all, embed_texts
from fdlab.caches.prepare import prepare
from fdlab.caches.prepared import Prepared
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.entry import Shape


@pytest.fixture
def prepared(world: ModuleType, tmp_path: Path) -> Prepared:
    folder = world.write_folder(tmp_path / "people", 7)
    shape = Shape(world.IMAGE, (4, world.LATENT, world.LATENT), world.REFERENCE, 2)
    return prepare(folder, tmp_path / "cache", world.vae(), world.tokenizer(), shape, show=False)


def three_numbers(pixels_S3RR: torch.Tensor) -> torch.Tensor:
    return pixels_S3RR.mean((2, 3))


def made(prepared: Prepared, background: str = "grey", encoder: str = "a") -> EmbeddedReferences:
    return embed_all(prepared, background, three_numbers, 3, encoder, show=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", ["own", "other", "mixed"])
@pytest.mark.parametrize("background", ["grey", "white"])
def test_a_batch_holds_what_its_references_embed_to(
    prepared: Prepared, reference: str, background: str
) -> None:
    settings = BatchSettings(3, 4, 2, 16, background, reference)  # type: ignore[arg-type]
    kept = pickle.loads(pickle.dumps(made(prepared, background)))
    for step in range(4):
        by_key, pixels = Batches(prepared, settings, 10, kept)[step], Batches(prepared, settings, 10)[step]
        assert "references_BN3HW" not in by_key
        valid = pixels["subject_valid_BN"]
        expected = pixels["references_BN3HW"].mean((3, 4))
        torch.testing.assert_close(by_key["reference_BNE"][valid], expected[valid])
        assert not by_key["reference_BNE"][~valid].any()
        assert valid.any()


def test_they_are_made_once_for_an_encoder_and_a_background(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(prepared)
    assert made(prepared, "white").folder != first.folder != made(prepared, encoder="b").folder
    monkeypatch.setattr(embedded_module, "composite", None)
    assert made(prepared).folder == first.folder
    (first.folder / "00000/references.npy").write_bytes(b"")
    with pytest.raises(TypeError):
        made(prepared)


def test_an_interruption_keeps_what_was_done(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(prepared).array_SE.part(0).copy()
    monkeypatch.setattr(embedded_module, "CHUNK", 2)
    monkeypatch.setattr(embedded_module, "BATCH", 1)
    calls: list[int] = []

    def fails(pixels_S3RR: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels_S3RR))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return three_numbers(pixels_S3RR)

    with pytest.raises(KeyboardInterrupt):
        embed_all(prepared, "grey", fails, 3, "c", show=False)
    again = embed_all(prepared, "grey", fails, 3, "c", show=False)
    assert len(calls) == 4 + len(whole) - 2
    assert (again.array_SE.part(0) == whole).all()


def test_random_backgrounds_cannot_be_kept(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="other noise at every step"):
        made(prepared, "noise")


def test_parts_of_references_are_one(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(prepared).array_SE.part(0).copy()
    monkeypatch.setattr(embedded_module, "PART", 4)
    some = made(prepared, encoder="d")
    assert len(list(some.folder.glob("0*"))) == 3
    assert (np.stack([some[key] for key in range(len(whole))]) == whole).all()


def test_captions_are_embedded_once_each(prepared: Prepared) -> None:
    calls: list[torch.Tensor] = []

    def embed(ids_BL: torch.Tensor) -> torch.Tensor:
        calls.append(ids_BL)
        return ids_BL[..., None] * torch.tensor([1.0, 0.25])

    null_L = np.full(16, 5)
    arguments = (prepared, null_L, embed, (16, 2), "encoder")
    texts = pickle.loads(pickle.dumps(embed_texts(*arguments, show=False)))
    # Two captions, and the empty one.
    assert len(torch.cat(calls)) == 3
    embed_texts(*arguments, show=False)
    assert len(calls) == 1
    batch = Batches(prepared, BatchSettings(3, 4, 2, 16), 10, texts=texts)[1]
    torch.testing.assert_close(batch["text_BLD"], embed(batch["input_ids_BL"]))
    torch.testing.assert_close(batch["null_LD"], embed(torch.from_numpy(null_L)))
    assert embed_texts(*arguments[:-1], "another", show=False).folder != texts.folder
