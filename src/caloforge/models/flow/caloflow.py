"""CaloFlow: layer energies, then all cells at once; for any mesh, with ragged layers too.

Krause and Shih, arXiv:2106.05285 and 2110.11377; for CaloChallenge 1 with pions and Pang, arXiv:2210.14245.
Flow I: p(E_0 … E_{Z−1} | incident), by the ratios u_i of how the energy is shared among layers. Flow II:
p(cells | E_0 … E_{Z−1}, incident), one masked autoregressive flow over all V cells.

Legend: ``n`` showers, ``V`` cells, ``Z`` layers, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from caloforge.detector.mesh import Mesh
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import Whole, renormalise_layers
from caloforge.models.flow.cell_model import CellFlowModel
from caloforge.models.flow.distillation import DensityStudent

__all__ = ["CaloFlow", "CaloFlowStudent"]


class CaloFlow(CellFlowModel):
    """Masked autoregressive spline flows for layer energies and for all cells of a shower; any mesh.

    Parts: "energies" and "cells".
    """

    sizes: Tensor

    def __init__(
        self, mesh: Mesh, settings: CellFlowModel.Settings | Mapping[str, object] | None = None
    ) -> None:
        super().__init__(mesh, settings)
        self._build({"cells": self._cell_flow(mesh.n_voxels, IncidentContext.size + mesh.n_layers)})
        sizes = torch.tensor(self.layers.sizes)[self.layers.owner]
        self.register_buffer("sizes", sizes, persistent=False)  # (V,): cells of each cell's layer

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"energies": (self.energy_flow.noise_size,), "cells": (self.mesh.n_voxels,)}

    def examples(self, batch: Batch, part: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        energies = self.layers.sum(batch.energies)
        context = torch.cat([self.incident(batch), self._log_map(energies)], dim=1)
        cells, whole = batch.energies.flatten(1), Whole(self.layers.spread(energies), self.sizes)
        x = self.coordinates(cells, self.threshold, generator, whole)
        return x, context, torch.ones_like(batch.energy, dtype=torch.bool)

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident = self.incident(conditions)
        energies = self.layer_energies(noise["energies"], incident, conditions)
        context = torch.cat([incident, self._log_map(energies)], dim=1)
        y = self.flow("cells").sample(noise["cells"], context, self.bf16)
        whole = Whole(self.layers.spread(energies), self.sizes)
        cells = self.coordinates.inverse(y, self.threshold, whole)
        closed = renormalise_layers(cells, energies, self.layers, self.threshold)
        return closed.view(-1, *self.mesh.shape)


class CaloFlowStudent(DensityStudent, CaloFlow):
    """An inverse autoregressive flow that learnt to be the inverse of a `CaloFlow`'s: cells in one pass.

    Part: "cells"; layer energies are the teacher's.
    """

    teacher_class = CaloFlow
