"""FPD, KPD, precision, recall, density and coverage: closed forms, plain implementations, invariances."""

from __future__ import annotations

import sys
import tracemalloc
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import DataError, MeshError
from caloforge.evaluation import compute_features
from caloforge.evaluation.distances import (
    feature_matrix,
    fpd,
    frechet_distance,
    kpd,
    neighbours,
    points,
    polynomial_mmd,
    prdc,
)
from caloforge.evaluation.distances.matrix import Pool, taken
from caloforge.evaluation.distances.points import Points, log_energies, root_fractions
from caloforge.report.words.notes import note_of

Make = Callable[..., Showers]
MESH = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
SIZES = np.array([100, 150, 300])


def gaussians(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Correlated features, (n, 4)."""
    rng = np.random.default_rng(seed)
    mixing = np.array([[1.0, 0, 0, 0], [0.5, 1, 0, 0], [0.2, 0.3, 0.1, 0], [0, 0, 1, 2]])
    return rng.standard_normal((n, 4)) @ mixing.T + 3 + shift


def test_rounding_errors_do_not_become_the_unit_of_a_feature() -> None:
    """A layer that every reference shower hits once has widths of rounding errors; that of others is real."""
    rng = np.random.default_rng(0)
    energy = 1000 * 50 ** rng.random(200)
    cells = rng.exponential(1.0, (2, 200, *MESH.shape)) * energy[:, None, None, None] / MESH.n_voxels
    once = np.zeros(cells[0, :, 3].shape)
    once.reshape(200, -1)[np.arange(200), rng.integers(0, 24, 200)] = rng.exponential(1.0, 200)
    cells[0, :, 3] = once
    pair = [compute_features(Showers(c.astype(np.float32), Conditions(energy), MESH)) for c in cells]
    assert 0 < pair[0].width["eta"][:, 3].max() < 1e-4
    assert fpd(*map(feature_matrix, pair), sizes=SIZES, floor=False).value < 100


def test_memory_does_not_grow_with_copies_of_the_features() -> None:
    matrices = [np.random.default_rng(i).random((60_000, 24), dtype=np.float32) for i in range(2)]
    pooled = sum(matrix.nbytes for matrix in matrices)
    for metric, how in ((fpd, {"sizes": SIZES}), (kpd, {"batch_size": 500})):
        tracemalloc.start()
        metric(*matrices, floor=False, **how)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1.9 * pooled


def test_matrices_in_files_are_those_in_memory(make: Make) -> None:
    features = [compute_features(make(MESH, n=60, seed=seed)) for seed in range(2)]
    in_memory = [feature_matrix(f) for f in features]
    in_files = [feature_matrix(f, memory_limit=0) for f in features]
    assert all(isinstance(matrix, np.memmap) for matrix in in_files)
    pools = Pool(*in_memory), Pool(*in_files)
    np.testing.assert_array_equal(pools[0].centred(), pools[1].centred(memory_limit=0))
    rows = np.array([100, 3, 60, 59])
    largest = np.maximum(np.abs(in_memory[0]).max(axis=0), 1e-30)
    expected = np.concatenate(in_memory).astype(np.float64)[rows] / largest
    known = np.abs(in_memory[0]).max(axis=0) > 0
    np.testing.assert_allclose(pools[1].take(rows)[:, known], expected[:, known], rtol=1e-6)
    np.testing.assert_array_equal(taken(in_files[0], rows[1:2], memory_limit=0), in_memory[0][[3]])
    for metric in (fpd, kpd):
        how = {"sizes": SIZES} if metric is fpd else {"batch_size": 100}
        assert metric(*in_memory, **how) == metric(*in_files, **how)


# Fréchet distance and FPD


def test_frechet_distance_of_two_normal_distributions_in_one_dimension() -> None:
    first, second = (np.array([1.0]), np.array([[4.0]])), (np.array([3.0]), np.array([[0.25]]))
    assert frechet_distance(first, second) == pytest.approx(2.0**2 + (2.0 - 0.5) ** 2, rel=1e-12)


def test_frechet_distance_of_correlated_gaussians_in_five_dimensions() -> None:
    rng = np.random.default_rng(1)
    # covariances that commute have Σ (√λ − √μ)² in their common directions
    directions = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    a, b = rng.uniform(0.1, 4, 5), rng.uniform(0.1, 4, 5)
    mean = rng.standard_normal((2, 5))
    first, second = (
        (mean[i], directions @ np.diag(values) @ directions.T) for i, values in enumerate((a, b))
    )
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)
    # others: the eigenvalues of C₁ C₂ are real and positive, though it is not symmetric
    other = np.cov(rng.standard_normal((5, 40)))
    trace = np.sum(np.sqrt(np.linalg.eigvals(first[1] @ other).real))
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.trace(first[1]) + np.trace(other) - 2 * trace
    assert frechet_distance(first, (mean[1], other)) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-12)


def test_constant_and_dependent_features_change_nothing_and_give_no_warnings() -> None:
    x, y = gaussians(400, 0), gaussians(400, 1, shift=0.2)
    plain = fpd(x, y, floor=False, sizes=SIZES, batches=3)
    constant = [np.column_stack([v, np.zeros(400)]) for v in (x, y)]
    assert fpd(*constant, floor=False, sizes=SIZES, batches=3).value == pytest.approx(plain.value, rel=1e-6)
    doubled = [np.column_stack([v, v]) for v in (x, y)]  # each direction √2 as long
    assert fpd(*doubled, floor=False, sizes=SIZES, batches=3).value == pytest.approx(
        2 * plain.value, rel=1e-6
    )


def straightforward_fpd(x: np.ndarray, y: np.ndarray, seed: int, batches: int) -> tuple[float, float]:
    """The definition with copies of rows, a general matrix root and a general fit."""
    from scipy.linalg import sqrtm
    from scipy.optimize import curve_fit

    largest = np.abs(x).max(axis=0)
    x, y, rng = x / largest, y / largest, np.random.default_rng(seed)
    values = []
    for size in SIZES:
        distances = []
        for _ in range(batches):
            a, b = x[rng.choice(len(x), size)], y[rng.choice(len(y), size)]
            ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
            shift = a.mean(axis=0) - b.mean(axis=0)
            distances.append(shift @ shift + np.trace(ca) + np.trace(cb) - 2 * np.trace(sqrtm(ca @ cb).real))
        values.append(np.mean(distances))
    best, covariance = curve_fit(
        lambda t, a, b: a + b * t, 1 / SIZES, values, bounds=([0, 0], [np.inf, np.inf])
    )
    return float(best[0]), float(np.sqrt(covariance[0, 0]))


def test_fpd_agrees_with_a_straightforward_implementation() -> None:
    x, y = gaussians(300, 2), gaussians(250, 3, shift=0.5)
    ours = fpd(x, y, seed=5, floor=False, sizes=SIZES, batches=4)
    value, error = straightforward_fpd(x, y, 5, 4)
    assert ours.value == pytest.approx(value, rel=1e-4)
    assert ours.error == pytest.approx(error, rel=1e-3)


def test_fpd_extrapolates_to_the_distance_of_the_distributions() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 1, (40_000, 1)), rng.normal(0.5, 2, (40_000, 1))
    expected = (0.5**2 + 1.0) / np.abs(x).max() ** 2
    assert fpd(x, y, floor=False, batches=3).value == pytest.approx(expected, rel=0.03)


def test_fpd_of_one_distribution_is_at_its_floor_and_of_two_far_above() -> None:
    x, same, other = gaussians(2000, 6), gaussians(2000, 7), gaussians(2000, 8, shift=0.3)
    equal, unequal = fpd(x, same, sizes=10 * SIZES), fpd(x, other, sizes=10 * SIZES)
    assert abs(equal.sigmas()) < 4
    assert unequal.sigmas() > 10
    assert equal.floor_from == "permutation"
    assert "2,000 showers" in note_of("fpd", equal, {})
    against = fpd(x, other, second=same, sizes=10 * SIZES, batches=3)
    assert against.floor_from == "second reference"
    expected = fpd(x, same, floor=False, sizes=10 * SIZES, batches=3)
    assert against.floor == pytest.approx(expected.value, rel=1e-3)


def test_fpd_depends_neither_on_the_order_of_features_nor_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussians(300, 9), gaussians(300, 10, shift=0.1)
    value = fpd(x, y, sizes=SIZES, batches=3)
    permuted = fpd(x[:, [2, 0, 3, 1]], y[:, [2, 0, 3, 1]], sizes=SIZES, batches=3)
    assert permuted.value == pytest.approx(value.value, rel=1e-4)
    assert fpd(x, y, sizes=SIZES, batches=3) == value
    monkeypatch.setattr(sys.modules[fpd.__module__], "_BLOCK", 37)
    assert fpd(x, y, sizes=SIZES, batches=3).value == pytest.approx(value.value, rel=1e-4)


def test_the_intercept_is_not_negative_even_where_the_line_is() -> None:
    x = gaussians(5000, 11)
    result = fpd(x, x, floor=False, sizes=np.array([50, 60, 70]), batches=2)
    assert result.value >= 0
    assert np.isfinite(result.error)


# KPD


def test_mmd_is_the_double_sum_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((25, 3))
    draws = rng.choice(25, (2, 40))

    def kernel(i: int, j: int) -> float:
        return float((pool[i] @ pool[j] / 3 + 1) ** 4)

    first, second = draws
    expected = 0.0
    for sample in draws:
        expected += (
            sum(kernel(i, j) for a, i in enumerate(sample) for b, j in enumerate(sample) if a != b) / 1560
        )
    expected -= 2 * np.mean([kernel(i, j) for i in first for j in second])
    counts = [np.bincount(d, minlength=25)[:, None] for d in draws]
    assert polynomial_mmd(pool, *counts)[0] == pytest.approx(expected, rel=1e-4)


def straightforward_kpd(
    x: np.ndarray, y: np.ndarray, seed: int, batches: int, size: int
) -> tuple[float, float]:
    """The definition with all kernel matrices in double precision."""
    largest = np.abs(x).max(axis=0)
    x, y = x / largest, y / largest
    values = []
    for i in range(batches):
        rng = np.random.default_rng(seed + 1000 * i)
        a, b = x[rng.choice(len(x), size)], y[rng.choice(len(y), size)]
        aa, bb, ab = ((p @ q.T / x.shape[1] + 1) ** 4 for p, q in ((a, a), (b, b), (a, b)))
        within = sum(k.sum() - np.trace(k) for k in (aa, bb)) / (size * (size - 1))
        values.append(within - 2 * ab.mean())
    low, high = np.percentile(values, [16.275, 83.725])
    return float(np.median(values)), float(high - low) / 2


@pytest.mark.parametrize("size", [40, 400])  # one kernel for each draw, and one for all
def test_kpd_agrees_with_a_straightforward_implementation(size: int) -> None:
    x, y = gaussians(300, 2), gaussians(250, 3, shift=0.5)
    ours = kpd(x, y, seed=5, batches=6, batch_size=size)
    value, error = straightforward_kpd(x, y, 5, 6, size)
    assert ours.value == pytest.approx(value, rel=1e-4, abs=1e-2 * error)
    assert ours.error == pytest.approx(error, rel=1e-2)


def test_kpd_of_one_distribution_is_at_its_floor_and_of_two_far_above() -> None:
    x, same, other = gaussians(2000, 6), gaussians(2000, 7), gaussians(2000, 8, shift=0.3)
    equal, unequal = kpd(x, same, batch_size=1000), kpd(x, other, batch_size=1000)
    assert abs(equal.sigmas()) < 4
    assert unequal.sigmas() > 4
    assert kpd(x, same, batch_size=1000) == equal
    against = kpd(x, other, second=same, batch_size=1000)
    assert against.floor == pytest.approx(equal.value, rel=1e-3)
    assert against.floor_error >= 0.999 * equal.error


def test_kpd_depends_neither_on_the_order_of_features_nor_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussians(300, 9), gaussians(300, 10, shift=0.1)
    value = kpd(x, y, batch_size=200)
    assert kpd(x[:, ::-1], y[:, ::-1], batch_size=200).value == pytest.approx(value.value, rel=1e-3)
    monkeypatch.setattr(sys.modules[kpd.__module__], "_BLOCK", 37)
    assert kpd(x, y, batch_size=200).value == pytest.approx(value.value, rel=1e-3)


def test_matrices_that_do_not_fit_are_refused() -> None:
    x = gaussians(30, 0)
    for metric in (fpd, kpd):
        with pytest.raises(DataError, match="generated: 3 features, but the reference has 4"):
            metric(x, x[:, :3])
        with pytest.raises(DataError, match="feature 1 of shower 2 is nan"):
            metric(x, np.where(np.arange(120).reshape(30, 4) == 9, np.nan, x))
        with pytest.raises(DataError, match="matrix"):
            metric(x[0], x)


def test_the_feature_matrix_holds_the_challenges_columns(make: Make) -> None:
    features = compute_features(make(MESH, n=7))
    matrix = feature_matrix(features)
    assert matrix.shape == (7, 4 + 4 * 4 + 1 + 4 + 4 + 4)
    np.testing.assert_allclose(matrix[:, :4], np.log10(features.e_layer + 1e-8), rtol=1e-6)
    np.testing.assert_allclose(matrix[:, 4:8], features.centre["eta"] / 100, rtol=1e-6)
    np.testing.assert_allclose(matrix[:, 16:20], features.width["phi"] / 100, rtol=1e-6)
    np.testing.assert_allclose(matrix[:, 20], np.log10(features.e_total), rtol=1e-6)
    np.testing.assert_allclose(matrix[:, 25:29], features.centre["r"] / 100, rtol=1e-6)


# precision, recall, density, coverage


def straightforward_prdc(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    """The definitions on matrices of all pairs, in double precision."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))

    real, fake = (np.sort(distances(s, s), axis=1)[:, k] for s in (x, y))
    between = distances(x, y)
    return {
        "precision": (between < real[:, None]).any(axis=0).mean(),
        "recall": (between < fake[None]).any(axis=1).mean(),
        "density": (between < real[:, None]).sum(axis=0).mean() / k,
        "coverage": (between.min(axis=1) < real).mean(),
    }


def logs(showers: Showers) -> np.ndarray:
    cells = showers.energies.reshape(len(showers), -1)
    return np.log10(np.where(cells > 0, cells, np.float32(0.1))).astype(np.float64)


def narrow(make: Make, n: int, seed: int) -> Showers:
    """Showers that are much like each other."""
    one = make(MESH, n=1, seed=99).energies
    noise = np.random.default_rng(seed).uniform(0.95, 1.05, (n, *MESH.shape))
    return Showers(one * noise, Conditions(np.full(n, 1e4)), MESH)


def test_prdc_agrees_with_all_pairs(make: Make) -> None:
    x = make(MESH, n=90, seed=1)
    others = {
        "alike": make(MESH, n=90, seed=2),
        "fewer": make(MESH, n=20, seed=3),
        "many of one kind": Showers.concatenate([narrow(make, 150, 4), make(MESH, n=20, seed=5)]),
        "another spectrum": make(MESH, n=60, seed=6).filter(energy=(1e3, 5e3)),
    }
    for name, y in others.items():
        for first, second in ((x, y), (y, x)):
            found = {metric: estimate.value for metric, estimate in prdc(first, second, k=3).items()}
            expected = straightforward_prdc(logs(first), logs(second), 3)
            assert found == pytest.approx(expected, abs=1e-12), name


def test_prdc_of_a_copy_is_perfect_and_of_another_kind_nothing(make: Make) -> None:
    x = make(MESH, n=60)
    copy = prdc(x, x)
    assert [copy[name].value for name in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    here = narrow(make, 50, 1)
    there = Showers(2 * narrow(make, 50, 2).energies, here.conditions, MESH)
    assert [estimate.value for estimate in prdc(here, there).values()] == [0.0] * 4


def test_prdc_depends_neither_on_order_nor_on_blocks_nor_on_the_processor(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = make(MESH, n=70, seed=1), make(MESH, n=50, seed=2)
    values = {name: e.value for name, e in prdc(x, y).items()}

    def again(first: Showers, second: Showers) -> dict[str, float]:
        return {name: e.value for name, e in prdc(first, second).items()}

    rng = np.random.default_rng(0)
    assert again(x[rng.permutation(70)], y[rng.permutation(50)]) == pytest.approx(values)
    cells = rng.permutation(MESH.n_voxels)
    moved = [Showers(s.energies.reshape(len(s), -1)[:, cells], s.conditions, MESH) for s in (x, y)]
    assert again(*moved) == values
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    assert again(x, y) == values
    monkeypatch.setattr(points, "_has_vnni", lambda: False)
    assert again(x, y) == values


def test_prdc_of_one_distribution_is_at_its_floor(make: Make) -> None:
    x, y, z = (make(MESH, n=300, seed=seed) for seed in range(3))
    result = prdc(x, y)
    for estimate in result.values():
        assert abs(estimate.sigmas()) < 4
        assert estimate.floor_from == "permutation"
    assert result["density"].floor == pytest.approx(1.0, abs=0.15)
    assert result["coverage"].floor == pytest.approx(1 - 0.5**5, abs=0.02)  # for equal numbers, any space
    against = prdc(x, y, second=z)
    assert against["recall"].floor == prdc(x, z)["recall"].value
    assert against["recall"].floor_from == "second reference"


def test_prdc_says_how_many_showers_it_used_and_wants_the_same_mesh(make: Make) -> None:
    x, y = make(MESH, n=60), make(MESH, n=40, seed=1)
    result = prdc(x, y, max_showers=30)
    counts = {"reference": 60, "generated": 40}
    assert "30" in note_of("recall", result["recall"], counts)
    assert prdc(x, y, max_showers=30) == result
    assert note_of("recall", prdc(x, y)["recall"], counts) == ""
    with pytest.raises(DataError, match="at least 6"):
        prdc(x, y[:5])
    with pytest.raises(MeshError):
        prdc(x, make(CylinderMesh.regular(n_z=4, n_phi=8, n_r=4), n=40))


def test_points_are_whole_numbers_with_exact_distances(make: Make) -> None:
    showers = make(MESH, n=40)
    for space in (log_energies, root_fractions):
        cells = showers.energies.reshape(40, -1)
        whole = np.rint(space.coordinates(cells, showers.conditions.energy) * np.float32(space.steps))
        found = Points(showers, space)
        expected = ((whole[:, None].astype(np.int64) - whole[None].astype(np.int64)) ** 2).sum(axis=2)
        squares = found.squared_distances(slice(0, 40), found, slice(0, 40)).numpy()
        np.testing.assert_allclose(squares, expected, rtol=1e-6, atol=0.0 if points._has_vnni() else 1e4)
        assert found.outside == 0


def test_cells_beyond_the_range_of_points_are_counted() -> None:
    cells = np.full((2, MESH.n_voxels), 1.0)
    cells[1, 0] = 1e-12
    found = Points(Showers(cells, Conditions([1e3, 1e3]), MESH), log_energies)
    assert found.outside == 1
    squares = found.squared_distances(slice(0, 1), found, slice(1, 2))
    assert float(squares[0, 0]) ** 0.5 / log_energies.steps == pytest.approx(9.0, abs=0.1)  # as 10⁻⁹ MeV


# other people's implementations, where they are installed


def jetnet() -> Any:
    """jetnet's metrics, without its package for the earth mover's distance, which NumPy 2 cannot load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.modules.setdefault("wasserstein", types.ModuleType("wasserstein"))
        return pytest.importorskip("jetnet.evaluation.gen_metrics", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")
def test_fpd_and_kpd_agree_with_jetnet() -> None:
    theirs = jetnet()
    x, y = gaussians(3000, 1), gaussians(2500, 2, shift=0.1)
    sizes = (1 / np.linspace(1 / 500, 1 / 2500, 10)).astype(int)
    ours = fpd(x, y, seed=42, floor=False, sizes=sizes)
    expected = theirs.fpd(x, y, min_samples=500, max_samples=2500)
    assert (ours.value, ours.error) == pytest.approx(expected, rel=1e-3)  # their fit is iterative
    kernel = kpd(x, y, seed=42, batch_size=1000, floor=False)
    assert (kernel.value, kernel.error) == pytest.approx(theirs.kpd(x, y, batch_size=1000), rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_prdc_agrees_with_the_package_prdc(make: Make) -> None:
    theirs = pytest.importorskip("prdc")
    x, y = make(MESH, n=300, seed=1), make(MESH, n=250, seed=2)
    found = {name: e.value for name, e in prdc(x, y).items()}
    rounded = [np.rint(1024 * logs(s)) / 1024 for s in (x, y)]
    assert found == pytest.approx(theirs.compute_prdc(*rounded, nearest_k=5), abs=1e-12)
    # a neighbour at the edge of a ball may be rounded in or out of it
    assert found == pytest.approx(theirs.compute_prdc(logs(x), logs(y), nearest_k=5), abs=0.005)
