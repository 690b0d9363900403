"""A check for memorisation finds copies of all kinds and accuses nobody who is innocent."""

from __future__ import annotations

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, MeshError
from caloforge.evaluation.distances import memorisation
from caloforge.evaluation.distances.neighbours import nearest_among, nearest_in_windows
from caloforge.evaluation.distances.points import Points, log_energies, root_fractions
from caloforge.evaluation.results import Memorisation
from caloforge.report.words.memorisation import memorisation_verdict

MESH = CylinderMesh.regular(n_z=5, n_phi=8, n_r=4)


def showers(n: int, seed: int, energies: tuple[float, ...] = ()) -> Showers:
    """A falling profile with fluctuations that shrink with the energy, as in a calorimeter."""
    rng = np.random.default_rng(seed)
    energy = rng.choice(energies, n) if energies else 1000 * 50 ** rng.random(n)
    z, _, r = np.indices(MESH.shape)
    profile = np.exp(-((z - 2.0) ** 2) / 2 - r)
    expected = 0.05 * energy[:, None, None, None] ** 0.7 * profile / profile.sum()
    cells = rng.gamma(np.maximum(expected, 1e-3)) * (energy**0.3)[:, None, None, None] * 20
    cells[cells < 0.5] = 0.0
    return Showers(cells.astype(np.float32), Conditions(energy), MESH)


def shaken(original: Showers, size: float, seed: int = 0) -> Showers:
    """Every cell changed by a random factor."""
    factors = np.random.default_rng(seed).normal(1, size, original.energies.shape).clip(0)
    return Showers(original.energies * factors, original.conditions, MESH)


def accused(result: Memorisation) -> bool:
    return "repeats" in memorisation_verdict(result) or "memorised its" in memorisation_verdict(result)


TRAINING, HELD_OUT = showers(1500, 1), showers(1500, 2)


@pytest.mark.parametrize("seed", range(4))
def test_independent_showers_are_not_accused(seed: int) -> None:
    result = memorisation(showers(800, 10 + seed), TRAINING, HELD_OUT)
    assert not accused(result)
    assert abs(result.nearer.sigmas()) < 4
    assert result.nearer.floor == pytest.approx(0.5, abs=0.01)
    assert result.copies <= 12
    assert result.counts == {"generated": 800, "training": 1500, "held_out": 1500}


@pytest.mark.parametrize("change", [0.0, 0.01, 0.1])
def test_copies_are_found_even_where_they_were_changed_a_little(change: float) -> None:
    chosen = np.random.default_rng(3).permutation(1500)[:600]
    result = memorisation(shaken(TRAINING[chosen], change), TRAINING, HELD_OUT)
    assert accused(result)
    assert result.copies == 600
    assert result.nearer.value == 1.0
    assert all(chosen[made] == seen for made, seen in result.rows)


def test_a_few_copies_among_honest_showers_are_found() -> None:
    mixed = Showers.concatenate([showers(760, 4), shaken(TRAINING[:40], 0.01)])
    result = memorisation(mixed, TRAINING, HELD_OUT)
    assert accused(result)
    assert 40 <= result.copies < 50
    assert all(made == 760 + seen for made, seen in result.rows)


def test_copies_at_a_slightly_different_energy_are_found() -> None:
    energy = 1.05 * TRAINING.conditions.energy
    scaled = Showers(np.float32(1.05) * TRAINING.energies, Conditions(energy), MESH)
    assert accused(memorisation(scaled, TRAINING, HELD_OUT))


def test_showers_without_fluctuations_are_near_to_all_and_not_called_copies() -> None:
    fractions = HELD_OUT.energies / HELD_OUT.conditions.energy[:, None, None, None]
    energy = showers(500, 5).conditions.energy
    usual = np.sqrt(fractions).mean(axis=0) ** 2
    means = Showers(usual * energy[:, None, None, None], Conditions(energy), MESH)
    result = memorisation(means, TRAINING, HELD_OUT)
    assert result.copies > 250  # nearer than real showers ever come
    assert not accused(result)


