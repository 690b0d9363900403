"""Cells as the numbers of order one that a diffusion model works on, and back.

Legend: ``n`` showers, mesh (Z, P, R), ``D`` detectors. Energies are in units of the cell threshold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from caloforge.models.coordinates import FIT_BATCH, RunningMoments
from caloforge.models.coordinates.marginals import Marginals

__all__ = [
    "Coordinates",
    "CoordinatesSettings",
    "LogSettings",
    "LogitSettings",
    "MarginalSettings",
    "coordinates_of",
]

MOVES = 2
"""Steps towards the energies of layers; more change nothing that a classifier sees."""
SLOPE = 1.2
"""Typical change of a cell's log E with its coordinate."""
MOST_EXCESS = 1e4
MOST_BYTES = 512 << 20
"""Showers that statistics are taken from may take this much memory."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MarginalSettings(_Strict):
    """Normal numbers of the same rank, see `Marginals`.

    Attributes:
        nodes: layer energies at which the tables are kept.
        quantiles: of the energies of a cell that are kept.
        floor: cells count in the loss by their probability of having energy plus this.
    """

    kind: Literal["marginals"] = "marginals"
    nodes: int = Field(16, ge=2)
    quantiles: int = Field(33, ge=5)
    floor: float = Field(0.05, gt=0)


class LogSettings(_Strict):
    """Standardised log(E + ε), as in CaloDiT-2 (arXiv:2509.07700).

    Attributes:
        epsilon: ε in thresholds; 1e-6 MeV is 7e-5 thresholds of par04-siw.
    """

    kind: Literal["log"] = "log"
    epsilon: float = Field(7e-5, gt=0)


class LogitSettings(_Strict):
    """Standardised logit(α + (1 − 2α)·share), as in CaloDiffusion (2308.03876) and CaloDREAM (2405.09629).

    Attributes:
        of: the share is of ``scale`` times the incident energy, or of the layer's energy.
        scale: c, larger than any ΣE/E_inc.
        alpha: α.
    """

    kind: Literal["logit"] = "logit"
    of: Literal["incident", "layer"] = "layer"
    scale: float = Field(2.0, gt=0)
    alpha: float = Field(1e-6, gt=0, lt=0.5)


CoordinatesSettings = Annotated[MarginalSettings | LogSettings | LogitSettings, Field(discriminator="kind")]


class Coordinates(nn.Module, ABC):
    """An invertible map of cells; statistics are kept for each detector slot."""

    @abstractmethod
    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        """Set the statistics of a detector from showers (n, Z, P, R) of incident energies (n,)."""

    @abstractmethod
    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        """Coordinates (n, Z, P, R) of cells (n, Z, P, R); ``uniform`` (n, Z, P, R) places empty ones."""

    @abstractmethod
    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        """Cells (n, Z, P, R) of coordinates, none between 0 and 1; layers do not yet close."""

    def weights(self, layer_energies: Tensor, slots: Tensor) -> Tensor | None:
        """How much each cell counts in the loss, (n, Z, 1 or P, R); None where all count alike."""
        return None


class Ranks(Coordinates):
    """Normal numbers of the same rank; what a cell holds is known at any noise that keeps them normal."""

    def __init__(self, settings: MarginalSettings, slots: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.floor = settings.floor
        self.table = Marginals(slots, shape[0], shape[2], nodes=settings.nodes, quantiles=settings.quantiles)

    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        self.table.fit(slot, energies)

    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        ranked: Tensor = self.table(energies, layer_energies, slots, uniform)
        return ranked

    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        assert layer_energies is not None
        tables = self.tables(layer_energies, slots)
        for _ in range(MOVES):
            x = self._towards(x, layer_energies, tables)
        return self.table.inverse(x, tables, fill=True)

    def _towards(self, x: Tensor, layer_energies: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
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

    def tables(self, layer_energies: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the cells of layers (n, Z), see `Marginals.tables`."""
        return self.table.tables(layer_energies, slots)

    def shares(self, x: Tensor, layer_energies: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Shares of their layers' energies (n, Z) that coordinates (n, Z, P, R) stand for, at most 2."""
        whole = layer_energies[:, :, None, None]
        shares = self.table.inverse(x, tables) / whole.clamp_min(1e-6)
        return torch.where(whole > 0, shares.clamp_max(2.0), 0.0)

    def weights(self, layer_energies: Tensor, slots: Tensor) -> Tensor | None:
        return self.table.filled(layer_energies, slots) + self.floor


class _Standardised(Coordinates):
    """An elementwise map, then mean 0 and standard deviation 1 over all cells of a detector."""

    mean: Tensor
    std: Tensor

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(slots))
        self.register_buffer("std", torch.ones(slots))

    @abstractmethod
    def _map(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor: ...

    @abstractmethod
    def _unmap(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor: ...

    @torch.no_grad()
    def fit(self, slot: int, energies: Tensor, incident: Tensor) -> None:
        moments = RunningMoments(())
        for start in range(0, len(energies), FIT_BATCH):
            part = energies[start : start + FIT_BATCH]
            moments.add(self._map(part, incident[start : start + FIT_BATCH], part.sum(dim=(2, 3))))
        self.mean[slot], self.std[slot] = moments.mean, moments.std().clamp_min(1e-3)

    def forward(
        self, energies: Tensor, incident: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor
    ) -> Tensor:
        y = self._map(energies, incident, layer_energies)
        return (y - _cells(self.mean[slots])) / _cells(self.std[slots])

    def inverse(self, x: Tensor, incident: Tensor, layer_energies: Tensor | None, slots: Tensor) -> Tensor:
        y = x * _cells(self.std[slots]) + _cells(self.mean[slots])
        energies = self._unmap(y, incident, layer_energies)
        return torch.where(energies >= 1, energies, 0.0)


class _Log(_Standardised):
    def __init__(self, settings: LogSettings, slots: int) -> None:
        super().__init__(slots)
        self.epsilon = settings.epsilon

    def _map(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor:
        return (energies + self.epsilon).log()

    def _unmap(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        most = _cells(incident.log())
        return torch.minimum(y, most).exp() - self.epsilon


class _Logit(_Standardised):
    def __init__(self, settings: LogitSettings, slots: int) -> None:
        super().__init__(slots)
        self.settings = settings

    def _whole(self, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        """What shares are of, (n, 1 or Z, 1, 1)."""
        if self.settings.of == "incident":
            return _cells(self.settings.scale * incident)
        assert layer_energies is not None
        return layer_energies[:, :, None, None]

    def _map(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor:
        whole = self._whole(incident, layer_energies)
        share = (energies / torch.where(whole > 0, whole, 1.0)).clamp(0, 1)
        alpha = self.settings.alpha
        return torch.logit(alpha + (1 - 2 * alpha) * share)

    def _unmap(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        alpha = self.settings.alpha
        share = (y.sigmoid() - alpha) / (1 - 2 * alpha)
        return share * self._whole(incident, layer_energies)


def _cells(of_showers: Tensor) -> Tensor:
    return of_showers[:, None, None, None]


def coordinates_of(
    settings: MarginalSettings | LogSettings | LogitSettings, slots: int, shape: tuple[int, int, int]
) -> Coordinates:
    """The coordinates that the settings ask for, for D = ``slots`` detectors on meshes of one shape."""
    if isinstance(settings, MarginalSettings):
        return Ranks(settings, slots, shape)
    return _Log(settings, slots) if isinstance(settings, LogSettings) else _Logit(settings, slots)


def most_showers(n_voxels: int) -> int:
    """Showers that statistics are taken from at most."""
    return max(MOST_BYTES // (4 * n_voxels), 1)
