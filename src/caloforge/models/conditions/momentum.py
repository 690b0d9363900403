"""What networks of images know of the incident particle: its momentum, where it hits, and what it is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from caloforge.models.batch import ConditionTensors
from caloforge.models.conditions.incident import IncidentContext

__all__ = ["MomentumContext"]


class MomentumContext(IncidentContext):
    """Ten standardised numbers: log E, direction of (px, py, pz), impact x and y, the particle as a label.

    The label is 1 among electrons, photons, other charged and other neutral particles. A number that is the
    same for all training showers is 0.
    """

    names: ClassVar[tuple[str, ...]] = (
        "energy",
        "px",
        "py",
        "pz",
        "impact x",
        "impact y",
        "electron",
        "photon",
        "other charged particle",
        "other neutral particle",
    )
    size = len(names)

    def varying(self) -> list[str]:
        """Names of the numbers that varied among the training showers."""
        told = zip(self.names, (self.std != 1).tolist(), strict=True)
        return [name for name, varied in told if varied]

    def _raw(self, c: ConditionTensors) -> Tensor:
        across, along = c.theta.sin(), c.theta.cos()
        lepton, photon = c.particle.abs() == 11, c.particle == 22
        neutral = (c.particle[:, None] == self.neutral).any(dim=1)
        label = [lepton, photon, ~(lepton | neutral), neutral & ~photon]
        direction = [across * c.phi.cos(), across * c.phi.sin(), along]
        columns = [c.energy.log(), *direction, *c.impact_point.T, *(is_it.to(c.energy) for is_it in label)]
        return torch.stack(columns, dim=-1).to(self.mean.dtype)
