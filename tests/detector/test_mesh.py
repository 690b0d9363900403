"""Laws of the meshes: what is scored is kept, φ is periodic and nothing else is."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
    calochallenge_mesh,
    mesh_from_dict,
)
from caloforge.errors import MeshError


def edges(least: float, most: int = 5) -> st.SearchStrategy[tuple[float, ...]]:
    steps = st.lists(st.floats(0.5, 20), min_size=1, max_size=most)
    return st.tuples(st.floats(least, least + 3), steps).map(
        lambda pair: tuple(np.cumsum([pair[0], *pair[1]]).tolist())
    )


frames = st.sampled_from(["shower", "detector"])
cylinders = st.builds(CylinderMesh, edges(-1), st.integers(1, 7), edges(0), frames)
boxes = st.builds(BoxMesh, edges(-1), edges(-20), edges(-20), frames)


@st.composite
def ragged(draw: st.DrawFn) -> Mesh:
    z, layers = 0.0, []
    box = draw(st.booleans())
    for number in sorted(draw(st.sets(st.integers(0, 24), min_size=1, max_size=4))):
        depth = (z, z + draw(st.floats(1, 20)))
        z = depth[1]
        if box:
            layers.append(RaggedBoxLayer(number, draw(edges(-20)), draw(edges(-20)), depth))
        else:
            layers.append(RaggedLayer(number, draw(st.integers(1, 7)), draw(edges(0)), depth))
    return (RaggedBoxMesh if box else RaggedCylinderMesh)(tuple(layers), draw(frames))


meshes = st.one_of(cylinders, boxes, ragged())


def find(mesh: Mesh, x: float, y: float, z: float) -> int:
    """The voxel of one position, by going through the cells one by one."""
    r, phi = math.hypot(x, y), math.atan2(y, x)

    def within(value: float, bounds: tuple[float, ...], i: int) -> bool:
        return bounds[i] <= value < bounds[i + 1]

    def layers() -> Any:
        if isinstance(mesh, CylinderMesh | BoxMesh):
            for i in range(len(mesh.z_edges) - 1):
                yield mesh, (mesh.z_edges[i], mesh.z_edges[i + 1])
        else:
            for layer in mesh.layers:
                yield layer, layer.z_edges

    voxel = 0
    for layer, depth in layers():
        if hasattr(layer, "n_phi"):
            for i in range(layer.n_phi):
                turn = (phi + math.pi) / (2 * math.pi) * layer.n_phi
                for j in range(len(layer.r_edges) - 1):
                    if (
                        within(z, depth, 0)
                        and math.floor(turn) % layer.n_phi == i
                        and within(r, layer.r_edges, j)
                    ):
                        return voxel
                    voxel += 1
        else:
            for i in range(len(layer.y_edges) - 1):
                for j in range(len(layer.x_edges) - 1):
                    if within(z, depth, 0) and within(y, layer.y_edges, i) and within(x, layer.x_edges, j):
                        return voxel
                    voxel += 1
    return -1


@given(meshes)
def test_a_description_gives_the_same_mesh(mesh: Mesh) -> None:
    again = mesh_from_dict(json.loads(json.dumps(mesh.to_dict())))
    assert again == mesh
    assert hash(again) == hash(mesh)
    assert again.fingerprint == mesh.fingerprint
    assert np.array_equal(again.volumes(), mesh.volumes())


@given(meshes)
def test_every_centre_lies_in_its_own_cell(mesh: Mesh) -> None:
    centres = mesh.centres()
    positions = np.stack([centres["x"], centres["y"], centres["z"]], axis=1)
    assert np.array_equal(mesh.index(positions), np.arange(mesh.n_voxels))
    assert (mesh.volumes() > 0).all()
    assert mesh.layer_sizes.sum() == mesh.n_voxels == math.prod(mesh.shape)
    assert np.array_equal(np.bincount(mesh.voxel_layers), mesh.layer_sizes)


@settings(max_examples=60)
@given(meshes, st.integers(0, 2**32 - 1))
def test_scoring_agrees_with_going_through_the_cells(mesh: Mesh, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-40, 60, (30, 3))
    positions[::5] = np.round(positions[::5])  # some on edges
    energies = rng.exponential(size=30)
    expected = np.zeros(mesh.n_voxels)
    for position, energy in zip(positions, energies, strict=True):
        voxel = find(mesh, *position)
        if voxel >= 0:
            expected[voxel] += energy
    np.testing.assert_allclose(mesh.score(positions, energies), expected, rtol=1e-12)


@given(st.one_of(cylinders, boxes), st.data())
def test_coarsening_keeps_the_energy_and_agrees_with_scoring(mesh: Any, data: st.DataObject) -> None:
    factors = tuple(
        data.draw(st.sampled_from([f for f in range(1, n + 1) if n % f == 0])) for n in mesh.shape
    )
    rng = np.random.default_rng(0)
    positions = rng.uniform(-30, 60, (200, 3))
    weights = rng.integers(1, 100, 200)  # whole numbers, so that sums are exact
    fine = mesh.score(positions, weights).reshape(1, *mesh.shape)
    coarse = mesh.coarsen(fine, factors)
    assert coarse.sum() == fine.sum()
    target = mesh.coarsened(factors)
    assert coarse.shape[1:] == target.shape
    assert np.array_equal(coarse.ravel(), target.score(positions, weights))
    assert target.volumes().sum() == pytest.approx(mesh.volumes().sum())


@given(st.one_of(cylinders, boxes), st.integers(0, 2), st.integers(-9, 9))
def test_neighbours_by_brute_force(mesh: Any, axis: int, step: int) -> None:
    expected = []
    for cell in np.ndindex(*mesh.shape):
        other = list(cell)
        other[axis] += step
        if mesh.periodic[axis]:
            other[axis] %= mesh.shape[axis]
        inside = all(0 <= i < n for i, n in zip(other, mesh.shape, strict=True))
        expected.append(np.ravel_multi_index(other, mesh.shape) if inside else -1)
    assert mesh.neighbours(axis, step).tolist() == expected


@given(st.floats(-math.pi, math.pi), st.integers(-3, 3))
def test_phi_is_periodic(phi: float, turns: int) -> None:
    mesh = CylinderMesh.regular()
    voxels = [
        int(mesh.index([[10 * math.cos(angle), 10 * math.sin(angle), 1.0]])[0])
        for angle in (phi, phi + 2 * math.pi * turns)
    ]
    assert voxels[0] >= 0
    bins = [voxel // 9 % 16 for voxel in voxels]
    assert (bins[0] - bins[1]) % 16 in (0, 1, 15)  # rounding may cross an edge, never more


def test_nothing_wraps_round_in_depth_or_radius() -> None:
    mesh = CylinderMesh.regular()
    outside = [[1, 0, -1e-9], [1, 0, -3.5], [1, 0, 45 * 3.4], [41.85, 0, 1], [0, -42, 1], [1, 0, math.inf]]
    assert (mesh.index(outside) == -1).all()
    assert mesh.index([[-1.0, 0.0, 0.0]])[0] == 0  # φ = π is φ = −π
    assert mesh.index([[-1.0, -0.0, 0.0]])[0] == 0
    box = BoxMesh.regular((2, 3, 3), (1.0, 2.0, 2.0))
    assert (box.index([[3, 0, 0], [-3.001, 0, 0], [0, 3, 0], [0, 0, 2], [0, 0, -0.1]]) == -1).all()
    assert box.index([[-3, -3, 0]])[0] == 0


def test_the_challenge_has_its_voxels() -> None:
    sizes = {name: calochallenge_mesh(name).n_voxels for name in ("1-photons", "1-pions", "2", "3")}
    assert sizes == {"1-photons": 368, "1-pions": 533, "2": 6480, "3": 40500}
    assert calochallenge_mesh("1-photons").layer_numbers == (0, 1, 2, 3, 12)
    first = calochallenge_mesh("2").centres()
    assert first["r"][:2].tolist() == pytest.approx([2.325, 6.975])
    assert first["phi"][0] == pytest.approx(-math.pi + math.pi / 16)
    with pytest.raises(MeshError, match="unknown CaloChallenge"):
        calochallenge_mesh("4")


@given(meshes)
def test_layer_energies_add_up(mesh: Mesh) -> None:
    energies = np.arange(2 * mesh.n_voxels, dtype=np.float32).reshape(2, mesh.n_voxels)
    by_layer = mesh.layer_energies(energies)
    assert np.array_equal(by_layer, mesh.layer_energies(energies.reshape(2, *mesh.shape)))
    assert by_layer.sum() == energies.sum(dtype=np.float64)
    assert mesh.layer_energies(energies[:0]).shape == (0, mesh.n_layers)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CylinderMesh((0, 1, 1), 4, (0, 1)), "edges 1 and 2 are 1 and 1"),
        (lambda: CylinderMesh((0, math.nan), 4, (0, 1)), "finite"),
        (lambda: CylinderMesh((0,), 4, (0, 1)), "at least two"),
        (lambda: CylinderMesh((0, 1), 0, (0, 1)), "n_phi"),
        (lambda: CylinderMesh((0, 1), 2.5, (0, 1)), "n_phi"),
        (lambda: CylinderMesh((0, 1), 4, (-1, 1)), "r_edges"),
        (lambda: CylinderMesh((0, 1), 4, (0, 1), "lab"), "'shower' or 'detector'"),
        (lambda: BoxMesh((0, 1), (1, 0), (0, 1)), "y_edges"),
        (lambda: RaggedLayer(3, 0, (0, 1)), "layer 3"),
        (lambda: RaggedLayer(3, 1, (0, 2, 1)), "layer 3"),
        (lambda: RaggedLayer(3, 1, (0, 2), (0, 1, 2)), "front, back"),
        (lambda: RaggedCylinderMesh((RaggedLayer(3, 1, (0, 2)), RaggedLayer(1, 1, (0, 2)))), "increasing"),
        (lambda: RaggedBoxMesh(()), "at least one"),
        (lambda: mesh_from_dict({"kind": "sphere"}), "unknown mesh kind"),
        (lambda: mesh_from_dict({"kind": "cylinder", "n_phi": 3}), "malformed cylinder"),
        (lambda: mesh_from_dict({"kind": "ragged-box", "layers": [{"number": 1}]}), "malformed ragged-box"),
        (lambda: mesh_from_dict([1, 2]), "table"),
        (lambda: CylinderMesh.regular().coarsened((2, 1, 1)), "does not divide"),
        (lambda: CylinderMesh.regular().neighbours(3, 1), "axis"),
        (lambda: CylinderMesh.regular().index([[math.nan, 0, 0]]), "position 0 is NaN"),
        (lambda: CylinderMesh.regular().index([[1, 2]]), r"\(N, 3\)"),
        (lambda: CylinderMesh.regular().score([[1, 2, 3]], [1, 2]), "1 positions"),
        (lambda: CylinderMesh.regular().layer_energies(np.zeros((2, 5))), "do not fit"),
        (lambda: calochallenge_mesh("1-pions").index([[1, 0, 0]]), "no z_edges"),
        (lambda: calochallenge_mesh("2").require_same(calochallenge_mesh("3"), "test"), "expected the"),
        (
            lambda: CylinderMesh((0, 1, 2), 4, (0, 1)).require_same(
                CylinderMesh((0, 1.5, 2), 8, (0, 1)), "x"
            ),
            r"differ in z_edges\[1\] \(1 and 1.5\); n_phi \(4 and 8\)$",
        ),
        (
            lambda: CylinderMesh((0, 1, 2), 4, (0, 1)).require_same(CylinderMesh((0, 2), 4, (0, 1)), "x"),
            r"differ in z_edges \(3 numbers, 0 to 2 and 2 numbers, 0 to 2\)$",
        ),
        (
            lambda: RaggedCylinderMesh((RaggedLayer(3, 1, (0, 2)),)).require_same(
                RaggedCylinderMesh((RaggedLayer(3, 1, (0, 3)),)), "x"
            ),
            r"differ in layers\[0\].r_edges \(2 numbers, 0 to 2 and 2 numbers, 0 to 3\)$",
        ),
    ],
)
def test_what_is_wrong_is_said(make: Any, words: str) -> None:
    with pytest.raises(MeshError, match=words):
        make()


@given(meshes, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_points_are_in_their_cells(mesh: Mesh, seed: int) -> None:
    random = np.random.default_rng(seed)
    voxels = random.integers(0, mesh.n_voxels, 50)
    points = mesh.points(voxels, random.uniform(0.001, 0.999, (50, 3)))
    np.testing.assert_array_equal(mesh.index(points), voxels)


def test_a_mesh_that_cannot_tell_where_in_its_cells() -> None:
    mesh = RaggedCylinderMesh((RaggedLayer(0, 3, (0.0, 1.0)),))
    with pytest.raises(MeshError, match="has no z_edges"):
        mesh.points(np.zeros(1, dtype=np.int64), np.full((1, 3), 0.5))