def test_the_same_few_energies_everywhere_are_fine() -> None:
    few = (1000.0, 2000.0, 4000.0)
    seen, unseen = showers(900, 6, few), showers(900, 7, few)
    assert not accused(memorisation(showers(500, 8, few), seen, unseen))
    assert memorisation(seen[:500], seen, unseen).nearer.value == 1.0


def test_counts_histograms_and_seeds() -> None:
    made = showers(300, 9)
    result = memorisation(made, TRAINING, HELD_OUT, max_showers=200, seed=3)
    assert result.counts == {"generated": 200, "training": 200, "held_out": 200}
    assert result.generated_to_training.sum() == result.generated_to_held_out.sum() == 200
    again = memorisation(made, TRAINING, HELD_OUT, max_showers=200, seed=3)
    assert again.to_dict() == result.to_dict()
    restored = Memorisation.from_dict(result.to_dict())
    assert restored.rows == result.rows
    fewer = memorisation(made, TRAINING, HELD_OUT[:400])
    assert fewer.counts["training"] == 400  # as many as held-out showers


def test_samples_that_say_nothing_are_refused() -> None:
    made = showers(100, 9)
    with pytest.raises(DataError, match="at least 50 of each"):
        memorisation(made[:20], TRAINING, HELD_OUT)
    with pytest.raises(DataError, match="also training showers"):
        memorisation(made, TRAINING, TRAINING)
    elsewhere = Showers(made.energies, Conditions(np.full(100, 9e5)), MESH)
    with pytest.raises(DataError, match="same energies"):
        memorisation(elsewhere, TRAINING, HELD_OUT)
    other = CylinderMesh.regular(n_z=5, n_phi=8, n_r=3)
    with pytest.raises(MeshError):
        memorisation(Showers(np.zeros((60, 120)), Conditions(np.full(60, 1e3)), other), TRAINING, HELD_OUT)


def test_samples_of_different_kinds_say_nothing() -> None:
    strange = Showers(np.roll(HELD_OUT.energies, 1, axis=1), HELD_OUT.conditions, MESH)
    result = memorisation(strange[:700], TRAINING, strange[700:])
    assert not accused(result)
    assert "says nothing" in memorisation_verdict(result)
    assert result.nearer.replace(value=0.5).sigmas() < abs(result.nearer.sigmas())


def test_neighbours_are_those_of_all_pairs() -> None:
    made, seen = Points(showers(150, 0), log_energies), Points(showers(90, 1), log_energies)
    everyone = made.squared_distances(slice(0, 150), made, slice(0, 150)).numpy().copy()
    np.fill_diagonal(everyone, np.inf)
    numbers, squares = nearest_among(made, 7)
    np.testing.assert_array_equal(squares, np.sort(everyone, axis=1)[:, :7])
    np.testing.assert_array_equal(np.take_along_axis(everyone, numbers, axis=1), squares)
    starts = np.sort(np.random.default_rng(0).integers(0, 80, 150))
    stops = np.minimum(starts + 10, 90)
    starts[-1] = stops[-1]  # an empty window
    numbers, squares = nearest_in_windows(made, seen, starts, stops)
    pairs = made.squared_distances(slice(0, 150), seen, slice(0, 90)).numpy()
    for i in range(149):
        window = pairs[i, starts[i] : stops[i]]
        assert squares[i] == window.min()
        assert numbers[i] == starts[i] + window.argmin()
    assert (numbers[149], squares[149]) == (-1, np.inf)


def test_distances_of_scaled_showers_vanish_in_fractions() -> None:
    base = showers(5, 0)
    twice = Showers(2 * base.energies, Conditions(2 * base.conditions.energy), MESH)
    first, second = Points(base, root_fractions), Points(twice, root_fractions)
    squares = first.squared_distances(slice(0, 5), second, slice(0, 5)).numpy()
    assert np.abs(np.diag(squares)).max() <= 20  # a step here and there
    assert squares[0, 1] > 1000
