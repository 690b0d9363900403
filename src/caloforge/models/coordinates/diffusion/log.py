"""Cells as logarithms of their energies.

Legend: ``n`` showers, mesh (Z, P, R). Energies are in units of the cell threshold.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from caloforge.models.coordinates.diffusion.base import COORDINATES
from caloforge.models.coordinates.diffusion.standardised import Standardised, per_cell
from caloforge.settings import KindSettings

__all__ = ["LogCoordinates", "LogSettings"]


class LogSettings(KindSettings):
    """Standardised log(E + ε), as in CaloDiT-2 (arXiv:2509.07700).

    Attributes:
        epsilon: ε in thresholds; 1e-6 MeV is 7e-5 thresholds of par04-siw.
    """

    kind: str = "log"
    epsilon: float = Field(7e-5, gt=0)


@COORDINATES.add("log")
class LogCoordinates(Standardised):
    """Standardised logarithms."""

    Settings = LogSettings
    settings: LogSettings

    def raw(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor:
        return (energies + self.settings.epsilon).log()

    def inverse_raw(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        most = per_cell(incident.log())
        return torch.minimum(y, most).exp() - self.settings.epsilon
