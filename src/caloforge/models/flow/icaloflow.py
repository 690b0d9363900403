"""iCaloFlow: layer energies, then the first layer of cells, then each layer given the one before.

Buckley, Krause, Pang and Shih, arXiv:2305.11934. p(E_0 … E_{Z−1} | incident) · p(layer 0 | E_0, incident) ·
Π_n p(layer n | layer n − 1, E_n, E_{n−1}, n, incident); all layers but the first share a flow, so that one
shower is as many training examples as it has layers with energy.

Legend: ``n`` showers, mesh (Z, P, R), ``D`` = P·R cells of a layer, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.detector.mesh import Mesh
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import Whole, renormalise_layers
from caloforge.models.flow.cell_model import CellFlowModel
from caloforge.models.flow.distillation import DensityStudent

__all__ = ["ICaloFlow", "ICaloFlowStudent"]


class ICaloFlow(CellFlowModel):
    """Masked autoregressive spline flows over the cells of one layer after the other; any regular mesh.

    Parts: "energies" (the layers' energies), "first" (layer 0) and "next" (every other layer).
    """

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")

    def __init__(
        self, mesh: Mesh, settings: CellFlowModel.Settings | Mapping[str, object] | None = None
    ) -> None:
        super().__init__(mesh, settings)
        n_z, rows, columns = mesh.shape
        self.n_cells = rows * columns
        flows = {"first": self._cell_flow(self.n_cells, IncidentContext.size + 1)}
        if n_z > 1:
            context = IncidentContext.size + 2 + (n_z - 1) + self.n_cells
            flows["next"] = self._cell_flow(self.n_cells, context)
        self._build(flows)
        self.one_layer = self.layers.layer(0)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"energies": (self.energy_flow.noise_size,), "cells": self.mesh.shape}

    def _contexts(self, incident: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
        """What is known before any cell: of layer 0, (n, C), and of the others, (n, Z − 1, C)."""
        logs = self._log_map(energies)
        n, others = logs.shape[0], logs.shape[1] - 1
        hot = torch.eye(others, device=logs.device).expand(n, -1, -1)
        wide = incident[:, None].expand(-1, others, -1)
        rest = torch.cat([wide, logs[:, 1:, None], logs[:, :-1, None], hot], dim=2)
        return torch.cat([incident, logs[:, :1]], dim=1), rest

    def examples(self, batch: Batch, part: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        cells = batch.energies.flatten(2)  # (n, Z, D)
        energies = cells.sum(dim=2)
        first, rest = self._contexts(self.incident(batch), energies)
        if part == "first":
            taken, sums, context = cells[:, 0], energies[:, 0], first
        else:
            context = torch.cat([rest, self._log_map(cells[:, :-1])], dim=2).flatten(0, 1)
            taken, sums = cells[:, 1:].flatten(0, 1), energies[:, 1:].flatten()
        lit = sums > 0  # a layer without energy teaches nothing
        x = self.coordinates(taken, self.threshold, generator, Whole(sums[:, None], self.n_cells))
        return x, context, lit

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident = self.incident(conditions)
        energies = self.layer_energies(noise["energies"], incident, conditions)
        first, rest = self._contexts(incident, energies)
        showers: list[Tensor] = []
        for i, z in enumerate(noise["cells"].flatten(2).unbind(dim=1)):
            if i == 0:
                y = self.flow("first").sample(z, first, self.bf16)
            else:
                context = torch.cat([rest[:, i - 1], self._log_map(showers[-1])], dim=1)
                y = self.flow("next").sample(z, context, self.bf16)
            sums = energies[:, i : i + 1]
            cells = self.coordinates.inverse(y, self.threshold, Whole(sums, self.n_cells))
            showers.append(renormalise_layers(cells, sums, self.one_layer, self.threshold))
        return torch.stack(showers, dim=1).view(-1, *self.mesh.shape)


class ICaloFlowStudent(DensityStudent, ICaloFlow):
    """Inverse autoregressive flows that learnt to be the inverse of an `ICaloFlow`: one pass for each layer.

    Parts: "first" and "next"; layer energies are the teacher's.
    """

    teacher_class = ICaloFlow
