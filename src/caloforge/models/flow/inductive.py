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
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import Layers, exp_threshold, fill_below, log_threshold, renormalise_layers
from caloforge.models.coordinates.threshold import least_energy
from caloforge.models.energies.autoregressive import fitted_batches, regular_layer_sums
from caloforge.models.energies.inductive import InductiveSettings, LongitudinalFlow
from caloforge.models.flow.coupling import CouplingFlow
from caloforge.runtime.precision import use_bf16

__all__ = ["InductiveLayerFlow"]

MOST_BEYOND = 0.01
"""Share of cells that may lie beyond the end of the splines, where a flow is the identity."""


class InductiveLayerFlow(GeneratorModel):
    """Spline-coupling flow over the cells of one layer after the other, for every regular mesh."""

    class Settings(GeneratorModel.Settings):
        """Sizes of the two flows.

        Attributes:
            blocks, hidden, depth, bins, bound: couplings of the cell flow, channels and residual layers of
                their networks, bins and half range of their splines.
            energy_hidden, energy_depth, energy_bins: the same of the layer-energy flow.
            scale: logarithms of cell energies over the threshold are divided by this.
            width: width of the values that stand for empty cells, before ``scale``.
            smear: relative smearing of cell energies in training; keeps the density finite where the layer's
                energy fixes that of its last cell.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
            bf16: networks in bfloat16 (splines stay in float32); "auto" where the processor has it.
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
        width: float = Field(2.0, gt=0)
        smear: float = Field(0.01, ge=0)
        threshold_mev: float | None = Field(None, gt=0)
        bf16: bool | Literal["auto"] = "auto"

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    settings: Settings
    threshold: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        n_z, rows, columns = mesh.shape
        self.shape = (n_z, rows, columns)
        self.one_layer = Layers([rows * columns], Layers.of(mesh).central[:1])
        self.energy_flow = LongitudinalFlow(
            InductiveSettings.model_validate(
                {
                    "hidden": s.energy_hidden,
                    "depth": s.energy_depth,
                    "bins": s.energy_bins,
                    "bound": s.bound,
                    "width": s.width,
                }
            ),
            n_z,
            IncidentContext.size,
        )
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
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.incident = IncidentContext()

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.shape[0] + 1,), "cells": self.shape}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"layers": list(self.energy_flow.parameters()), "cells": list(self.cell_flow.parameters())}

    def fit(self, showers: Showers) -> None:
        least = self.settings.threshold_mev or least_energy(showers)
        self.threshold.fill_(least)
        end = least * math.exp(self.settings.bound * self.settings.scale)  # of the splines, MeV
        lit, beyond, largest = 0, 0, 0.0
        for batch in fitted_batches(showers, self.incident, self.energy_flow, regular_layer_sums, least):
            lit, beyond = lit + int((batch.energies > 0).sum()), beyond + int((batch.energies > end).sum())
            largest = max(largest, float(batch.energies.max()))
        if beyond > MOST_BEYOND * lit:
            raise RecipeError(
                f"{beyond / lit:.1%} of the cells with energy have more than {end:.4g} MeV, where splines "
                f"end, so that they cannot be learned; set settings.scale to at least "
                f"{math.log(largest / least) / self.settings.bound:.1f} or settings.bound higher"
            )

    def _log_map(self, energies: Tensor) -> Tensor:
        return torch.log1p(energies / self.threshold) / self.settings.scale - 1

    def _context(
        self, incident: Tensor, energy: Tensor, before: Tensor, total: Tensor, hot: Tensor
    ) -> Tensor:
        """Context of a layer: incident (n, C), energies of it, before it and of all (n,), one-hot (n, Z)."""
        ratios = torch.stack([self._log_map(energy), self._log_map(before), self._log_map(total)], dim=-1)
        return torch.cat([incident, ratios, hot], dim=-1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of the cells of a layer."""
        energies, threshold = batch.energies, float(self.threshold)
        incident = self.incident(batch)
        layer_energies = energies.sum(dim=(2, 3))
        if part == "layers":
            loss = self.energy_flow.loss(layer_energies, batch.energy, incident, threshold, generator)
            return {"loss": loss.mean()}
        s = self.settings
        uniform = torch.rand(energies.shape, generator=generator, device=energies.device)
        smear = s.smear * torch.randn(energies.shape, generator=generator, device=energies.device)
        below = fill_below(uniform, s.width, "log-normal")[0]
        y = log_threshold(energies, threshold, below)
        y = torch.where(y > 0, (y + smear).abs(), y) / s.scale

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
        examples = (y.flatten(0, 1)[lit], maps.flatten(0, 1)[lit], context[lit])
        log_p = self.cell_flow.log_prob(
            *examples, low_precision=use_bf16(self.settings.bf16, energies.device)
        )
        return {"loss": -log_p.sum() / lit.sum().clamp_min(1)}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, threshold = self.incident(conditions), float(self.threshold)
        low_precision = use_bf16(self.settings.bf16, incident.device)
        layer_energies = conditions.layer_energies
        if layer_energies is None:
            layer_energies = self.energy_flow.sample(noise["layers"], conditions.energy, incident, threshold)
        total = layer_energies.sum(dim=1)
        one_hot = torch.eye(self.shape[0], device=incident.device)
        n, (_, rows, columns) = len(incident), self.shape
        before = incident.new_zeros(n, rows, columns)
        seen, energy_before, showers = torch.zeros_like(before), torch.zeros_like(total), []
        for i, z in enumerate(noise["cells"].unbind(dim=1)):
            energy = layer_energies[:, i]
            maps = torch.cat([self._log_map(before), self._log_map(seen)], dim=-1)
            context = self._context(incident, energy, energy_before, total, one_hot[i].expand(n, -1))
            y = self.cell_flow.sample(z, maps, context, low_precision)
            tentative = exp_threshold(y * self.settings.scale, threshold, cut=False).flatten(1)
            before = renormalise_layers(tentative, energy[:, None], self.one_layer, threshold).view_as(before)
            seen, energy_before = seen + before, energy
            showers.append(before)
        return torch.stack(showers, dim=1)
