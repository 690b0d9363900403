"""Neighbours of lit cells: counted by hand and by loops on every mesh, and blind to what is no fault."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, RaggedBoxMesh, RaggedCylinderMesh
from caloforge.evaluation import compute_features, evaluate
from caloforge.evaluation.physics import NeighbourhoodObservables, neighbourhoods
from caloforge.evaluation.profiles import ring_places

Make = Callable[..., Showers]
Cells = NDArray[np.float32]
IMAGE = BoxMesh.regular((1, 4, 5), (10.0, 1.0, 1.0))


def observe(mesh: Mesh, *showers: object) -> dict[str, NDArray[np.float64]]:
    """The observables of showers given as grids."""
    cells = np.stack([np.asarray(shower, dtype=np.float32).ravel() for shower in showers])
    return NeighbourhoodObservables(mesh).of(cells)


def touching(mesh: Mesh) -> dict[str, set[tuple[int, int]]]:
    """Pairs of neighbours along each axis, looked for one cell at a time."""
    centres = mesh.centres()
    angular = "phi" if "phi" in centres else "y"
    found: dict[str, set[tuple[int, int]]] = {
        "z": set(),
        angular: set(),
        "r" if "phi" in centres else "x": set(),
    }
    if isinstance(mesh, CylinderMesh | BoxMesh):
        sizes, grids = (
            mesh.shape,
            [np.arange(mesh.n_voxels).reshape(mesh.shape)[z] for z in range(mesh.shape[0])],
        )
        for z, grid in enumerate(grids):
            for cell, other in zip(
                grid.ravel(), grids[z + 1].ravel() if z + 1 < sizes[0] else (), strict=False
            ):
                found["z"].add((int(cell), int(other)))
    else:
        assert isinstance(mesh, RaggedCylinderMesh | RaggedBoxMesh)
        grids = [
            np.arange(a, b).reshape(layer.shape)
            for layer, (a, b) in zip(mesh.layers, itertools.pairwise(mesh.layer_offsets), strict=True)
        ]
        for place in range(mesh.n_layers - 1):
            for first, second in itertools.product(grids[place].ravel(), grids[place + 1].ravel()):
                if holds(mesh, place, grids[place], first, second) or holds(
                    mesh, place + 1, grids[place + 1], second, first
                ):
                    found["z"].add((int(first), int(second)))
    for grid in grids:
        rows, columns = grid.shape
        for i, j in itertools.product(range(rows), range(columns)):
            if i + 1 < rows:
                found[angular].add((int(grid[i, j]), int(grid[i + 1, j])))
            elif angular == "phi" and rows > 2:
                found[angular].add((int(grid[i, j]), int(grid[0, j])))
            if j + 1 < columns:
                found["r" if angular == "phi" else "x"].add((int(grid[i, j]), int(grid[i, j + 1])))
    return found


def holds(mesh: Mesh, place: int, grid: NDArray[np.int64], cell: int, other: int) -> bool:
    """Whether a cell of a ragged mesh's layer holds the centre of another cell."""
    i, j = (int(k[0]) for k in np.nonzero(grid == cell))
    centres = mesh.centres()
    if isinstance(mesh, RaggedCylinderMesh):
        layer = mesh.layers[place]
        turn = (centres["phi"][other] + math.pi) / (2 * math.pi) * layer.n_phi
        return i <= turn < i + 1 and layer.r_edges[j] <= centres["r"][other] < layer.r_edges[j + 1]
    assert isinstance(mesh, RaggedBoxMesh)
    box = mesh.layers[place]
    across = box.x_edges[j] <= centres["x"][other] < box.x_edges[j + 1]
    return bool(across and box.y_edges[i] <= centres["y"][other] < box.y_edges[i + 1])


def groups_of(mesh: Mesh) -> list[tuple[object, ...]]:
    """Layer and ring of every cell; on cylinders rings are the layer's own."""
    centres = mesh.centres()
    own = centres["r"].round(6) if "r" in centres else ring_places(mesh)
    return [(int(layer), float(ring)) for layer, ring in zip(mesh.voxel_layers, own, strict=True)]


