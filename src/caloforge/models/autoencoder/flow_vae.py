"""A variational autoencoder worth having: prior by a flow, cells as ranks that know their neighbours.

What autoencoders get wrong is learned apart. Layer energies come from a model of their own and are exact.
Cells are ranks among cells of layers with the same energy, so that their spectrum is right whatever the
networks do. The latent's prior is a flow, trained with the encoder. The decoder is a density whose cells know
their neighbours, `LocalDecoder`.

Legend: ``n`` showers, mesh (Z, P, R), ``L`` latents, ``C`` numbers of context. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.models.autoencoder.latents import GaussianEncoder, encoded
from caloforge.models.autoencoder.local_decoder import LocalDecoder
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import log_energy, renormalise_layers
from caloforge.models.coordinates.diffusion import most_showers
from caloforge.models.coordinates.diffusion.quantiles import ConditionalQuantiles
from caloforge.models.energies.base import LayerEnergyChoice
from caloforge.models.energies.layers_then_cells import LayersThenCells
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlowSettings

__all__ = ["FlowVAE"]

LOG_SCALE = 4.0
"""Logarithms of layer energies over the threshold are divided by this."""
NEVER = 30.0
"""Normal score of the probability of an empty cell where there is no other."""


class FlowVAE(LayersThenCells):
    """Layer energies, then a latent from a flow, then cells; for every regular mesh."""

    class Settings(LayersThenCells.Settings):
        """Sizes of the networks.

        Attributes:
            energies: the model of layer energies.
            latent: L.
            prior: the flow of latents.
            encoder: hidden units of the encoder's layers.
            width, maps, hidden: of `LocalDecoder`.
            nodes, quantiles: layer energies at which tables of ranks are kept, and how many.
            warmup: share of the training in which the latent's cost rises to its full size.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
        """

        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        latent: int = Field(24, ge=1)
        prior: AutoregressiveFlowSettings = Field(
            {"blocks": 4, "hidden": 64, "depth": 1}, validate_default=True
        )
        encoder: tuple[int, ...] = (256, 128)
        width: int = Field(128, ge=1)
        maps: int = Field(8, ge=1)
        hidden: int = Field(32, ge=1)
        nodes: int = Field(16, ge=2)
        quantiles: int = Field(33, ge=5)
        warmup: float = Field(0.3, ge=0, le=1)
        threshold_mev: float | None = Field(None, gt=0)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    example: ClassVar[Mapping[str, Any]] = {
        "energies": {"blocks": 1, "hidden": 8},
        "latent": 3,
        "prior": {"blocks": 2, "hidden": 8, "depth": 1},
        "encoder": (8,),
        "width": 8,
        "maps": 2,
        "hidden": 8,
    }
    settings: Settings

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, (layers, rows, columns) = self.settings, mesh.shape
        self._add_layer_energies(s.energies, s.threshold_mev)
        self.table = ConditionalQuantiles(1, layers, columns, nodes=s.nodes, quantiles=s.quantiles)
        context = IncidentContext.size + layers
        self.encoder = GaussianEncoder(2 * mesh.n_voxels + context, s.encoder, s.latent)
        self.prior = s.prior.flow(s.latent, context)
        self.decoder = LocalDecoder(
            (layers, rows, columns),
            s.latent + context,
            width=s.width,
            maps=s.maps,
            hidden=s.hidden,
            periodic=mesh.kind == "cylinder",
        )

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "layers": (self.energy_flow.noise_size,),
            "latent": (self.settings.latent,),
            "cells": (2, *self.mesh.shape),
        }

    def parts(self) -> dict[str, list[nn.Parameter]]:
        shape = [*self.encoder.parameters(), *self.prior.parameters(), *self.decoder.parameters()]
        return {"energies": list(self.energy_flow.parameters()), "shape": shape}

    def fit(self, showers: Showers) -> None:
        super().fit(showers)
        chosen = torch.from_numpy(showers.thinned(most_showers(self.mesh.n_voxels)).energies)
        self.table.fit(0, chosen.view(-1, *self.mesh.shape) / self.threshold)

    def _known(self, conditions: ConditionTensors, layer_energies: Tensor) -> tuple[Tensor, Tensor]:
        """Context (n, C), and a number of each layer, (n, Z)."""
        logs = log_energy(layer_energies, self.threshold, LOG_SCALE)
        return torch.cat([self.incident(conditions), logs], dim=1), logs

    def _tables(self, layer_energies: Tensor) -> tuple[Tensor, Tensor]:
        """See `ConditionalQuantiles.tables`; layers without energy have no cells with energy."""
        slots = torch.zeros(layer_energies.shape[0], dtype=torch.long, device=layer_energies.device)
        empty, quantiles = self.table.tables(layer_energies / self.threshold, slots)
        return torch.where(layer_energies[:, :, None, None] > 0, empty, NEVER), quantiles

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Negative log-likelihood of layer energies, or its bound of cells, "cells" and "latent" together."""
        if part == "energies":
            return self.layer_energy_losses(batch, generator)
        layer_energies = self.layers.sum(batch.energies)
        context, layers = self._known(batch, layer_energies)
        empty, quantiles = self._tables(layer_energies)
        lit = (batch.energies > 0).to(context)
        ranks = self.table.ranks(batch.energies / self.threshold, quantiles)
        seen = torch.cat([lit.flatten(1), (ranks * lit).flatten(1), context], dim=1)
        z, log_q = encoded(self.encoder, seen, generator)
        cost = log_q - self.prior.log_prob(z, context)
        known = torch.cat([z, context], dim=1)
        cells = -self.decoder.log_prob(lit, ranks, empty, known, layers)
        s = self.settings
        weight = (self.progress / s.warmup).clamp_max(1.0) if self.training and s.warmup else 1.0
        return {"loss": (cells + weight * cost).mean(), "cells": cells.mean(), "latent": cost.mean()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident = self.incident(conditions)
        layer_energies = self.layer_energies(noise["layers"], incident, conditions)
        context, layers = self._known(conditions, layer_energies)
        z = self.prior.sample(noise["latent"], context)
        empty, quantiles = self._tables(layer_energies)
        margin, ranks = self.decoder.sample(noise["cells"], empty, torch.cat([z, context], dim=1), layers)
        # a layer with energy has a cell with energy
        lit = (margin > 0) | (margin == margin.amax(dim=(2, 3), keepdim=True))
        energies = torch.where(lit, self.table.energies(ranks, quantiles) * self.threshold, 0.0)
        return renormalise_layers(energies, layer_energies, self.layers, self.threshold)
