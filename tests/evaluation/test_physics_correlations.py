"""Correlation matrices of Gaussians with known correlations, their distance and its floor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import DataError
from caloforge.evaluation.features import Features, compute_features
from caloforge.evaluation.physics import ChosenCells, cell_correlation, choose_cells, layer_correlation
from caloforge.evaluation.physics.correlations import cell_label
from caloforge.evaluation.profiles import MeanShower

MESH = BoxMesh.regular((4, 1, 1), (1.0, 1.0, 1.0))
TRUTH = np.array([[1.0, 0.6, 0.0, -0.4], [0.6, 1.0, 0.3, 0.0], [0.0, 0.3, 1.0, 0.2], [-0.4, 0.0, 0.2, 1.0]])


def gaussian(
    n: int, seed: int, truth: NDArray[np.float64] = TRUTH, spectrum: float = 50.0, noise: float = 0.02
) -> Features:
    """Showers whose four layers have known correlations at any energy, and means that change with it."""
    rng = np.random.default_rng(seed)
    energy = 1000 * spectrum ** rng.random(n)
    drift = 0.05 * np.log(energy / 1000)[:, None] * np.array([-1.0, -0.3, 0.6, 1.0])
    share = 0.5 + drift + noise * rng.multivariate_normal(np.zeros(4), truth, n)
    cells = (share * energy[:, None]).astype(np.float32).reshape(n, 4, 1, 1)
    return compute_features(Showers(cells, Conditions(energy), MESH))


def test_known_correlations_at_fixed_energy() -> None:
    found = layer_correlation(gaussian(20000, 0), gaussian(20000, 1))
    # the straight line within a bin leaves next to nothing of the drift with the energy
    assert found.reference == pytest.approx(TRUTH, abs=0.03)
    assert found.generated == pytest.approx(TRUTH, abs=0.03)
    assert found.labels == ("0", "1", "2", "3")
    assert np.diag(found.reference) == pytest.approx(np.ones(4))
    shares = gaussian(20000, 0)
    raw = np.corrcoef(shares.e_layer.T / shares.incident_energy)
    assert np.abs(raw - TRUTH).max() > 0.4  # what the spectrum alone would feign


def test_showers_of_all_energies_count_alike() -> None:
    low, high = gaussian(8000, 0, np.eye(4), spectrum=1.01, noise=0.1), gaussian(8000, 1, spectrum=1.01)
    cells = np.concatenate([low.e_layer, 100 * high.e_layer]).reshape(-1, 4, 1, 1)
    energy = np.concatenate([low.incident_energy, 100 * high.incident_energy])
    both = compute_features(Showers(cells, Conditions(energy), MESH))
    found = layer_correlation(both, both).reference
    assert found == pytest.approx((np.eye(4) + TRUTH) / 2, abs=0.04)


def test_a_sample_against_itself_is_at_zero() -> None:
    sample = gaussian(600, 0)
    found = layer_correlation(sample, sample)
    assert found.distance.value == 0.0
    assert found.distance.floor > 0.0
    assert found.distance.sigmas() < 0


@pytest.mark.parametrize(("n1", "n2"), [(700, 700), (1500, 150)])
def test_the_floor_covers_samples_of_one_origin(n1: int, n2: int) -> None:
    pulls = []
    for seed in range(40):
        distance = layer_correlation(gaussian(n1, 2 * seed), gaussian(n2, 2 * seed + 1)).distance
        pulls.append((distance.value - distance.floor) / distance.floor_error)
    assert abs(np.mean(pulls)) < 0.6
    assert np.std(pulls) == pytest.approx(1.0, abs=0.35)


def test_a_very_unequal_pair_has_the_floor_of_the_smaller() -> None:
    distance = layer_correlation(gaussian(8000, 0), gaussian(100, 1)).distance
    pairs = TRUTH[np.triu_indices(4, 1)]
    expected = np.sqrt(np.mean((1 - pairs**2) ** 2) / 100)
    assert distance.floor == pytest.approx(expected, rel=0.15)


def test_lost_correlations_are_seen() -> None:
    found = layer_correlation(gaussian(2000, 0), gaussian(2000, 1, np.eye(4)))
    expected = np.sqrt(np.mean(TRUTH[np.triu_indices(4, 1)] ** 2))
    assert found.distance.value == pytest.approx(expected, abs=4 * found.distance.error)
    assert found.distance.sigmas() > 10


def test_error_is_the_spread_between_samples() -> None:
    distances = [
        layer_correlation(gaussian(500, s), gaussian(500, 100 + s, np.eye(4))).distance for s in range(40)
    ]
    spread = np.std([d.value for d in distances])
    assert np.mean([d.error for d in distances]) == pytest.approx(spread, rel=0.35)


def test_the_scale_of_a_layer_is_no_correlation() -> None:
    first, second = gaussian(1000, 0), gaussian(1000, 1)
    scaled = compute_features(
        Showers(
            (second.e_layer * np.array([1.0, 1.5, 1.0, 0.2])).astype(np.float32),
            Conditions(second.incident_energy),
            MESH,
        )
    )
    plain, found = (layer_correlation(first, s).distance.value for s in (second, scaled))
    assert found == pytest.approx(plain, abs=1e-5)


def test_what_never_varies_is_nan_and_left_out() -> None:
    features = []
    for seed in (0, 1):
        sample = gaussian(500, seed)
        cells = sample.e_layer.copy()
        cells[:, 2] = 0.0
        features.append(compute_features(Showers(cells, Conditions(sample.incident_energy), MESH)))
    found = layer_correlation(*features)
    assert np.isnan(found.reference[2]).all()
    assert np.isfinite(found.reference[[0, 1, 3]][:, [0, 1, 3]]).all()
    assert math.isfinite(found.distance.value)
    assert math.isfinite(found.distance.floor)


def test_one_layer_has_no_correlation_and_says_so() -> None:
    mesh = BoxMesh.regular((1, 2, 2), (1.0, 1.0, 1.0))
    rng = np.random.default_rng(0)
    features = compute_features(Showers(rng.random((200, 4)), Conditions(np.full(200, 1e4)), mesh))
    found = layer_correlation(features, features)
    assert found.reference.shape == (1, 1)
    assert math.isnan(found.distance.value)
    assert math.isnan(found.distance.floor)


def test_energies_that_hardly_meet_are_left_out() -> None:
    first = gaussian(1000, 0)
    second = gaussian(1000, 1, spectrum=1.001)  # all at the low end
    assert math.isfinite(layer_correlation(first, second).distance.value)
    few = gaussian(30, 1)
    assert math.isnan(layer_correlation(first, few).distance.floor)


def test_chosen_cells_are_the_strongest_in_order() -> None:
    mean = np.array([0.0, 5.0, 1.0, 4.0, 0.0, 3.0])
    assert choose_cells(mean, most=3).tolist() == [1, 3, 5]
    assert choose_cells(mean).tolist() == [1, 2, 3, 5]


def test_cells_of_any_mesh(mesh: Mesh, make: Callable[..., Showers]) -> None:
    samples = make(mesh, n=300), make(mesh, n=200, seed=1)
    means = MeanShower(mesh)
    compute_features(samples[0], visitors=[means])
    cells = choose_cells(means.cells, most=12)
    visits = []
    for showers, size in zip(samples, (64, 300), strict=True):
        visit = ChosenCells(cells)
        compute_features(showers, batch_size=size, visitors=[visit])
        visits.append(visit)
    assert visits[0].shares.shape == (300, 12)
    expected = samples[0].energies.reshape(300, -1)[:, cells] / samples[0].conditions.energy[:, None]
    assert visits[0].shares == pytest.approx(expected)
    found = cell_correlation(*visits, mesh)
    assert found.reference.shape == (12, 12)
    assert len(set(found.labels)) == 12
    assert found.distance.sigmas() < 3
    assert found.distance == cell_correlation(*visits, mesh).distance
    assert found.distance != cell_correlation(*visits, mesh, seed=1).distance


def test_labels_of_cells() -> None:
    assert cell_label(CylinderMesh.regular(n_z=4, n_phi=8, n_r=3), 8 * 3 + 3 + 2) == "1/1/2"
    assert cell_label(calochallenge_mesh("1-photons"), 367) == "12/4"


def test_different_cells_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="different cells"):
        cell_correlation(ChosenCells(np.array([0, 1])), ChosenCells(np.array([0, 2])), MESH)


def test_large_samples_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.evaluation.physics.correlations.MOST_SHOWERS", 100)
    cells = np.arange(1000, dtype=np.float32).reshape(1000, 1)
    visit = ChosenCells(np.array([0]))
    for start in range(0, 1000, 70):
        part = cells[start : start + 70]
        visit(start, part, Conditions(np.ones(len(part))))
    assert visit.shares[:, 0].tolist() == list(range(0, 1000, 16))
    assert len(visit.incident_energy) == 63
