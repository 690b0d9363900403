"""What layer-to-layer flows share: layer energies first, then each layer of cells given those before it.

The factorisation and the steps after sampling are those of L2LFlows (Diefenbacher, Eren, Gaede, Kasieczka,
Krause, Shekhzadeh, Shih, arXiv:2302.11594): a flow for the layer energies, a causal flow for every layer,
given at most five layers before it, threshold-aware renormalisation, and a map that restores the spectrum of
cell energies.

Legend: ``n`` showers, mesh (Z, P, R), ``L`` layers at once (Z in training, 1 in sampling), ``M`` context maps
of a layer, ``V`` context numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError, MeshError, RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import Layers, renormalise_layers
from caloforge.models.coordinates.cells import CellCoordinates, Coordinates
from caloforge.models.coordinates.spectrum import SpectrumMap
from caloforge.models.energies.autoregressive import FIT_BATCH, fitted_batches, regular_layer_sums
from caloforge.models.energies.base import LayerEnergyChoice, layer_energy_model
from caloforge.runtime.precision import use_bf16

__all__ = ["CausalLayerFlow"]

CALIBRATION_SHOWERS = 1000


class CausalLayerFlow(GeneratorModel):
    """Layer energies, then layer after layer; a subclass gives the flow of a layer's cells.

    Its part "cells" is all parameters of ``cell_flow``.
    """

    class Settings(GeneratorModel.Settings):
        """What all layer-to-layer flows are told.

        Attributes:
            energies: the flow of the layer energies.
            shared: one flow for all layers that is told the layer's number, instead of one for each.
            history: layers before that a layer is given.
            coordinates, scale, width, smear: see `CellCoordinates`.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
            spectrum: fit the map that restores the spectrum of cell energies after training.
            grouping: cells (z, φ, r) in a coarse cell whose energy ``conditions.given`` holds, which makes
                one more context map: for the fine step of a chain.
            bf16: networks in bfloat16 (splines stay in float32); "auto" where the processor has it.
        """

        energies: LayerEnergyChoice = Field({"kind": "autoregressive"}, validate_default=True)
        shared: bool = False
        history: int = Field(5, ge=1)
        coordinates: Coordinates = "threshold"
        scale: float = Field(2.0, gt=0)
        width: float = Field(2.0, gt=0)
        smear: float = Field(0.01, ge=0)
        threshold_mev: float | None = Field(None, gt=0)
        spectrum: bool = True
        grouping: tuple[int, int, int] | None = None
        bf16: bool | Literal["auto"] = "auto"

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    settings: Settings
    threshold: Tensor
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
        self.layers = Layers.of(mesh)
        self.one_layer = Layers([rows * columns], self.layers.central[:1])
        self.periodic = mesh.kind == "cylinder"
        self.n_flows = 1 if s.shared else n_z
        self.n_maps = s.history + 1 + (s.grouping is not None)
        self.n_vector = IncidentContext.size + 3 + (n_z if s.shared else 0)
        self.incident = IncidentContext()
        self.energy_flow = layer_energy_model(s.energies, n_z, IncidentContext.size)
        self.coordinates = CellCoordinates(n_z, s.coordinates, scale=s.scale, width=s.width, smear=s.smear)
        self.spectrum = SpectrumMap()
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))

    @abstractmethod
    def cell_log_prob(self, y: Tensor, maps: Tensor, vector: Tensor, low_precision: bool) -> Tensor:
        """log p of coordinates y (n, L, P, R) given maps (n, L, M, P, R) and numbers (n, L, V): (n, L).

        A shared flow gets single layers, L = 1, of any number; otherwise L = Z.
        """

    @abstractmethod
    def cell_sample(self, z: Tensor, maps: Tensor, vector: Tensor, layer: int, low_precision: bool) -> Tensor:
        """Coordinates (n, P, R) of one layer of noise z (n, P, R), with maps (n, M, P, R), vector (n, V)."""

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.energy_flow.noise_size,), "cells": self.shape}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"energies": list(self.energy_flow.parameters()), "cells": list(self.cell_flow.parameters())}

    def fit(self, showers: Showers) -> None:
        lowest, largest = [], torch.zeros(self.shape[0])
        for energies, _ in showers.batches(FIT_BATCH):
            lit = energies[energies > 0]
            lowest += [float(lit.min())] if len(lit) else []
            batch_largest = torch.as_tensor(energies).reshape(len(energies), *self.shape).amax(dim=(0, 2, 3))
            largest = torch.maximum(largest, batch_largest)
        if not lowest:
            raise DataError("all cells of all training showers are empty; there is nothing to learn")
        least = self.settings.threshold_mev or min(lowest) * (1 - 1e-6)
        self.threshold.fill_(least)
        self.coordinates.largest.copy_(largest.clamp_min(least))
        for _ in fitted_batches(showers, self.incident, self.energy_flow, regular_layer_sums, least):
            pass

    @torch.no_grad()
    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        """Fit the spectrum map on showers generated at conditions of the training showers."""
        if not self.settings.spectrum:
            return
        self.spectrum.reset()
        every = max(len(showers) // CALIBRATION_SHOWERS, 1)
        chosen = showers[slice(0, every * min(CALIBRATION_SHOWERS, len(showers)), every)]
        generated, reference = [], []
        for energies, conditions in chosen.batches(self.block_size):
            batch = Batch.with_energies(energies, conditions, self.detectors, self.device)
            batch.given = self._coarse(batch)
            generated.append(self.decode(self.noise(len(batch), generator), batch).flatten().cpu())
            reference.append(batch.energies.flatten().cpu())
        self.spectrum.fit(torch.cat(generated), torch.cat(reference), float(self.threshold))

    def _log_map(self, energies: Tensor) -> Tensor:
        return torch.log1p(energies / self.threshold) / self.settings.scale - 1

    def _coarse(self, batch: Batch) -> Tensor | None:
        """Energies of the batch in coarse cells, (n, *coarse shape), or None without a grouping."""
        if self.settings.grouping is None:
            return None
        (fz, fp, fr), (z, p, r) = self.settings.grouping, self.shape
        return batch.energies.reshape(-1, z // fz, fz, p // fp, fp, r // fr, fr).sum(dim=(2, 4, 6))

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
        energies, threshold = batch.energies, float(self.threshold)
        incident = self.incident(batch)
        layer_energies = energies.sum(dim=(2, 3))
        if part == "energies":
            loss = self.energy_flow.loss(layer_energies, batch.energy, incident, threshold, generator)
            return {"loss": loss.mean()}
        y = self.coordinates(energies, threshold, generator)
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
        lit, low = layer_energies > 0, use_bf16(self.settings.bf16, energies.device)
        if self.settings.shared:  # every layer with energy is an example of its own
            log_p = self.cell_log_prob(y[lit][:, None], stacked[lit][:, None], vector[lit][:, None], low)
        else:
            log_p = torch.where(lit, self.cell_log_prob(y, stacked, vector, low), 0.0)
        return {"loss": -log_p.sum() / lit.sum().clamp_min(1)}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, threshold = self.incident(conditions), float(self.threshold)
        low = use_bf16(self.settings.bf16, incident.device)
        layer_energies = conditions.layer_energies
        if layer_energies is None:
            layer_energies = self.energy_flow.sample(noise["layers"], conditions.energy, incident, threshold)
        vectors = self._vector(incident, layer_energies, slice(None))
        given = self._given_maps(conditions.given)
        seen = torch.zeros_like(noise["cells"][:, 0])
        logs, showers = [self._log_map(seen)] * self.settings.history, []  # the last layers, newest first
        for i, z in enumerate(noise["cells"].unbind(dim=1)):
            maps = [*logs, self._log_map(seen), *([] if given is None else [given[:, i]])]
            y = self.cell_sample(z, torch.stack(maps, dim=1), vectors[:, i], i, low)
            tentative = self.coordinates.inverse(y, threshold, i)
            cells = renormalise_layers(tentative, layer_energies[:, i : i + 1], self.one_layer, threshold)
            seen = seen + cells
            logs = [self._log_map(cells), *logs[:-1]]
            showers.append(cells)
        sampled = torch.stack(showers, dim=1)
        if not self.settings.spectrum:
            return sampled
        return renormalise_layers(self.spectrum(sampled), layer_energies, self.layers, threshold)
