"""SuperCalo's coarse flow: all cells of a coarse shower at once, given the energies of its layers.

Flow-2 of SuperCalo (Pang, Raine, Shih, arXiv:2308.11700): a masked autoregressive flow over the flattened
cells, whose order is fixed.

Legend: ``n`` showers, mesh (Z, P, R) or (Z, Y, X) of ``V`` cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import (
    CellCoordinates,
    DecadesBelowLargest,
    RunningMoments,
    ThresholdLogarithms,
    Whole,
    energy_range,
    log_energy,
    renormalise_layers,
)
from caloforge.models.energies.base import LayerEnergyChoice
from caloforge.models.energies.layers_then_cells import CellSettings, LayersThenCells
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlowSettings

__all__ = ["SuperCaloCoarse"]

LOG_SCALE = 4.0
"""Logarithms of layer energies over the threshold are divided by this, as context."""


class SuperCaloCoarse(LayersThenCells):
    """Autoregressive flow over all cells of a shower, for regular meshes of up to about a thousand cells.

    Layer energies come from ``conditions.layer_energies`` or, without these, from a flow of its own.
    """

    class Settings(AutoregressiveFlowSettings, CellSettings):
        """Sizes of the flows.

        Attributes:
            energies: of the flow for the layer energies.
            coordinates: "log-threshold" for `ThresholdLogarithms`, with width, smear and ``knee_mev``, then
                standardised; or "log", as published, for `DecadesBelowLargest`, with noise of ``noise_mev``.
        """

        blocks: int = Field(4, ge=1)
        hidden: int = Field(128, ge=1)
        depth: int = Field(1, ge=1)
        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        coordinates: Literal["log-threshold", "log"] = "log-threshold"
        knee_mev: float = Field(0.0, ge=0)
        noise_mev: float = Field(5e-3, gt=0)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {
        "blocks": 2,
        "hidden": 16,
        "energies": {"blocks": 2, "hidden": 16},
    }
    settings: Settings
    largest: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        self._add_layer_energies(s.energies, s.threshold_mev)
        self.flow = s.flow(mesh.n_voxels, IncidentContext.size + mesh.n_layers)
        self.coordinates: CellCoordinates = (
            DecadesBelowLargest(noise=s.noise_mev)
            if s.coordinates == "log"
            else ThresholdLogarithms(width=s.width, smear=s.smear, knee=s.knee_mev)
        )
        self.register_buffer("largest", torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(mesh.n_voxels))
        self.register_buffer("std", torch.ones(mesh.n_voxels))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.energy_flow.noise_size,), "cells": (self.mesh.n_voxels,)}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"layers": list(self.energy_flow.parameters()), "cells": list(self.flow.parameters())}

    def fit(self, showers: Showers) -> None:
        least, largest = energy_range(showers)
        self.largest.copy_(largest.max())
        moments, generator = RunningMoments((self.mesh.n_voxels,)), torch.Generator().manual_seed(0)
        for batch in self.fitted_batches(showers, least):
            moments.add(self._values(batch.energies, generator))
        if self.settings.coordinates == "log-threshold":
            moments.store(self.mean, self.std)

    def _whole(self, layer_energies: Tensor) -> Whole:
        return Whole(self.layers.spread(layer_energies), self.layers.width, self.largest)

    def _values(self, energies: Tensor, generator: torch.Generator) -> Tensor:
        """Coordinates (n, V) of energies (n, \\*shape) before they are standardised."""
        whole = self._whole(self.layers.sum(energies))
        y: Tensor = self.coordinates(energies.flatten(1), self.threshold, generator, whole)
        return y

    def _context(self, incident: Tensor, layer_energies: Tensor) -> Tensor:
        """Incident numbers (n, C) and logarithms of the layer energies (n, Z): (n, C + Z)."""
        return torch.cat([incident, log_energy(layer_energies, self.threshold, LOG_SCALE)], dim=1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of its cells given these."""
        if part == "layers":
            return self.layer_energy_losses(batch, generator)
        y = (self._values(batch.energies, generator) - self.mean) / self.std
        context = self._context(self.incident(batch), self.layers.sum(batch.energies))
        log_p = self.flow.log_prob(y, context, self.bf16)
        return {"loss": -log_p.mean()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, threshold = self.incident(conditions), self.threshold
        layer_energies = self.layer_energies(noise["layers"], incident, conditions)
        context = self._context(incident, layer_energies)
        z = self.flow.sample(noise["cells"], context, self.bf16)
        whole = self._whole(layer_energies)
        tentative = self.coordinates.inverse(z * self.std + self.mean, threshold, whole)
        closed = renormalise_layers(tentative, layer_energies, self.layers, threshold)
        return closed.view(-1, *self.mesh.shape)
