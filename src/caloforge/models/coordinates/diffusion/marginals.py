"""Cells as normal scores: the normal numbers of the same rank among cells of layers with the same energy.

Legend: ``n`` showers, mesh (Z, P, R), ``D`` detectors. Energies are in units of the cell threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from caloforge.models.coordinates.diffusion.base import COORDINATES, Coordinates
from caloforge.models.coordinates.diffusion.quantiles import ConditionalQuantiles
from caloforge.settings import KindSettings

__all__ = ["MarginalSettings", "NormalScores"]

MOVES = 2
"""Steps towards the energies of layers; more change nothing that a classifier sees."""
SLOPE = 1.2
"""Typical change of a cell's log E with its coordinate."""
MOST_EXCESS = 1e4


class MarginalSettings(KindSettings):
    """Normal scores of cell energies, given the energy of the layer, see `NormalScores`.

    Attributes:
        nodes: layer energies at which the tables are kept.
        quantiles: of the energies of a cell that are kept.
        floor: cells count in the loss by their probability of having energy plus this.
    """

    kind: str = "marginals"
    nodes: int = Field(16, ge=2)
    quantiles: int = Field(33, ge=5)
    floor: float = Field(0.05, gt=0)


@COORDINATES.add("marginals")
class NormalScores(Coordinates):
    """Normal scores: what a cell holds is known at any noise that keeps them normal."""

    Settings = MarginalSettings
    gives_shares: ClassVar[bool] = True
    needs_layer_energies = True

    def __init__(self, settings: MarginalSettings, slots: int, shape: tuple[int, int, int]) -> None:
        super().__init__(settings, slots, shape)
        self.floor = settings.floor
        self.table = ConditionalQuantiles(
            slots, shape[0], shape[2], nodes=settings.nodes, quantiles=settings.quantiles
        )

    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        self.table.fit(slot, energies)

    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        ranked: Tensor = self.table(energies, layer_energies, slots, uniform)
        return ranked

    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        assert layer_energies is not None
        tables = self.table.tables(layer_energies, slots)
        for _ in range(MOVES):
            x = self._closer_to_layers(x, layer_energies, tables)
        return self.table.inverse(x, tables, fill=True)

    def _closer_to_layers(self, x: Tensor, layer_energies: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """The nearest coordinates whose layers have their energies, to first order.

        A layer's sum is moved along its gradient, which is nearly the cells' shares. So cells with much
        energy take up what is missing or too much, and the many small ones keep their spectrum, which a
        common factor would shift.
        """
        whole = layer_energies[:, :, None, None]
        energies = self.table.inverse(x, tables, fill=True)
        total = energies.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        shares = energies / total
        excess = (total / whole.clamp_min(1e-6)).clamp(1 / MOST_EXCESS, MOST_EXCESS).log()
        move = excess / (SLOPE * shares.square().sum(dim=(2, 3), keepdim=True).clamp_min(1e-3)) * shares
        return torch.where(whole > 0, x - move.clamp(-1, 1), x)

    def shares(self, layer_energies: Tensor, slots: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Coordinates.shares`; at most 2."""
        tables, whole = self.table.tables(layer_energies, slots), layer_energies[:, :, None, None]

        def shares(x: Tensor) -> Tensor:
            of_layers = self.table.inverse(x, tables) / whole.clamp_min(1e-6)
            return torch.where(whole > 0, of_layers.clamp_max(2.0), 0.0)

        return shares

    def weights(self, layer_energies: Tensor, slots: Tensor) -> Tensor | None:
        return self.table.filled(layer_energies, slots) + self.floor
