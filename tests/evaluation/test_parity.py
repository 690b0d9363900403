"""Histograms and separation powers against a plain implementation of the CaloChallenge's definitions.

The plain one shares no code with caloforge: cell positions from the published tables, float64 NumPy, a loop
over layers, `numpy.histogram`. The showers are made to lie on the edges of bins wherever the definitions let
them: layers with one hit on x = 0, sparsities that are multiples of 1/20, cells at the threshold and at the
reference's largest, empty layers and showers. Counts must agree exactly.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.data import Conditions, Showers, open_showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, calochallenge_mesh
from caloforge.evaluation import compute_features
from caloforge.evaluation.binning import default_threshold, lateral_ranges, log_edges
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms
from caloforge.evaluation.results import Histogram

Layer = tuple[int, int, list[float]]
"""Number, bins in α, edges in r (mm)."""

PHOTONS: list[Layer] = [
    (0, 1, [0, 5, 10, 30, 50, 100, 200, 400, 600]),
    (1, 10, [0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 40, 50, 70, 90, 120, 150, 200]),
    (2, 10, [0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 350, 400]),
    (3, 1, [0, 50, 100, 200, 400, 600]),
    (12, 1, [0, 100, 200, 400, 1000, 2000]),
]
PIONS: list[Layer] = [
    (0, 1, [0, 5, 10, 30, 50, 100, 200, 400, 600]),
    (1, 10, [0, 1, 4, 7, 10, 15, 30, 50, 90, 150, 200]),
    (2, 10, [0, 5, 10, 20, 30, 50, 80, 130, 200, 300, 400]),
    (3, 1, [0, 50, 100, 200, 400, 600]),
    (12, 10, [0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 1000, 2000]),
    (13, 10, [0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 600, 1000, 2000]),
    (14, 1, [0, 50, 100, 150, 200, 250, 300, 400, 600, 1000, 2000]),
]


def regular(n_layers: int, n_alpha: int, n_r: int, outer: float) -> list[Layer]:
    return [(i, n_alpha, np.linspace(0, outer, n_r + 1).tolist()) for i in range(n_layers)]


CASES: dict[str, tuple[Mesh, list[Layer], float]] = {
    "1-photons": (calochallenge_mesh("1-photons"), PHOTONS, 1.0),
    "1-pions": (calochallenge_mesh("1-pions"), PIONS, 1.0),
    "2": (calochallenge_mesh("2"), regular(45, 16, 9, 41.85), 0.5e-3 / 0.033),
    "3": (calochallenge_mesh("3"), regular(45, 50, 18, 41.85), 0.5e-3 / 0.033),
    "small 3": (CylinderMesh.regular(n_z=5, n_phi=50, n_r=18, dr=2.325), regular(5, 50, 18, 41.85), 0.1),
    "wide": (CylinderMesh.regular(n_z=3, n_phi=6, n_r=5, dr=12.0), regular(3, 6, 5, 60.0), 0.1),
}


def limits(case: str, layer: int) -> tuple[float, float, float, float]:
    """Centre, width, centre in r and width in r, as published; mm."""
    if case.startswith("1"):
        far, r_far = layer in (12, 13), layer in (12, 13, 14)
        return 500.0 if far else 100.0, 400.0 if far else 100.0, *2 * (1500.0 if r_far else 500.0,)
    if case == "wide":  # farthest centre 54 mm, 54 / 39.525 rounded up to two digits
        return 30 * 1.4, 30 * 1.4, 42 * 1.4, 20 * 1.4
    return 30.0, 30.0, 42.0, 20.0


def plain(
    case: str, layers: list[Layer], threshold: float, samples: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Histograms of both samples by name, from showers (N, V) and energies (N,)."""
    columns: list[dict[str, np.ndarray]] = []
    edges: dict[str, np.ndarray] = {"e_ratio": np.linspace(0.5, 1.5, 101)}
    for showers, incident in samples:
        cells = showers.astype(np.float64)
        found = {"e_ratio": cells.sum(axis=1) / incident}
        for energy in np.unique(samples[0][1]):
            name = f"e_ratio_at_{energy:g}mev"
            found[name] = found["e_ratio"][incident == energy]
            narrow = case == "1-photons" and energy >= 4096
            edges[name] = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
        start = 0
        for number, n_alpha, r_edges in layers:
            r_e, a_e = np.array(r_edges), np.linspace(-np.pi, np.pi, n_alpha + 1)
            alpha, r = np.meshgrid((a_e[1:] + a_e[:-1]) / 2, (r_e[1:] + r_e[:-1]) / 2, indexing="ij")
            here = cells[:, start : start + r.size]
            start += r.size
            total = here.sum(axis=1)
            found[f"e_layer_{number}"] = total
            found[f"sparsity_{number}"] = 1 - (here > 0).sum(axis=1) / r.size
            edges[f"sparsity_{number}"] = np.linspace(0, 1, 21)
            centre, width, centre_r, width_r = limits(case, number)
            for axis, x, low, high, wide in (
                ("eta", r * np.cos(alpha), -centre, centre, width),
                ("phi", r * np.sin(alpha), -centre, centre, width),
                ("r", r, 0.0, centre_r, width_r),
            ):
                if n_alpha == 1 and axis != "r":
                    continue
                x = x.ravel()
                mean = (here * x).sum(axis=1) / (total + 1e-16)
                square = (here * x**2).sum(axis=1) / (total + 1e-16)
                found[f"ec_{axis}_{number}"] = mean
                found[f"width_{axis}_{number}"] = np.sqrt(np.clip(square - mean**2, 0, None))
                edges[f"ec_{axis}_{number}"] = np.linspace(low, high, 101)
                edges[f"width_{axis}_{number}"] = np.linspace(0, wide, 101)
        found["cell_energy"] = cells[cells > 0]
        columns.append(found)
    reference = columns[0]
    for number, _, _ in layers:
        edges[f"e_layer_{number}"] = np.geomspace(threshold, reference[f"e_layer_{number}"].max(), 40)
    edges["cell_energy"] = np.geomspace(threshold, reference["cell_energy"].max(), 50)
    return {
        name: tuple(np.histogram(found[name], bins=edges[name])[0] for found in columns)  # type: ignore[misc]
        for name in columns[0]
    }


