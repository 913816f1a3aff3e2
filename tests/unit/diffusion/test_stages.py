"""Where the three stages end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdlab.diffusion.stages import Stages, last_step
from fdlab.errors import UserError

RELEASED = {(0.3, 0.6): (15, 30), (0.2, 0.6): (10, 30), (0.2, 0.8): (10, 40)}
"""(alpha, beta) and last steps of 50: the released demo, batch test and defaults."""


@pytest.mark.parametrize("fractions", RELEASED)
def test_released_fractions_are_the_released_indices_at_50_steps(fractions: tuple[float, float]) -> None:
    assert Stages.from_fractions(*fractions, num_steps=50) == Stages(*RELEASED[fractions])


def test_boundaries_are_inclusive() -> None:
    stages = Stages(4, 8)
    assert [stages.at(step) for step in range(12)] == ["tdm"] * 5 + ["snf"] * 4 + ["sdm"] * 3
    assert Stages(-1, 3).at(0) == "snf"
    assert [Stages(2, 2).at(step) for step in (2, 3)] == ["tdm", "sdm"]
    assert Stages(-1, -1).at(0) == "sdm" and Stages(3, 99).at(9) == "snf"


@given(
    num_steps=st.integers(1, 1000),
    hundredths=st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True),
)
def test_any_number_of_steps(num_steps: int, hundredths: list[int]) -> None:
    low, high = sorted(hundredths)
    stages = Stages.from_fractions(low / 100, high / 100, num_steps)
    # Exactly i <= fraction * num_steps, in integers.
    assert stages.last_tdm_step == low * num_steps // 100
    assert stages.last_snf_step == high * num_steps // 100
    names = [stages.at(step) for step in range(num_steps)]
    assert names == sorted(names, key=("tdm", "snf", "sdm").index)


@pytest.mark.parametrize("num_steps", range(6, 60))
def test_presets_keep_three_stages_down_to_six_steps(num_steps: int) -> None:
    for fractions in RELEASED:
        stages = Stages.from_fractions(*fractions, num_steps)
        assert {stages.at(step) for step in range(num_steps)} == {"tdm", "snf", "sdm"}


def test_decimal_fractions_are_not_lost_to_rounding() -> None:
    assert 0.29 * 100 < 29 and last_step(0.29, 100) == 29
    assert last_step(1 - 0.7, 50) == 15


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.6, 0.3), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)]
)
def test_bad_fractions(alpha: float, beta: float) -> None:
    with pytest.raises(UserError, match="alpha < beta"):
        Stages.from_fractions(alpha, beta, 50)


def test_indices_in_place_of_fractions() -> None:
    assert Stages.choose(0.3, 0.6, 50) == Stages(15, 30)
    assert Stages.choose(0.3, 0.6, 50, 4, 8) == Stages(4, 8)
    with pytest.raises(UserError, match="both"):
        Stages.choose(0.3, 0.6, 50, last_tdm_step=4)
    for bad in ((8, 4), (-2, 4)):
        with pytest.raises(UserError, match="allowed: -1 <="):
            Stages(*bad)