def mean_product(values: NDArray[np.float64], groups: list[tuple[object, ...]], a: int, b: int) -> float:
    """⟨s s'⟩ of a pair if the values of each group are dealt out again."""
    first, second = ([v for v, g in zip(values, groups, strict=True) if g == groups[k]] for k in (a, b))
    if groups[a] != groups[b]:
        return float(np.mean(first) * np.mean(second))
    pairs = list(itertools.permutations(first, 2))
    return float(np.mean([s * t for s, t in pairs]))


def test_the_neighbours_of_every_mesh(mesh: Mesh) -> None:
    found = mesh.neighbour_pairs()
    expected = touching(mesh)
    assert set(found) == set(expected)
    for name, pairs in expected.items():
        listed = [(int(a), int(b)) for a, b in found[name].T]
        assert len(listed) == len(set(listed))
        assert {tuple(sorted(pair)) for pair in listed} == {tuple(sorted(pair)) for pair in pairs}


@pytest.mark.parametrize("n_phi", [1, 2, 3])
def test_a_ring_of_few_cells_has_each_pair_once(n_phi: int) -> None:
    pairs = CylinderMesh.regular(n_z=1, n_phi=n_phi, n_r=1).neighbour_pairs()["phi"]
    assert pairs.shape[1] == {1: 0, 2: 1, 3: 3}[n_phi]


def test_any_mesh_by_loops(mesh: Mesh, make: Make) -> None:
    cells = make(mesh, n=4, seed=3).energies.reshape(4, -1)
    found = NeighbourhoodObservables(mesh).of(cells)
    pairs, groups, rings = touching(mesh), groups_of(mesh), ring_places(mesh)
    for row, shower in enumerate(cells.astype(np.float64)):
        lit, root = shower > 0, np.sqrt(shower)
        around: list[set[int]] = [set() for _ in shower]
        for a, b in itertools.chain(*pairs.values()):
            around[a].add(b)
            around[b].add(a)
        alone = [v for v in np.flatnonzero(lit) if not any(lit[o] for o in around[v])]
        assert found["isolated"][row] == len(alone)
        assert found["isolated_share"][row] == pytest.approx(len(alone) / lit.sum())
        for ring in range(rings.max() + 1):
            assert found[f"isolated_ring_{ring}"][row] == sum(rings[v] == ring for v in alone)
        for place, number in enumerate(mesh.layer_numbers):
            count = sum(mesh.voxel_layers[v] == place for v in alone)
            assert found[f"isolated_layer_{number}"][row] == count
        for axis, several in pairs.items():
            beyond = [lit[a] * lit[b] - mean_product(lit.astype(float), groups, a, b) for a, b in several]
            assert found[f"pairs_{axis}"][row] == pytest.approx(sum(beyond), abs=1e-9)
            product = sum(root[a] * root[b] - mean_product(root, groups, a, b) for a, b in several)
            scale = sum(
                math.prod(
                    np.std([v for v, g in zip(root, groups, strict=True) if g == groups[k]]) for k in pair
                )
                for pair in several
            )
            value = product / scale if scale > 0 else math.nan  # a ring of one cell does not vary
            assert found[f"correlation_{axis}_1"][row] == pytest.approx(value, abs=1e-6, nan_ok=True)
        clusters = list(connected(lit, around))
        assert found["clusters"][row] == len(clusters)
        assert found["cluster_size"][row] == pytest.approx(lit.sum() / len(clusters))
        assert found["cluster_largest"][row] == pytest.approx(max(map(len, clusters)) / lit.sum())
        most = max(map(len, around))
        enough = max(min(4, most - 1), 2)
        holes = [v for v in np.flatnonzero(~lit) if sum(lit[o] for o in around[v]) >= enough]
        assert found["holes"][row] == len(holes)


def connected(lit: NDArray[np.bool_], around: list[set[int]]) -> Iterator[set[int]]:
    left = set(np.flatnonzero(lit).tolist())
    while left:
        cluster, edge = set(), {left.pop()}
        while edge:
            cluster |= edge
            edge = {o for v in edge for o in around[v] if o in left}
            left -= edge
        yield cluster


