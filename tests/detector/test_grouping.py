"""Laws of groupings: parts tile both meshes, and their energies follow from showers binned both ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detector import BoxMesh, CylinderMesh, calochallenge_mesh
from caloforge.detector.grouping import Grouping
from caloforge.errors import MeshError

CYLINDER = CylinderMesh.regular(n_z=10, n_phi=4, n_r=3)
BOX = BoxMesh.regular((4, 6, 6), (3.0, 5.0, 5.0))
NESTED = [
    Grouping.by_factors(CYLINDER, (5, 2, 1)),
    Grouping.by_factors(CYLINDER, (1, 4, 3)),
    Grouping.by_factors(CYLINDER, (1, 1, 1)),
    Grouping.by_factors(BOX, (2, 3, 2)),
    Grouping.by_shape(CYLINDER, (5, 2, 3)),
    Grouping.by_shape(BOX, (2, 3, 2)),
]
SETS_2_3 = Grouping.by_shape(calochallenge_mesh("3"), (45, 16, 9))


def random_showers(shape, n=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(n, *shape)) * (rng.random((n, *shape)) < 0.3)


def binned_both_ways(grouping, n_points, n=3, seed=0):
    """The same random deposits in the fine and in the coarse mesh."""
    rng = np.random.default_rng(seed)
    fine, coarse = [], []
    for _ in range(n):
        depth = rng.uniform(0, grouping.fine.z_edges[-1], n_points)
        phi, r = rng.uniform(-np.pi, np.pi, n_points), rng.exponential(8.0, n_points)
        points = np.stack([r * np.cos(phi), r * np.sin(phi), depth], axis=1)
        energies = rng.exponential(size=n_points)
        fine.append(grouping.fine.score(points, energies).reshape(grouping.fine.shape))
        coarse.append(grouping.coarse.score(points, energies).reshape(grouping.coarse.shape))
    return np.stack(fine), np.stack(coarse)


@pytest.mark.parametrize("grouping", NESTED, ids=str)
def test_nested_parts_are_the_fine_cells(grouping):
    showers = random_showers(grouping.fine.shape)
    parts = grouping.gather(showers)
    assert parts.shape == (len(showers), grouping.coarse.n_voxels, grouping.slots)
    np.testing.assert_array_equal(grouping.scatter(parts), showers)
    np.testing.assert_allclose(parts.sum(axis=2).reshape(-1, *grouping.coarse.shape), grouping.sum(showers))
    np.testing.assert_allclose(
        grouping.sum(showers), grouping.fine.coarsen(showers, grouping.factors), rtol=1e-12
    )
    assert sorted(grouping.slot_cells.ravel()) == list(range(grouping.fine.n_voxels))


@pytest.mark.parametrize("grouping", NESTED, ids=str)
def test_a_fine_cell_lies_in_its_coarse_cell(grouping):
    where = grouping.fine.centres()
    z = np.broadcast_to(where.get("z"), grouping.fine.n_voxels)
    owner = grouping.coarse.index(np.stack([where["x"], where["y"], z], axis=1))
    expected = np.empty(grouping.fine.n_voxels, dtype=int)
    expected[grouping.slot_cells] = np.arange(grouping.coarse.n_voxels)[:, None]
    np.testing.assert_array_equal(owner, expected)


def test_the_pair_of_calochallenge_sets():
    assert SETS_2_3.coarse == calochallenge_mesh("2")
    assert SETS_2_3.factors == (1, 4, 2)
    assert SETS_2_3.mask.all()
    assert not SETS_2_3.nested
    assert len(set(SETS_2_3.phases)) == 8
    np.testing.assert_array_equal(SETS_2_3.phases[:8], SETS_2_3.phases[8:])


def test_energies_of_parts_are_exact_for_sets_2_and_3():
    fine, coarse = binned_both_ways(SETS_2_3, 400)
    parts = SETS_2_3.gather(fine, coarse)
    assert parts.min() >= 0
    np.testing.assert_allclose(SETS_2_3.scatter(parts), fine, atol=1e-12)
    np.testing.assert_allclose(parts.sum(axis=2).reshape(coarse.shape), coarse, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(n_fine=st.integers(1, 12), n_coarse=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_energies_of_parts_are_exact_for_any_bins_in_phi(n_fine, n_coarse, seed):
    mesh = CylinderMesh.regular(n_z=2, n_phi=n_fine, n_r=4, dr=10.0)
    grouping = Grouping.by_shape(mesh, (2, n_coarse, 2))
    fine, coarse = binned_both_ways(grouping, 60, seed=seed)
    parts = grouping.gather(fine, coarse)
    assert parts.min() >= 0
    assert (parts[:, ~grouping.mask] == 0).all()
    np.testing.assert_allclose(grouping.scatter(parts), fine, atol=1e-9)
    np.testing.assert_allclose(parts.sum(axis=2).reshape(coarse.shape), coarse, atol=1e-9)


def test_parts_stay_legal_where_cells_were_cut():
    """Fine cells always keep their energy, also where the coarse showers hold more or less than they do."""
    fine, coarse = binned_both_ways(SETS_2_3, 400)
    cut = np.where(fine > 0.5, fine, 0)
    for given_energies in (coarse, 0.8 * coarse):
        parts = SETS_2_3.gather(cut, given_energies)
        assert parts.min() >= 0
        np.testing.assert_allclose(SETS_2_3.scatter(parts), cut, atol=1e-12)


def test_an_estimate_needs_no_coarse_showers():
    fine, _ = binned_both_ways(SETS_2_3, 400)
    guess = SETS_2_3.estimate(fine)
    np.testing.assert_allclose(guess.sum(axis=(1, 2, 3)), fine.sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(guess[:, :, :8].sum(axis=(2, 3)), fine[:, :, :25].sum(axis=(2, 3)))
    uniform = SETS_2_3.estimate(np.ones((1, *SETS_2_3.fine.shape)))
    np.testing.assert_allclose(uniform, 2 * 50 / 16)


@pytest.mark.parametrize("grouping", [NESTED[0], SETS_2_3], ids=str)
def test_a_description_brings_it_back(grouping):
    assert Grouping.from_dict(grouping.to_dict()) == grouping
    with pytest.raises(MeshError, match="'fine' and a 'coarse'"):
        Grouping.from_dict({"fine": grouping.fine.to_dict()})


def test_what_does_not_fit_is_refused():
    with pytest.raises(MeshError, match="does not divide"):
        Grouping.by_factors(CYLINDER, (3, 1, 1))
    with pytest.raises(MeshError, match="does not nest"):
        Grouping.by_shape(CYLINDER, (4, 2, 3))
    with pytest.raises(MeshError, match="axis 2"):
        Grouping(CYLINDER, CylinderMesh.regular(n_z=10, n_phi=4, n_r=3, dr=5.0))
    with pytest.raises(MeshError, match="same kind"):
        Grouping(CYLINDER, BOX)
    with pytest.raises(MeshError, match="three axes"):
        Grouping.by_factors(calochallenge_mesh("1-photons"), (1, 1, 1))
    with pytest.raises(MeshError, match="straddle"):
        SETS_2_3.sum(np.zeros((1, *SETS_2_3.fine.shape)))
    with pytest.raises(MeshError, match="give the coarse energies"):
        SETS_2_3.gather(np.zeros((1, *SETS_2_3.fine.shape)))
    with pytest.raises(MeshError, match="do not fit"):
        NESTED[0].gather(np.zeros((1, 2, 3, 4)))
