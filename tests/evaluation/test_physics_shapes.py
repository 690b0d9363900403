"""Shower start, maximum and length: known profiles and the laws they obey."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedCylinderMesh,
    RaggedLayer,
    calochallenge_mesh,
)
from caloforge.evaluation.features import Features, compute_features
from caloforge.evaluation.physics import longitudinal_observables
from caloforge.evaluation.physics.shapes import depth_at_share, layer_depths

TEN_LAYERS = BoxMesh.regular((10, 1, 1), (2.0, 1.0, 1.0))
MANY_LAYERS = BoxMesh.regular((40, 1, 1), (3.0, 1.0, 1.0))


def features_of(profiles: NDArray[np.float64], mesh: Mesh) -> Features:
    """Features of showers with these energies per layer, (N, Z), in the first cell of each layer."""
    cells = np.zeros((len(profiles), mesh.n_voxels), dtype=np.float32)
    cells[:, mesh.layer_offsets[:-1]] = profiles
    return compute_features(Showers(cells, Conditions(np.full(len(cells), 1e4)), mesh))


def bell(peak: NDArray[np.float64], width: float = 20.0) -> NDArray[np.float64]:
    """Profiles in 40 layers of 3 mm that are largest at ``peak`` (N,), mm."""
    depth = 1.5 + 3.0 * np.arange(40)
    return np.asarray(np.exp(-0.5 * ((depth - peak[:, None]) / width) ** 2))


def test_even_profile() -> None:
    found = longitudinal_observables(features_of(np.ones((1, 10)), TEN_LAYERS))
    assert found["shower_start"] == pytest.approx([1.0])
    assert found["shower_length"] == pytest.approx([18.0])


def test_all_energy_in_one_layer() -> None:
    profile = np.zeros((1, 10))
    profile[0, 4] = 7.0  # from 8 to 10 mm
    found = longitudinal_observables(features_of(profile, TEN_LAYERS))
    assert found["shower_start"] == pytest.approx([8.1])
    assert found["shower_length"] == pytest.approx([1.8])
    assert found["shower_max"] == pytest.approx([9.0])


def test_the_maximum_lies_between_layers() -> None:
    peak = np.linspace(30.0, 90.0, 61)
    found = longitudinal_observables(features_of(bell(peak), MANY_LAYERS))["shower_max"]
    assert found == pytest.approx(peak, abs=0.1)


def test_the_maximum_of_a_noisy_profile_is_not_biased() -> None:
    rng = np.random.default_rng(3)
    peak = rng.uniform(40.0, 80.0, 2000)
    noisy = bell(peak) * rng.gamma(20.0, 1 / 20.0, (2000, 40))
    difference = longitudinal_observables(features_of(noisy, MANY_LAYERS))["shower_max"] - peak
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(2000)
    unsmoothed = 1.5 + 3.0 * noisy.argmax(axis=1) - peak
    assert difference.std() < 0.95 * unsmoothed.std()


def test_a_later_shower_has_a_later_start_and_maximum_and_the_same_length() -> None:
    peak = np.full(1, 50.0)
    first, later = (
        longitudinal_observables(features_of(bell(p, 9.0), MANY_LAYERS)) for p in (peak, peak + 9)
    )
    assert later["shower_start"] - first["shower_start"] == pytest.approx([9.0], abs=1e-3)
    assert later["shower_max"] - first["shower_max"] == pytest.approx([9.0], abs=1e-3)
    assert later["shower_length"] == pytest.approx(first["shower_length"], abs=1e-3)


def test_the_energy_scale_does_not_matter() -> None:
    peak = np.array([45.0, 70.0])
    first, second = (longitudinal_observables(features_of(k * bell(peak), MANY_LAYERS)) for k in (1.0, 1e3))
    for name, values in first.items():
        assert second[name] == pytest.approx(values, rel=1e-5)


def test_thick_layers_count_by_their_energy_per_depth() -> None:
    mesh = BoxMesh((0.0, 1.0, 2.0, 3.0, 13.0), (0.0, 1.0), (0.0, 1.0))
    found = longitudinal_observables(features_of(np.array([[1.0, 3.0, 1.0, 5.0]]), mesh))
    assert found["shower_max"] == pytest.approx([1.5])


def test_a_maximum_at_either_end_is_the_middle_of_that_layer() -> None:
    falling = np.arange(10.0, 0.0, -1.0)
    found = longitudinal_observables(features_of(np.stack([falling, falling[::-1]]), TEN_LAYERS))
    assert found["shower_max"] == pytest.approx([1.0, 19.0])


def test_empty_showers_have_no_shape(make: Callable[..., Showers]) -> None:
    profiles = np.stack([np.zeros(10), np.ones(10)])
    for values in longitudinal_observables(features_of(profiles, TEN_LAYERS)).values():
        assert np.isnan(values).tolist() == [True, False]


def test_an_image_has_no_depth() -> None:
    mesh = BoxMesh.regular((1, 5, 5), (400.0, 10.0, 10.0), frame="detector")
    assert longitudinal_observables(features_of(np.ones((2, 1)), mesh)) == {}


def test_depths_are_layers_where_the_mesh_does_not_know_them() -> None:
    depths, unit = layer_depths(calochallenge_mesh("1-photons"))
    assert unit == "layers"
    assert depths[-1].tolist() == [3.5, 4.5]  # the detector calls it layer 12
    depths, unit = layer_depths(CylinderMesh.regular(n_z=2, dz=3.4))
    assert (depths.tolist(), unit) == ([[0.0, 3.4], [3.4, 6.8]], "mm")


def test_gaps_between_layers_hold_no_energy() -> None:
    mesh = RaggedCylinderMesh(tuple(RaggedLayer(i, 1, (0, 10), (10.0 * i, 10.0 * i + 4.0)) for i in range(3)))
    assert layer_depths(mesh)[1] == "mm"
    found = longitudinal_observables(features_of(np.array([[1.0, 1.0, 1.0]]), mesh))
    assert found["shower_start"] == pytest.approx([0.6])
    assert found["shower_length"] == pytest.approx([24.0 - 0.6 - 0.6])


def test_the_whole_share_is_reached_at_the_last_energy() -> None:
    edges = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    assert depth_at_share(np.array([[1.0, 1.0, 0.0]]), edges, 1.0) == pytest.approx([2.0])


def test_any_mesh(mesh: Mesh, make: Callable[..., Showers]) -> None:
    found = longitudinal_observables(compute_features(make(mesh)))
    depths, _ = layer_depths(mesh)
    if mesh.n_layers < 3:
        assert found == {}
        return
    assert set(found) == {"shower_start", "shower_max", "shower_length"}
    for name in ("shower_start", "shower_max"):
        assert found[name].shape == (60,)
        assert (found[name] >= depths[0, 0]).all()
        assert (found[name] <= depths[-1, 1]).all()
    assert (found["shower_length"] > 0).all()
