"""The torchmetrics classes over two processes: pictures spread unevenly, the result that of all together."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import MetricCollection

from fdlab.metrics import modules as metrics

ROWS = {0: slice(0, 5), 1: slice(5, 12)}


def features(seed: int, rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measure(rows: slice, true_rows: slice) -> dict[str, float]:
    collection = MetricCollection(
        [metrics.Identity(), metrics.ClipScore(), metrics.KernelDistance(), metrics.FrechetDistance()]  # type: ignore[arg-type]
    )
    own, detected = torch.arange(4).repeat_interleave(3), torch.arange(12) % 5 != 2
    for one in list(range(12))[rows]:
        at = slice(one, one + 1)
        given = {"similarity_BS": features(0, 12, 4)[at], "own_B": own[at], "detected_B": detected[at]}
        given |= {"image_features_BD": features(1, 12, 6)[at], "text_features_BD": features(2, 12, 6)[at]}
        collection.update(**given, features_BD=features(1, 12, 6)[at], real=False)
    for metric in ("KernelDistance", "FrechetDistance"):
        collection[metric].update(features(3, 20, 6)[true_rows], real=True)
    return {name: float(value) for name, value in collection.compute().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = measure(ROWS[rank], slice(rank * 8, 8 + rank * 12))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.skipif(os.name == "nt" or not dist.is_available(), reason="needs gloo")
def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    # Forked, which saves imports; nothing here asks for a gradient.
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="fork")
    alone = measure(slice(0, 12), slice(0, 20))
    assert len(alone) == 9
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(alone, rel=1e-9)
