"""Laws of the separation power and its floor, binning and histograms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import DataError
from caloforge.evaluation import compute_features, separation_floor, separation_power
from caloforge.evaluation.binning import lateral_ranges, linear_edges, log_edges
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms
from caloforge.evaluation.results import Separation
from caloforge.evaluation.separation import (
    bin_places,
    bootstrap_error,
    separation_error,
    separation_error_clustered,
    separation_floor_clustered,
)

Make = Callable[..., Showers]
counts = st.lists(st.integers(0, 1000), min_size=5, max_size=5)


@given(counts, counts)
def test_separation_is_symmetric_bounded_and_blind_to_size(first: list[int], second: list[int]) -> None:
    value = separation_power(first, second)
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(separation_power(second, first), abs=1e-15)
    assert value == pytest.approx(separation_power(np.array(first) * 7, second), abs=1e-9)


@given(counts)
def test_separation_of_a_histogram_from_itself_is_zero(first: list[int]) -> None:
    assert separation_power(first, first) == 0


def test_disjoint_histograms_have_separation_one() -> None:
    assert separation_power([5, 3, 0, 0], [0, 0, 1, 2]) == pytest.approx(1)
    assert separation_power([5, 3], [0, 0]) == 1
    assert separation_power([0, 0], [0, 0]) == 0
    assert separation_power([3, 1], [1, 3]) == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [[1.0, 2.0, 3.0], [1.0, -1.0], [1.0, np.nan]])
def test_malformed_histograms_are_refused(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="histogram"):
        separation_power([1.0, 2.0], wrong)


@pytest.mark.parametrize(("n_first", "n_second", "slope"), [(400, 400, 2), (1000, 200, 2), (300, 300, 9)])
def test_the_floor_is_what_equal_samples_show(n_first: int, n_second: int, slope: int) -> None:
    p = np.exp(-slope * np.linspace(0, 3, 40))
    p /= p.sum()
    rng = np.random.default_rng(3)
    pairs = [(rng.multinomial(n_first, p), rng.multinomial(n_second, p)) for _ in range(150)]
    seen = np.array([separation_power(a, b) for a, b in pairs])
    floors = np.array([separation_floor(a, b, seed=i, repeats=50) for i, (a, b) in enumerate(pairs)])
    assert abs(seen.mean() - floors[:, 0].mean()) < 4 * seen.std() / np.sqrt(len(pairs))
    assert seen.std() == pytest.approx(floors[:, 1].mean(), rel=0.25)


def test_the_floor_has_the_stated_mean_for_equal_sizes() -> None:
    first, second = [50, 100, 0, 150], [60, 90, 0, 150]
    mean, std = separation_floor(first, second, repeats=4000)
    assert mean == pytest.approx((3 - 1) / (2 * 300 - 1), rel=0.05)
    assert std > 0
    assert separation_floor(first, second, seed=5) == separation_floor(first, second, seed=5)
    assert separation_floor([0, 0], [0, 0], outside=(5, 5)) == (0.0, 0.0)


def test_showers_outside_the_range_are_dealt_out_too() -> None:
    lone = separation_floor([1, 0], [0, 0], outside=(99, 100))
    assert lone == (1.0, 0.0)  # one entry is in one sample or the other: nothing is learnt from that
    lost, spread = separation_floor([60, 40], [0, 0], outside=(0, 100))
    assert lost + 5 * spread < 0.5 < separation_power([60, 40], [0, 0])
    rng = np.random.default_rng(0)
    p = np.array([0.02, 0.03, 0.01, 0.94])
    pairs = [(rng.multinomial(300, p), rng.multinomial(300, p)) for _ in range(200)]
    seen = np.array([separation_power(a[:3], b[:3]) for a, b in pairs])
    floors = [separation_floor(a[:3], b[:3], outside=(a[3], b[3]), seed=i) for i, (a, b) in enumerate(pairs)]
    assert abs(seen.mean() - np.mean(floors, axis=0)[0]) < 4 * seen.std() / np.sqrt(len(pairs))
    assert seen.std() == pytest.approx(np.mean(floors, axis=0)[1], rel=0.25)


def test_the_clustered_floor_grows_with_the_correlation_inside_showers() -> None:
    rng = np.random.default_rng(0)
    single = rng.multinomial(1, [0.25] * 4, size=400)
    assert separation_floor_clustered(single * 10, single * 10)[0] == pytest.approx(
        separation_floor_clustered(single, single)[0]
    )
    loose = rng.multinomial(10, [0.25] * 4, size=400)
    assert separation_floor_clustered(loose, loose)[0] < separation_floor_clustered(single, single)[0] / 5


def test_the_error_is_the_spread_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(30, 3.0)), rng.dirichlet(np.full(30, 3.0))
    pairs = [(rng.multinomial(2000, p), rng.multinomial(1000, q)) for _ in range(100)]
    spread = np.std([separation_power(a, b) for a, b in pairs])
    errors = [separation_error(a, b, seed=i, repeats=50) for i, (a, b) in enumerate(pairs)]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)
    assert separation_error(*pairs[0], seed=3) == separation_error(*pairs[0], seed=3)
    assert separation_error([0, 0], [1, 2]) == separation_error([5, 0], [0, 5]) == 0


def test_the_error_knows_that_the_cells_of_a_shower_are_correlated() -> None:
    rng = np.random.default_rng(0)

    def sample(n: int, shift: float) -> np.ndarray:
        return rng.poisson(np.exp(shift * np.arange(6) + rng.normal(0, 0.5, (n, 6)).cumsum(axis=1)))

    def powers(a: np.ndarray, b: np.ndarray) -> float:
        return separation_power(a.sum(axis=0), b.sum(axis=0))

    pairs = [(sample(300, 0.0), sample(200, 0.15)) for _ in range(100)]
    spread = np.std([powers(a, b) for a, b in pairs])
    errors = [separation_error_clustered(a, b, seed=i, repeats=50) for i, (a, b) in enumerate(pairs)]
    assert np.median(errors) == pytest.approx(spread, rel=0.3)
    naive = separation_error(pairs[0][0].sum(axis=0), pairs[0][1].sum(axis=0))
    assert np.median(errors) > 1.3 * naive
    single = rng.multinomial(1, [0.1, 0.2, 0.3, 0.4], size=(2, 500))
    independent = separation_error(single[0].sum(axis=0), single[1].sum(axis=0), repeats=1000)
    clustered = separation_error_clustered(single[0], single[1], repeats=1000)
    assert clustered == pytest.approx(independent, rel=0.15)


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=20))
def test_errors_of_bins_are_those_of_bootstrap_samples(rows: list[list[int]]) -> None:
    entries = np.array(rows)
    n = len(entries)
    expected = np.sqrt(n * entries.var(axis=0))  # of the sum of n showers drawn with replacement
    found = bootstrap_error(entries.sum(axis=0), (entries**2).sum(axis=0), n)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_clustered_floor_and_error_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    entries = rng.poisson(3, (500, 7)), rng.poisson(3, (400, 7))
    before = separation_floor_clustered(*entries), separation_error_clustered(*entries)
    monkeypatch.setattr("caloforge.evaluation.separation._BLOCK", 3000)
    after = separation_floor_clustered(*entries), separation_error_clustered(*entries)
    assert after[0] == pytest.approx(before[0])
    assert after[1] == pytest.approx(before[1])


def test_groups_of_many_showers_have_the_floor_and_error_of_single_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)

    def sample(n: int, shift: float) -> np.ndarray:
        return rng.poisson(np.exp(shift * np.arange(6) + rng.normal(0, 0.5, (n, 6)).cumsum(axis=1)))

    entries = sample(3000, 0.0), sample(1000, 0.15)
    floor = separation_floor_clustered(*entries, repeats=500)
    error = separation_error_clustered(*entries, repeats=500)
    monkeypatch.setattr("caloforge.evaluation.separation.GROUPS", 400)
    dealt = separation_floor_clustered(*entries, repeats=500)
    assert dealt != floor
    assert dealt == pytest.approx(floor, rel=0.15)
    assert separation_error_clustered(*entries, repeats=500) == pytest.approx(error, rel=0.15)


def test_a_second_reference_gives_the_floor(make: Make) -> None:
    mesh = CylinderMesh.regular(n_z=3, n_phi=8, n_r=3)
    samples = [make(mesh, n=200, seed=i) for i in range(3)]
    edges = log_edges(1.0, float(samples[0].energies.max()), 50)
    cells = [CellCounts(edges) for _ in samples]
    features = [compute_features(s, visitors=[c]) for s, c in zip(samples, cells, strict=True)]

    def by_name(*chosen: int) -> dict[str, Separation]:
        first, other, *second = chosen
        found = feature_histograms(
            features[first],
            features[other],
            threshold_mev=1.0,
            second=features[second[0]] if second else None,
        )
        cell = cell_histogram(cells[first], cells[other], second=cells[second[0]] if second else None)
        return {h.name: h.separation for h in [*found, cell]}

    plain, reversed_roles, with_second = by_name(0, 1), by_name(0, 2), by_name(0, 1, 2)
    for name, separation in with_second.items():
        assert separation.value == plain[name].value
        assert separation.error == plain[name].error
        assert separation.floor == reversed_roles[name].value
        scatter = math.hypot(reversed_roles[name].error, math.sqrt(2) * plain[name].floor_std)
        assert separation.floor_std == pytest.approx(scatter)
    group = [n for n in plain if n.startswith("ec_")]
    assert np.mean([with_second[n].floor for n in group]) == pytest.approx(
        np.mean([plain[n].floor for n in group]), rel=0.2
    )


def test_published_ranges() -> None:
    for name in ("2", "3"):
        assert {
            (r.centre, r.width, r.centre_r, r.width_r) for r in lateral_ranges(calochallenge_mesh(name))
        } == {(30, 30, 42, 20)}
    by_layer = dict(zip((0, 1, 2, 3, 12, 13, 14), lateral_ranges(calochallenge_mesh("1-pions")), strict=True))
    assert (by_layer[12].centre, by_layer[12].width, by_layer[12].centre_r) == (500, 400, 1500)
    assert (by_layer[1].centre, by_layer[1].width, by_layer[1].width_r) == (100, 100, 500)
    twice = CylinderMesh.regular(dr=9.3)
    assert lateral_ranges(twice)[0].centre == 60


@pytest.mark.parametrize("edges", [linear_edges(0, 1, 20), log_edges(0.015, 300, 50), log_edges(2, 2, 5)])
def test_edges_increase_and_hold_both_ends(edges: np.ndarray) -> None:
    assert (np.diff(edges) > 0).all()
    filled = CellCounts(edges)
    filled(0, np.array([[edges[0], np.nextafter(edges[-1], 0)]], dtype=np.float64), np.ones(1))  # type: ignore[arg-type]
    assert filled.outside[1] == 0


def test_every_shower_is_in_range_or_counted_outside(mesh: Mesh, make: Make) -> None:
    first, second = compute_features(make(mesh, n=50)), compute_features(make(mesh, n=40, seed=1))
    histograms = feature_histograms(first, second, threshold_mev=1.0)
    assert [h.name for h in histograms] == list(first.columns())
    for histogram in histograms:
        inside = histogram.generated.sum() / 40
        assert inside + sum(histogram.generated_outside) == pytest.approx(1), histogram.name
        binomial = np.sqrt(histogram.reference * (1 - histogram.reference / 50))
        np.testing.assert_allclose(histogram.reference_error, binomial)
        assert len(histogram.edges) == len(histogram.reference) + 1


def test_a_sample_against_itself_has_no_separation(mesh: Mesh, make: Make) -> None:
    features = compute_features(make(mesh))
    for histogram in feature_histograms(features, features, threshold_mev=1.0):
        assert histogram.separation.value == 0
        assert histogram.separation.floor >= 0


def test_discrete_energies_get_a_response_each(make: Make) -> None:
    mesh = calochallenge_mesh("1-photons")
    cells = make(mesh, n=40).energies
    showers = Showers(cells, Conditions(np.repeat([256.0, 4096.0], 20)), mesh)
    features = compute_features(showers)
    by_energy = {h.name: h for h in feature_histograms(features, features, threshold_mev=1.0)}
    assert by_energy["e_ratio_at_256mev"].edges[0] == pytest.approx(0.4)
    assert by_energy["e_ratio_at_4096mev"].edges[0] == pytest.approx(0.9)


def test_cells_are_counted_with_errors_from_the_spread_between_showers() -> None:
    edges = np.array([1.0, 10.0, 100.0])
    counts = CellCounts(edges)
    counts(0, np.array([[0, 0.5, 2, 3], [0, 20, 0, 5000]], dtype=np.float32), np.ones(2))
    counts(2, np.array([[4, 0, 0, 0]], dtype=np.float32), np.ones(1))
    histogram = cell_histogram(counts, counts)
    assert histogram.reference.tolist() == [3, 1]
    assert histogram.reference_error.tolist() == pytest.approx([(5 - 9 / 3) ** 0.5, (1 - 1 / 3) ** 0.5])
    assert histogram.reference_outside == pytest.approx((1 / 6, 1 / 6))
    assert histogram.separation.value == 0


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_bins_hold_what_numpy_counts_to_the_last_entry(seed: int, logarithmic: bool) -> None:
    rng = np.random.default_rng(seed)
    edges = log_edges(0.01, 5.0, 40) if logarithmic else linear_edges(-1.0, 2.0, 100)
    values = np.concatenate([rng.normal(0.5, 1, 300), rng.choice(edges, 50), edges[[0, -1]]])
    counts = np.bincount(bin_places(values, edges), minlength=len(edges) + 1)
    assert (counts[1:-1] == np.histogram(values, bins=edges)[0]).all()
    assert counts[0] == (values < edges[0]).sum()
    assert counts.sum() == len(values)
