"""Coordinates that are an elementwise map of cells, shifted and scaled.

Legend: ``n`` showers, mesh (Z, P, R). Energies are in units of the cell threshold.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from caloforge.models.coordinates import FIT_BATCH, RunningMoments
from caloforge.models.coordinates.diffusion.base import Coordinates

__all__ = ["Standardised", "per_cell"]


class Standardised(Coordinates):
    """An elementwise map, then mean 0 and standard deviation 1 over all cells of a detector."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Any, slots: int, shape: tuple[int, int, int]) -> None:
        super().__init__(settings, slots, shape)
        self.settings = settings
        self.register_buffer("mean", torch.zeros(slots))
        self.register_buffer("std", torch.ones(slots))

    @abstractmethod
    def raw(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor:
        """The map of cells (n, Z, P, R) before it is standardised."""

    @abstractmethod
    def inverse_raw(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        """The inverse of `raw`; energies below 1 become 0."""

    @torch.no_grad()
    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        moments = RunningMoments(())
        for start in range(0, len(energies), FIT_BATCH):
            part = energies[start : start + FIT_BATCH]
            moments.add(self.raw(part, incident[start : start + FIT_BATCH], part.sum(dim=(2, 3))))
        moments.store(self.mean[slot], self.std[slot])

    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        y = self.raw(energies, incident, layer_energies)
        return (y - per_cell(self.mean[slots])) / per_cell(self.std[slots])

    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        y = x * per_cell(self.std[slots]) + per_cell(self.mean[slots])
        energies = self.inverse_raw(y, incident, layer_energies)
        return torch.where(energies >= 1, energies, 0.0)


def per_cell(values: Tensor) -> Tensor:
    """Numbers of showers (n,) beside cells, (n, 1, 1, 1)."""
    return values[:, None, None, None]
