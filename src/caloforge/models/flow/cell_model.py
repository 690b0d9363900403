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

from caloforge.data.showers import Showers
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import Layers, cut_noise, exp_threshold, fill_below, log_threshold
from caloforge.models.coordinates.threshold import least_energy
from caloforge.models.energies.autoregressive import fitted_batches
from caloforge.models.energies.base import LayerEnergyChoice, layer_energy_model
from caloforge.models.flow.autoregressive.flow import AutoregressiveFlow, Direction
from caloforge.runtime.precision import use_bf16

__all__ = ["CellFlowModel"]

ALPHA = 1e-6
"""Shares s of a layer's energy are squeezed to α + (1 − 2α)s before the logit."""


class CellFlowModel(GeneratorModel):
    """Layer energies by one flow, cells by autoregressive flows given them.

    A subclass makes a flow for each part beside "energies" with `_cell_flow`, hands them to `_build` and says
    what their examples are and how showers are decoded.
    """

    class Settings(GeneratorModel.Settings):
        """Sizes of the flows and coordinates of the cells.

        Attributes:
            energies: the flow of the layer energies.
            blocks, hidden, depth, bins, bound, dropout: of the flows of the cells, see `AutoregressiveFlow`.
            coordinates: "log" for the logarithm of energy over threshold, where values below the threshold
                stand for empty cells; "logit" for that of a cell's share of its layer, as published.
            scale, width, smear: of "log" coordinates: logarithms are divided by ``scale``; width of the
                values of empty cells before that, see `fill_below`; relative smearing of energies in
                training, which keeps the density finite where the layer's energy fixes that of its last cell.
            noise_mev: of "logit" coordinates: width of the uniform noise that is added to every cell.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
            bf16: networks in bfloat16 (splines stay in float32); "auto" where the processor has it.
        """

        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        blocks: int = Field(8, ge=1)
        hidden: int = Field(256, ge=1)
        depth: int = Field(2, ge=1)
        bins: int = Field(8, ge=2)
        bound: float = Field(6.0, gt=0)
        dropout: float = Field(0.0, ge=0, lt=1)
        coordinates: Literal["log", "logit"] = "log"
        scale: float = Field(2.0, gt=0)
        width: float = Field(2.0, gt=0)
        smear: float = Field(0.01, ge=0)
        noise_mev: float = Field(1e-3, gt=0)
        threshold_mev: float | None = Field(None, gt=0)
        bf16: bool | Literal["auto"] = "auto"

    direction: ClassVar[Direction] = "density"
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {
        "blocks": 2,
        "hidden": 16,
        "energies": {"blocks": 2, "hidden": 16},
    }
    settings: Settings
    threshold: Tensor

    def _build(self, flows: dict[str, AutoregressiveFlow]) -> None:
        """Add the layer energies, the incident context and the flows of the cells by part."""
        s = self.settings
        self.layers = Layers.of(self.mesh)
        self.incident = IncidentContext()
        self.energy_flow = layer_energy_model(s.energies, self.mesh.n_layers, IncidentContext.size)
        self.flows = nn.ModuleDict(flows)
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))

    def _cell_flow(self, dims: int, context: int) -> AutoregressiveFlow:
        """A flow of D = ``dims`` cells given ``context`` numbers, with the sizes of the settings."""
        s = self.settings
        return AutoregressiveFlow(
            dims,
            context,
            blocks=s.blocks,
            direction=self.direction,
            hidden=s.hidden,
            depth=s.depth,
            bins=s.bins,
            bound=s.bound,
            dropout=s.dropout,
        )

    def flow(self, part: str) -> AutoregressiveFlow:
        """The flow of the cells that a part trains."""
        flow = self.flows[part]
        assert isinstance(flow, AutoregressiveFlow)
        return flow

    @abstractmethod
    def examples(self, batch: Batch, part: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What a part's flow learns from a batch: coordinates (m, D) of cells and contexts (m, C)."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        cells = {name: list(flow.parameters()) for name, flow in self.flows.items()}
        return {"energies": list(self.energy_flow.parameters()), **cells}

    def fit(self, showers: Showers) -> None:
        least = self.settings.threshold_mev or least_energy(showers)
        self.threshold.fill_(least)
        for _ in fitted_batches(showers, self.incident, self.energy_flow, self.layers.sum, least):
            pass

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of an example of cells."""
        if part == "energies":
            energies = self.layers.sum(batch.energies)
            loss = self.energy_flow.loss(
                energies, batch.energy, self.incident(batch), float(self.threshold), generator
            )
            return {"loss": loss.mean()}
        x, context = self.examples(batch, part, generator)
        log_p = self.flow(part).log_prob(x, context, use_bf16(self.settings.bf16, x.device))
        return {"loss": -log_p.sum() / max(len(x), 1)}

    def _layer_energies(self, noise: Tensor, incident: Tensor, conditions: ConditionTensors) -> Tensor:
        """Layer energies (n, Z) of a generation: those that are given, or sampled ones."""
        if conditions.layer_energies is not None:
            return conditions.layer_energies
        return self.energy_flow.sample(noise, conditions.energy, incident, float(self.threshold))

    def _log_map(self, energies: Tensor) -> Tensor:
        """Energies of cells or layers, which may be 0, as context."""
        return torch.log1p(energies / self.threshold) / self.settings.scale - 1

    def _coordinates(
        self, cells: Tensor, sums: Tensor, size: int | Tensor, generator: torch.Generator
    ) -> Tensor:
        """Cells (…) in the coordinates of the flow, with fresh noise.

        Args:
            cells: energies.
            sums: energy of the layer of each cell, broadcast to the shape of ``cells``.
            size: cells in the layer of each cell, likewise.
            generator: of the noise.
        """
        s = self.settings
        uniform = torch.rand(cells.shape, generator=generator, device=cells.device)
        if s.coordinates == "logit":
            share = (cells + s.noise_mev * uniform) / (sums + s.noise_mev * size)
            return torch.logit(ALPHA + (1 - 2 * ALPHA) * share.clamp(0, 1))
        smear = s.smear * torch.randn(cells.shape, generator=generator, device=cells.device)
        below = fill_below(uniform, s.width, "log-normal")[0]
        y = log_threshold(cells, float(self.threshold), below)
        return torch.where(y > 0, (y + smear).abs(), y) / s.scale

    def _cells(self, y: Tensor, sums: Tensor, size: int | Tensor) -> Tensor:
        """Undo `_coordinates`: energies (…), still to be brought to the layers' energies."""
        s, threshold = self.settings, float(self.threshold)
        if s.coordinates == "logit":
            share = ((torch.sigmoid(y) - ALPHA) / (1 - 2 * ALPHA)).clamp(0, 1)
            return cut_noise(share * (sums + s.noise_mev * size), s.noise_mev, threshold)
        return exp_threshold(y * s.scale, threshold, cut=False)
