"""Make FaceNet's golden embedding: what facenet-pytorch computes with weights by a formula.

    python experiments/assets/make_facenet_golden.py PACKAGE

Its trained weights are in no package, so the formula of `tests/golden/test_recognisers.py` stands in for
them.
PACKAGE is the folder `facenet_pytorch` of an installed or unpacked wheel: pip download --no-deps
facenet-pytorch==2.6.0
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Fill the reference network, run it on the test's chip, write its embedding and its layout's digest."""
    models = types.ModuleType("models")
    models.__path__ = [str(Path(sys.argv[1]) / "models")]
    sys.modules["models"] = models
    # The module alone: the package's own import needs torchvision.
    reference = importlib.import_module("models.inception_resnet_v1").InceptionResnetV1(pretrained=None)
    spec = importlib.util.spec_from_file_location("formula", ROOT / "tests/golden/test_recognisers.py")
    assert spec and spec.loader
    test = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(test)
    state = test.by_formula(reference.state_dict())
    reference.load_state_dict(state)
    with torch.no_grad():
        embedding_D = reference.eval()((test.chip(160) - 127.5) / 128)[0]
    path = ROOT / "tests/golden/faces/facenet.safetensors"
    save_file({"embedding_D": embedding_D}, path, {"layout_sha256": test.layout(state)})


if __name__ == "__main__":
    main()
