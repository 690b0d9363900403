"""FastCaloSim: showers from histograms of simulated ones, by the recipe of AtlFast3 (arXiv:2109.02551, §4.1).

In each bin of energy, shares of the layers and total energy become Gaussian, each by its distribution
function; the first principal component puts showers into bins, in each of which the same is done again: what
is left is independent Gaussians. In each of those bins a layer has a mean histogram of its cells, and hits of
equal energy are dropped in it, as many as the sampling resolution says. A shower takes one of the two
energies next to its own, with a probability that is linear in log E, and the mean response from a cubic
spline in log E; at the end the total energy is brought to the distribution of the showers it was fitted to.

Legend: ``n``, ``N`` showers, ``B`` bins of energy, ``C`` bins of the first component, ``G`` = B·C, ``Z``
layers, ``K`` = Z + 1 variables, ``Q`` quantiles, ``V`` voxels. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from caloforge.data.particles import pdg_name
from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import DataError, RecipeError
from caloforge.models.base import ConditionTensors
from caloforge.models.coordinates import FIT_BATCH, least_energy
from caloforge.models.parametrised.base import ParametrisedModel
from caloforge.models.parametrised.quantiles import (
    gaussianised,
    looked_up,
    principal_components,
    quantile_table,
)

__all__ = ["FastCaloSim"]

Floats = NDArray[np.float64]

ELSEWHERE = 1e-3
"""Part of a bin's histogram that is the mean of all, so that a layer which was empty in it has one."""
TRIALS = 4
"""Showers per shower it was fitted to that the distribution of total energies is found with."""
SLICE = 4096
"""Of these that are made at once: each takes a matrix of (Z + 1)² numbers."""


