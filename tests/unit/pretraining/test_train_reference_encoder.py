"""experiments/nano/train_reference_encoder.py: pictures that teach or show nothing are named."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fdlab.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[3] / "experiments/nano"))
import shards
import train_reference_encoder


class Pictures(SimpleNamespace):
    """As many as there are people named, all with a face."""

    def __init__(self, *people: int) -> None:
        faces = torch.randn(len(people), 8, generator=torch.Generator().manual_seed(0))
        super().__init__(
            identity_N=np.array(people), found_N=torch.ones(len(people), dtype=torch.bool), faceres_NE=faces
        )

    def __len__(self) -> int:
        return len(self.identity_N)


def test_pictures_of_whom_each_is_shown_once_teach_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(shards, "load", lambda paths: Pictures(0, 1, 2, 3))
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), "x.npz", "--minutes", "1"])
    with pytest.raises(UserError, match="of 4 pictures no two show the same person's face"):
        train_reference_encoder.main()


def test_a_score_that_cannot_be_is_told_why():
    pictures = Pictures(0, 0, 1, 1, shards.TEST_EVERY - 1)
    teacher = train_reference_encoder.Teacher(pictures)
    scores = train_reference_encoder.check(None, None, pictures, teacher)
    assert train_reference_encoder.said(scores, pictures) == (
        "no score: of 5 pictures no two show the face of the same held-out person; give more for one"
    )
    assert train_reference_encoder.said({"auc": 0.9}, pictures) == "{'auc': 0.9}"
