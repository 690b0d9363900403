"""Sliced distances, FPD of the central showers, and what a generator is worth in showers of Geant4."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from caloforge.errors import DataError
from caloforge.evaluation.distances import fpd, sliced_distances, trimmed_fpd
from caloforge.evaluation.equivalent import equivalent_of_profiles, equivalent_showers
from caloforge.evaluation.results import Profile


def normal(n: int, columns: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, columns))


def test_one_feature_has_the_distances_of_scipy() -> None:
    x, y = normal(300, 1, 0), normal(200, 1, 1, 0.3)
    found = sliced_distances(x, y, slices=3, permutations=5)
    unit = x.std()
    assert found["sliced_wasserstein"].value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]) / unit)
    assert found["sliced_ks"].value == pytest.approx(ks_2samp(x[:, 0], y[:, 0]).statistic)


def test_equal_values_are_not_apart() -> None:
    x = np.round(normal(400, 1, 0))
    found = sliced_distances(x, np.repeat(x, 2, axis=0), permutations=5)
    assert found["sliced_ks"].value == pytest.approx(0, abs=1e-12)
    assert found["sliced_wasserstein"].value == pytest.approx(0, abs=1e-12)


def test_p_values() -> None:
    p = [sliced_distances(normal(150, 4, 2 * i), normal(150, 4, 2 * i + 1), seed=i) for i in range(20)]
    for name in ("sliced_wasserstein", "sliced_ks"):
        values = np.array([found[name].p_value for found in p])
        assert 0.25 < values.mean() < 0.75
        assert values.min() >= 1 / 101
    apart = sliced_distances(normal(400, 4, 0), normal(400, 4, 1, 0.3))
    for estimate in apart.values():
        assert estimate.p_value == pytest.approx(1 / 101)
        assert estimate.sigmas() > 4
        assert estimate.floor_from == "permutation"


def test_a_second_reference_gives_the_floor() -> None:
    x, y = normal(300, 3, 0), normal(300, 3, 1)
    found = sliced_distances(x, y, second=normal(300, 3, 2, 0.5))
    assert found["sliced_wasserstein"].floor > 2 * found["sliced_wasserstein"].value
    assert found["sliced_ks"].floor_from == "second reference"


def test_the_seed_decides_and_nan_is_an_error() -> None:
    x, y = normal(100, 3, 0), normal(100, 3, 1)
    assert sliced_distances(x, y, seed=3) == sliced_distances(x, y, seed=3)
    y[4, 1] = math.nan
    with pytest.raises(DataError, match="generated: feature 1 of shower 4"):
        sliced_distances(x, y)


def test_few_broken_showers_move_fpd_and_not_the_trimmed_one() -> None:
    x, y = normal(2000, 4, 0), normal(2000, 4, 1)
    y[:10] += 30.0
    whole, central = fpd(x, y, batches=2), trimmed_fpd(x, y)
    assert whole.sigmas() > 5
    assert abs(central.sigmas()) < 4
    shifted = trimmed_fpd(x, y + 0.2)
    assert shifted.sigmas() > 10


def test_a_known_bias_is_worth_so_many_showers() -> None:
    found = equivalent_showers(np.array([0.1]), np.array([4.0]), 10**9, 10**9)
    assert found.showers == pytest.approx(4 / 0.01, rel=1e-3)
    assert found.at_least < found.showers
    profile = equivalent_showers(np.array([0.1, 0.2, 9.0]), np.array([4.0, 1.0, 0.0]), 10**9, 10**9)
    assert profile.bins == 2  # in the third nothing varies
    assert profile.showers == pytest.approx(2 / (0.01 / 4 + 0.04), rel=1e-3)


def test_without_a_bias_only_a_bound_is_known() -> None:
    rng = np.random.default_rng(0)
    n1, n2, below = 1000, 3000, []
    for bias in (0.0, 0.1):
        for _ in range(300):
            shift = bias + rng.normal(0, math.sqrt(1 / n1 + 1 / n2))
            found = equivalent_showers(np.array([shift]), np.array([1.0]), n1, n2)
            below.append(found.at_least <= (1 / bias**2 if bias else math.inf))
            assert found.at_least <= found.showers or math.isnan(found.showers)
    assert np.mean(below) > 0.95
    nothing = equivalent_showers(np.zeros(1), np.zeros(1), 10, 10)
    assert (nothing.bins, math.isnan(nothing.at_least)) == (0, True)


def test_a_profile_by_its_errors() -> None:
    n, edges = 400, np.arange(3.0)
    profile = Profile(
        name="longitudinal",
        label="",
        position_label="",
        positions=edges[:2],
        edges=edges,
        reference=np.array([1.0, 2.0]),
        generated=np.array([2.0, 3.0]),
        reference_error=np.array([0.05, 0.1]),  # σ = 1 and 2
        generated_error=np.zeros(2),
    )
    found = equivalent_of_profiles([profile], n, n)["longitudinal"]
    assert found.showers == pytest.approx(2 / (1 + 1 / 4 - 2 * 2 / n))
