"""Inductive layer flow: layer energies first, then each layer of cells given the one before.

The factorisation is that of iCaloFlow (Buckley, Krause, Pang, Shih, arXiv:2305.11934): one flow for the layer
energies and one, shared by all layers, for the cells of layer i given layer i − 1, so that one shower is as
many training examples as the mesh has layers. Here the cell flow is made of spline couplings, whose density
and sampling cost the same, and empty cells are values below a threshold instead of logits of noise.

Legend: ``n`` showers, mesh (Z, P, R), ``C`` numbers of incident context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import ThresholdLogarithms, log_energy, renormalise_layers
from caloforge.models.energies.inductive import InductiveSettings
from caloforge.models.energies.layers_then_cells import CellSettings, LayersThenCells
from caloforge.models.lit import lit_mean, lit_rows
from caloforge.models.networks.coupling import CouplingFlow

__all__ = ["InductiveLayerFlow"]

MOST_BEYOND = 0.01
"""Share of cells that may lie beyond the end of the splines, where a flow is the identity."""


class InductiveLayerFlow(LayersThenCells):
    """Spline-coupling flow over the cells of one layer after the other, for every regular mesh."""

    class Settings(CellSettings):
        """Sizes of the two flows.

        Attributes:
            blocks, hidden, depth, bins, bound: couplings of the cell flow, channels and residual layers of
                their networks, bins and half range of their splines.
            energy_hidden, energy_depth, energy_bins: the same of the layer-energy flow.
            scale: logarithms of cell energies over the threshold are divided by this.
        """

        blocks: int = Field(6, ge=1)
        hidden: int = Field(64, ge=1)
        depth: int = Field(2, ge=0)
        bins: int = Field(8, ge=2)
        bound: float = Field(5.0, gt=0)
        energy_hidden: int = Field(96, ge=1)
        energy_depth: int = Field(3, ge=0)
        energy_bins: int = Field(12, ge=2)
        scale: float = Field(2.0, gt=0)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {"blocks": 2, "hidden": 16}
    settings: Settings

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        n_z, rows, columns = mesh.shape
        self.shape = (n_z, rows, columns)
        sizes = {"hidden": s.energy_hidden, "depth": s.energy_depth, "bins": s.energy_bins}
        energies = InductiveSettings.model_validate(sizes | {"bound": s.bound, "width": s.width})
        self._add_layer_energies(energies, s.threshold_mev)
        self.one_layer = self.layers.layer(0)
        self.coordinates = ThresholdLogarithms(width=s.width, smear=s.smear, scale=s.scale)
        self.cell_flow = CouplingFlow(
            rows,
            columns,
            maps=2 * columns,
            context=IncidentContext.size + 3 + n_z,
            blocks=s.blocks,
            hidden=s.hidden,
            depth=s.depth,
            bins=s.bins,
            bound=s.bound,
            periodic=mesh.kind == "cylinder",
        )

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.shape[0] + 1,), "cells": self.shape}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"layers": list(self.energy_flow.parameters()), "cells": list(self.cell_flow.parameters())}

    def fit(self, showers: Showers) -> None:
        batches = self.fitted_batches(showers)
        least = float(self.threshold)
        end = least * math.exp(self.settings.bound * self.settings.scale)  # of the splines, MeV
        lit, beyond, largest = 0, 0, 0.0
        for batch in batches:
            lit, beyond = lit + int((batch.energies > 0).sum()), beyond + int((batch.energies > end).sum())
            largest = max(largest, float(batch.energies.max()))
        if beyond > MOST_BEYOND * lit:
            raise RecipeError(
                f"{beyond / lit:.1%} of the cells with energy have more than {end:.4g} MeV, where splines "
                f"end, so that they cannot be learned; set settings.scale to at least "
                f"{math.log(largest / least) / self.settings.bound:.1f} or settings.bound higher"
            )

    def _log_map(self, energies: Tensor) -> Tensor:
        return log_energy(energies, self.threshold, self.settings.scale)

    def _context(
        self, incident: Tensor, energy: Tensor, before: Tensor, total: Tensor, hot: Tensor
    ) -> Tensor:
        """Context of a layer: incident (n, C), energies of it, before it and of all (n,), one-hot (n, Z)."""
        ratios = torch.stack([self._log_map(energy), self._log_map(before), self._log_map(total)], dim=-1)
        return torch.cat([incident, ratios, hot], dim=-1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of the cells of a layer."""
        if part == "layers":
            return self.layer_energy_losses(batch, generator)
        energies, incident = batch.energies, self.incident(batch)
        layer_energies = energies.sum(dim=(2, 3))
        y = self.coordinates(energies, self.threshold, generator)

        # shape: every layer (n, Z, …) is an example of its own; those without energy teach nothing
        before = F.pad(energies, (0, 0, 0, 0, 1, 0))[:, :-1]
        maps = torch.cat([self._log_map(before), self._log_map(before.cumsum(dim=1))], dim=-1)
        n, n_z = layer_energies.shape
        context = self._context(
            incident[:, None].expand(-1, n_z, -1).flatten(0, 1),
            layer_energies.flatten(),
            before.sum(dim=(2, 3)).flatten(),
            layer_energies.sum(dim=1, keepdim=True).expand(-1, n_z).flatten(),
            torch.eye(n_z, device=energies.device).repeat(n, 1),
        )
        lit = (layer_energies > 0).flatten()
        rows = lit_rows(lit)
        examples = (y.flatten(0, 1)[rows], maps.flatten(0, 1)[rows], context[rows])
        log_p = self.cell_flow.log_prob(*examples, bf16=self.bf16)
        return {"loss": -lit_mean(log_p, lit[rows]), "weight": lit.sum()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, threshold = self.incident(conditions), self.threshold
        layer_energies = self.layer_energies(noise["layers"], incident, conditions)
        total = layer_energies.sum(dim=1)
        one_hot = torch.eye(self.shape[0], device=incident.device)
        n, (_, rows, columns) = incident.shape[0], self.shape
        before = incident.new_zeros(n, rows, columns)
        seen, energy_before, showers = torch.zeros_like(before), torch.zeros_like(total), []
        for i, z in enumerate(noise["cells"].unbind(dim=1)):
            energy = layer_energies[:, i]
            maps = torch.cat([self._log_map(before), self._log_map(seen)], dim=-1)
            context = self._context(incident, energy, energy_before, total, one_hot[i].expand(n, -1))
            y = self.cell_flow.sample(z, maps, context, self.bf16)
            tentative = self.coordinates.inverse(y, threshold).flatten(1)
            before = renormalise_layers(tentative, energy[:, None], self.one_layer, threshold).view_as(before)
            seen, energy_before = seen + before, energy
            showers.append(before)
        return torch.stack(showers, dim=1)
