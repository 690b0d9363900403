"""Discrete values in files that were rounded."""

from __future__ import annotations

import numpy as np

from caloforge.data import Conditions
from caloforge.data.matching import discrete_values, matched_conditions


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