def plain_separation(first: np.ndarray, second: np.ndarray) -> float:
    h1, h2 = (h / h.sum() if h.sum() else h.astype(float) for h in (first, second))
    return float(0.5 * ((h1 - h2) ** 2 / (h1 + h2 + 1e-16)).sum())


def edgy_showers(mesh: Mesh, threshold: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Showers (n, V) float32 whose features lie on edges of bins, and their energies (n,)."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((n, mesh.n_voxels), dtype=np.float32)
    centres, bounds = mesh.centres(), mesh.layer_offsets
    for i, (low, high) in enumerate(itertools.pairwise(bounds)):
        on_axis = low + np.flatnonzero(np.abs(centres["x"][low:high]) < 1e-9)
        size = high - low
        for row in range(n):
            kind = (row + i) % 6
            if kind == 0:
                continue  # an empty layer
            if kind == 1:  # one hit, on x = 0 where there are such cells
                where = rng.choice(on_axis if len(on_axis) else np.arange(low, high), 1)
            elif kind == 2:  # a fraction of k/20 of the cells
                where = low + rng.permutation(size)[: size * rng.integers(1, 21) // 20]
            elif kind == 3 and len(on_axis):  # several hits on x = 0
                where = rng.choice(on_axis, min(3, len(on_axis)), replace=False)
            elif kind == 4:  # several hits in one ring
                ring = low + np.flatnonzero(centres["r"][low:high] == centres["r"][rng.integers(low, high)])
                where = rng.choice(ring, min(4, len(ring)), replace=False)
            else:
                where = low + np.flatnonzero(rng.random(size) < 0.3)
            cells[row, where] = threshold * 10 ** (4 * rng.random(len(where)))
    hit = np.flatnonzero(cells)
    cells.ravel()[rng.choice(hit, len(hit) // 20)] = np.float32(threshold)  # at it, as far as float32 can
    cells.ravel()[rng.choice(hit, len(hit) // 20)] = np.float32(threshold * 1e3)
    cells.ravel()[rng.choice(hit, len(hit) // 50)] = threshold / 3
    cells[-1] = 0
    summed = cells.sum(axis=1, dtype=np.float64)
    energies = np.array([256.0, 4096.0, 65536.0])[np.arange(n) % 3]
    cells *= (energies * rng.normal(1, 0.1, n) / np.maximum(summed, 1e-9)).astype(np.float32)[:, None] ** (
        np.arange(n) % 2  # every second shower has a sensible response, the others keep round numbers
    )[:, None].astype(np.float32)
    return cells, energies


def ours(mesh: Mesh, threshold: float, samples: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Histogram]:
    showers = [Showers(cells, Conditions(energies), mesh) for cells, energies in samples]
    edges = log_edges(threshold, float(samples[0][0].max()), 50)
    counts = CellCounts(edges), CellCounts(edges)
    features = [compute_features(s, batch_size=7, visitors=[c]) for s, c in zip(showers, counts, strict=True)]
    histograms = [*feature_histograms(*features, threshold_mev=threshold), cell_histogram(*counts)]
    return {h.name: h for h in histograms}


@pytest.mark.parametrize("case", CASES)
def test_counts_and_separations_are_those_of_the_plain_definitions(case: str) -> None:
    mesh, layers, threshold = CASES[case]
    samples = [edgy_showers(mesh, threshold, n, seed) for n, seed in ((48, 1), (36, 2))]
    expected, found = plain(case, layers, threshold, samples), ours(mesh, threshold, samples)
    assert expected.keys() == found.keys()
    for name, (first, second) in expected.items():
        histogram = found[name]
        np.testing.assert_array_equal(histogram.reference, first, err_msg=name)
        np.testing.assert_array_equal(histogram.generated, second, err_msg=name)
        if first.sum() and second.sum():
            assert histogram.separation.value == pytest.approx(plain_separation(first, second), abs=1e-12)


def test_the_showers_do_lie_on_edges() -> None:
    """What the test above is worth: single precision would move these showers into other bins."""
    mesh, layers, threshold = CASES["small 3"]
    samples = [edgy_showers(mesh, threshold, n, seed) for n, seed in ((48, 1), (36, 2))]
    found = ours(mesh, threshold, samples)
    features = compute_features(Showers(samples[0][0], Conditions(samples[0][1]), mesh))
    moved = 0
    for i, (number, _, _) in enumerate(layers):
        edges = found[f"sparsity_{number}"].edges
        single = np.histogram(features.sparsity[:, i].astype(np.float32), bins=edges)[0]
        moved += int(np.abs(single - found[f"sparsity_{number}"].reference).sum())
        assert (np.abs(features.centre["eta"][:, i]) < 1e-9).any()
    assert moved > 0


def test_the_threshold_is_the_challenge_s_on_its_meshes_and_the_smallest_cell_elsewhere() -> None:
    for name, expected in (
        ("1-photons", 1.0),
        ("1-pions", 1.0),
        ("2", 0.5e-3 / 0.033),
        ("3", 0.5e-3 / 0.033),
    ):
        assert default_threshold(calochallenge_mesh(name), 0.2, 1e5) == expected
    depths_unknown = CylinderMesh.regular(dz=1.0)
    assert default_threshold(depths_unknown, 0.2) == 0.5e-3 / 0.033
    for other in (
        CylinderMesh.regular(dr=4.0),
        CylinderMesh.regular(n_z=44),
        BoxMesh.regular((45, 16, 9), (1,) * 3),
    ):
        assert default_threshold(other, 0.2, 1e5) == 0.2
        assert default_threshold(other, 1e-9, 1e5) == 1e-3


def test_ranges_do_not_depend_on_the_depths() -> None:
    assert lateral_ranges(CylinderMesh.regular(dz=1.0)) == lateral_ranges(calochallenge_mesh("2"))


def test_files_of_double_precision_are_read_as_such(tmp_path: Path) -> None:
    """In single precision, cells of rings whose radius is an edge (75 mm in layer 3) change bins."""
    mesh, layers, threshold = CASES["1-photons"]
    samples = []
    for role, seed in (("reference", 1), ("generated", 2)):
        rng = np.random.default_rng(seed)
        lit = rng.random((400, mesh.n_voxels)) < np.array([0.3, 0.05, 0.05, 0.1, 0.1])[mesh.voxel_layers]
        cells, energies = rng.exponential(20.0, lit.shape) * lit, np.repeat([512.0, 1024.0], 200)
        samples.append((np.where(cells < threshold, 0, cells), energies))
        with h5py.File(tmp_path / f"{role}.h5", "w") as file:
            file["showers"], file["incident_energies"] = samples[-1][0], energies[:, None]
    expected = plain("1-photons", layers, threshold, samples)
    showers = [open_showers(tmp_path / f"{role}.h5") for role in ("reference", "generated")]
    edges = log_edges(threshold, float(samples[0][0].max()), 50)
    counts = CellCounts(edges), CellCounts(edges)
    features = [compute_features(s, visitors=[c]) for s, c in zip(showers, counts, strict=True)]
    found = {h.name: h for h in feature_histograms(*features, threshold_mev=threshold)}
    found["cell_energy"] = cell_histogram(*counts)
    for name, (first, second) in expected.items():
        np.testing.assert_array_equal(found[name].reference, first, err_msg=name)
        np.testing.assert_array_equal(found[name].generated, second, err_msg=name)
