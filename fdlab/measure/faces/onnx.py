"""A recogniser's network from an ONNX file, by onnxruntime (optional: pip install 'fdlab[onnx]').

Axes: N chips, S chip side, D embedding width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab.errors import UserError

HEAD_BYTES = 4096
"""A graph's first nodes stand at the head of its file."""


class OnnxNetwork:
    """Chips (N, 3, S, S) to embeddings (N, D). Raises: UserError where package or fitting graph is missing.

    A graph's first output counts. Where the graph takes one chip at a time, they go through one at a time.
    """

    def __init__(self, path: Path, device: torch.device, chip: tuple[int, int, int]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"'{path}' is ONNX, which needs onnxruntime: pip install 'fdlab[onnx]'."
            ) from error
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

        available = onnxruntime.get_available_providers()
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [name for name in (*wanted, "CPUExecutionProvider") if name in available]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except (Fail, InvalidGraph, InvalidProtobuf) as error:
            raise UserError(f"'{path}' is no ONNX file that onnxruntime reads.") from error
        inputs = self.session.get_inputs()
        self.input, shape = inputs[0].name, list(inputs[0].shape)
        fits = len(inputs) == 1 and len(shape) == 4
        if not fits or any(isinstance(n, int) and n != m for n, m in zip(shape[1:], chip, strict=True)):
            raise UserError(
                f"'{path}' takes {[entry.shape for entry in inputs]}; needed: one input (N, {chip})."
            )
        self.one_by_one = shape[0] == 1
        self.standardises = _standardises(path)
        out = self(torch.zeros(1, *chip))
        if out.ndim != 2:
            raise UserError(f"'{path}' gives {tuple(out.shape)} for one chip; needed: one vector (1, D).")
        self.dim = int(out.shape[1])

    def __call__(self, chip_N3SS: Tensor) -> Tensor:
        chips = chip_N3SS.detach().cpu().numpy().astype(np.float32)
        parts = np.split(chips, len(chips)) if self.one_by_one else [chips]
        found = [self.session.run(None, {self.input: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found))


def _standardises(path: Path) -> bool:
    """Whether the graph begins by subtracting and scaling on its own, as those exported from MXNet do."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    # The kind of a node is its field 4, a string: 0x22, its length, its letters.
    return all(b'"' + bytes([len(kind)]) + kind in head for kind in (b"Sub", b"Mul"))
