"""SuperCalo's super-resolution flow: how the energy of each coarse cell is shared by its parts.

One masked autoregressive flow, shared by all coarse cells, gives the energies of the S parts of a coarse cell
given its own energy and place, its six neighbours, the energies of the fine layers that it spans and the
incident particle (Pang, Raine, Shih, arXiv:2308.11700). On a CPU only coarse cells with energy are computed.

Where the energies of the fine layers are not given, as in the upsampling of coarse showers, a small flow
samples them given the energies of the coarse layers.

Legend: ``n`` showers, ``Z`` fine layers, coarse mesh (Zc, Bc, Cc) of ``V`` cells, ``S`` slots of parts,
``L`` coarse cells of all showers that are computed, ``C`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.grouping import Grouping
from caloforge.detector.mesh import Mesh, RegularMesh
from caloforge.errors import MeshError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.coordinates import (
    FIT_BATCH,
    CellCoordinates,
    Layers,
    PartLogits,
    RunningMoments,
    ThresholdLogarithms,
    Whole,
    energy_range,
    log_energy,
    renormalise_layers,
)
from caloforge.models.energies.base import LayerEnergyChoice, layer_energy_model
from caloforge.models.energies.layers_then_cells import CellSettings, fitted_batches
from caloforge.models.lit import lit_examples, lit_mean, lit_rows
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlowSettings
from caloforge.models.supercalo.cells import GroupedCells

__all__ = ["SuperCaloFine"]

SPLIT_PARTS = 0.01
"""Parts of straddling cells down to this part of the threshold are kept apart from empty ones."""
LOG_SCALE = 3.0
"""Logarithms of energies over the threshold are divided by this, as context."""


class SuperCaloFine(GeneratorModel):
    """Super-resolution flow on the fine mesh; `decode` refines ``conditions.given``."""

    class Settings(AutoregressiveFlowSettings, CellSettings):
        """The grouping and the sizes of the flows.

        Attributes:
            grouping: fine cells of a coarse one along each axis, or
            coarse_shape: coarse cells along each axis, which need not nest in φ; see `Grouping`.
            layers: of the flow for fine layer energies given coarse ones.
            coordinates: "log-threshold" for `ThresholdLogarithms`, with width, smear and ``knee_mev``, then
                standardised; or "logit", as published, for `PartLogits`, with noise of ``noise_mev``.
            layer_passes: how often cells are rescaled to the energies of the fine layers before coarse cells
                get theirs exactly; 0 as published.
            chunk: coarse cells that are computed at once on a CPU.
        """

        grouping: tuple[int, int, int] | None = None
        coarse_shape: tuple[int, int, int] | None = None
        blocks: int = Field(6, ge=1)
        hidden: int = Field(128, ge=1)
        layers: LayerEnergyChoice = Field(
            {"kind": "inductive", "hidden": 96, "depth": 3, "bins": 12}, validate_default=True
        )
        coordinates: Literal["log-threshold", "logit"] = "log-threshold"
        knee_mev: float = Field(0.0, ge=0)
        noise_mev: float = Field(1e-4, gt=0)
        layer_passes: int = Field(4, ge=0)
        chunk: int = Field(2048, ge=1)

        @model_validator(mode="after")
        def _one_grouping(self) -> Self:
            if (self.grouping is None) == (self.coarse_shape is None):
                raise ValueError("exactly one of grouping and coarse_shape must be given")
            return self

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    block_size: ClassVar[int] = 128
    example: ClassVar[Mapping[str, Any]] = {"grouping": (2, 2, 1), "hidden": 16, "chunk": 64}
    settings: Settings
    threshold: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s = self.settings
        assert isinstance(mesh, RegularMesh)
        if s.grouping is not None:
            self.grouping = Grouping.by_factors(mesh, s.grouping)
        else:
            assert s.coarse_shape is not None
            self.grouping = Grouping.by_shape(mesh, s.coarse_shape)
        if self.grouping.slots == 1:
            raise MeshError(
                f"the coarse cells are those of the {mesh} itself: there is nothing to refine; train on "
                "showers of a finer mesh or choose a coarser one (settings.grouping or settings.coarse_shape)"
            )
        self.cells = GroupedCells(self.grouping)
        self.incident = IncidentContext()
        split = self.grouping.factors[0] > 1
        n_coarse = self.grouping.coarse.n_layers
        self.layer_flow = (
            layer_energy_model(s.layers, mesh.n_layers, IncidentContext.size + n_coarse) if split else None
        )
        self.flow = s.flow(self.grouping.slots, IncidentContext.size + self.cells.context_size)
        self.coordinates: CellCoordinates = (
            PartLogits(noise=s.noise_mev)
            if s.coordinates == "logit"
            else ThresholdLogarithms(width=s.width, smear=s.smear, knee=s.knee_mev)
        )
        self.one_cell = Layers([self.grouping.slots])
        self.groups = Layers([self.grouping.factors[0]] * n_coarse)
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        self.register_buffer("mean", torch.zeros(self.grouping.slots))
        self.register_buffer("std", torch.ones(self.grouping.slots))

    @property
    def given_mesh(self) -> Mesh:
        """Mesh of the showers that are refined."""
        return self.grouping.coarse

    @property
    def part_threshold(self) -> Tensor:
        """Parts below this are empty, MeV: the threshold where parts are fine cells."""
        return self.threshold if self.grouping.nested else self.threshold * SPLIT_PARTS

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"cells": (self.grouping.coarse.n_voxels, self.grouping.slots)}
        return shapes if self.layer_flow is None else {"layers": (self.layer_flow.noise_size,), **shapes}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        cells = {"cells": list(self.flow.parameters())}
        return cells if self.layer_flow is None else {"layers": list(self.layer_flow.parameters()), **cells}

    def fit(self, showers: Showers) -> None:
        threshold = self.settings.threshold_mev or energy_range(showers)[0]
        self.threshold.fill_(threshold)

        def layer_energies(batch: Batch) -> tuple[Tensor, Tensor, float]:
            return batch.energies.sum(dim=(2, 3)), batch.energy, threshold

        moments, generator = RunningMoments((self.grouping.slots,)), torch.Generator().manual_seed(0)
        for batch in fitted_batches(
            showers, self.incident, self.layer_flow, layer_energies, size=FIT_BATCH // 5
        ):
            coarse = torch.from_numpy(self.grouping.estimate(batch.energies.numpy()))
            parts = self.cells.gather(batch.energies, coarse)
            moments.add(self._values(parts[parts.sum(dim=2) > 0], generator))
        if self.settings.coordinates == "log-threshold":
            moments.store(self.mean, self.std)

    def _whole(self, total: Tensor) -> Whole:
        """What the parts of coarse cells of energies (L,) belong to."""
        return Whole(total[:, None], self.grouping.slots)

    def _values(self, parts: Tensor, generator: torch.Generator) -> Tensor:
        """Coordinates (L, S) of the parts' energies (L, S) before they are standardised."""
        y: Tensor = self.coordinates(parts, self.part_threshold, generator, self._whole(parts.sum(dim=1)))
        return y

    def _layer_context(self, incident: Tensor, coarse_layers: Tensor) -> Tensor:
        return torch.cat([incident, self._log(coarse_layers)], dim=1)

    def _log(self, energies: Tensor) -> Tensor:
        return log_energy(energies, self.threshold, LOG_SCALE)

    def _known(self, layers: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the energies of fine layers and of coarse cells, as contexts use them."""
        return self._log(layers), self.cells.bordered(self._log(given))

    def _context(self, incident: Tensor, known: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """Context (L, C) of the coarse cells ``rows`` (L,) = shower·V + cell."""
        n_cells = self.grouping.coarse.n_voxels
        shower, cell = rows // n_cells, rows % n_cells
        return torch.cat([incident[shower], self.cells.context(*known, shower, cell)], dim=1)

    def _given(self, conditions: ConditionTensors) -> Tensor:
        given, shape = conditions.given, self.grouping.coarse.shape
        if given is None or given.shape[1:] != shape:
            what = "none are given" if given is None else f"those given have shape {tuple(given.shape[1:])}"
            raise MeshError(
                f"SuperCaloFine refines coarse showers on a mesh of shape {shape}, but {what}; "
                "pass coarse showers as given"
            )
        return given

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of the parts of a coarse cell, or of a shower's fine layers."""
        incident, layers = self.incident(batch), batch.energies.sum(dim=(2, 3))
        if batch.given is None and self.grouping.nested:
            parts = self.cells.gather(batch.energies)
            given = parts.sum(dim=2)
        else:
            given = self._given(batch)
            parts = self.cells.gather(batch.energies, given)
            given = given.flatten(1)
        if part == "layers":
            assert self.layer_flow is not None
            context = self._layer_context(incident, self.cells.coarse_layers(given))
            shift = torch.randn(layers.shape, generator=generator, device=layers.device)
            smeared = layers * (self.settings.smear * shift).exp()
            loss = self.layer_flow.loss(smeared, batch.energy, context, self.threshold, generator)
            return {"loss": loss.mean()}
        lit = parts.sum(dim=2).flatten() > 0
        y = (self._values(parts.flatten(0, 1), generator) - self.mean) / self.std
        y = self.cells.filled(y, generator)
        with lit_examples(lit) as chosen:
            context = self._context(incident, self._known(layers, given), _all_rows(lit)[chosen])
            log_p = self.flow.log_prob(y[chosen], context, self.bf16)
        return {"loss": -lit_mean(log_p, lit[chosen]), "weight": lit.sum()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, given = self.incident(conditions), self._given(conditions).flatten(1)
        layers = self._layers(noise, conditions, incident, given)
        total = given.flatten()
        lit, chunk_size = lit_rows(total > 0), self.settings.chunk
        if isinstance(lit, slice):
            rows = _all_rows(total)
            chunks: Sequence[Tensor] = (rows,)
        else:
            # whole chunks, so that all products have one shape; what fills the last one has no energy
            n_chunks = max(1, -(-len(lit) // chunk_size))
            rows = F.pad(lit, (0, n_chunks * chunk_size - len(lit)))
            total = torch.where(torch.arange(len(rows)) < len(lit), total[rows], 0.0)
            chunks = torch.split(rows, chunk_size)
        known = self._known(layers, given)
        z, tentative = noise["cells"].flatten(0, 1), []
        for chunk in chunks:
            y = self.flow.sample(z[chunk], self._context(incident, known, chunk), self.bf16)
            whole = self._whole(given.flatten()[chunk])
            tentative.append(self.coordinates.inverse(y * self.std + self.mean, self.part_threshold, whole))
        parts = self._closed(torch.cat(tentative), total, layers, rows, isinstance(lit, slice))
        if not isinstance(lit, slice):
            parts = torch.zeros_like(z).index_copy(0, lit, parts[: len(lit)])
        parts = parts.view_as(noise["cells"])
        return self.cells.scatter(parts) if self.grouping.nested else self._cut(parts, given)

    def _layers(
        self, noise: Mapping[str, Tensor], conditions: ConditionTensors, incident: Tensor, given: Tensor
    ) -> Tensor:
        """Energies of the fine layers (n, Z): as given, or sampled given those of the coarse layers."""
        if conditions.layer_energies is not None:
            return conditions.layer_energies
        coarse = self.cells.coarse_layers(given)
        if self.layer_flow is None:
            return coarse
        context = self._layer_context(incident, coarse)
        sampled = self.layer_flow.sample(noise["layers"], conditions.energy, context, self.threshold)
        return renormalise_layers(sampled, coarse, self.groups, self.threshold)

    def _closed(self, parts: Tensor, total: Tensor, layers: Tensor, rows: Tensor, every: bool) -> Tensor:
        """Tentative parts (L, S) of the coarse cells ``rows`` so that these have their energies (L,) exactly.

        Before that, cells are scaled to the energies of the fine layers (n, Z) and back to those of the
        coarse cells in turns (iterative proportional fitting), which keeps their pattern and brings both
        about, as far as it can be.
        """
        parts = self._close_cells(parts * self.cells.mask[rows % len(self.cells.mask)], total)
        for _ in range(self.settings.layer_passes):
            parts = self._scaled(self.cells.towards_layers(parts, layers, rows, every), total)
        return self._close_cells(parts, total) if self.settings.layer_passes else parts

    @staticmethod
    def _scaled(parts: Tensor, total: Tensor) -> Tensor:
        summed = parts.sum(dim=-1)
        return parts * (total / torch.where(summed > 0, summed, 1.0))[..., None]

    def _close_cells(self, parts: Tensor, total: Tensor) -> Tensor:
        return renormalise_layers(parts, total[:, None], self.one_cell, self.part_threshold)

    def _cut(self, parts: Tensor, given: Tensor) -> Tensor:
        """Fine showers of parts (n, V, S) where fine cells have several: those below the threshold are cut.

        Coarse cells get what they lose from their other parts. One without any gives all its energy to its
        largest part.
        """
        lit = self.cells.spread(self.cells.scatter(parts) >= self.threshold)
        kept = parts * lit
        slots = torch.arange(parts.shape[2], device=parts.device)
        largest = parts * (parts.argmax(dim=2, keepdim=True) == slots)
        kept = torch.where((kept.sum(dim=2) > 0)[:, :, None], kept, largest)
        return self.cells.scatter(self._scaled(kept, given))


def _all_rows(of: Tensor) -> Tensor:
    """The numbers of all coarse cells, 0 … n·V − 1, of which ``of`` says something, (n·V,)."""
    return torch.arange(of.shape[0], device=of.device)
