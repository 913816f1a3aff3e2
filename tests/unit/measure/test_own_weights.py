"""Recognisers from files of the user's: layouts, alignment, value ranges, and what is refused."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.measure.faces import Face, faceres, own_weights
from fdlab.measure.faces.own_weights import AdafaceRecogniser, ArcfaceRecogniser, FacenetRecogniser
from fdlab.measure.weights import load_state
from fdlab.randomness import numpy_rng, torch_generator

WIDTHS, UNITS, DIM = (64, 24, 16, 8), (2, 1, 2, 1), 12
CAT = Path(__file__).parents[2] / "golden" / "faces" / "cat.png"


def cat(side: int) -> np.ndarray:
    return np.array(Image.open(CAT).convert("RGB"))[:side, :side]


def pixels(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def randomised(network: nn.Module) -> nn.Module:
    """Every tensor random, so that a batch norm or a slope that is left out would be seen."""
    generator = torch_generator(0, "weights")
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
            value.copy_(
                noise.abs() + 0.5 if name.endswith("running_var") else noise * scale + (value.ndim == 1)
            )
    return network.eval()


def residual(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        nn.PReLU(outputs), nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
    ]  # fmt: skip


class Insightface(nn.Module):
    """insightface's layout, small: every stage begins with a shortcut that has weights."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            names = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
            for name, layer in zip(names, residual(inputs, outputs, stride), strict=True):
                self.add_module(name, layer)
            self.downsample = None
            if stride == 2:
                convolution = nn.Conv2d(inputs, outputs, 1, 2, bias=False)
                self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
            return y + (x if self.downsample is None else self.downsample(x))

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = (
            nn.Conv2d(3, 64, 3, 1, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.PReLU(64),
        )
        inputs = 64
        for stage, (width, num) in enumerate(zip(WIDTHS, UNITS, strict=True), 1):
            blocks = [self.Block(width if i else inputs, width, 1 if i else 2) for i in range(num)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            inputs = width
        self.bn2, self.fc, self.features = nn.BatchNorm2d(8), nn.Linear(8 * 49, DIM), nn.BatchNorm1d(DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.prelu(self.bn1(self.conv1(x)))))
        return self.features(self.fc(self.bn2(self.layer4(self.layer3(x))).flatten(1)))


class Adaface(nn.Module):
    """AdaFace's layout, small: a shortcut has weights only where the width changes."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
            if inputs != outputs:
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut_layer = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
            self.res_layer = nn.Sequential(*residual(inputs, outputs, stride))

        def forward(self, x: Tensor) -> Tensor:
            return self.res_layer(x) + self.shortcut_layer(x)

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.input_layer = nn.Sequential(stem, nn.BatchNorm2d(64), nn.PReLU(64))
        blocks, inputs = [], 64
        for width, num in zip(WIDTHS, UNITS, strict=True):
            blocks += [self.Block(width if i else inputs, width, 1 if i else 2) for i in range(num)]
            inputs = width
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(8), nn.Dropout(0.4), nn.Flatten(), nn.Linear(8 * 49, DIM),
            nn.BatchNorm1d(DIM, affine=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


@pytest.mark.parametrize(
    ("reference", "recogniser", "bgr"),
    [(Insightface, ArcfaceRecogniser, False), (Adaface, AdafaceRecogniser, True)],
)
def test_both_layouts_of_the_iresnet_are_read(
    reference: Callable[[], nn.Module], recogniser: type[ArcfaceRecogniser], bgr: bool, tmp_path: Path
) -> None:
    network = randomised(reference())
    plain, wrapped = tmp_path / "plain.safetensors", tmp_path / "wrapped.ckpt"
    save_file(network.state_dict(), plain)
    inside = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": {**inside, "head.kernel": torch.zeros(3)}, "epoch": 3}, wrapped)
    chip = pixels(cat(112))
    with torch.no_grad():
        expected = network(((chip[:, [2, 1, 0]] if bgr else chip) / 255 - 0.5) / 0.5)
        for path in (plain, wrapped):
            found = recogniser(path)
            assert found.dim == DIM and torch.allclose(found.network(chip), expected, atol=1e-4)
    assert len(found.sha256) == 64 and not any(p.requires_grad for p in found.inner.parameters())


def test_arcface_puts_the_landmarks_where_it_was_trained_to_see_them(tmp_path: Path) -> None:
    save_file(randomised(Insightface()).state_dict(), tmp_path / "arcface.safetensors")
    arcface = ArcfaceRecogniser(tmp_path / "arcface.safetensors")
    landmark = torch.tensor(own_weights.ARCFACE_52)[None] + 0.5
    picture = pixels(np.array(Image.open(CAT).convert("RGB").resize((112, 112))))
    # A face that lies just so comes out as it is; moved and twice as large, nearly so.
    same = arcface.chips(picture, torch.tensor([0]), landmark)
    assert (same - picture).abs().max() < 0.1
    large = F.pad(F.interpolate(picture, scale_factor=2, mode="nearest"), (20, 0, 10, 0))
    moved = arcface.chips(large, torch.tensor([0]), landmark * 2 + torch.tensor([20.0, 10.0]))
    assert (moved - picture).abs().mean() < 4
    # Each of several faces keeps its place, whether it shrinks or not.
    both = arcface.chips(large, torch.tensor([0, 0, 0]), torch.cat([landmark * 2, landmark, landmark * 2]))
    assert torch.equal(both[0], both[2]) and not torch.equal(both[0], both[1])
    face = Face((0, 0, 1, 1), 1.0, landmark[0].numpy())
    embedded = arcface.embed(picture.permute(0, 2, 3, 1).to(torch.uint8), [[face]])
    assert embedded.shape == (1, DIM) and embedded.norm().item() == pytest.approx(1, abs=1e-5)


def test_facenet_takes_the_box_as_facenet_pytorch_does() -> None:
    facenet = FacenetRecogniser.__new__(FacenetRecogniser)
    image = numpy_rng(0, "picture").integers(0, 256, (80, 100, 3), dtype=np.uint8)
    boxes = [
        (10.7, 5.2, 60.9, 70.1),
        (-8.0, -3.0, 40.5, 50.5),
        (90.0, 70.0, 130.0, 99.0),
        (100.5, 3.0, 120.0, 9.0),
    ]
    inside = [(10, 5, 60, 70), (0, 0, 40, 50), (90, 70, 100, 80), (99, 3, 100, 9)]
    faces = [Face(box, 1.0, np.zeros((5, 2), np.float32)) for box in boxes]
    chips = facenet.cut(pixels(image), torch.zeros(4, dtype=torch.long), faces)
    assert chips.shape == (4, 3, 160, 160)
    for chip, box in zip(chips, inside, strict=True):
        expected = Image.fromarray(image).crop(box).resize((160, 160), Image.Resampling.BILINEAR)
        assert (chip - pixels(np.array(expected))[0]).abs().max() <= 1.01


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/code/__torch__.py", "")
    with pytest.raises(
        UserError, match=r"is TorchScript, which is code; save its state_dict\(\) as safetensors"
    ):
        load_state(tmp_path / "script.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(UserError, match="holds more than tensors"):
        load_state(tmp_path / "module.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("weights")
        with pytest.raises(UserError, match=name):
            load_state(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="holds no tensors by name"):
        load_state(tmp_path / "none.pt")


def test_another_network_is_named_by_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(
        UserError, match="another network than facenet-pytorch's InceptionResnetV1: it lacks "
    ):
        FacenetRecogniser(path)
    with pytest.raises(UserError, match=r"another network than an iresnet .* export other networks as ONNX"):
        ArcfaceRecogniser(path)
    state = Insightface().state_dict()
    save_file({**state, "layer1.0.se.weight": torch.zeros(3)}, path)
    with pytest.raises(
        UserError, match=r"another network than an iresnet of 6 blocks: it has besides body\.0\.se"
    ):
        ArcfaceRecogniser(path)


def test_faceres_codes_come_back_within_half_a_step() -> None:
    weight = torch.randn(5, 4, 1, 1, generator=torch_generator(0, "weight"))
    low, high = weight.flatten(1).amin(1), weight.flatten(1).amax(1)
    scale = (high - low) / 255
    code = ((weight - low[:, None, None, None]) / scale[:, None, None, None]).round().to(torch.uint8)
    stored = {
        "x.weight": code,
        "x.weight.range": torch.stack([scale, low]),
        "y.weight": weight,
        "y.gain": low,
    }
    state = faceres.dequantised(stored)
    assert set(state) == {"x.weight", "y.weight"}
    assert ((state["x.weight"] - weight).abs().flatten(1).amax(1) <= scale * 0.51).all()
    assert torch.allclose(state["y.weight"], weight * low[:, None, None, None])


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """A tiny ONNX recogniser: the mean of each channel, after scaling of its own where asked for."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'fdlab[onnx]')")
    onnx = pytest.importorskip("onnx", reason="onnx, which makes the test's graph, is not installed")

    def make(batch: int | str = "n", scales: bool = False, side: int = 112) -> Path:
        node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
        nodes, last, constants = [], "x", []
        if scales:
            nodes = [node("Sub", ["x", "mean"], ["centred"]), node("Mul", ["centred", "scale"], ["scaled"])]
            pairs = (("mean", 127.5), ("scale", 1 / 127.5))
            constants = [onnx.helper.make_tensor(name, 1, [1], [number]) for name, number in pairs]
            last = "scaled"
        nodes += [node("GlobalAveragePool", [last], ["pooled"]), node("Flatten", ["pooled"], ["y"])]
        shapes = [value("x", 1, [batch, 3, side, side])], [value("y", 1, [batch, 3])]
        made = onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "tiny", *shapes, constants),
            opset_imports=[onnx.helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.save(made, tmp_path / "tiny.onnx")
        return tmp_path / "tiny.onnx"

    return make


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("scales", [False, True])
def test_onnx_gets_pixels_scaled_once(graph: Callable[..., Path], batch: int | str, scales: bool) -> None:
    path = graph(batch, scales)
    chip = torch.cat([pixels(cat(112)), pixels(cat(112)[::-1].copy()) / 2])
    mean = ((chip - 127.5) / 127.5).mean((2, 3))
    arcface, adaface = ArcfaceRecogniser(path), AdafaceRecogniser(path)
    assert arcface.dim == 3 and torch.allclose(arcface.network(chip), mean, atol=1e-4)
    assert torch.allclose(adaface.network(chip), mean[:, [2, 1, 0]], atol=1e-4)


def test_onnx_of_another_size_is_refused(graph: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one input"):
        ArcfaceRecogniser(graph(side=160))
    (tmp_path / "text.onnx").write_text("weights")
    with pytest.raises(UserError, match=r"is no ONNX file"):
        ArcfaceRecogniser(tmp_path / "text.onnx")


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is installed")
def test_onnx_without_its_package_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "w600k_r50.onnx").touch()
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'fdlab\[onnx\]'"):
        ArcfaceRecogniser(tmp_path / "w600k_r50.onnx")
