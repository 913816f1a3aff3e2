from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from fdlab.metrics.clip_score import clip_score
from fdlab.metrics.frechet import frechet_distance, frechet_from_moments
from fdlab.metrics.kernel import cmmd, kernel_distance


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.cov(x.T)


def textbook_frechet(a: np.ndarray, b: np.ndarray) -> float:
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b))))


@pytest.mark.parametrize(("num_a", "num_b"), [(60, 40), (40, 9), (9, 40)])
def test_frechet_against_scipy(num_a: int, num_b: int) -> None:
    rng = np.random.default_rng(num_a)
    a, b = rng.normal(size=(num_a, 12)), rng.normal(0.3, 1.4, size=(num_b, 12)) @ rng.normal(size=(12, 12))
    expected = textbook_frechet(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_from_moments(*moments(a), *moments(b)) == pytest.approx(expected, rel=1e-6)


def test_frechet_forms_agree_with_fewer_images_than_features() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 30)), rng.normal(0.2, 1.1, size=(9, 30))
    assert frechet_distance(a, b) == pytest.approx(frechet_from_moments(*moments(a), *moments(b)), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(30 * 4.0)


def golden_features(seed: int, num: int, shift: float, scale: float, width: int = 64) -> np.ndarray:
    """Like a network's: not negative, correlated, of unequal spread."""
    mix = np.random.default_rng(99).normal(size=(width, width)) / 8
    return np.maximum(0, shift + scale * np.random.default_rng(seed).normal(size=(num, width)) @ mix)


@pytest.mark.parametrize(
    ("a", "b", "frechet", "kernel"),
    [
        ((1, 500, 0.3, 1.0), (2, 400, 0.5, 1.2), 7.1193303763251095, 0.4618852449374433),
        ((3, 40, 0.3, 1.0), (4, 50, 0.5, 1.2), 26.15528824929568, 0.30683589927722554),
        ((5, 300, 0.3, 1.0), (6, 300, 0.3, 1.0), 2.651164783458583, -0.0031586747632994516),
    ],
    ids=["more images than features", "fewer", "one distribution"],
)
def test_distances_are_those_of_published_code(
    a: tuple[int, int, float, float], b: tuple[int, int, float, float], frechet: float, kernel: float
) -> None:
    """By torch-fidelity 0.4.0 from these features (NumPy 2.4.6, SciPy 1.17.1); clean-fid 0.1.35 gives the
    same to nine digits. Its kernel distance takes as many images of one side as of the other."""
    first, second = golden_features(*a), golden_features(*b)
    num = min(len(first), len(second))
    # Where covariances are singular, the square root of their product is good to six digits only.
    assert frechet_distance(first, second) == pytest.approx(frechet, rel=1e-6)
    assert kernel_distance(first[:num], second[:num]) == pytest.approx(kernel, rel=1e-9)


def test_frechet_of_known_gaussians() -> None:
    # Diagonal covariances commute: |m|^2 + sum (s_a - s_b)^2.
    mean, zero = np.array([1.0, 2.0]), np.zeros(2)
    assert frechet_from_moments(zero, np.diag([4.0, 9.0]), mean, np.diag([1.0, 16.0])) == pytest.approx(
        5 + 1 + 1
    )


def test_kernel_distances_against_double_sums() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 5)), rng.normal(0.5, 1, size=(9, 5))

    def direct(x: np.ndarray, y: np.ndarray, kernel) -> float:  # type: ignore[no-untyped-def]
        def within(z: np.ndarray) -> float:
            num = len(z)
            return sum(kernel(z[i], z[j]) for i in range(num) for j in range(num) if i != j) / (
                num * (num - 1)
            )

        across = sum(kernel(p, q) for p in x for q in y) / (len(x) * len(y))
        return within(x) + within(y) - 2 * across

    assert kernel_distance(a, b) == pytest.approx(direct(a, b, lambda p, q: (p @ q / 5 + 1) ** 3))
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    gaussian = direct(unit_a, unit_b, lambda p, q: np.exp(-((p - q) ** 2).sum() / 200))
    assert cmmd(a * 3, b * 7) == pytest.approx(1000 * gaussian)


def test_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(2)
    values = [kernel_distance(*rng.normal(size=(2, 10, 3))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


def test_clip_score_is_a_raw_cosine() -> None:
    image, text = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [-2.0, 0.0]])
    assert clip_score(image, text).tolist() == pytest.approx([1.0, -1.0])
    with pytest.raises(ValueError, match="one text for each image"):
        clip_score(image, text[:1])


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, cmmd])
def test_distances_refuse_what_has_no_meaning(distance) -> None:  # type: ignore[no-untyped-def]
    good = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(ValueError, match="two images"):
        distance(good[:1], good)
    with pytest.raises(ValueError, match="not finite"):
        distance(np.where(np.eye(5, 3) > 0, np.nan, good), good)