class FastCaloSim(ParametrisedModel):
    """Layer energies from principal components, cells from mean histograms; all is in its buffers."""

    class Settings(ParametrisedModel.Settings):
        """How finely showers are described.

        Attributes:
            energies: bins of incident energy, evenly in its logarithm; each should have some 1,000 showers.
            components: equally filled bins of the first principal component.
            quantiles: points of a distribution function.
            resolution: (a, c) of σ/E = a/√(E/GeV) ⊕ c, which says how many hits a layer has; by default that
                of the showers it is fitted to.
        """

        energies: int = Field(8, ge=1, le=1000)
        components: int = Field(5, ge=1, le=1000)
        quantiles: int = Field(65, ge=2, le=10_000)
        resolution: tuple[float, float] | None = None

    example: ClassVar[Mapping[str, Any]] = {"energies": 2, "components": 2, "quantiles": 9}
    settings: Settings
    span: Tensor
    response: Tensor
    curvature: Tensor
    resolution: Tensor
    empty: Tensor
    vectors: Tensor
    table: Tensor
    histograms: Tensor
    total: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(mesh, settings)
        s, k = self.settings, mesh.n_layers + 1
        g = s.energies * s.components
        grid = torch.linspace(0, 1, s.quantiles)
        buffers = {
            "span": torch.tensor([1e3, 1e5]).log(),  # log of the lowest and highest energy, MeV
            "response": torch.ones(s.energies),  # mean ΣE/E in the middle of each bin
            "curvature": torch.zeros(s.energies),  # second derivatives of its spline
            "resolution": torch.tensor(s.resolution or (0.1, 0.01)),
            "empty": torch.zeros(s.energies),  # part of the showers without energy
            "vectors": torch.eye(k).repeat(g, 1, 1),
            "table": grid.repeat(g, k, 1),
            "histograms": torch.ones(g, mesh.n_voxels),  # part of a layer's energy in each voxel
            "total": grid.repeat(s.energies, 2, 1),  # quantiles as they are drawn, and as they should be
        }
        for name, values in buffers.items():
            self.register_buffer(name, values)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"bins": (3,), "layers": (self.mesh.n_layers + 1,), "cells": (self.mesh.n_voxels,)}

    @torch.no_grad()
    def fit(self, showers: Showers) -> None:
        """Fill the tables in two readings of the showers: layers first, then cells.

        Raises:
            RecipeError: the showers are of several particles.
            DataError: a bin of energy has too few of them.
        """
        particles = np.unique(showers.conditions.particle)
        if len(particles) > 1:
            names = ", ".join(pdg_name(code) for code in particles)
            raise RecipeError(
                f"FastCaloSim is for one particle at a time, the showers are of {names}; fit one to each"
            )
        parts: list[Floats] = []

        def batches() -> Iterator[Tensor]:
            for batch, _ in showers.batches(FIT_BATCH):
                cells = torch.as_tensor(batch)
                parts.append(self.layers.sum(cells).double().numpy())
                yield cells

        least = least_energy(batches())
        if self.settings.threshold_mev is None:
            self.threshold.fill_(least)
        energy, layers = showers.conditions.energy.astype(np.float64), np.concatenate(parts)
        log_energy = np.log(energy)
        self.span.copy_(torch.tensor([log_energy.min(), max(log_energy.max(), log_energy.min() + 1e-6)]))
        logs = torch.from_numpy(log_energy).float()
        of_energy = self._bin(logs).numpy()
        self._require_enough(of_energy)
        total = layers.sum(axis=1)
        self._fit_response(energy, total, of_energy)
        lit, relative = total > 0, total / energy / self._mean_response(logs).double().numpy()
        shares = layers / np.where(lit, total, 1.0)[:, None]
        place = self._fit_layers(np.column_stack([shares, relative]), lit, of_energy)
        self._fit_cells(showers, place)
        self._fit_total(logs, relative, lit, of_energy)

    def _require_enough(self, of_energy: NDArray[np.int64]) -> None:
        counts, least = np.bincount(of_energy, minlength=self.settings.energies), 4 * self.settings.components
        if counts.min() < least:
            raise DataError(
                f"energy bin {counts.argmin()} of {len(counts)} has {counts.min()} showers, and {least} are "
                "needed; give more showers, or set settings.energies lower"
            )

    def _along(self, logs: Tensor) -> Tensor:
        """Place of logarithms of energy among the edges of the bins, 0 … B within the span, (n,)."""
        return (logs - self.span[0]) / (self.span[1] - self.span[0]) * self.settings.energies

    def _bin(self, logs: Tensor) -> Tensor:
        """Bin of energy for logarithms of energy, (n,)."""
        return self._along(logs).floor().clamp(0, self.settings.energies - 1).long()

    def _node(self, logs: Tensor) -> Tensor:
        """Place of logarithms of energy among the middles of the bins, 0 … B − 1, (n,)."""
        return (self._along(logs) - 0.5).clamp(0, self.settings.energies - 1)

    def _fit_response(self, energy: Floats, total: Floats, of_energy: NDArray[np.int64]) -> None:
        """Mean response of each bin, its spline, and the resolution."""
        b = self.settings.energies
        ratio = total / energy
        count = np.bincount(of_energy, minlength=b)
        mean = np.bincount(of_energy, ratio, b) / count
        spread = np.bincount(of_energy, (ratio / mean[of_energy] - 1) ** 2, b) / count
        self.response.copy_(torch.from_numpy(mean))
        self.curvature.copy_(torch.from_numpy(_curvature(mean)))
        if self.settings.resolution is None:
            inverse = np.bincount(of_energy, 1000 / energy, b) / count
            steepness = float((spread * inverse).sum() / (inverse**2).sum())
            constant = 0.0
            if b > 1:
                slope, offset = np.polyfit(inverse, spread, 1)
                if slope > 0 and offset > 0:
                    steepness, constant = slope, offset
            self.resolution.copy_(torch.tensor([steepness, constant]).sqrt())

    def _mean_response(self, logs: Tensor) -> Tensor:
        """The cubic spline at logarithms of energy, (n,)."""
        b = self.settings.energies
        if b == 1:
            return self.response.expand_as(logs)
        x = self._node(logs)
        i = x.floor().clamp(max=b - 2).long()
        u = x - i
        v = 1 - u
        bent = (v**3 - v) * self.curvature[i] + (u**3 - u) * self.curvature[i + 1]
        return v * self.response[i] + u * self.response[i + 1] + bent / 6

    def _fit_layers(
        self, variables: Floats, lit: NDArray[np.bool_], of_energy: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Principal components and distribution functions; the table of each shower, −1 of empty ones."""
        s, random = self.settings, np.random.default_rng(0)
        place = np.full(len(variables), -1, dtype=np.int64)
        for b in range(s.energies):
            here = np.flatnonzero((of_energy == b) & lit)
            self.empty[b] = 1 - len(here) / max((of_energy == b).sum(), 1)
            if len(here) < 2 * s.components:
                raise DataError(f"nearly all showers of energy bin {b} are empty; there is nothing to learn")
            normal = gaussianised(variables[here], random)
            first = normal @ np.linalg.eigh(np.cov(normal, rowvar=False))[1][:, -1]
            for c, chosen in enumerate(np.array_split(here[first.argsort()], s.components)):
                g = b * s.components + c
                place[chosen] = g
                components = principal_components(gaussianised(variables[chosen], random))
                self.vectors[g] = torch.from_numpy(components)
                self.table[g] = torch.from_numpy(quantile_table(variables[chosen], s.quantiles))
        return place

    def _fit_cells(self, showers: Showers, place: NDArray[np.int64]) -> None:
        """Mean histograms of the cells of each layer."""
        self.histograms.zero_()
        start = 0
        for cells, _ in showers.batches(FIT_BATCH):
            flat = torch.as_tensor(cells).flatten(1)
            g = torch.from_numpy(place[start : start + len(flat)])
            self.histograms.index_add_(
                0, g[g >= 0], flat[g >= 0] / flat.sum(1).clamp_min(1e-30)[g >= 0, None]
            )
            start += len(flat)
        mean = self.histograms.mean(0, keepdim=True)
        self.histograms.add_(mean, alpha=ELSEWHERE).add_(1e-12)
        self.histograms.div_(self.layers.spread(self.layers.sum(self.histograms)))

    def _fit_total(
        self, logs: Tensor, own: Floats, lit: NDArray[np.bool_], of_energy: NDArray[np.int64]
    ) -> None:
        """Quantiles of the total energies that are drawn for the showers' conditions, and of their own."""
        generator = torch.Generator().manual_seed(0)
        drawn = []
        for _ in range(TRIALS):
            bins, layers = (
                torch.randn(len(logs), k, generator=generator) for k in (3, self.mesh.n_layers + 1)
            )
            parts = zip(*(torch.split(numbers, SLICE) for numbers in (bins, layers, logs)), strict=True)
            drawn.append(np.concatenate([self._shares(*part)[1].double().numpy() for part in parts]))
        made = np.stack(drawn)
        for b in range(self.settings.energies):
            here = (of_energy == b) & lit
            both = [
                quantile_table(x.reshape(-1, 1), self.settings.quantiles)[0]
                for x in (made[:, here], own[here])
            ]
            self.total[b] = torch.from_numpy(np.stack(both))

    def _shares(self, bins: Tensor, layers: Tensor, logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shares of layers (n, Z), total energy relative to its mean (n,), and their table (n,)."""
        s = self.settings
        level = torch.special.ndtr(bins)  # (n, 3)
        node = self._node(logs)
        below = node.floor()
        energy = (below + (level[:, 0] < node - below)).clamp(max=s.energies - 1).long()
        component = (level[:, 1] * s.components).floor().clamp(max=s.components - 1).long()
        place = energy * s.components + component
        normal = (self.vectors[place] @ layers[:, :, None])[..., 0]
        variables = looked_up(self.table, place, torch.special.ndtr(normal))
        shares = variables[:, :-1].clamp_min(0)
        return shares / shares.sum(1, keepdim=True).clamp_min(1e-30), variables[:, -1], place

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        logs = conditions.energy.log()
        of_energy = self._bin(logs)
        shares, total, place = self._shares(noise["bins"], noise["layers"], logs)
        total = self._reweighted(total, of_energy)
        lit = torch.special.ndtr(noise["bins"][:, 2]) >= self.empty[of_energy]
        energies = shares * (total * self._mean_response(logs) * conditions.energy * lit)[:, None]
        if conditions.layer_energies is not None:
            energies = conditions.layer_energies
        gev = energies / 1000
        a, c = self.resolution.square().unbind()
        hits = gev / (a + c * gev)  # 1/(σ/E)²
        return self.in_hits(noise["cells"], energies, hits, self.histograms[place], conditions)

    def _reweighted(self, total: Tensor, of_energy: Tensor) -> Tensor:
        """Total energies (n,) moved from the distribution that is drawn to the right one."""
        drawn, right = self.total[of_energy, 0], self.total[of_energy, 1]  # (n, Q)
        q = drawn.shape[1]
        i = (drawn <= total[:, None]).sum(1, keepdim=True).clamp(1, q - 1)
        low, high = drawn.gather(1, i - 1), drawn.gather(1, i)
        part = ((total[:, None] - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return right.gather(1, i - 1).lerp(right.gather(1, i), part)[:, 0]


def _curvature(values: Floats) -> Floats:
    """Second derivatives of the natural cubic spline through values one apart, (B,)."""
    n = len(values)
    result = np.zeros(n)
    if n > 2:
        matrix = np.diag(np.full(n - 2, 4.0)) + np.diag(np.ones(n - 3), 1) + np.diag(np.ones(n - 3), -1)
        result[1:-1] = np.linalg.solve(matrix, 6 * np.diff(values, 2))
    return result
