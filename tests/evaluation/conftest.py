"""Small showers on every kind of mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloforge.data import Conditions, Showers
from caloforge.detector import (
    BoxMesh,
    CylinderMesh,
    Mesh,
    RaggedBoxLayer,
    RaggedBoxMesh,
    RaggedCylinderMesh,
    RaggedLayer,
)

MESHES: dict[str, Mesh] = {
    "cylinder": CylinderMesh.regular(n_z=4, n_phi=8, n_r=3),
    "box": BoxMesh.regular((3, 4, 5), (2.0, 3.0, 4.0)),
    "ragged": RaggedCylinderMesh(
        (
            RaggedLayer(0, 1, (0, 5, 10, 30)),
            RaggedLayer(1, 6, (0, 2, 4, 6, 8)),
            RaggedLayer(12, 10, (0, 50, 100)),
        )
    ),
    "ragged box": RaggedBoxMesh(
        (
            RaggedBoxLayer(0, (-6, -2, 2, 6), tuple(range(-4, 5))),
            RaggedBoxLayer(1, (-6, 0, 6), (-4, -1, 1, 4)),
        )
    ),
}


def random_showers(mesh: Mesh, n: int = 60, seed: int = 0, **columns: object) -> Showers:
    """Showers with random cells, two fifths of them lit, and log-uniform energies of 1 to 50 GeV."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 50 ** rng.random(n)
    cells = rng.exponential(1.0, (n, mesh.n_voxels)) * (rng.random((n, mesh.n_voxels)) < 0.4)
    cells *= (energy / np.maximum(cells.sum(axis=1), 1e-9))[:, None]
    return Showers(cells.astype(np.float32), Conditions(energy, particle="e-"), mesh, **columns)  # type: ignore[arg-type]


@pytest.fixture(params=list(MESHES))
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return MESHES[request.param]


@pytest.fixture(scope="session")
def make() -> Callable[..., Showers]:
    return random_showers
