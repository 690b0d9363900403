"""Cells as logits of their shares of an energy.

Legend: ``n`` showers, mesh (Z, P, R). Energies are in units of the cell threshold.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from caloforge.models.coordinates import inverse_squeezed_logit, squeezed_logit
from caloforge.models.coordinates.diffusion.base import COORDINATES
from caloforge.models.coordinates.diffusion.standardised import Standardised, per_cell
from caloforge.settings import KindSettings

__all__ = ["LogitCoordinates", "LogitSettings"]


class LogitSettings(KindSettings):
    """Standardised logit(α + (1 − 2α)·share), as in CaloDiffusion (2308.03876) and CaloDREAM (2405.09629).

    Attributes:
        of: the share is of ``scale`` times the incident energy, or of the layer's energy.
        scale: c, larger than any ΣE/E_inc.
        alpha: α.
    """

    kind: str = "logit"
    of: Literal["incident", "layer"] = "layer"
    scale: float = Field(2.0, gt=0)
    alpha: float = Field(1e-6, gt=0, lt=0.5)


@COORDINATES.add("logit")
class LogitCoordinates(Standardised):
    """Standardised logits of shares."""

    Settings = LogitSettings
    settings: LogitSettings

    def __init__(self, settings: LogitSettings, slots: int, shape: tuple[int, int, int]) -> None:
        super().__init__(settings, slots, shape)
        self.needs_layer_energies = settings.of == "layer"

    def _whole(self, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        """What shares are of, (n, 1 or Z, 1, 1)."""
        if self.settings.of == "incident":
            return per_cell(self.settings.scale * incident)
        assert layer_energies is not None
        return layer_energies[:, :, None, None]

    def raw(self, energies: Tensor, incident: Tensor, layer_energies: Tensor) -> Tensor:
        whole = self._whole(incident, layer_energies)
        share = (energies / torch.where(whole > 0, whole, 1.0)).clamp(0, 1)
        return squeezed_logit(share, self.settings.alpha)

    def inverse_raw(self, y: Tensor, incident: Tensor, layer_energies: Tensor | None) -> Tensor:
        share = inverse_squeezed_logit(y, self.settings.alpha)
        return share * self._whole(incident, layer_energies)
