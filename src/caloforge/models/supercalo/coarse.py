"""SuperCalo's coarse flow: all cells of a coarse shower at once, given the energies of its layers.

Flow-2 of SuperCalo (Pang, Raine, Shih, arXiv:2308.11700): a masked autoregressive flow over the flattened
cells, whose order is fixed. `supercalo_fine` holds the super-resolution flow, `upsampling` the chain of both.

Legend: ``n`` showers, mesh (Z, P, R) or (Z, Y, X) of ``V`` cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import (
    Layers,
    RunningMoments,
    exp_threshold,
    fill_below,
    log_threshold,
    renormalise_layers,
)
from caloforge.models.coordinates.threshold import least_energy
from caloforge.models.energies.autoregressive import FIT_BATCH, fitted_batches
from caloforge.models.energies.base import LayerEnergyChoice, layer_energy_model
from caloforge.models.flow.autoregressive.flow import AutoregressiveFlow
from caloforge.runtime.precision import use_bf16

__all__ = ["SuperCaloCoarse", "lit_values", "tentative_energies"]

SMALLEST_STD = 1e-3


def lit_values(
    energies: Tensor,
    threshold: float,
    width: float,
    smear: float,
    generator: torch.Generator,
    knee: float = 0.0,
) -> Tensor:
    """`log_threshold` with log-normal values for empty cells, lit ones smeared by a relative ``smear``.

    Energies E over the threshold t become log((E + knee)/(t + knee)). Where few cells lie between t and the
    knee, that narrows the gap between empty and lit cells, into which a smooth flow spills.
    """
    uniform = torch.rand(energies.shape, generator=generator, device=energies.device)
    below = fill_below(uniform, width, "log-normal")[0]
    y = log_threshold(energies + knee, threshold + knee, below)
    if not smear:
        return y
    shift = smear * torch.randn(energies.shape, generator=generator, device=energies.device)
    return torch.where(y > 0, (y + shift).abs(), y)


def tentative_energies(y: Tensor, threshold: float, knee: float = 0.0) -> Tensor:
    """Undo `lit_values`; empty cells get energies below the threshold, so that the hottest one is known."""
    below = exp_threshold(y, threshold, cut=False)
    return torch.where(y >= 0, (exp_threshold(y, threshold + knee) - knee).clamp_min(threshold), below)


class SuperCaloCoarse(GeneratorModel):
    """Autoregressive flow over all cells of a shower, for regular meshes of up to about a thousand cells.

    Layer energies come from ``conditions.layer_energies`` or, without these, from a flow of its own.
    """

    class Settings(GeneratorModel.Settings):
        """Sizes of the flows.

        Attributes:
            blocks, hidden, depth, bins, bound, dropout: MADE blocks, hidden units and layers of each, bins
                and half range of the splines, fraction of hidden units dropped in training.
            energies: of the flow for the layer energies.
            coordinates: "log-threshold", logarithms over the threshold with log-normal values for empty
                cells, standardised; or "log", log10((E + noise)/E_max) + 6 as published.
            width: of the log-normal values, see `fill_below`.
            smear: relative smearing of cell energies in training; keeps the density finite where the layer's
                energy fixes that of its last cell.
            knee_mev: energy below which few cells lie, see `lit_values`; 0 for plain logarithms.
            noise_mev: width of the uniform noise of "log".
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
            bf16: networks in bfloat16 (splines stay in float32); "auto" where the processor has it.
        """

        blocks: int = Field(4, ge=1)
        hidden: int = Field(128, ge=1)
        depth: int = Field(1, ge=1)
        bins: int = Field(8, ge=2)
        bound: float = Field(6.0, gt=0)
        dropout: float = Field(0.0, ge=0, lt=1)
        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        coordinates: Literal["log-threshold", "log"] = "log-threshold"
        width: float = Field(2.0, gt=0)
        smear: float = Field(0.01, ge=0)
        knee_mev: float = Field(0.0, ge=0)
        noise_mev: float = Field(5e-3, gt=0)
        threshold_mev: float | None = Field(None, gt=0)
        bf16: bool | Literal["auto"] = "auto"

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    settings: Settings
    threshold: Tensor
    largest: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        n_z = mesh.n_layers
        self.layers = Layers.of(mesh)
        self.incident = IncidentContext()
        self.energy_flow = layer_energy_model(s.energies, n_z, IncidentContext.size)
        self.flow = AutoregressiveFlow(
            mesh.n_voxels,
            IncidentContext.size + n_z,
            blocks=s.blocks,
            hidden=s.hidden,
            depth=s.depth,
            bins=s.bins,
            bound=s.bound,
            dropout=s.dropout,
        )
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.register_buffer("largest", torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(mesh.n_voxels))
        self.register_buffer("std", torch.ones(mesh.n_voxels))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.energy_flow.noise_size,), "cells": (self.mesh.n_voxels,)}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"layers": list(self.energy_flow.parameters()), "cells": list(self.flow.parameters())}

    def fit(self, showers: Showers) -> None:
        least = self.settings.threshold_mev or least_energy(showers)
        self.threshold.fill_(least)
        self.largest.fill_(max(float(e.max()) for e, _ in showers.batches(FIT_BATCH)))
        moments, generator = RunningMoments((self.mesh.n_voxels,)), torch.Generator().manual_seed(0)
        for batch in fitted_batches(showers, self.incident, self.energy_flow, self.layers.sum, least):
            moments.add(self._values(batch.energies.flatten(1), generator))
        if self.settings.coordinates == "log-threshold":
            self.mean.copy_(moments.mean)
            self.std.copy_(moments.std().clamp_min(SMALLEST_STD))

    def _values(self, energies: Tensor, generator: torch.Generator) -> Tensor:
        """Coordinates (n, V) of energies (n, V) before they are standardised."""
        s = self.settings
        if s.coordinates == "log-threshold":
            return lit_values(energies, float(self.threshold), s.width, s.smear, generator, s.knee_mev)
        uniform = torch.rand(energies.shape, generator=generator, device=energies.device).clamp_min(1e-6)
        return ((energies + s.noise_mev * uniform) / self.largest).log10() + 6

    def _context(self, incident: Tensor, layer_energies: Tensor) -> Tensor:
        """Incident numbers (n, C) and logarithms of the layer energies (n, Z): (n, C + Z)."""
        logs = torch.log1p(layer_energies / self.threshold) / 4 - 1
        return torch.cat([incident, logs], dim=1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of its cells given these."""
        incident, layer_energies = self.incident(batch), self.layers.sum(batch.energies)
        if part == "layers":
            loss = self.energy_flow.loss(
                layer_energies, batch.energy, incident, float(self.threshold), generator
            )
            return {"loss": loss.mean()}
        y = (self._values(batch.energies.flatten(1), generator) - self.mean) / self.std
        context = self._context(incident, layer_energies)
        log_p = self.flow.log_prob(y, context, use_bf16(self.settings.bf16, incident.device))
        return {"loss": -log_p.mean()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, threshold = self.incident(conditions), float(self.threshold)
        layer_energies = conditions.layer_energies
        if layer_energies is None:
            layer_energies = self.energy_flow.sample(noise["layers"], conditions.energy, incident, threshold)
        context = self._context(incident, layer_energies)
        z = self.flow.sample(noise["cells"], context, use_bf16(self.settings.bf16, incident.device))
        y = z * self.std + self.mean
        if self.settings.coordinates == "log-threshold":
            tentative = tentative_energies(y, threshold, self.settings.knee_mev)
        else:
            bound = math.log10(1e3)  # a thousand times the largest cell, so that sums stay finite
            tentative = self.largest * 10 ** ((y - 6).clamp(max=bound)) - self.settings.noise_mev / 2
            tentative = tentative.clamp_min(0)
        closed = renormalise_layers(tentative, layer_energies, self.layers, threshold)
        return closed.view(-1, *self.mesh.shape)