def test_an_image_counted_by_hand() -> None:
    picture = [
        [1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 1],
        [2, 0, 0, 1, 0],
    ]  # fmt: skip
    found = observe(IMAGE, picture)
    assert found["isolated"] == [5]
    assert found["isolated_share"] == [5 / 7]
    assert found["clusters"] == [6]
    assert found["cluster_largest"] == [2 / 7]
    assert found["holes"] == [1]  # the dark cell of the third row between four lit ones
    assert not any(name.startswith(("isolated_layer", "pairs_z")) for name in found)


def test_clusters_and_distances_agree_with_scipy() -> None:
    mesh = BoxMesh.regular((5, 6, 7), (1.0, 1.0, 1.0))
    cells = np.random.default_rng(0).random((20, 5, 6, 7)) < 0.35
    found = observe(mesh, *cells)
    assert found["clusters"].tolist() == [ndimage.label(shower)[1] for shower in cells]
    kernel = ndimage.generate_binary_structure(3, 1).astype(int)
    kernel[1, 1, 1] = 0
    beside = [ndimage.convolve(shower.astype(int), kernel, mode="constant") for shower in cells]
    isolated = [int((shower & (b == 0)).sum()) for shower, b in zip(cells, beside, strict=True)]
    assert found["isolated"].tolist() == isolated
    assert found["holes"].tolist() == [int((~s & (b >= 4)).sum()) for s, b in zip(cells, beside, strict=True)]


def test_phi_closes_and_the_depth_does_not() -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=6, n_r=2)
    shower = np.zeros(mesh.shape)
    shower[1, 0, 0] = shower[1, 5, 0] = 1.0  # neighbours across φ = π
    shower[0, 3, 1] = shower[3, 3, 1] = 1.0
    found = observe(mesh, shower)
    assert found["isolated"] == [2]
    assert found["isolated_ring_0"] == [0]
    assert found["pairs_phi_ring_0"] == pytest.approx([1 - 6 * 2 / (6 * 5)])


def test_a_distance_of_several_cells() -> None:
    mesh = CylinderMesh.regular(n_z=1, n_phi=8, n_r=1)
    ring = np.array([4.0, 0, 0, 9, 0, 0, 0, 0])  # √E of 2 and 3, three cells apart
    found = observe(mesh, ring)
    spread = 13 / 8 - (5 / 8) ** 2
    for distance, product in ((1, 0.0), (2, 0.0), (3, 6.0)):
        value = (product - 8 * 12 / (8 * 7)) / (8 * spread)
        assert found[f"correlation_phi_{distance}"] == pytest.approx([value])


def test_what_independent_cells_have_is_exact() -> None:
    """The mean over all orders of a ring's cells is zero, for lit cells and for energies."""
    mesh = CylinderMesh.regular(n_z=2, n_phi=5, n_r=1)
    ring, other = np.array([1.0, 2.0, 0, 0, 5.0]), np.zeros(5)
    orders = [list(order) for order in itertools.permutations(range(5))]
    found = observe(mesh, *(np.stack([ring[order], other]) for order in orders))
    for name in ("pairs_phi", "correlation_phi_1", "correlation_phi_2"):
        assert found[name].mean() == pytest.approx(0, abs=1e-9)
    found = observe(mesh, *(np.stack([ring[order], ring]) for order in orders))
    for name in ("pairs_z", "correlation_z_1"):
        assert found[name].mean() == pytest.approx(0, abs=1e-9)


def test_showers_without_anything_lit(make: Make) -> None:
    mesh = CylinderMesh.regular(n_z=3, n_phi=4, n_r=2)
    found = observe(mesh, np.zeros(mesh.shape), np.ones(mesh.shape))
    for name in ("isolated", "clusters", "holes", "pairs_phi", "pairs_z_ring_1"):
        assert found[name][0] == 0
    for name in ("isolated_share", "cluster_size", "cluster_largest", "correlation_r_1"):
        assert math.isnan(found[name][0])
    assert found["clusters"][1] == 1
    assert found["pairs_phi"][1] == pytest.approx(0)
    assert math.isnan(found["correlation_z_1"][1])  # nothing varies
    assert observe(mesh, np.zeros(mesh.shape)).keys() == found.keys()


