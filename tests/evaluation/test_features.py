"""Features against their definitions written as plain loops, and laws that follow from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh, Mesh, calochallenge_mesh
from caloforge.errors import DataError
from caloforge.evaluation import compute_features
from caloforge.evaluation.features import FeatureMaker, read_ahead

EPSILON = 1e-16
Make = Callable[..., Showers]


def by_loops(showers: Showers) -> dict[str, list[float]]:
    """The definitions, cell by cell."""
    mesh = showers.mesh
    centres = mesh.centres()
    cylinder = "phi" in centres
    radius = centres["r"] if cylinder else np.hypot(centres["x"], centres["y"])
    axes = {"eta" if cylinder else "x": centres["x"], "phi" if cylinder else "y": centres["y"], "r": radius}
    result: dict[str, list[float]] = {}
    for shower, incident in zip(showers.energies, showers.conditions.energy, strict=True):
        cells = shower.ravel().astype(float)
        result.setdefault("e_ratio", []).append(sum(cells) / incident)
        for position, number in enumerate(mesh.layer_numbers):
            inside = [v for v in range(mesh.n_voxels) if mesh.voxel_layers[v] == position]
            energy = sum(cells[v] for v in inside)
            result.setdefault(f"e_layer_{number}", []).append(energy)
            lit = sum(1 for v in inside if cells[v] > 0)
            result.setdefault(f"sparsity_{number}", []).append(1 - lit / len(inside))
            for axis, where in axes.items():
                if axis != "r" and cylinder and len({centres["phi"][v] for v in inside}) == 1:
                    continue
                mean = sum(where[v] * cells[v] for v in inside) / (energy + EPSILON)
                square = sum(where[v] ** 2 * cells[v] for v in inside) / (energy + EPSILON)
                result.setdefault(f"ec_{axis}_{number}", []).append(mean)
                result.setdefault(f"width_{axis}_{number}", []).append(max(0.0, square - mean**2) ** 0.5)
    return result


def test_features_agree_with_plain_loops_on_every_mesh(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=12)
    columns, expected = compute_features(showers).columns(), by_loops(showers)
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-9, atol=1e-6, err_msg=name)


def test_set_1_has_eta_and_phi_only_in_layers_with_several_phi_bins(make: Make) -> None:
    features = compute_features(make(calochallenge_mesh("1-pions"), n=3))
    assert features.layers_of("ec_eta") == (1, 2, 12, 13)
    assert features.layers_of("ec_r") == (0, 1, 2, 3, 12, 13, 14)


def test_batch_size_does_not_matter(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=23)
    whole, small = compute_features(showers).columns(), compute_features(showers, batch_size=4).columns()
    for name in whole:
        np.testing.assert_allclose(small[name], whole[name], rtol=1e-12, atol=1e-6, err_msg=name)


def test_a_scaled_layer_changes_its_energy_and_nothing_about_its_shape(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=10)
    scaled = showers.energies.reshape(10, -1).copy()
    scaled[:, mesh.voxel_layers == 1] *= np.float32(1.01)
    before = compute_features(showers).columns()
    after = compute_features(Showers(scaled, showers.conditions, mesh)).columns()
    layer = mesh.layer_numbers[1]
    for name in before:
        factor = 1.01 if name == f"e_layer_{layer}" else 1.0
        if name != "e_ratio":
            np.testing.assert_allclose(after[name], factor * before[name], rtol=2e-6, atol=1e-4, err_msg=name)
    assert after["e_ratio"].mean() > before["e_ratio"].mean()


def test_a_turn_by_one_phi_bin_turns_the_centres_of_energy(make: Make) -> None:
    mesh = CylinderMesh.regular(n_z=3, n_phi=16, n_r=4)
    showers = make(mesh, n=10)
    turned = Showers(np.roll(showers.energies, 1, axis=2), showers.conditions, mesh)
    before, after = compute_features(showers), compute_features(turned)
    angle = 2 * np.pi / 16
    eta, phi = before.centre["eta"], before.centre["phi"]
    np.testing.assert_allclose(after.centre["eta"], eta * np.cos(angle) - phi * np.sin(angle), atol=1e-4)
    np.testing.assert_allclose(after.centre["phi"], eta * np.sin(angle) + phi * np.cos(angle), atol=1e-4)
    np.testing.assert_allclose(after.centre["r"], before.centre["r"], atol=1e-4)
    np.testing.assert_allclose(after.sparsity, before.sparsity)


def test_an_empty_shower_has_centres_and_widths_of_zero_and_full_sparsity(mesh: Mesh) -> None:
    showers = Showers(np.zeros((2, mesh.n_voxels)), Conditions([1000.0, 2000.0]), mesh)
    for name, values in compute_features(showers).columns().items():
        assert (values == (1.0 if name.startswith("sparsity") else 0.0)).all(), name


def test_visitors_see_every_shower_once_and_none_is_fine(mesh: Mesh, make: Make) -> None:
    showers, seen = make(mesh, n=11), []
    compute_features(showers, batch_size=4, visitors=[lambda start, e, inc: seen.append((start, len(e)))])
    assert seen == [(0, 4), (4, 4), (8, 3)]
    assert len(compute_features(showers[:0])) == 0


def test_nan_is_refused_where_it_is_read(mesh: Mesh) -> None:
    with pytest.raises(DataError, match="shower 1, voxel 0 is nan"):
        Showers(np.array([[1.0] * mesh.n_voxels, [np.nan] * mesh.n_voxels]), Conditions([1e3, 1e3]), mesh)


def test_large_features_lie_in_a_file_and_are_the_same(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=30)
    in_memory, in_file = compute_features(showers), compute_features(showers, memory_limit=0)
    base = in_file.e_layer.base
    assert isinstance(base, np.memmap) or isinstance(getattr(base, "base", None), np.memmap)
    for name, values in in_memory.columns().items():
        np.testing.assert_array_equal(in_file.columns()[name], values, err_msg=name)
        assert values.flags.c_contiguous


def test_a_full_temporary_folder_is_an_error(mesh: Mesh) -> None:
    with pytest.raises(DataError, match="TMPDIR"):
        FeatureMaker(mesh).empty(10**14, memory_limit=0)


def test_reading_ahead_gives_every_batch_in_order_and_passes_errors_on(mesh: Mesh, make: Make) -> None:
    showers = make(mesh, n=23)
    flat = showers.energies.reshape(23, -1)
    batches = list(read_ahead(showers, 5))
    assert [len(c) for _, c in batches] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate([e for e, _ in batches]), flat)

    class Damaged:
        def __len__(self) -> int:
            return 23

        def read(self, start: int, stop: int) -> np.ndarray:
            if start >= 10:
                raise DataError("showers 10 to 14 are unreadable")
            return flat[start:stop]

    with pytest.raises(DataError, match="10 to 14"):
        compute_features(Showers(Damaged(), showers.conditions, mesh), batch_size=5)
