"""What layer-to-layer flows share: layer energies first, then each layer of cells given those before it.

The factorisation and the steps after sampling are those of L2LFlows (Diefenbacher, Eren, Gaede, Kasieczka,
Krause, Shekhzadeh, Shih, arXiv:2302.11594): a flow for the layer energies, a causal flow for every layer,
given at most five layers before it, threshold-aware renormalisation, and a map that restores the spectrum of
cell energies.

Legend: ``n`` showers, mesh (Z, P, R), ``L`` layers at once (Z in training, 1 in sampling), ``M`` context maps
of a layer, ``V`` context numbers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import (
    CellCoordinates,
    LargestCellLogits,
    SpectrumMap,
    ThresholdLogarithms,
    Whole,
    block_sums,
    energy_range,
    log_energy,
    renormalise_layers,
)
from caloforge.models.energies.base import LayerEnergyChoice
from caloforge.models.energies.layers_then_cells import CellSettings, LayersThenCells
from caloforge.models.flow.layer_loop import LayerLoop
from caloforge.models.lit import lit_mean, lit_rows
from caloforge.models.loops import recorded_loop, recording_loops

__all__ = ["CausalLayerFlow"]

CALIBRATION_SHOWERS = 1000


class CausalLayerFlow(LayersThenCells):
    """Layer energies, then layer after layer; a subclass gives the flow of a layer's cells.

    Its part "cells" is all parameters of ``cell_flow``.
    """

    class Settings(CellSettings):
        """What all layer-to-layer flows have.

        Attributes:
            energies: the flow of the layer energies.
            shared: one flow for all layers that knows the layer's number, instead of one for each.
            history: layers before that a layer is given.
            coordinates: "threshold" for `ThresholdLogarithms` or "layer-max" for `LargestCellLogits`.
            scale: of "threshold" coordinates and of energies as context.
            spectrum: fit the map that restores the spectrum of cell energies after training.
            grouping: cells (z, φ, r) in a coarse cell whose energy ``conditions.given`` holds, which makes
                one more context map: for the fine step of a chain.
        """

        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        shared: bool = False
        history: int = Field(5, ge=1)
        coordinates: Literal["threshold", "layer-max"] = "threshold"
        scale: float = Field(2.0, gt=0)
        spectrum: bool = True
        grouping: tuple[int, int, int] | None = None

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    settings: Settings
    cell_flow: nn.Module

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        n_z, rows, columns = mesh.shape
        self.shape = (n_z, rows, columns)
        if s.grouping is not None and any(
            length % f for length, f in zip(mesh.shape, s.grouping, strict=True)
        ):
            raise MeshError(f"settings.grouping {s.grouping} does not divide the {mesh}; choose divisors")
        self.periodic = mesh.kind == "cylinder"
        self.n_flows = 1 if s.shared else n_z
        self.n_maps = s.history + 1 + (s.grouping is not None)
        self.n_vector = IncidentContext.size + 3 + (n_z if s.shared else 0)
        self._add_layer_energies(s.energies, s.threshold_mev)
        self.one_layer = self.layers.layer(0)
        self.coordinates: CellCoordinates = (
            LargestCellLogits(width=s.width, smear=s.smear)
            if s.coordinates == "layer-max"
            else ThresholdLogarithms(width=s.width, smear=s.smear, scale=s.scale)
        )
        self.coordinates.register_buffer("largest", torch.ones(n_z))  # cell of each layer in training, MeV
        self.spectrum = SpectrumMap()

    @abstractmethod
    def cell_log_prob(self, y: Tensor, maps: Tensor, vector: Tensor, bf16: bool) -> Tensor:
        """log p of coordinates y (n, L, P, R) given maps (n, L, M, P, R) and numbers (n, L, V): (n, L).

        A shared flow gets single layers, L = 1, of any number; otherwise L = Z.
        """

    @abstractmethod
    def cell_sample(self, z: Tensor, maps: Tensor, vector: Tensor, layer: int, bf16: bool) -> Tensor:
        """Coordinates (n, P, R) of one layer of noise z (n, P, R), with maps (n, M, P, R), vector (n, V)."""

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.energy_flow.noise_size,), "cells": self.shape}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"energies": list(self.energy_flow.parameters()), "cells": list(self.cell_flow.parameters())}

    @property
    def largest(self) -> Tensor:
        """Largest energy of a cell of each layer in training, (Z,), MeV."""
        return self.coordinates.get_buffer("largest")

    def fit(self, showers: Showers) -> None:
        least, largest = energy_range(showers)
        for _ in self.fitted_batches(showers, least):
            pass
        self.largest.copy_(largest.to(self.largest).clamp_min(self.threshold))

    def cell_coordinates(self, energies: Tensor, generator: torch.Generator) -> Tensor:
        """What the flow learns of energies (n, Z, P, R), with fresh noise: coordinates of that shape."""
        whole = Whole(energies.sum(dim=(2, 3), keepdim=True), self.layers.width, self.largest[:, None, None])
        y: Tensor = self.coordinates(energies, self.threshold, generator, whole)
        return y

    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        """Fit the spectrum map on showers generated at conditions of the training showers."""
        if not self.settings.spectrum:
            return
        every = max(len(showers) // CALIBRATION_SHOWERS, 1)
        chosen = showers[slice(0, every * min(CALIBRATION_SHOWERS, len(showers)), every)]

        def generate(batch: Batch) -> Tensor:
            batch.given = self._coarse(batch)
            return self.decode(self.noise(len(batch), generator), batch)

        self.spectrum.calibrate(self, chosen, generate, float(self.threshold))

    def _log_map(self, energies: Tensor) -> Tensor:
        return log_energy(energies, self.threshold, self.settings.scale)

    def _coarse(self, batch: Batch) -> Tensor | None:
        """Energies of the batch in coarse cells, (n, *coarse shape), or None without a grouping."""
        if self.settings.grouping is None:
            return None
        return block_sums(batch.energies, self.settings.grouping)

    def _given_maps(self, given: Tensor | None) -> Tensor | None:
        """Coarse energies spread evenly over their cells, as maps (n, Z, P, R)."""
        if self.settings.grouping is None:
            return None
        if given is None:
            raise RecipeError(
                "this flow is the fine step of a chain (settings.grouping) and needs conditions.given"
            )
        cells = 1
        for axis, factor in enumerate(self.settings.grouping, start=1):
            given, cells = given.repeat_interleave(factor, dim=axis), cells * factor
        return self._log_map(given / cells)

    def _vector(self, incident: Tensor, energies: Tensor, layers: slice) -> Tensor:
        """Context numbers (n, L, V) of some layers, from all energies of layers (n, Z)."""
        n, n_z = energies.shape
        before, total = F.pad(energies, (1, 0))[:, :-1], energies.sum(dim=1, keepdim=True).expand(-1, n_z)
        ratios = self._log_map(torch.stack([energies, before, total], dim=-1))[:, layers]
        columns = [incident[:, None].expand(-1, ratios.shape[1], -1), ratios]
        if self.settings.shared:
            columns.append(torch.eye(n_z, device=energies.device)[layers].expand(n, -1, -1))
        return torch.cat(columns, dim=-1)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of a shower's layer energies, or of the cells of a lit layer."""
        if part == "energies":
            return self.layer_energy_losses(batch, generator)
        energies, incident = batch.energies, self.incident(batch)
        layer_energies = energies.sum(dim=(2, 3))
        y = self.cell_coordinates(energies, generator)
        history = self.settings.history
        seen = F.pad(
            energies, (0, 0, 0, 0, history, 0)
        )  # (n, Z + history, P, R), layer i − k at i + history − k
        logs, n_z = self._log_map(seen), self.shape[0]
        maps = [logs[:, history - k : history - k + n_z] for k in range(1, history + 1)]
        maps.append(self._log_map(seen.cumsum(dim=1))[:, history - 1 : -1])
        given = self._given_maps(self._coarse(batch))
        maps += [] if given is None else [given]
        stacked, vector = torch.stack(maps, dim=2), self._vector(incident, layer_energies, slice(None))
        lit = layer_energies > 0
        if self.settings.shared:  # every layer with energy is an example of its own
            rows = lit_rows(lit.flatten())
            y, stacked, vector, lit = (x.flatten(0, 1)[rows][:, None] for x in (y, stacked, vector, lit))
        log_p = self.cell_log_prob(y, stacked, vector, self.bf16)
        return {"loss": -lit_mean(log_p, lit), "weight": lit.sum()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident = self.incident(conditions)
        layer_energies = self.layer_energies(noise["layers"], incident, conditions)
        vectors = self._vector(incident, layer_energies, slice(None))
        given = self._given_maps(conditions.given)
        if self.settings.shared and recording_loops():
            known = [layer_energies, vectors, noise["cells"], *([] if given is None else [given])]
            size = math.prod(self.shape)
            sampled = recorded_loop(self._loop, size, *known).reshape(-1, *self.shape)
        else:
            sampled = self._sampled(noise["cells"], layer_energies, vectors, given)
        if not self.settings.spectrum:
            return sampled
        return renormalise_layers(self.spectrum(sampled), layer_energies, self.layers, self.threshold)

    def _sampled(self, noise: Tensor, energies: Tensor, vectors: Tensor, given: Tensor | None) -> Tensor:
        """Cells (n, Z, P, R) of noise of that shape, energies of layers and what they are told."""
        seen = torch.zeros_like(noise[:, 0])
        logs, showers = [self._log_map(seen)] * self.settings.history, []  # the last layers, newest first
        for i, z in enumerate(noise.unbind(dim=1)):
            maps = [*logs, self._log_map(seen), *([] if given is None else [given[:, i]])]
            stacked = torch.stack(maps, dim=1)
            cells = self._layer(i, self.largest[i], z, stacked, vectors[:, i], energies[:, i : i + 1])
            seen = seen + cells
            logs = [self._log_map(cells), *logs[:-1]]
            showers.append(cells)
        return torch.stack(showers, dim=1)

    def _layer(
        self, layer: int, largest: Tensor, z: Tensor, maps: Tensor, vector: Tensor, energies: Tensor
    ) -> Tensor:
        """Cells (n, P, R) of a layer of energies (n, 1), see `cell_sample`."""
        y = self.cell_sample(z, maps, vector, layer, self.bf16)
        whole = Whole(energies[:, :, None], self.layers.width, largest)
        tentative = self.coordinates.inverse(y, self.threshold, whole)
        return renormalise_layers(tentative, energies, self.one_layer, self.threshold)

    def _loop(self) -> LayerLoop:
        """Layers one after the other, in graphs that hold one for all."""
        history = self.settings.history

        def make(turn: Tensor, z: Tensor, cells: Tensor, vector: Tensor, energies: Tensor) -> Tensor:
            logs = self._log_map(cells[:, : history + 1])
            maps = torch.cat([logs, cells[:, history + 1 :]], dim=1)
            return self._layer(0, self.largest.index_select(0, turn), z, maps, vector, energies)

        return LayerLoop(make, history, self.shape, self.n_vector)