def test_batches_do_not_matter(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    showers = make(mesh, n=50)
    whole = NeighbourhoodObservables(mesh)
    compute_features(showers, visitors=[whole])
    monkeypatch.setattr(neighbourhoods, "BLOCK", 7 * mesh.n_voxels)
    parts = NeighbourhoodObservables(mesh)
    compute_features(showers, batch_size=16, visitors=[parts])
    for name, column in whole.columns().items():
        np.testing.assert_allclose(parts.columns()[name], column, rtol=0, atol=1e-12)
    assert whole.names() == list(whole.columns())
    assert whole.table(showers.energies.reshape(50, -1)).shape == (50, len(whole.names()))


class Unknown(BoxMesh):
    """A mesh that knows of no neighbours."""

    def neighbour_pairs(self) -> dict[str, NDArray[np.int64]]:
        return {}


def test_a_mesh_without_neighbours_has_no_neighbourhoods(make: Make) -> None:
    mesh = Unknown((0.0, 1.0), (0.0, 1.0, 2.0), (0.0, 1.0, 2.0))
    assert NeighbourhoodObservables(mesh).names() == []
    first, second = make(mesh), make(mesh, seed=1)
    assert NeighbourhoodObservables(mesh).table(first.energies.reshape(60, -1)).shape == (60, 0)
    result = evaluate(first, second, classifiers="none", distances=False, progress=False)
    assert result.neighbourhoods == {}


def clumpy(n: int, seed: int) -> Showers:
    """Showers of clumps: in every ring of a layer neighbouring cells are lit together."""
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    rng = np.random.default_rng(seed)
    seeds = rng.random((n, 4, 8, 3)) < 0.15
    lit = seeds | np.roll(seeds, 1, axis=2)
    cells = rng.exponential(1.0, lit.shape) * lit
    energy = 1000 * 50 ** rng.random(n)
    cells *= (energy / np.maximum(cells.sum(axis=(1, 2, 3)), 1e-9))[:, None, None, None]
    return Showers(cells.astype(np.float32), Conditions(energy, particle="e-"), mesh)


def dealt(showers: Showers, seed: int = 5) -> Showers:
    """The same cells, those of each ring of each layer in another order: all spectra and sums stay."""
    rng = np.random.default_rng(seed)
    cells = rng.permuted(showers.energies, axis=2)
    return Showers(cells, showers.conditions, showers.mesh)


def test_cells_in_another_order_are_seen_and_nothing_else_changes() -> None:
    truth, other = clumpy(400, 0), clumpy(400, 1)
    result = evaluate(truth, dealt(other), classifiers="none", distances=False, progress=False)
    as_it_is = evaluate(truth, other, classifiers="none", distances=False, progress=False)
    for name, value in as_it_is.separation.items():
        if name.startswith(("e_layer", "sparsity", "ec_r", "width_r", "cell_energy", "e_ratio")):
            assert result.separation[name].value == pytest.approx(value.value, abs=1e-6)
    found = result.neighbourhoods["pairs_phi"]
    assert found.difference.sigmas() < -10
    assert found.auc.value > 0.8
    assert abs(found.generated_mean) < 4 * found.generated_error
    assert found.reference_mean > 5 * found.reference_error
    assert result.neighbourhoods["isolated"].difference.sigmas() > 5
    assert "pairs_phi" in result.separation


def test_two_samples_of_one_origin_agree(make: Make) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    pair = make(mesh, n=500), make(mesh, n=500, seed=1)
    result = evaluate(*pair, classifiers="none", distances=False, progress=False)
    varying = [m for m in result.neighbourhoods.values() if m.reference_error > 0]
    assert len(varying) > 30
    sigmas = np.array([m.difference.sigmas() for m in varying])
    alone = np.array([(m.auc.value - 0.5) / m.auc.floor_error for m in varying])
    assert (np.abs(sigmas) < 4.5).all()
    assert 0.6 < sigmas.std() < 1.5
    assert (alone < 4.5).all()


def test_a_second_reference_is_the_floor() -> None:
    result = evaluate(
        clumpy(100, 0), clumpy(100, 1), second_reference=dealt(clumpy(100, 2)), classifiers="none",
        distances=False, progress=False,
    )  # fmt: skip
    found = result.neighbourhoods["pairs_phi"]
    assert found.difference.floor_from == found.auc.floor_from == "second reference"
    assert found.difference.floor < -found.difference.floor_error
    assert found.auc.floor > 0.6
