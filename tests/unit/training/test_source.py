"""What a training is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fdlab.caches.prepare import prepare
from fdlab.config.compose import compose
from fdlab.data.captions import null_ids
from fdlab.data.entry import Live, Shape
from fdlab.data.sample import CorruptFile
from fdlab.errors import UserError
from fdlab.evaluation.requirements import check_data
from fdlab.layouts.convert import Options, convert
from fdlab.measure.faces import HeadCrop
from fdlab.models.backbone import Backbone
from fdlab.models.conditioning import encode_text
from fdlab.training import source
from fdlab.training.settings import DataSettings, FitSettings
from fdlab.training.text_driven import TDM
from fdlab.transforms.framing import Framing
from tests.worlds import pairs, tiny
from tests.worlds.backbones import tiny_backbone


def settings(root: Path) -> DataSettings:
    return DataSettings(
        kind="people",
        root=root / "people",
        cache=root / "cache",
        size=64,
        split="all",
        max_subjects=1,
        reference="own",
        background="noise",
        mirror=False,
        cache_latents=True,
        skip_corrupt=False,
        mix="aligned-portraits",
        num=4,
        render_workers=1,
    )


def test_a_rendered_picture_in_which_no_face_is_found_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def heads(self: HeadCrop, image_HW3: np.ndarray, mask_HW: object, size: int) -> np.ndarray:
        key = np.ascontiguousarray(image_HW3).tobytes()
        seen.extend([key] if key not in seen else [])
        if key == seen[0]:
            raise UserError("no face is found")
        return np.zeros((size, size, 4), np.uint8)

    monkeypatch.setattr(source.HeadCrop, "__call__", heads)
    backbone = tiny_backbone()
    backbone.reference_crop = "head"
    for _ in range(2):  # made, and found again
        folder, rows = source.make_source(settings(tmp_path), backbone, True, torch.device("cpu"))
        assert len(seen) == 4 and len(rows.usable) == 3
    (folder.root / "00000" / "000000003.png").write_bytes(b"")
    backbone.reference_crop = "person"
    assert len(source.make_source(settings(tmp_path), backbone, True, torch.device("cpu"))[1].usable) == 4


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("to", ["fastcomposer", "webdataset", "plain"])
def test_a_folder_of_any_layout(to: str, cached: bool, tmp_path: Path) -> None:
    """Masks are asked for where there are some; without, a TDM learns and an SDM is refused in its first
    second."""
    convert(tiny.write_folder(tmp_path / "in", 3, 64), tmp_path / "out", Options(to), show=False)
    asked = replace(
        settings(tmp_path), kind="folder", root=tmp_path / "out", split="train", cache_latents=cached
    )
    seconds = {"size": 64, "kind": "folder", "root": str(asked.root), "split": "train"}
    backbone, references = tiny_backbone(), to != "plain"
    if not references:
        for refused in (
            lambda: source.make_source(asked, backbone, True, torch.device("cpu")),
            lambda: check_data(seconds, 64, True),
        ):
            with pytest.raises(UserError, match="captions but no masks: a TDM learns from it"):
                refused()
    check_data(seconds, 64, references)
    folder, rows = source.make_source(asked, backbone, references, torch.device("cpu"))
    assert folder.kind == to and len(rows.usable) == 2
    entry = rows.entry(1)
    assert entry.id == "0000001" and len(entry.keys_N) == (2 if references else 0)
    assert bool(entry.masks_NHW.any()) == references


def test_one_caption_may_be_of_all_pictures_that_have_none(tmp_path: Path) -> None:
    """In place of the encoded ones, once it is another; their own captions stay."""
    (tmp_path / "me").mkdir()
    for name in ("1", "2"):
        Image.new("RGB", (70, 70), (9, 9, 9)).save(tmp_path / f"me/{name}.png")
    (tmp_path / "me/2.txt").write_text("a woman in snow")
    backbone = tiny_backbone()
    asked = replace(settings(tmp_path), kind="folder", root=tmp_path / "me", split="train")
    with pytest.raises(CorruptFile, match=r"1\.png' has no caption"):
        source.make_source(asked, backbone, False, torch.device("cpu"))
    texts = []
    for caption in ("a photo of sks", "a man"):
        given = replace(asked, caption=caption)
        folder, rows = source.make_source(given, backbone, False, torch.device("cpu"))
        texts.append([folder.annotation(id).caption for id in folder.ids("train")])
        ids_BL = [rows.entry(row).input_ids_L for row in rows.usable]
        expected_BL = backbone.need("tokenizer")(
            texts[-1], padding="max_length", max_length=len(ids_BL[0]), truncation=True
        )["input_ids"]
        assert [ids_L.tolist() for ids_L in ids_BL] == expected_BL
    assert texts == [["a photo of sks", "a woman in snow"], ["a man", "a woman in snow"]]
    with pytest.raises(UserError, match="goes with data=folder"):
        source.make_source(replace(given, kind="fastcomposer"), backbone, False, torch.device("cpu"))
    tiny.write_folder(tmp_path / "others", 2)
    with pytest.raises(UserError, match=r"others' has the layout 'fastcomposer', with a caption for each"):
        source.make_source(replace(given, root=tmp_path / "others"), backbone, False, torch.device("cpu"))


def test_what_is_ones_own_is_noted_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first process alone, and not what is rendered or drawn."""
    root, prior = tiny.write_folder(tmp_path / "in", 3), tmp_path / "prior"
    prior.mkdir()
    folders = [
        "data=fastcomposer",
        f"data.root={root}",
        f"data.prior.root={prior}",
        f"paths.cache={tmp_path}",
    ]
    cfg = compose(["+exp=tdm", *folders, "model.prior_weight=1"])
    found = source.seen(cfg)
    assert found is not None and found.pieces
    assert {key: list(samples) for key, samples in found.samples.items()} == {
        "data.root": ["0000000", "0000001"],
        "data.prior.root": [],
    }
    for name in ("mine", "drawn-00000"):
        Image.new("RGB", (8, 8)).save(prior / f"{name}.png")
        (prior / f"{name}.txt").write_text("a man")
    cfg.data.cache_latents = True
    # A cache that is there and cannot be written to.
    cfg.paths.cache = str(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "contents").touch()
    whole = source.seen(cfg)
    assert whole is not None and not whole.pieces and list(whole.samples["data.prior.root"]) == ["mine"]
    assert whole.samples["data.root"].keys() == found.samples["data.root"].keys()
    monkeypatch.setattr(source, "contents", pytest.fail)
    cfg.model.prior_weight = 0.0
    cfg.data = compose(["data=people_all"]).data
    assert source.seen(cfg) is None
    cfg.data.kind = "folder"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert source.seen(cfg) is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["data.cache_text=true", "data.cache_latents=false"],
            "cache_text=true needs data.cache_latents=true",
        ),
        (["data.crop=random", "data.cache_latents=true"], "data.crop=random does not go with"),
    ],
)
def test_what_is_kept_goes_together_from_the_start(more: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FitSettings.read(compose(["+exp=sdm", *more]))


def test_what_is_drawn_anew_is_not_encoded_once(tmp_path: Path) -> None:
    asked = replace(settings(tmp_path), framing=Framing("random"))
    with pytest.raises(UserError, match=r"data\.crop=random does not go with data\.cache_latents=true"):
        source.make_source(asked, tiny_backbone(), True, torch.device("cpu"))


@pytest.mark.parametrize(("make", "wide"), [(pairs.tiny_xl, (32, 128)), (pairs.tiny_sd3, (48, 80))])
def test_shapes_are_of_whole_units_of_the_denoiser(
    make: Callable[[], Backbone], wide: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 pixels for a UNet of three levels, of 16 for a transformer of patches of two latents."""
    folder = tiny.write_folder(tmp_path / "in", 3, 64)
    asked = replace(settings(tmp_path), root=folder, shapes="buckets", cache_latents=False)
    monkeypatch.setattr(source, "contents", lambda *_: SimpleNamespace(sizes=[wide] * 9))
    asked = replace(asked, kind="folder", split="train", longest=4.0)
    _, rows = source.make_source(asked, make(), False, torch.device("cpu"))
    assert isinstance(rows, Live) and set(rows.sizes or ()) == {wide}


def test_what_two_text_encoders_make_is_kept_whole(tmp_path: Path) -> None:
    """With the row of their pooled embedding, and an empty caption of zeros."""
    xl, folder = pairs.tiny_xl(), tiny.write_folder(tmp_path / "in", 3, 64)
    shape = Shape(64, xl.latent_shape_CHW, None, 0)
    kept = prepare(folder, tmp_path / "cache", xl.vae, xl.tokenizer, shape, show=False)
    asked = replace(settings(tmp_path), cache_text=True)
    texts = source.embedded_texts(TDM(xl, seed=0), kept, asked, torch.device("cpu"))
    assert texts is not None
    ids_BL = np.stack([kept.entry(0).input_ids_L, null_ids(xl.tokenizer)])
    found = torch.from_numpy(np.stack([texts[ids_L] for ids_L in ids_BL])).float()
    with torch.no_grad():
        expected = encode_text(xl.text, torch.from_numpy(ids_BL))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert (texts.null_LD == found[1].numpy()).all()
