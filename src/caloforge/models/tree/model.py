"""ShowerTree: a shower as a tree of energy splits, each of which knows what is around it.

The whole energy is drawn given the incident particle, then shared by halves of the layers, of these, and so
on down to voxels (see `halvings`). A split is a density of one number (see `split`), so that the likelihood
of a shower is exact and training is a matter of a million examples a minute; neighbouring cells depend on
each other by construction; energy is kept by every split, so that layers close exactly and no cell lies
below the threshold. On a CPU only cells with energy are split.

Legend: ``n`` showers, ``Z`` layers, ``P`` splits of a halving, ``G`` context numbers. Energies are MeV.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import BoxMesh, Mesh, RegularMesh
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel
from caloforge.models.conditions.incident import IncidentContext
from caloforge.models.conditions.trajectory import ParticleLine
from caloforge.models.coordinates import RunningMoments, energy_range
from caloforge.models.energies.layers_then_cells import fitted_batches
from caloforge.models.lit import all_rows
from caloforge.models.tree.halvings import Halving, halvings
from caloforge.models.tree.level import HalvingModel
from caloforge.models.tree.line import PlaceNumbers, SplitsToLine
from caloforge.models.tree.split import logistic, mixture_log_density, mixture_sample
from caloforge.models.tree.stages import prepared, sampled

__all__ = ["ShowerTree"]

C = TypeVar("C", bound=ConditionTensors)
TOTAL_COMPONENTS = 8
STANDARDISED = 2000
"""Showers of which means and standard deviations of what is known are taken."""
FIT_BATCH = 100


class ShowerTree(GeneratorModel):
    """Energies split by split: the whole, layers, cells."""

    class Settings(GeneratorModel.Settings):
        """Sizes of the networks.

        Attributes:
            width, depth: of each halving's network.
            layer_width, layer_depth: of those that share the energy among layers, which cost little; as
                ``width`` and ``depth`` by default.
            components: of the mixtures of logistic densities.
            splits: with energy of a shower that a training step on a CPU looks at in each halving, in the
                mean; a shower's are so alike that many showers teach more. Elsewhere it looks at all.
            threshold_mev: cells below are empty; by default the least cell energy in the training showers.
            chunk: splits that are computed at once on a CPU without the compiled kernel.
            bf16: networks of splits in bfloat16; "auto" where the device multiplies it natively.
        """

        width: int = Field(128, ge=1)
        depth: int = Field(2, ge=0)
        layer_width: int | None = Field(None, ge=1)
        layer_depth: int | None = Field(None, ge=0)
        components: int = Field(12, ge=1)
        splits: int = Field(50, ge=1)
        threshold_mev: float | None = Field(None, gt=0)
        chunk: int = Field(256, ge=1)
        bf16: bool | Literal["auto"] = False

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    example: ClassVar[Mapping[str, Any]] = {
        "width": 12,
        "depth": 1,
        "components": 3,
        "splits": 10_000,
        "chunk": 32,
    }
    settings: Settings
    threshold: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        assert isinstance(mesh, RegularMesh)
        s = self.settings
        self.incident = self._incident_context()
        box = mesh if isinstance(mesh, BoxMesh) and mesh.frame == "detector" else None
        self.line = None if box is None else ParticleLine(box)
        context = self.incident.size + (2 if box is None else 4)
        self.total = nn.Sequential(
            nn.Linear(self.incident.size, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, 3 * TOTAL_COMPONENTS),
        )
        within = {"width": s.width, "depth": s.depth}
        layers = {
            "width": s.width if s.layer_width is None else s.layer_width,
            "depth": s.depth if s.layer_depth is None else s.layer_depth,
        }
        self.halvings = nn.ModuleList(
            HalvingModel(
                halving,
                context,
                **within if halving.axis else layers,
                components=s.components,
                chunk=s.chunk,
                places=self._told_of_places(halving),
            )
            for halving in halvings(mesh)
        )
        self.register_buffer("threshold", torch.tensor(s.threshold_mev or 1.0))
        # of log(E/E_inc), over its `_spread`, and log E, E the energy of all cells
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("std", torch.ones(2))

    def _incident_context(self) -> IncidentContext:
        """What networks are given of the incident particle."""
        return IncidentContext()

    def _told_of_places(self, halving: Halving) -> PlaceNumbers | None:
        """What splits are told of their place in this shower, of `_points`."""
        if self.line is None or not halving.axis:
            return None
        assert isinstance(self.mesh, BoxMesh)
        return SplitsToLine(self.mesh, halving)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        parts = {"energies": list(self.total.parameters())}
        for part, level in self._levels():
            parts.setdefault(part, []).extend(level.parameters())
        return parts

    def _levels(self) -> list[tuple[str, HalvingModel]]:
        """The halvings and whose part each is: those of layers and those within layers."""
        levels = [level for level in self.halvings if isinstance(level, HalvingModel)]
        return [("cells" if level.halving.axis else "energies", level) for level in levels]

    def fit(self, showers: Showers) -> None:
        self._fit_thresholds(showers)
        moments = RunningMoments((2,))
        if self.line is not None:
            self.line.begin_fit()
        for batch in fitted_batches(showers, self.incident, detectors=self.detectors):
            own = self._in_units(batch)
            moments.add(self._logarithms(own.energies.flatten(1).sum(dim=1), own))
            if self.line is not None:
                self.line.fit_batch(batch)
        if self.line is not None:
            self.line.end_fit()
        moments.store(self.mean, self.std)
        self._fit_levels(showers)

    def _fit_thresholds(self, showers: Showers) -> None:
        self.threshold.fill_(self.settings.threshold_mev or energy_range(showers)[0])

    def _in_units(self, conditions: C) -> C:
        """The showers, or their conditions, with energies in the unit that splits see; here MeV."""
        return conditions

    def _fit_levels(self, showers: Showers) -> None:
        """Means and standard deviations of what splits know, of some showers of all of the file."""
        levels = [level for _, level in self._levels()]
        for level in levels:
            level.begin_fit()
        for cells, conditions in showers.thinned(STANDARDISED).batches(FIT_BATCH):
            batch = Batch.with_energies(cells, conditions, self.detectors)
            own = self._in_units(batch)
            total = own.energies.flatten(1).sum(dim=1)
            context, points = self._context(self.incident(batch), own, total), self._points(batch)
            for level, (parents, children) in zip(levels, pairwise(self._grids(own.energies)), strict=True):
                level.fit_batch(parents, children, level.told(context, points), self.threshold)
        for level in levels:
            level.end_fit()

    def _spread(self, conditions: ConditionTensors) -> Tensor | float:
        """By what log(E/E_inc) varies, (n,), as far as that need not be learnt."""
        return 1.0

    def _logarithms(self, total: Tensor, conditions: ConditionTensors) -> Tensor:
        log = total.clamp_min(self.threshold).log()
        return torch.stack([(log - conditions.energy.log()) / self._spread(conditions), log], dim=1)

    def _context(self, incident: Tensor, conditions: ConditionTensors, total: Tensor) -> Tensor:
        """What all splits of showers (n,) know: the incident particle, its slope, and the whole."""
        logarithms = (self._logarithms(total, conditions) - self.mean) / self.std
        slope = incident[:, :0] if self.line is None else 3 * self.line.slope(conditions)
        return torch.cat([incident, slope, logarithms], dim=1)

    def _points(self, conditions: ConditionTensors) -> Tensor | None:
        """Where the particle's line crosses the layers (n, Z, 2), or the depth of the energy in an image."""
        if self.line is None:
            return None
        depths = self.line.depth[None]
        if self.mesh.n_layers > 1:
            depths = torch.from_numpy(self.mesh.layer_depths.mean(axis=1)).to(depths)
        return self.line.points(conditions, depths)

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood of showers: of the energies of their layers, or of all below."""
        incident, points, own = self.incident(batch), self._points(batch), self._in_units(batch)
        n, total = len(batch), own.energies.flatten(1).sum(dim=1)
        context, grids = self._context(incident, own, total), self._grids(own.energies)
        log_p = total.new_zeros(())
        if part == "energies":
            width = self.std[0] * self._spread(own)
            log_p = (mixture_log_density(context[:, -2], self.total(incident)) - width.log()).sum()
        for (whose, level), (parents, children) in zip(self._levels(), pairwise(grids), strict=True):
            if whose != part:
                continue
            chosen, share = None, total.new_ones(())
            if self.training and not all_rows(total.device):
                share = (self.settings.splits / level.lit).clamp_max(1.0)
                uniform = torch.rand(n, level.n_splits, generator=generator, device=total.device)
                chosen = uniform < share
            told = level.told(context, points)
            found = level.log_likelihood(parents, children, told, self.threshold, chosen, self.bf16)
            log_p = log_p + found / share
        return {"loss": -log_p / n}

    def _grids(self, energies: Tensor) -> list[Tensor]:
        """Energies of the cells of all grids, the whole first, (n, cells) each."""
        grids = [energies]
        for _, level in self._levels()[::-1]:
            axis, cells = level.halving.axis + 1, grids[-1]
            if cells.shape[axis] % 2:
                cells = F.pad(cells, (0, 0) * (3 - axis) + (0, 1))
            grids.append(torch.unflatten(cells, axis, (-1, 2)).sum(dim=axis + 1))
        return [grid.flatten(1) for grid in grids[::-1]]

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        splits: Counter[str] = Counter()
        for part, level in self._levels():
            splits[part] += level.n_splits
        return {"total": (2,), **{part: (n, 2) for part, n in splits.items()}}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        incident, points, own = (
            self.incident(conditions),
            self._points(conditions),
            self._in_units(conditions),
        )
        layers = own.layer_energies
        if layers is None:
            total = self._total(noise["total"], incident, own)
        else:
            total = layers.sum(dim=1)
        context = self._context(incident, own, total)
        grid, used = total[:, None], Counter[str]()
        of_parts = {part: prepared(z) for part, z in noise.items() if part != "total"}
        for part, level in self._levels():
            z = of_parts[part][:, used[part] : used[part] + level.n_splits]
            used[part] += level.n_splits
            if part == "cells" or layers is None:
                grid = sampled(level, grid, level.told(context, points), z, self.threshold, self.bf16)
            elif level.halving.child_shape[0] == self.mesh.n_layers:
                grid = layers
        return grid.reshape(-1, *self.mesh.shape)

    def _total(self, noise: Tensor, incident: Tensor, conditions: ConditionTensors) -> Tensor:
        """Energies (n,) of noise (n, 2), and of what is known of the particle."""
        raw = self.total(incident)
        y = mixture_sample(raw, torch.special.ndtr(noise[:, 0]), logistic(noise[:, 1]))
        ratio = (y * self.std[0] + self.mean[0]) * self._spread(conditions)
        made: Tensor = conditions.energy * ratio.clamp(-20, 5).exp()
        return made.maximum(self.threshold)
