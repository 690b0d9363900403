"""Where two samples differ: the place is found, and nothing is where there is nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, Mesh
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.localise import CellSums, localise
from caloforge.evaluation.results import Localisation

MESH = CylinderMesh.regular(n_z=6, n_phi=8, n_r=3)
Change = Callable[[np.ndarray], None]


def lumpy_showers(n: int, seed: int, mesh: CylinderMesh = MESH) -> Showers:
    """Showers whose layers fluctuate together by 40 %, with an excess in one random direction each."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 50 ** rng.random(n)
    layers = np.exp(0.4 * rng.normal(size=(n, 1))) * np.exp(0.05 * rng.normal(size=(n, mesh.shape[0])))
    angle = 2 * np.pi * np.arange(mesh.shape[1]) / mesh.shape[1]
    lump = 1 + 0.8 * np.cos(angle - rng.uniform(0, 2 * np.pi, (n, 1)))
    cells = layers[:, :, None, None] * lump[:, None, :, None] * np.exp(-np.arange(mesh.shape[2]))
    cells = cells * rng.gamma(4.0, 0.25, cells.shape) * energy[:, None, None, None] / 400
    return Showers(cells.astype(np.float32), Conditions(energy), mesh)


def changed(showers: Showers, change: Change) -> Showers:
    cells = showers.energies.copy()
    change(cells)
    return Showers(cells, showers.conditions, showers.mesh)


def located(reference: Showers, generated: Showers) -> Localisation:
    sums = CellSums(reference.mesh), CellSums(reference.mesh)
    features = [compute_features(s, visitors=[c]) for s, c in zip((reference, generated), sums, strict=True)]
    return localise(features[0], features[1], sums)


def four_per_cent(cells: np.ndarray) -> None:
    cells[:, 3] *= np.float32(1.04)


def trade_places(cells: np.ndarray) -> None:
    cells[:, 2, [1, 5], 0] = cells[:, 2, [5, 1], 0]


def test_independent_samples_rarely_alarm() -> None:
    alarms = [
        sum(located(lumpy_showers(400, 2 * i), lumpy_showers(500, 2 * i + 1)).found.values())
        for i in range(12)
    ]
    assert sum(alarm > 0 for alarm in alarms) <= 2


def test_a_shift_far_below_the_fluctuations_is_found_in_its_layer() -> None:
    found = located(lumpy_showers(2000, 0), changed(lumpy_showers(2000, 1), four_per_cent))
    layers = [shift for shift in found.shifts if shift.kind == "layer"]
    assert [shift.name for shift in layers] == ["layer 3"]
    assert layers[0].relative == pytest.approx(0.04, abs=3 * layers[0].error)
    assert layers[0].error < 0.012
    assert layers[0].p_value < 1e-4


def test_cells_that_trade_places_are_found_by_their_neighbours() -> None:
    found = located(lumpy_showers(2000, 0), changed(lumpy_showers(2000, 1), trade_places))
    assert found.found["layer"] == found.found["cell"] == 0
    names = {shift.name for shift in found.shifts}
    assert names
    assert all("2/1/0" in name or "2/5/0" in name for name in names)


def test_a_dead_cell_is_named() -> None:
    def kill(cells: np.ndarray) -> None:
        cells[:, 4, 7, 1] = 0

    found = located(lumpy_showers(500, 0), changed(lumpy_showers(500, 1), kill))
    cell = next(shift for shift in found.shifts if shift.kind == "cell")
    assert (cell.name, cell.relative) == ("cell 4/7/1", -1.0)


def test_neighbours_close_the_ring_and_are_named_by_their_indices() -> None:
    sums = CellSums(MESH)
    assert [sums.n_pairs(axis) for axis in range(3)] == [5, 8, 2]
    assert sums.pair_name(1, int(np.ravel_multi_index((2, 7, 1), MESH.shape))) == "cells 2/7/1 and 2/0/1"
    assert sums.pair_name(0, int(np.ravel_multi_index((4, 7, 1), (5, 8, 3)))) == "cells 4/7/1 and 5/7/1"


def test_shared_showers_are_noticed_and_compared_exactly() -> None:
    showers = lumpy_showers(300, 0)
    found = located(showers, changed(showers, four_per_cent))
    assert found.shared_showers == 1
    assert found.exact == {"3": pytest.approx(0.04, rel=1e-3)}
    assert located(showers, lumpy_showers(300, 1)).shared_showers == 0


def test_every_mesh_and_batch_size_and_json(mesh: Mesh, make: Callable[..., Showers]) -> None:
    pair = make(mesh, n=200), make(mesh, n=150, seed=1)
    results = []
    for size in (7, 1000):
        sums = CellSums(mesh), CellSums(mesh)
        features = [
            compute_features(s, batch_size=size, visitors=[c]) for s, c in zip(pair, sums, strict=True)
        ]
        results.append((localise(features[0], features[1], sums), sums))
    (first, few), (second, many) = results
    assert first.tested == second.tested
    assert first.found == second.found
    for a, b in zip(few, many, strict=True):
        np.testing.assert_allclose(a.cells.first, b.cells.first, rtol=1e-5)
    assert Localisation.from_dict(first.to_dict()) == first
