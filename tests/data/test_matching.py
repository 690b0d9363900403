"""Discrete values in files that were rounded."""

from __future__ import annotations

import numpy as np

from caloforge.data import Conditions, Showers
from caloforge.data.matching import discrete_values, matched_conditions, share_among, within
from caloforge.detector import BoxMesh


def test_what_differs_by_rounding_is_one_value() -> None:
    energy = np.repeat([1000.0, 1e5], 10)
    energy[[3, 15]] *= 1 + 1e-6
    assert discrete_values(energy).tolist() == [1000.0, 1e5]
    energy[3] = 1000.1  # a value of its own, of one shower
    assert discrete_values(energy, each=2).tolist() == [1000.0, 1000.1, 1e5]
    assert discrete_values(energy[:0]).tolist() == []


def test_a_spectrum_stays_as_it_is() -> None:
    spectrum = Conditions(np.geomspace(1e3, 1e4, 2000), np.linspace(0, 3, 2000))
    other = Conditions(spectrum.energy * (1 + 1e-7), spectrum.theta + 1e-7)
    first, second = matched_conditions([spectrum, other])
    assert first == spectrum
    assert second == other


def test_all_samples_get_the_values_of_the_first() -> None:
    first = Conditions(np.tile([1e3, 2e3], 10), particle="e-", detector="toy", impact=(1.0, 2.0))
    other = Conditions(np.tile([1e3 + 1e-4, 3e3], 10), particle="gamma")
    found = matched_conditions([first, other])
    assert found[0] == first
    assert found[1] == Conditions(np.tile([1e3, 3e3], 10), particle="gamma")


def test_a_limit_is_the_same_with_and_without_rounding() -> None:
    """Neighbouring ranges hold every value once, wherever rounding put it."""
    values = np.array([1000.0 * (1 - 6e-8), 1000.0, 1000.0 * (1 + 6e-8), 2000.0 * (1 - 1e-7), 3000.0002])
    low, high = within(values, 1000.0, 2000.0), within(values, 2000.0, 3000.0, closed=True)
    assert low.tolist() == [True, True, True, False, False]
    assert high.tolist() == [False, False, False, True, True]
    assert within(values, 0.0, np.inf).all()
    assert not within(values, 3000.1, np.inf).any()


def test_ranges_of_a_filter() -> None:
    energy = np.array([1000.0, 1000.0 * (1 - 6e-8), 5000.0 * (1 - 6e-8), 5000.0])
    showers = Showers(np.ones((4, 1)), Conditions(energy), BoxMesh.regular((1, 1, 1), (1, 1, 1)))
    assert len(showers.filter(energy=(1000, 5000))) == 2
    assert len(showers.filter(energy=(5000, 1e4))) == 2


def test_shares_of_a_spectrum() -> None:
    rng = np.random.default_rng(0)
    first, second = np.exp(rng.uniform(np.log(1e3), np.log(1e6), (2, 200_000)))
    assert share_among(first, second) < 0.01  # many are near, by chance
    assert share_among(first.astype(np.float32).astype(np.float64), first) > 0.9
    assert share_among(first[:100], first[:50].astype(np.float32).astype(np.float64)) == 0.5
    assert share_among(first[:5], first[:0]) == 0.0
