"""Prior preservation: what is drawn and kept, what a batch has beside, and the loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from fdlab.caches.prepare import prepare
from fdlab.config import unread
from fdlab.data.batches import Batches, BatchSettings
from fdlab.data.beside import Beside, Classes, class_part
from fdlab.data.entry import Shape
from fdlab.errors import UserError
from fdlab.layouts.choose import open_folder
from fdlab.models.backbone import load_backbone
from fdlab.training import class_pictures
from fdlab.training.fit import describe, fit
from fdlab.training.settings import FitSettings
from tests.step.test_training import rows

Configure = Callable[..., Any]
PRIOR = ("model.prior_weight=0.5", "data.prior.num=5", "data.prior.num_steps=1", "trainer.sample_every=0")


@pytest.fixture
def asked(configure: Configure) -> FitSettings:
    return FitSettings.read(configure("sdm", *PRIOR))


def ensure(asked: FitSettings, **prior: Any) -> Path:
    data = replace(asked.data, prior=replace(asked.data.prior, **prior))
    pictures = open_folder(data.root)
    return class_pictures.ensure(data, asked.backbone, asked.prior_sampler, pictures, torch.device("cpu"))


def drawn(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def test_the_base_draws_what_lacks_once(asked: FitSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """Nouns in turn, the most frequent first; a picture that is gone is drawn again as it was, alone."""
    root = ensure(asked)
    assert "the base model draws 5 into" in capsys.readouterr().err
    first = drawn(root)
    assert set(first) == {f"drawn-0000{n}.{end}" for n in range(5) for end in ("png", "txt")}
    folder = open_folder(root)
    captions = [folder.annotation(id).caption for id in folder.ids("train")]
    assert captions == ["a photo of a woman", "a photo of a man"] * 2 + ["a photo of a woman"]
    assert len({data for name, data in first.items() if name.endswith(".png")}) == 5
    (root / "drawn-00004.png").unlink()
    (root / "drawn-00001.png").unlink()
    (root / "drawn-00001.txt").unlink()
    assert ensure(asked) == root and drawn(root) == first
    assert "the base model draws 2 into" in capsys.readouterr().err
    assert ensure(asked) == root and not capsys.readouterr().err
    # Another prompt, other pictures; a sampler that is evaluated with later, the same.
    assert ensure(asked, prompt="a person", num=1) != root
    later = replace(asked, sampler=asked.sampler.with_guider("tdm"))
    assert ensure(later) == root


def test_a_folder_of_ones_own_is_filled_up(
    asked: FitSettings, world: ModuleType, tmp_path: Path, people_folder: Path
) -> None:
    own = tmp_path / "own"
    made = ensure(asked)
    own.mkdir()
    for end in ("png", "txt"):
        shutil.copy(made / f"drawn-00000.{end}", own / f"mine.{end}")
    before = drawn(own)
    data = replace(asked.data, prior=replace(asked.data.prior, root=own))
    assert class_pictures.described(data.prior) == f"1 in '{own}'; the base model draws 4 more"
    assert ensure(asked, root=own) == own
    after = drawn(own)
    assert len(after) == 11 and before.items() < after.items()
    with pytest.raises(UserError, match="are of another prompt, sampler, size or base model"):
        ensure(asked, root=own, prompt="a drawing of a {noun}")
    assert ensure(asked, root=own, num=6) == own and len(drawn(own)) == 13
    # Enough of any layout is taken as it is; too few of another than a plain one cannot be added to.
    assert ensure(asked, root=people_folder) == people_folder
    with pytest.raises(UserError, match=r"has 9 pictures, data\.prior\.num is 60; only a plain folder"):
        ensure(asked, root=people_folder, num=60)


def test_a_batch_has_as_many_beside(world: ModuleType, backbone_folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(backbone_folder, parts=("vae", "tokenizer"))
    sources = []
    for seed, subjects in ((0, 2), (1, 0)):
        folder = world.write_folder(tmp_path / f"{seed}", 5, seed=seed)
        shape = Shape(world.IMAGE, backbone.latent_shape_CHW, world.REFERENCE if subjects else None, subjects)
        sources.append(
            prepare(folder, tmp_path / "cache", backbone.vae, backbone.tokenizer, shape, show=False)
        )
    settings = BatchSettings(3, 2, 2, world.REFERENCE)
    plain = Batches(sources[0], settings, 20)
    both = Beside(plain, Classes(sources[1]).batches(settings, 20))
    assert len(both) == 20
    known = torch.stack([torch.from_numpy(sources[1].entry(row).picture) for row in sources[1].usable])
    seen = set()
    for step in range(8):
        alone, batch = plain[step], both[step]
        classes = class_part(batch)
        assert set(classes) == {"latent_BCHW", "input_ids_BL"}
        assert set(batch) == set(alone) | {f"class_{key}" for key in classes}
        assert all(torch.equal(batch[key], alone[key]) for key in alone if torch.is_tensor(alone[key]))
        for latent in classes["latent_BCHW"]:
            (row,) = [n for n, each in enumerate(known) if torch.equal(each, latent)]
            seen.add(row)
    assert len(seen) == len(known)
    # Of two processes each has its share of the same stream.
    shares = [
        Classes(sources[1]).batches(replace(settings, batch_size=1, rank=rank, world=2), 20)[3]
        for rank in range(2)
    ]
    joined = torch.cat([share["latent_BCHW"] for share in shares])
    assert torch.equal(joined, both[3]["class_latent_BCHW"])


def losses_add_up(run: Path) -> None:
    for row in rows(run / "metrics.csv"):
        loss, noise, prior = (float(row[name]) for name in ("loss", "noise_loss", "prior_loss"))
        localization = 1e-3 * float(row.get("localization_loss") or 0)
        assert loss == pytest.approx(noise + localization + 0.5 * prior, rel=1e-5) and prior > 0


def test_a_training_logs_it_apart_and_its_model_tells(configure: Configure) -> None:
    done = fit(
        configure("tdm", *PRIOR, "data.cache_text=true", "trainer.precision=32", "trainer.max_steps=1")
    )
    losses_add_up(done.run_dir)
    assert json.loads((done.model / "training.json").read_text())["prior_weight"] == 0.5


@pytest.mark.long
def test_a_training_goes_on_exactly(configure: Configure) -> None:
    more = (*PRIOR, "data.cache_latents=false", "trainer.precision=32", "trainer.max_steps=2")
    whole = fit(configure("sdm", *more, "name=whole"))
    losses_add_up(whole.run_dir)
    fit(configure("sdm", *more, "trainer.max_steps=1", "name=halves"))
    halves = fit(configure("sdm", *more, "name=halves"))
    states = [
        torch.load(run.run_dir / "checkpoints/last.ckpt", weights_only=True)["parameters"]
        for run in (whole, halves)
    ]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


@pytest.mark.long
def test_dry_counts_them(configure: Configure) -> None:
    plain = describe(FitSettings.read(configure("tdm", "trainer.precision=32", "trainer.sample_every=0")))
    found = describe(FitSettings.read(configure("tdm", "trainer.precision=32", *PRIOR)))
    assert found.texts["class pictures"].startswith("5, kept below paths.cache")
    assert found.memory.activations > 1.5 * plain.memory.activations


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.prior.num=5"], "data.prior.num: only a training with model.prior_weight above 0"),
        (["model.prior_weight=1", "data.prior.prompt='a <|image|>'"], "pictures of anybody have no marker"),
        (["model.prior_weight=1", "data.prior.root=/dev/null"], "holds neither"),
        (["model.prior_weight=-1"], "model.prior_weight=-1"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    configure: Configure, more: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=said):
        cfg = configure("tdm", *more)
        unread.refuse(more, cfg)
        settings = FitSettings.read(cfg)
        class_pictures.check(settings.data, settings.backbone)


def test_class_pictures_without_captions_are_named_before_anything_is_loaded(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "classes").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "classes/one.png")
    cfg = configure("tdm", *PRIOR, f"data.prior.root={tmp_path / 'classes'}")
    settings = FitSettings.read(cfg)
    with pytest.raises(UserError, match=r"one\.png' has no caption.*as 'a photo of a woman'"):
        class_pictures.check(settings.data, settings.backbone)
    for prompt in ("", "a {person}"):
        with pytest.raises(UserError, match=r"in braces there is \{noun\} alone"):
            FitSettings.read(configure("tdm", *PRIOR, f"data.prior.prompt='{prompt}'"))


def test_a_prompt_that_names_whom_class_pictures_show_is_their_caption(
    configure: Configure, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "two.png")
    (tmp_path / "two.txt").write_text("her own")
    said = [f"data.prior.root={tmp_path}", "data.prior.num=2", "data.prior.prompt='a photo of a man'"]
    settings = FitSettings.read(configure("tdm", *PRIOR, *said))
    class_pictures.check(settings.data, settings.backbone)
    found = class_pictures.own(settings.data.prior)
    assert found is not None and found[1] == ["one", "two"]
    assert [found[0].annotation(id).caption for id in found[1]] == ["a photo of a man", "her own"]
