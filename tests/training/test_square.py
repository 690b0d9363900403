"""Symmetries of a square: cells, direction and impact point move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch
from caloforge.training.augmentations import AUGMENTATIONS, augment, drawn_move

MESH = BoxMesh.regular((2, 9, 9), (30.0, 10.0, 10.0), frame="detector")
DEPTH = 60.0


def showers_where_particles_point(n: int = 200) -> tuple[Batch, np.ndarray]:
    """Showers of one cell, that at which the particle points, and its number."""
    rng = np.random.default_rng(0)
    conditions = Conditions(
        np.full(n, 1e4), rng.uniform(0, 0.4, n), rng.uniform(0, 6, n), "e-", "", rng.uniform(-10, 10, (n, 2))
    )
    return Batch.with_energies(np.zeros((n, *MESH.shape), np.float32), conditions), cells_of(
        conditions.theta, conditions.phi, conditions.impact
    )


def cells_of(theta: np.ndarray, phi: np.ndarray, impact: np.ndarray | None) -> np.ndarray:
    """Cells of the first layer at which particles point."""
    assert impact is not None
    point = impact + DEPTH * np.tan(theta)[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    return MESH.index(np.column_stack([point, np.full(len(point), 1.0)]))


def test_showers_lie_where_their_particles_point_after_a_turn() -> None:
    batch, cells = showers_where_particles_point()
    batch.energies.flatten(1)[torch.arange(len(batch)), torch.from_numpy(cells)] = 1.0
    moved = augment(batch, ["turn_square"], torch.Generator().manual_seed(0))
    assert moved.impact is not None
    pointed = cells_of(moved.theta.numpy(), moved.phi.numpy(), moved.impact.numpy())
    assert (moved.energies.flatten(1).argmax(dim=1).numpy() == pointed).mean() > 0.99  # but for rounding
    assert (pointed != cells).mean() > 0.5
    assert ((moved.phi >= 0) & (moved.phi < 2 * np.pi)).all()
    torch.testing.assert_close(moved.energy, batch.energy)


def test_all_eight_symmetries_occur_and_are_even() -> None:
    image = torch.arange(81.0).view(1, 9, 9)
    batch = Batch.with_energies(image.expand(400, 1, 9, 9).clone(), Conditions(np.full(400, 1.0)))
    moved = augment(batch, ["turn_square"], torch.Generator().manual_seed(1)).energies
    found, counts = torch.unique(moved.flatten(1), dim=0, return_counts=True)
    expected = [torch.rot90(m, k, (1, 2)) for k in range(4) for m in (image, image.flip(2))]
    assert {tuple(x.flatten().tolist()) for x in expected} == {tuple(x.tolist()) for x in found}
    assert counts.min() > 25


def test_showers_generated_at_moved_conditions_are_left_alone() -> None:
    batch, _ = showers_where_particles_point(10)
    move = drawn_move(batch, ["turn_square"], torch.Generator())
    energies = torch.rand(10, *MESH.shape)
    assert torch.equal(move(energies), energies)


@pytest.mark.parametrize(
    "mesh",
    [
        CylinderMesh.regular(n_z=2, n_phi=4, n_r=3),
        BoxMesh.regular((1, 4, 3), (1.0, 5.0, 5.0)),
        BoxMesh((0.0, 1.0), (-1.0, 0.0, 2.0), (-1.0, 0.0, 2.0)),
    ],
    ids=str,
)
def test_other_meshes_are_refused(mesh: Mesh) -> None:
    showers = Showers(np.ones((2, *mesh.shape), np.float32), Conditions([1.0, 1.0]), mesh)
    with pytest.raises(RecipeError, match="turn_square needs a box of equal, centred rows and columns"):
        AUGMENTATIONS["turn_square"]().check(showers)
