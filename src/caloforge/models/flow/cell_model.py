"""What the models with autoregressive flows over cells share: layer energies, coordinates of cells, losses.

Legend: ``n`` showers or examples, ``D`` cells of an example, ``Z`` layers, ``C`` context numbers. Energies
are MeV.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.models.base import Batch
from caloforge.models.coordinates import CellCoordinates, ShareLogits, ThresholdLogarithms, log_energy
from caloforge.models.energies.base import LayerEnergyChoice
from caloforge.models.energies.layers_then_cells import CellSettings, LayersThenCells
from caloforge.models.lit import lit_examples, lit_mean
from caloforge.models.networks.autoregressive.flow import (
    AutoregressiveFlow,
    AutoregressiveFlowSettings,
    Direction,
)

__all__ = ["CellFlowModel"]


class CellFlowModel(LayersThenCells):
    """Layer energies by one flow, cells by autoregressive flows given them.

    A subclass makes a flow for each part beside "energies" with `_cell_flow`, hands them to `_build` and says
    what their examples are and how showers are decoded.
    """

    class Settings(AutoregressiveFlowSettings, CellSettings):
        """Sizes of the flows and coordinates of the cells.

        Attributes:
            energies: the flow of the layer energies.
            coordinates: "log" for `ThresholdLogarithms`, with ``scale``, width and smear; "logit", as
                published, for `ShareLogits`, with noise of ``noise_mev``.
        """

        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        coordinates: Literal["log", "logit"] = "log"
        scale: float = Field(2.0, gt=0)
        noise_mev: float = Field(1e-3, gt=0)

    direction: ClassVar[Direction] = "density"
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {
        "blocks": 2,
        "hidden": 16,
        "energies": {"blocks": 2, "hidden": 16},
    }
    settings: Settings

    def _build(self, flows: dict[str, AutoregressiveFlow]) -> None:
        """Add the layer energies, the incident context and the flows of the cells by part."""
        s = self.settings
        self._add_layer_energies(s.energies, s.threshold_mev)
        self.flows = nn.ModuleDict(flows)
        self.coordinates: CellCoordinates = (
            ShareLogits(noise=s.noise_mev)
            if s.coordinates == "logit"
            else ThresholdLogarithms(width=s.width, smear=s.smear, scale=s.scale)
        )

    def _cell_flow(self, dims: int, context: int) -> AutoregressiveFlow:
        """A flow of D = ``dims`` cells given ``context`` numbers, with the sizes of the settings."""
        return self.settings.flow(dims, context, self.direction)

    def flow(self, part: str) -> AutoregressiveFlow:
        """The flow of the cells that a part trains."""
        flow = self.flows[part]
        assert isinstance(flow, AutoregressiveFlow)
        return flow

    @abstractmethod
    def examples(self, batch: Batch, part: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What a part's flow learns from: coordinates (m, D) of cells, contexts (m, C), which count (m,)."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        cells = {name: list(flow.parameters()) for name, flow in self.flows.items()}
        return {"energies": list(self.energy_flow.parameters()), **cells}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of an example of cells."""
        if part == "energies":
            return self.layer_energy_losses(batch, generator)
        x, context, lit = self.examples(batch, part, generator)
        with lit_examples(lit) as rows:
            log_p = self.flow(part).log_prob(x[rows], context[rows], self.bf16)
        return {"loss": -lit_mean(log_p, lit[rows]), "weight": lit.sum()}

    def _log_map(self, energies: Tensor) -> Tensor:
        """Energies of cells or layers as context."""
        return log_energy(energies, self.threshold, self.settings.scale)
