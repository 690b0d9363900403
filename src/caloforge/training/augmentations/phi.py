"""Turns and mirror images around the axis of showers at normal incidence.

Legend: ``n`` showers on a cylinder of Z layers × P φ bins × R radial bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.data.described import described_detectors
from caloforge.data.showers import Showers
from caloforge.errors import RecipeError
from caloforge.models.base import Batch
from caloforge.training.augmentations import AUGMENTATIONS, Augmentation

__all__ = ["ReflectPhi", "RotatePhi"]

LARGEST_TILT = 1e-3
"""Of a shower that counts as at normal incidence, rad."""


class _AroundAxis(Augmentation):
    """A symmetry of cylinders whose axis is the particle's direction, which enters at a right angle."""

    def check(self, showers: Showers) -> None:
        if {mesh.kind for mesh in showers.meshes.values()} != {"cylinder"}:
            raise RecipeError(f"training.augment needs a cylinder mesh, got {showers!r}")
        theta = showers.conditions.theta
        tilted = np.flatnonzero((np.abs(theta - np.pi / 2) > LARGEST_TILT) & ~self._may_be_tilted(showers))
        if len(tilted):
            raise RecipeError(
                "training.augment turns and mirrors showers, which is right only at normal incidence "
                f"(θ = π/2), but shower {tilted[0]} has θ = {theta[tilted[0]]:.4f} rad"
            )

    def _may_be_tilted(self, showers: Showers) -> NDArray[np.bool_]:
        """Which showers (N,) have the symmetry at any angle."""
        return np.zeros(len(showers), dtype=bool)


@AUGMENTATIONS.add("rotate_phi")
class RotatePhi(_AroundAxis):
    """A turn by a random number of φ bins.

    Where showers are given on a mesh with other φ bins, turns are by angles that are whole bins of both.
    """

    def draw(self, batch: Batch, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        n, device = len(batch), batch.energies.device
        turns = batch.energies.shape[2]
        if batch.given is not None:
            turns = math.gcd(turns, batch.given.shape[2])
        turn = torch.randint(turns, (n, 1), generator=generator, device=device)

        def move(energies: Tensor) -> Tensor:
            n_z, n_phi = energies.shape[1:3]
            source = (torch.arange(n_phi, device=device) - turn * (n_phi // turns)) % n_phi  # (n, P)
            shower = torch.arange(n, device=device)[:, None, None]
            layer = torch.arange(n_z, device=device)[None, :, None]
            return energies[shower, layer, source[:, None, :]]

        return move


@AUGMENTATIONS.add("reflect_phi")
class ReflectPhi(_AroundAxis):
    """The mirror image, φ → −φ, with probability one half.

    In a barrel, of which the file has the description, beam and particle lie in a mirror plane at any angle.
    """

    def _may_be_tilted(self, showers: Showers) -> NDArray[np.bool_]:
        barrels = [name for name, found in described_detectors(showers).items() if found.shape == "cylinder"]
        return np.isin(showers.conditions.detector, barrels)

    def draw(self, batch: Batch, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        n, device = len(batch), batch.energies.device
        mirrored = torch.randint(2, (n, 1, 1, 1), generator=generator, device=device).bool()
        return lambda energies: torch.where(mirrored, energies.flip(2), energies)
