"""Muon: what its update does to matrices, and Adam for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fdlab.muon import Muon, as_matrix, from_matrix, orthogonalized, takes_muon


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_orthogonalizing_keeps_the_directions_and_levels_the_strengths(shape):
    g = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    out = orthogonalized(g)
    strengths = torch.linalg.svdvals(out)
    assert out.shape == g.shape and float(strengths.min()) > 0.4 and float(strengths.max()) < 1.3
    u, _, v = torch.linalg.svd(g[0], full_matrices=False)
    share = torch.einsum("ik,ij,kj->k", u, out[0], v) / strengths[0].sum() * len(v)
    assert float(share.mean()) > 0.95


def test_matrices_and_back():
    weight = torch.randn(5, 3, 2, 2)
    assert as_matrix(weight).shape == (5, 12)
    assert torch.equal(from_matrix(as_matrix(weight), weight), weight)
    assert takes_muon("conv.weight", weight) and takes_muon("linear.weight", torch.zeros(4, 4))
    assert not takes_muon("norm.bias", torch.zeros(4)) and not takes_muon(
        "token_embedding.weight", torch.zeros(4, 4)
    )
    assert not takes_muon("head.weight", torch.zeros(1, 9))


def test_adam_part_is_torchs_adam():
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    muon = Muon([("bias", ours)], adam_lr=0.1, betas=(0.9, 0.98))
    adam = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.98))
    for step in range(5):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_step_has_the_size_of_the_rate_whatever_the_gradient():
    for factor in (1e-3, 1e3):
        parameter = nn.Parameter(torch.zeros(16, 16))
        muon = Muon([("weight", parameter)], lr=0.1, weight_decay=0.0)
        parameter.grad = factor * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        muon.set_share(0.5)
        muon.step()
        assert 0.02 < float(torch.linalg.svdvals(parameter.detach()).max()) < 0.065
