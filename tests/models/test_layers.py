"""Closure: each layer gets exactly its energy and no cell stays under the threshold, ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from caloforge.detector.mesh import BoxMesh, CylinderMesh, Mesh, RaggedCylinderMesh, RaggedLayer
from caloforge.errors import MeshError, RecipeError
from caloforge.models.coordinates import Layers, block_sums, renormalise_layers

T = 0.0151515
CYLINDER = CylinderMesh.regular(n_z=3, n_phi=4, n_r=2)
BOX = BoxMesh.regular((3, 3, 3), (1.0, 2.0, 2.0))
RAGGED = RaggedCylinderMesh(
    (RaggedLayer(0, 1, (0, 1)), RaggedLayer(2, 3, (0, 1, 2, 3)), RaggedLayer(3, 2, (1, 2, 3, 4)))
)
MESHES: list[Mesh] = [CYLINDER, BOX, RAGGED]

ABOVE = st.floats(float(np.float32(T)), 1e6, width=32)
cell = st.one_of(st.just(0.0), st.floats(0, 2.0**100, width=32), st.floats(0, 1, width=32))
layer_energy = st.one_of(st.just(0.0), ABOVE, st.floats(0, 0.125, width=32))


@st.composite
def proposals(draw: st.DrawFn) -> tuple[Mesh, Tensor, Tensor]:
    """A mesh, tentative voxel energies (n, V) and layer energies (n, Z), float32, of any size."""
    mesh = draw(st.sampled_from(MESHES))
    n = draw(st.integers(1, 3))
    voxels = draw(arrays(np.float32, (n, mesh.n_voxels), elements=cell))
    energies = draw(arrays(np.float32, (n, mesh.n_layers), elements=layer_energy))
    return mesh, torch.from_numpy(voxels), torch.from_numpy(energies)


@settings(max_examples=120, deadline=None)
@given(proposals(), st.sampled_from([0.0, T, 1.0]))
def test_layers_close_and_cells_keep_the_threshold(
    proposal: tuple[Mesh, Tensor, Tensor], threshold: float
) -> None:
    mesh, voxels, energies = proposal
    layers = Layers.of(mesh)
    closed = renormalise_layers(voxels, energies, layers, threshold)
    assert torch.isfinite(closed).all()
    assert (closed >= 0).all()
    sums = torch.from_numpy(mesh.layer_energies(closed.numpy()))
    torch.testing.assert_close(sums, energies.double(), rtol=2e-6, atol=1e-37)
    cells = layers.split(closed)
    lit = cells > 0
    limit = torch.tensor(threshold)
    assert (cells >= torch.where(energies >= limit, limit, 0.0)[..., None])[lit].all()
    assert (lit.sum(-1)[(energies < limit)] <= 1).all()
    # a second time changes nothing but rounding
    again = renormalise_layers(closed, energies, layers, threshold)
    torch.testing.assert_close(again, closed, rtol=3e-6, atol=1e-37)


def cut_and_rescale(w: np.ndarray, energy: float, threshold: float) -> np.ndarray:
    """One layer, one cell at a time: drop the faintest until the faintest is above the threshold."""
    kept = np.where(w >= threshold, w, 0.0)
    if not kept.any():
        kept[w.argmax()] = 1.0
    while True:
        scaled = kept * energy / kept.sum()
        lit = np.flatnonzero(kept)
        faintest = lit[kept[lit].argmin()]
        if scaled[faintest] >= threshold or len(lit) == 1:
            return scaled
        kept[faintest] = 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.floats(0.5, 60.0), st.floats(0.1, 3.0))
def test_it_is_cutting_and_rescaling_in_turns(seed: int, energy: float, spread: float) -> None:
    w = np.exp(spread * np.random.default_rng(seed).normal(size=12))
    expected = cut_and_rescale(w, energy, 0.5)
    given_energy = torch.tensor([[energy]], dtype=torch.float64)
    closed = renormalise_layers(torch.from_numpy(w)[None], given_energy, Layers([12]), 0.5)
    torch.testing.assert_close(closed[0], torch.from_numpy(expected), rtol=1e-9, atol=0)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_without_survivors_the_hottest_or_the_central_cell_takes_all(mesh: Mesh) -> None:
    layers = Layers.of(mesh)
    energies = torch.tensor([[10.0] * mesh.n_layers])
    closed = renormalise_layers(torch.zeros(1, mesh.n_voxels), energies, layers, T)
    lit = closed[0].nonzero()[:, 0]
    assert len(lit) == mesh.n_layers
    where = mesh.centres()
    radius = np.hypot(where["x"], where["y"])
    nearest = np.minimum.reduceat(radius, mesh.layer_offsets[:-1])
    np.testing.assert_allclose(radius[lit], nearest)

    faint = torch.rand(1, mesh.n_voxels) * T * 0.9
    closed = renormalise_layers(faint, energies, layers, T)
    assert torch.equal(layers.split(closed).argmax(-1), layers.split(faint).argmax(-1))
    assert (closed > 0).sum() == mesh.n_layers


def test_ties_are_broken_in_order() -> None:
    closed = renormalise_layers(torch.ones(1, 4), torch.tensor([[1.5]]), Layers([4]), 1.0)
    assert closed.tolist() == [[1.5, 0.0, 0.0, 0.0]]


def test_nan_is_not_hidden() -> None:
    for bad in (torch.nan, torch.inf):
        closed = renormalise_layers(
            torch.tensor([[bad, 1.0, 1.0, 1.0]]), torch.tensor([[1.0, 2.0]]), Layers([2, 2]), T
        )
        assert closed[0, :2].isnan().any()
        assert closed[0, 2:].tolist() == [1.0, 1.0]


def test_gradients_flow() -> None:
    w = torch.rand(2, 24, dtype=torch.float64, requires_grad=True)
    renormalise_layers(
        w, torch.ones(2, 3, dtype=torch.float64) * 50, Layers.of(CYLINDER), T
    ).square().sum().backward()
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()
    assert w.grad.abs().sum() > 0


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_layers_are_the_meshs(mesh: Mesh) -> None:
    layers = Layers.of(mesh)
    x = torch.rand(5, *mesh.shape)
    np.testing.assert_allclose(layers.sum(x), mesh.layer_energies(x.numpy()), rtol=1e-6)
    assert torch.equal(layers.join(layers.split(x)), x.reshape(5, -1))
    numbers = torch.arange(float(mesh.n_layers)).expand(5, -1)
    np.testing.assert_array_equal(layers.spread(numbers)[0], mesh.voxel_layers)
    with pytest.raises(MeshError, match="do not fit"):
        layers.sum(torch.ones(5, 7))


def test_a_layer_alone_keeps_its_cells_and_its_centre() -> None:
    layers = Layers.of(RAGGED)
    for i, (size, central) in enumerate(zip(layers.sizes, layers.central, strict=True)):
        alone = layers.layer(i)
        assert (alone.sizes, alone.central) == ((size,), (central,))


def test_sums_of_blocks_are_those_of_a_coarser_mesh() -> None:
    fine = CylinderMesh.regular(n_z=4, n_phi=6, n_r=4)
    x = torch.rand(3, *fine.shape)
    expected = fine.coarsen(x.numpy(), (2, 3, 1))
    np.testing.assert_allclose(block_sums(x, (2, 3, 1)), expected, rtol=1e-6)
    assert torch.equal(block_sums(x, (1, 1, 1)), x)


def test_ragged_layers_are_padded_with_zeros_and_cropped() -> None:
    layers = Layers.of(RAGGED)
    x = torch.rand(2, RAGGED.n_voxels) + 1
    y = layers.split(x)
    assert y.shape == (2, 3, 9)
    assert torch.equal(y > 0, layers.mask.expand_as(y))
    assert layers.mask.sum(-1).tolist() == RAGGED.layer_sizes.tolist()
    assert torch.equal(layers.join(torch.where(layers.mask, y, torch.nan)), x)


@pytest.mark.parametrize(
    ("sizes", "central", "message"),
    [
        ([3, 0], None, "positive sizes"),
        ([3], [3], "outside its layer"),
        ([3, 3], [0], "one central cell each"),
    ],
)
def test_impossible_layers_are_explained(sizes: list[int], central: list[int] | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Layers(sizes, central)
