"""Coordinates in which a model sees cells: one interface, a class for each published choice.

Every map has an inverse that is deterministic and takes any finite number that a network may give. What it
gives are tentative energies: `renormalise_layers` then cuts those below the threshold and closes the layers.
Shapes are ``(*)``, those of the cells, unless said otherwise. Energies are MeV.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caloforge.models.coordinates.values import (
    cut_noise,
    exp_threshold,
    fill_below,
    inverse_squeezed_logit,
    log_threshold,
    squeezed_logit,
)

__all__ = [
    "CellCoordinates",
    "DecadesBelowLargest",
    "LargestCellLogits",
    "PartLogits",
    "ShareLogits",
    "ThresholdLogarithms",
    "Whole",
]

ALPHA = 1e-6
"""Shares are squeezed to α + (1 − 2α)·share before the logit."""
FLOOR, DECADES, MARGIN = 1e-7, 7.0, 1e-2
"""Of `LargestCellLogits`, as published."""
HIGHEST = math.log10(1e3)
"""`DecadesBelowLargest` gives at most a thousand times the largest cell, so that sums stay finite."""


class Whole(NamedTuple):
    """What cells are the parts of, their layer or coarse cell; each is broadcast to the cells' shape.

    Attributes:
        energy: of it, MeV.
        cells: how many it has.
        largest: largest energy of such a cell in training, MeV.
    """

    energy: Tensor
    cells: Tensor | int
    largest: Tensor | float = 1.0


class CellCoordinates(nn.Module, ABC):
    """Cell energies ↔ the numbers that a model learns."""

    @abstractmethod
    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole
    ) -> Tensor:
        """Coordinates of energies that are 0 or ≥ threshold; all random numbers of ``generator``."""

    @abstractmethod
    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole) -> Tensor:
        """Tentative energies ≥ 0 of coordinates."""


class ThresholdLogarithms(CellCoordinates):
    """log((E + κ)/(t + κ))/scale; log-normal values below 0 stand for empty cells.

    Args:
        width: of the values of empty cells before ``scale``, see `fill_below`.
        smear: relative smearing of energies on the way here, reflected at the threshold; keeps a density
            finite where the energy of the whole fixes that of its last cell. 0 for none.
        scale: logarithms are divided by it.
        knee: κ, energy below which few cells lie; it narrows the gap between empty and lit cells, into which
            a smooth flow spills. 0 for plain logarithms.
    """

    def __init__(self, *, width: float, smear: float, scale: float = 1.0, knee: float = 0.0) -> None:
        super().__init__()
        self.width, self.smear, self.scale, self.knee = width, smear, scale, knee

    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole | None = None
    ) -> Tensor:
        uniform = torch.rand(cells.shape, generator=generator, device=cells.device)
        y = log_threshold(cells + self.knee, threshold + self.knee, fill_below(uniform, self.width))
        if self.smear:
            shift = self.smear * torch.randn(cells.shape, generator=generator, device=cells.device)
            y = torch.where(y > 0, (y + shift).abs(), y)
        return y / self.scale

    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole | None = None) -> Tensor:
        y = y * self.scale
        energies = exp_threshold(y, threshold, cut=False)
        if not self.knee:
            return energies
        lit = (exp_threshold(y, threshold + self.knee) - self.knee).clamp_min(threshold)
        return torch.where(y >= 0, lit, energies)


class LargestCellLogits(CellCoordinates):
    """Logit of log10(E/E_max + 10⁻⁷)/7 + 1, 10⁻² away from 0 and 1; convolutional L2LFlows (2405.20407).

    Empty cells have energies as `ThresholdLogarithms` gives them.
    """

    def __init__(self, *, width: float, smear: float) -> None:
        super().__init__()
        self.logarithms = ThresholdLogarithms(width=width, smear=smear)

    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole
    ) -> Tensor:
        share = threshold * self.logarithms(cells, threshold, generator).exp() / whole.largest
        u = (share + FLOOR).log10() / DECADES + 1
        return squeezed_logit(u.clamp(0, 1), MARGIN)

    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole) -> Tensor:
        u = inverse_squeezed_logit(y, MARGIN)
        share = (((u - 1) * (DECADES * math.log(10))).exp() - FLOOR).clamp_min(0)
        return share * whole.largest


class _Noisy(CellCoordinates):
    """Coordinates of energies to which uniform noise was added, ``noise`` MeV wide."""

    def __init__(self, *, noise: float) -> None:
        super().__init__()
        self.noise = noise


class ShareLogits(_Noisy):
    """Logit of the noisy cell's share of its layer; CaloFlow and iCaloFlow (2106.05285, 2305.11934)."""

    def _total(self, whole: Whole) -> Tensor:
        return whole.energy + self.noise * whole.cells

    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole
    ) -> Tensor:
        uniform = torch.rand(cells.shape, generator=generator, device=cells.device)
        share = (cells + self.noise * uniform) / self._total(whole)
        return squeezed_logit(share.clamp(0, 1), ALPHA)

    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole) -> Tensor:
        share = inverse_squeezed_logit(y, ALPHA).clamp(0, 1)
        return cut_noise(share * self._total(whole), self.noise, threshold)


class PartLogits(_Noisy):
    """Logit of the noisy part's share of the sum of all, along the last axis; SuperCalo (2308.11700).

    Noise is not taken off again: parts are brought to the energy of their coarse cell in any case.
    """

    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole
    ) -> Tensor:
        noisy = cells + self.noise * torch.rand(cells.shape, generator=generator, device=cells.device)
        return squeezed_logit(noisy / noisy.sum(dim=-1, keepdim=True), ALPHA)

    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole) -> Tensor:
        return (torch.sigmoid(y) - ALPHA).clamp_min(0) * whole.energy


class DecadesBelowLargest(_Noisy):
    """log10((E + noise)/E_max) + 6; SuperCalo's coarse cells (arXiv:2308.11700)."""

    def forward(
        self, cells: Tensor, threshold: Tensor | float, generator: torch.Generator, whole: Whole
    ) -> Tensor:
        uniform = torch.rand(cells.shape, generator=generator, device=cells.device).clamp_min(1e-6)
        return ((cells + self.noise * uniform) / whole.largest).log10() + 6

    def inverse(self, y: Tensor, threshold: Tensor | float, whole: Whole) -> Tensor:
        noisy = whole.largest * 10 ** (y - 6).clamp(max=HIGHEST)
        return (noisy - self.noise / 2).clamp_min(0)
