from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from fdlab.metrics.diversity import diversity


def test_mean_of_a_group_is_its_mean_pairwise_distance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 7))
    groups = np.array(["a", "b", "c"] * 4)
    found = diversity(features, groups)
    for group in "abc":
        here = groups == group
        assert found[here].mean() == pytest.approx(pdist(features[here], "cosine").mean())
    # A picture's value is its mean distance to its siblings.
    siblings = features[groups == "a"]
    assert found[0] == pytest.approx(pdist(siblings, "cosine")[:3].mean())


def test_copies_are_not_diverse_and_one_alone_has_no_value() -> None:
    features = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 0.0], [-1.0, 0.0], [3.0, 3.0]])
    found = diversity(features, np.array([0, 0, 1, 1, 2]))
    assert found[:4] == pytest.approx([0, 0, 2, 2]) and np.isnan(found[4])
    assert diversity(10 * features, np.array([0, 0, 1, 1, 2]))[:4] == pytest.approx(found[:4])
    with pytest.raises(ValueError, match="5 pictures, but 3 groups"):
        diversity(features, np.arange(3))
