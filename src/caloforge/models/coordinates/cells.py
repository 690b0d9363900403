"""Coordinates in which a flow sees the cells of a layer; empty cells are values below a threshold.

Legend: ``n`` showers, ``Z`` layers of P × R cells. Energies are MeV.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from caloforge.models.coordinates import exp_threshold, fill_below, log_threshold

__all__ = ["CellCoordinates", "Coordinates"]

Coordinates = Literal["threshold", "layer-max"]

FLOOR, DECADES, MARGIN = 1e-7, 7.0, 1e-2
"""Of "layer-max" coordinates, as published."""


class CellCoordinates(nn.Module):
    """Cell energies ↔ coordinates of a flow; empty cells become log-normal values below the threshold.

    "threshold": log(E/threshold)/scale. "layer-max": the logit of log10(E/E_max + 10⁻⁷)/7 + 1, kept 10⁻² away
    from 0 and 1, with E_max the largest cell energy of the layer in training; convolutional L2LFlows
    (arXiv:2405.20407).

    Args:
        layers: Z.
        kind: which of the two.
        scale: logarithms are divided by this; "threshold" only.
        width: of the values that stand for empty cells, in logarithms of energy, see `fill_below`.
        smear: relative smearing of cell energies in training; keeps the density finite where the layer's
            energy fixes that of its last cell.
    """

    largest: Tensor

    def __init__(self, layers: int, kind: Coordinates, *, scale: float, width: float, smear: float) -> None:
        super().__init__()
        self.kind, self.scale, self.width, self.smear = kind, scale, width, smear
        self.register_buffer("largest", torch.ones(layers))

    def forward(self, energies: Tensor, threshold: float, generator: torch.Generator) -> Tensor:
        """Coordinates of energies (n, Z, P, R), MeV, with random values for empty cells."""
        random = {"generator": generator, "device": energies.device}
        below = fill_below(torch.rand(energies.shape, **random), self.width, "log-normal")[0]  # type: ignore[call-overload]
        y = log_threshold(energies, threshold, below)
        if self.smear:
            smear = self.smear * torch.randn(energies.shape, **random)  # type: ignore[call-overload]
            y = torch.where(y > 0, (y + smear).abs(), y)
        if self.kind == "threshold":
            return y / self.scale
        share = threshold * y.exp() / self.largest[:, None, None]
        u = (share + FLOOR).log10() / DECADES + 1
        return torch.logit(MARGIN + (1 - 2 * MARGIN) * u.clamp(0, 1))

    def inverse(self, y: Tensor, threshold: float, layer: int) -> Tensor:
        """Tentative energies (n, P, R), MeV, of coordinates y of one layer; empty cells are not cut."""
        if self.kind == "threshold":
            return exp_threshold(y * self.scale, threshold, cut=False)
        u = (torch.sigmoid(y) - MARGIN) / (1 - 2 * MARGIN)
        share = (((u - 1) * (DECADES * math.log(10))).exp() - FLOOR).clamp_min(0)
        return share * self.largest[layer]
