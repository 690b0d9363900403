"""Cluster observables: known blobs, mirrors, turns and shifts, on images and on layered meshes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, calochallenge_mesh
from caloforge.evaluation.binning import log_edges
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.histograms import CellCounts, fill_histogram
from caloforge.evaluation.physics import (
    ClusterObservables,
    depth_of_maximum,
    longitudinal_observables,
    observable_plans,
    sparsity_profile,
)

IMAGE = BoxMesh.regular((1, 30, 30), (400.0, 20.0, 20.0), frame="detector")
Floats = NDArray[np.float64]


def observe(
    mesh: Mesh, cells: NDArray[np.floating], conditions: Conditions, depth_mm: float = 0.0
) -> dict[str, Floats]:
    visit = ClusterObservables(mesh, depth_mm)
    visit(0, np.asarray(cells, dtype=np.float32).reshape(len(cells), mesh.n_voxels), conditions)
    return visit.columns()


def blob(
    centre: tuple[float, float],
    widths: tuple[float, float] = (50.0, 50.0),
    turn: float = 0.0,
    mesh: Mesh = IMAGE,
) -> NDArray[np.float32]:
    """One image (1, V) with a Gaussian of these widths along and across the azimuth ``turn``, mm and rad."""
    places = mesh.centres()
    x, y = places["x"] - centre[0], places["y"] - centre[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    return np.exp(-0.5 * ((along / widths[0]) ** 2 + (across / widths[1]) ** 2)).astype(np.float32)[None]


def test_centroid_shift_is_the_known_shift() -> None:
    conditions = Conditions([1e4], theta=0.3, phi=0.7, impact=[30.0, -20.0])
    along, across = np.array([np.cos(0.7), np.sin(0.7)]), np.array([-np.sin(0.7), np.cos(0.7)])
    for depth in (0.0, 125.0):
        point = np.array([30.0, -20.0]) + depth * np.tan(0.3) * along
        centre = point + 17.0 * along - 9.0 * across
        found = observe(IMAGE, blob((centre[0], centre[1])), conditions, depth)
        assert found["centroid_shift_longitudinal"] == pytest.approx([17.0], abs=0.05)
        assert found["centroid_shift_transverse"] == pytest.approx([-9.0], abs=0.05)


def test_widths_are_along_and_across_the_direction() -> None:
    for turn in (0.0, 0.9, np.pi / 2, -2.5):
        found = observe(IMAGE, blob((0, 0), (60.0, 35.0), turn), Conditions([1e4], theta=0.2, phi=turn))
        assert found["cluster_width_longitudinal"] == pytest.approx([60.0], rel=0.01)
        assert found["cluster_width_transverse"] == pytest.approx([35.0], rel=0.01)


def test_asymmetry_is_that_of_the_energies_ahead_and_behind() -> None:
    cells = np.zeros((1, 30, 30))
    cells[0, 14, 20], cells[0, 16, 5] = 3.0, 1.0  # ahead and on the right; behind and on the left
    found = observe(IMAGE, cells, Conditions([1e4], theta=0.1, phi=0.0))
    assert found["asymmetry_longitudinal"] == pytest.approx([0.5])
    assert found["asymmetry_transverse"] == pytest.approx([-0.5])


def test_mirroring_flips_the_signs() -> None:
    rng = np.random.default_rng(0)
    image = rng.exponential(1.0, (5, 30, 30))
    conditions = Conditions(np.full(5, 1e4), theta=0.0)
    original = observe(IMAGE, image, conditions)
    in_x, in_y = observe(IMAGE, image[:, :, ::-1], conditions), observe(IMAGE, image[:, ::-1], conditions)
    for name in ("asymmetry", "centroid_shift"):
        along, across = f"{name}_longitudinal", f"{name}_transverse"
        assert in_x[along] == pytest.approx(-original[along], abs=1e-6)
        assert in_x[across] == pytest.approx(original[across], abs=1e-6)
        assert in_y[along] == pytest.approx(original[along], abs=1e-6)
        assert in_y[across] == pytest.approx(-original[across], abs=1e-6)
    for name in ("cluster_width_longitudinal", "cluster_width_transverse", "containment_radius"):
        assert in_x[name] == pytest.approx(original[name], rel=1e-6)


def test_turning_image_and_direction_together_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    image = rng.exponential(1.0, (4, 30, 30)).astype(np.float32)
    impact = rng.uniform(-100, 100, (4, 2))
    phi = rng.uniform(-3, 3, 4)
    turned_impact = np.stack([-impact[:, 1], impact[:, 0]], axis=1)
    first = observe(IMAGE, image, Conditions(np.full(4, 1e4), 0.3, phi, impact=impact), 100.0)
    turned = np.rot90(image, k=-1, axes=(1, 2))  # y is the first axis: this turns x into y
    second = observe(
        IMAGE, turned, Conditions(np.full(4, 1e4), 0.3, phi + np.pi / 2, impact=turned_impact), 100.0
    )
    for name, values in first.items():
        assert second[name] == pytest.approx(values, abs=1e-5), name


def test_a_cell_on_the_border_is_on_neither_side() -> None:
    cells = np.zeros((1, 3, 3))
    cells[0, 1, 1], cells[0, 1, 2] = 6.0, 2.0
    mesh = BoxMesh.regular((1, 3, 3), (1.0, 1.0, 1.0), frame="detector")
    found = observe(mesh, cells, Conditions([1e4], theta=0.0))
    assert found["asymmetry_longitudinal"] == pytest.approx([0.25])
    assert found["asymmetry_transverse"] == pytest.approx([0.0])


def test_squares_hold_the_energy_around_the_cell_that_the_trajectory_points_at() -> None:
    image = np.random.default_rng(2).exponential(1.0, (3, 30, 30)).astype(np.float32)
    impact = np.array([[31.0, -7.0], [295.0, 5.0], [400.0, 0.0]])  # within, next to an edge, outside
    conditions = Conditions([1e3, 2e3, 1e3], theta=[0.3, 0.0, 0.0], phi=0.0, impact=impact)
    found = observe(IMAGE, image, conditions, 100.0)
    x = int((31.0 + 100.0 * np.tan(0.3) + 300.0) // 20.0)
    for side in (1, 3, 5, 9):
        h = side // 2
        expected = [
            image[0, 14 - h : 15 + h, x - h : x + h + 1].sum() / 1e3,
            image[1, 15 - h : 16 + h, 29 - h :].sum() / 2e3,
            np.nan,
        ]
        assert found[f"square_{side}"] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    follows = BoxMesh.regular((1, 30, 30), (400.0, 20.0, 20.0))
    assert not any(name.startswith("square") for name in observe(follows, image, conditions))


def test_a_direction_that_cannot_hit_the_face_is_normal_incidence() -> None:
    image = blob((25.0, 10.0))
    unknown = observe(IMAGE, image, Conditions([1e4], phi=1.0), 200.0)  # θ = π/2 by default
    normal = observe(IMAGE, image, Conditions([1e4], theta=0.0), 200.0)
    for name, values in normal.items():
        assert unknown[name] == pytest.approx(values)
    assert normal["centroid_shift_longitudinal"] == pytest.approx([25.0], abs=0.05)


def test_layers_are_summed_over_the_depth(make: Callable[..., Showers]) -> None:
    deep = BoxMesh.regular((6, 7, 9), (2.0, 3.0, 4.0), frame="detector")
    flat = BoxMesh.regular((1, 7, 9), (12.0, 3.0, 4.0), frame="detector")
    showers = make(deep)
    conditions = Conditions(showers.conditions.energy, theta=0.4, phi=np.linspace(-3, 3, 60))
    first = observe(deep, showers.energies, conditions, 5.0)
    second = observe(flat, showers.energies.sum(axis=1), conditions, 5.0)
    for name, values in first.items():
        assert second[name] == pytest.approx(values, abs=1e-4)


def test_on_a_mesh_that_follows_the_particle_the_trajectory_is_its_axis() -> None:
    mesh = BoxMesh.regular((3, 15, 15), (5.0, 4.0, 4.0))
    image = blob((6.0, 0.0), (6.0, 4.0), mesh=mesh)
    for theta, phi, expected in ((0.0, 1.0, 6.0), (0.3, 0.0, 6.0), (0.3, np.pi, -6.0), (0.3, np.pi / 2, 0.0)):
        conditions = Conditions([1e4], theta, phi, impact=[20.0, 5.0])
        found = observe(mesh, image, conditions, 50.0)["centroid_shift_longitudinal"]
        assert found == pytest.approx([expected], abs=0.05)
    round_mesh = CylinderMesh.regular(n_z=3)
    image = blob((6.0, 0.0), (6.0, 4.0), mesh=round_mesh)
    shifts = [
        observe(round_mesh, image, Conditions([1e4], 1.2, phi))["centroid_shift_longitudinal"]
        for phi in (0.0, 2.0)
    ]
    assert shifts[0] == shifts[1]


def test_batches_do_not_matter(mesh: Mesh, make: Callable[..., Showers]) -> None:
    showers = make(mesh)
    visits = ClusterObservables(mesh), ClusterObservables(mesh)
    for visit, size in zip(visits, (60, 7), strict=True):
        compute_features(showers, batch_size=size, visitors=[visit])
    first, second = (visit.columns() for visit in visits)
    assert set(first) == set(second)
    for name, values in first.items():
        assert values.shape == (60,)
        assert np.isfinite(values).all()
        assert second[name] == pytest.approx(values, rel=1e-12, abs=1e-12)


def test_containment_radius_of_known_rings() -> None:
    mesh = CylinderMesh.regular(n_z=2, n_phi=8, n_r=3, dr=10.0)
    cells = np.zeros((2, *mesh.shape))
    cells[0, :, :, 0], cells[0, :, :, 1] = 8.0, 2.0
    cells[1, 0, 3, 0] = 5.0
    found = observe(mesh, cells, Conditions([1e4, 1e4]))["containment_radius"]
    assert found == pytest.approx([15.0, 9.0])


def test_containment_radius_of_an_even_disc() -> None:
    fine = BoxMesh.regular((1, 81, 81), (1.0, 1.0, 1.0))
    r = np.hypot(fine.centres()["x"], fine.centres()["y"])
    disc = (r < 30.0).astype(np.float32)[None]
    assert observe(fine, disc, Conditions([1e4]))["containment_radius"] == pytest.approx(
        [30 * np.sqrt(0.9)], abs=0.5
    )
    fixed = BoxMesh.regular((1, 81, 81), (1.0, 1.0, 1.0), frame="detector")
    moved = np.roll(disc.reshape(81, 81), (4, -7), axis=(0, 1)).reshape(1, -1)
    found = observe(fixed, moved, Conditions([1e4], 0.0, impact=[-7.0, 4.0]))["containment_radius"]
    assert found == pytest.approx([30 * np.sqrt(0.9)], abs=0.5)


@pytest.mark.parametrize("data_set", ["1-photons", "1-pions"])
def test_layers_without_azimuth_tell_no_sides(data_set: str) -> None:
    mesh = calochallenge_mesh(data_set)
    rng = np.random.default_rng(0)
    cells = rng.exponential(1.0, (20, mesh.n_voxels))
    original = observe(mesh, cells, Conditions(np.full(20, 1e4)))
    rings = np.isin(mesh.voxel_layers, [0, 3])  # a single azimuthal bin each
    changed = np.where(rings, 100 * cells, cells)
    found = observe(mesh, changed, Conditions(np.full(20, 1e4)))
    assert found["asymmetry_longitudinal"] == pytest.approx(original["asymmetry_longitudinal"])
    assert (found["containment_radius"] != original["containment_radius"]).all()
    even = observe(mesh, np.ones((1, mesh.n_voxels)), Conditions([1e4]))
    assert even["asymmetry_longitudinal"] == pytest.approx([0.0], abs=1e-9)  # bins that straddle the border
    assert even["asymmetry_transverse"] == pytest.approx([0.0], abs=1e-9)


def test_one_cell_a_layer_has_a_radius_only() -> None:
    mesh = BoxMesh.regular((4, 1, 1), (1.0, 5.0, 5.0))
    assert set(observe(mesh, np.ones((2, 4)), Conditions([1e4, 1e4]))) == {"containment_radius"}


def test_empty_showers_are_nan_and_left_out_of_histograms() -> None:
    cells = np.concatenate([np.zeros((1, 900)), blob((10.0, 0.0)), blob((0.0, 5.0))])
    found = observe(IMAGE, cells, Conditions(np.full(3, 1e4), theta=0.0))
    for values in found.values():
        assert np.isnan(values).tolist() == [True, False, False]
    for plan in observable_plans(found, found, IMAGE):
        assert [len(v) for v in plan.values] == [2, 2]


def test_depth_of_maximum_where_it_matters() -> None:
    fixed = BoxMesh.regular((5, 2, 2), (10.0, 1.0, 1.0), frame="detector")
    cells = np.ones((30, *fixed.shape))
    cells[:, 3] = 2.0
    assert depth_of_maximum(Showers(cells, Conditions(np.full(30, 1e4)), fixed)) == pytest.approx(35.0)
    follows = BoxMesh.regular((5, 2, 2), (10.0, 1.0, 1.0))
    assert depth_of_maximum(Showers(cells, Conditions(np.full(30, 1e4)), follows)) == 0.0
    assert depth_of_maximum(Showers(np.ones((9, 900)), Conditions(np.full(9, 1e4)), IMAGE)) == 0.0


def test_depth_in_an_image_comes_from_inclined_showers() -> None:
    rng = np.random.default_rng(0)
    n = 700
    impact, theta, phi = rng.uniform(-60, 60, (n, 2)), rng.uniform(0.1, 0.4, n), rng.uniform(-3, 3, n)
    lean = np.tan(theta)[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    centre = impact + 130.0 * lean + rng.normal(0, 5.0, (n, 2))
    image = np.concatenate([blob((x, y), (40.0, 40.0)) for x, y in centre])
    showers = Showers(image, Conditions(np.full(n, 1e4), theta, phi, impact=impact), IMAGE)
    assert depth_of_maximum(showers) == pytest.approx(130.0, abs=5.0)
    upright = Conditions(np.full(n, 1e4), 0.0, phi, impact=impact)
    assert depth_of_maximum(Showers(image, upright, IMAGE)) == 0.0
    assert depth_of_maximum(Showers(np.zeros_like(image), showers.conditions, IMAGE)) == 0.0


def test_plans_on_any_mesh(mesh: Mesh, make: Callable[..., Showers]) -> None:
    observed = []
    for seed in (0, 1):
        visit = ClusterObservables(mesh)
        features = compute_features(make(mesh, seed=seed), visitors=[visit])
        observed.append(longitudinal_observables(features) | visit.columns())
    plans = observable_plans(observed[0], observed[1], mesh)
    assert {plan.name for plan in plans} == set(observed[0])
    assert len(plans) == (10 if mesh.n_layers >= 3 else 7)
    for plan in plans:
        histogram = fill_histogram(plan, seed=0)
        assert histogram.reference.sum() > 50
        assert plan.label.endswith("]") or plan.name.startswith("asymmetry")
    for plan in observable_plans(observed[0], observed[0], mesh):
        assert fill_histogram(plan, seed=0).separation.value == 0.0


def test_bins_come_from_the_reference_alone() -> None:
    rng = np.random.default_rng(0)
    reference = {"shower_max": rng.normal(50.0, 5.0, 5000)}
    far = {"shower_max": np.full(100, 1e6)}
    plan = observable_plans(reference, far, CylinderMesh.regular())[0]
    assert 20.0 < plan.edges[0] < 40.0 < 60.0 < plan.edges[-1] < 80.0
    assert fill_histogram(plan, seed=0).generated_outside == (0.0, 1.0)
    constant = {"shower_max": np.full(100, 3.0)}
    assert observable_plans(constant, constant, CylinderMesh.regular())[0].edges[0] < 3.0


def test_sparsity_is_the_fraction_of_cells_above_each_threshold(make: Callable[..., Showers]) -> None:
    mesh = CylinderMesh.regular(n_z=4, n_phi=8, n_r=3)
    samples = make(mesh, n=80), make(mesh, n=50, seed=1)
    cells = [s.energies.reshape(len(s), -1) for s in samples]
    largest = float(cells[0].max()) * 0.8  # a few cells lie beyond the last edge
    counts = []
    for showers in samples:
        count = CellCounts(log_edges(1.0, largest, 50))
        compute_features(showers, visitors=[count])
        counts.append(count)
    profile = sparsity_profile(counts[0], counts[1], mesh.n_voxels)
    assert profile.positions.shape == (25,)
    assert (np.diff(profile.edges) > 0).all()
    assert ((profile.edges[:-1] < profile.positions) & (profile.positions < profile.edges[1:])).all()
    for values, found in zip(cells, (profile.reference, profile.generated), strict=True):
        expected = [(values >= t).mean() for t in profile.positions]
        assert found == pytest.approx(expected, rel=1e-6)
    fractions = (cells[0] >= profile.positions[0]).mean(axis=1)
    assert profile.reference_error[0] == pytest.approx(fractions.std() / np.sqrt(80), rel=0.05)
