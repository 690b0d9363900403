"""Turns and mirror images of a square box, with the particle that enters it.

Legend: ``n`` showers on a box of Z layers × Y × X cells, as many along y as along x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.detector.mesh import BoxMesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch
from caloforge.training.augmentations import AUGMENTATIONS, Augmentation

__all__ = ["TurnSquare"]


@AUGMENTATIONS.add("turn_square")
class TurnSquare(Augmentation):
    """One of the eight symmetries of a square across a box: of cells, direction and impact point."""

    def check(self, showers: Showers) -> None:
        for mesh in showers.meshes.values():
            if not isinstance(mesh, BoxMesh) or not _is_square(mesh):
                raise RecipeError(f"turn_square needs a box of equal, centred rows and columns, got a {mesh}")

    def draw(self, batch: Batch, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        return lambda energies: energies

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        n, device = len(batch), batch.energies.device
        swap, mirror_y, mirror_x = torch.randint(2, (n, 3), generator=generator, device=device).bool().T

        def cells(energies: Tensor) -> Tensor:
            energies = torch.where(_each(swap), energies.transpose(2, 3), energies)
            energies = torch.where(_each(mirror_y), energies.flip(2), energies)
            return torch.where(_each(mirror_x), energies.flip(3), energies)

        def vectors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            x, y = torch.where(swap, y, x), torch.where(swap, x, y)
            return torch.where(mirror_x, -x, x), torch.where(mirror_y, -y, y)

        x, y = vectors(batch.phi.cos(), batch.phi.sin())
        return replace(
            batch,
            energies=cells(batch.energies),
            given=None if batch.given is None else cells(batch.given),
            phi=torch.atan2(y, x) % (2 * math.pi),
            impact=None if batch.impact is None else torch.stack(vectors(*batch.impact.T), dim=1),
        )


def _each(chosen: Tensor) -> Tensor:
    return chosen[:, None, None, None]


def _is_square(mesh: BoxMesh) -> bool:
    x, y = np.array(mesh.x_edges), np.array(mesh.y_edges)
    return len(x) == len(y) and np.allclose(x, y) and np.allclose(x, -x[::-1])
