"""The straight line of the incident particle, and where cells lie to it.

Legend: ``n`` showers, (Y, X) cells across. Lengths are mm.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.detector.mesh import Mesh
from caloforge.models.batch import Batch, ConditionTensors

__all__ = ["ParticleLine", "Trajectory"]

STEEPEST = 0.05
"""Least cos θ of which tan θ is taken."""


class ParticleLine(nn.Module):
    """The straight line of the incident particle, with the depth at which showers have their energy.

    On meshes that follow the particle, as on those whose first layer is like all others, the line is their
    axis. On meshes fixed to the detector it is impact + depth·tan θ·(cos φ, sin φ). The mean depth of the
    energy, which an image does not show, is what `fit_batch` finds: Σ s·(c − impact)/Σ s·s of centres of
    energy c and slopes s = tan θ·(cos φ, sin φ).

    Args:
        mesh: regular; all its layers have the cells of the first.
    """

    x: Tensor
    y: Tensor
    depth: Tensor
    pitch: Tensor

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self.fixed = mesh.frame == "detector"
        shape, centres = mesh.shape[1:], mesh.centres()
        for name in ("x", "y"):
            across = torch.from_numpy(centres[name][: np.prod(shape)]).float().view(shape)
            self.register_buffer(name, across, persistent=False)
        extent = max(float(self.x.abs().max()), float(self.y.abs().max()), 1.0)
        self.register_buffer("pitch", torch.tensor(2 * extent / max(shape)), persistent=False)
        self.register_buffer("depth", torch.zeros(()))

    def begin_fit(self) -> None:
        """Start looking for the depth."""
        self._sums = torch.zeros(2, dtype=torch.float64)

    def fit_batch(self, batch: Batch) -> None:
        """Take showers in."""
        cells = batch.energies.sum(dim=1)
        total = cells.sum(dim=(1, 2)).clamp_min(1e-12)
        centre = torch.stack([(cells * axis).sum(dim=(1, 2)) / total for axis in (self.x, self.y)], dim=1)
        slope = self.slope(batch)
        self._sums += torch.stack(
            [(slope * (centre - batch.impact_point)).sum(), slope.square().sum()]
        ).double()

    def end_fit(self) -> None:
        """Keep the depth, 0 where nothing depends on it."""
        leaning = float(self._sums[1])
        self.depth.fill_(max(float(self._sums[0]) / leaning, 0.0) if self.fixed and leaning > 0 else 0.0)
        del self._sums

    def slope(self, conditions: ConditionTensors) -> Tensor:
        """tan θ·(cos φ, sin φ), (n, 2)."""
        tangent = conditions.theta.sin() / conditions.theta.cos().clamp_min(STEEPEST)
        return torch.stack([tangent * conditions.phi.cos(), tangent * conditions.phi.sin()], dim=1)

    def points(self, conditions: ConditionTensors, depths: Tensor) -> Tensor:
        """Where it crosses D depths (D,), (n, D, 2)."""
        there = conditions.impact_point[:, None] + depths[:, None] * self.slope(conditions)[:, None]
        return there if self.fixed else torch.zeros_like(there)


class Trajectory(ParticleLine):
    """Maps (n, 3, Y, X): x and y of cells from the line at the showers' mean depth, logarithm of r."""

    maps = 3

    def forward(self, conditions: ConditionTensors) -> Tensor:
        """Maps of order one, (n, 3, Y, X)."""
        point = self.points(conditions, self.depth[None])[:, 0]
        x, y = (
            (axis - point[:, i, None, None]) / self.pitch for i, axis in enumerate((self.x, self.y))
        )  # (n, Y, X)
        r = 0.5 * torch.log1p(x.square() + y.square())
        return torch.stack([x / 8, y / 8, r], dim=1)
