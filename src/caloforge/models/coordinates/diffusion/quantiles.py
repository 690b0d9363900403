"""Tables of what cells hold, given the energy of their layer, which map it onto N(0, 1).

The spectrum of cell energies, with its threshold, its many empty cells and tails over decades, is what
diffusion models get wrong. Here it is not learned at all: a table holds, for each layer and r, the fraction
of empty cells and the quantiles of the others as functions of the layer's energy, and a cell becomes the
normal number of the same rank. Empty cells share the range below the rank where energy begins. In these
coordinates each cell is standard normal by construction, and a network has to learn only how cells belong
together.

Legend: ``n`` showers, mesh (Z, P, R), ``D`` detectors, ``K`` nodes in the layer's energy, ``Q`` quantiles.
Energies are in units of the threshold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caloforge.models.networks.fused import Fusable, fusable

__all__ = ["ConditionalQuantiles", "normal_cdf"]

REACH = 4.0
"""Quantiles are kept at normal scores from −REACH to REACH."""
FAR = 6.0
"""Largest normal score that a cell can have."""
LEAST_STEP = 1e-3
FEWEST = 64
"""Cells with energy below which a node takes its quantiles from all nodes of the layer."""
NODE_SHOWERS = 16
"""Showers that a node is made of at least; with fewer, nodes are interpolated."""


def normal_cdf(x: Tensor) -> Tensor:
    """The probability Φ(x) of a standard normal number below x, precise in the lower tail."""
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def normal_score(p: Tensor) -> Tensor:
    """Φ⁻¹(p), within ± FAR; precise for small p."""
    score: Tensor = torch.special.ndtri(p.clamp(1e-9, 1 - 1e-7))
    return score.clamp(-FAR, FAR)


class ConditionalQuantiles(Fusable):
    """Conditional quantiles of cell energies of D detectors on meshes (Z, P, R) of one shape.

    Attributes:
        nodes: logarithms of layer energies, rising, (D, Z, K).
        empty: normal score of the probability of an empty cell, (D, Z, K, R).
        quantiles: of log E of cells with energy, rising, (D, Z, K, R, Q).
    """

    nodes: Tensor
    empty: Tensor
    quantiles: Tensor

    def __init__(self, detectors: int, layers: int, columns: int, *, nodes: int, quantiles: int) -> None:
        super().__init__()
        self.register_buffer("nodes", torch.linspace(0, 1, nodes).repeat(detectors, layers, 1))
        self.register_buffer("empty", torch.zeros(detectors, layers, nodes, columns))
        grid = torch.linspace(-REACH, REACH, quantiles)
        self.register_buffer("quantiles", grid.repeat(detectors, layers, nodes, columns, 1))
        self.step = 2 * REACH / (quantiles - 1)

    @torch.no_grad()
    def fit(self, slot: int, energies: Tensor) -> None:
        """Set the tables of one detector from showers (n, Z, P, R)."""
        for z, cells in enumerate(energies.unbind(dim=1)):
            nodes, empty, quantiles = _layer_tables(cells, self.nodes.shape[-1], self.quantiles.shape[-1])
            self.nodes[slot, z], self.empty[slot, z], self.quantiles[slot, z] = nodes, empty, quantiles

    def tables(self, layer_energies: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Tables at layer energies (n, Z): score of emptiness (n, Z, 1, R) and quantiles (n, Z, R, Q)."""
        log_e = layer_energies.clamp_min(1e-6).log()
        nodes = self.nodes[slots]  # (n, Z, K)
        last = nodes.shape[-1] - 2
        lower = (torch.searchsorted(nodes, log_e[..., None]) - 1).clamp(0, last)[..., 0]
        left, right = (nodes.gather(-1, (lower + k)[..., None])[..., 0] for k in (0, 1))
        weight = ((log_e - left) / (right - left)).clamp(0, 1)
        layer = torch.arange(nodes.shape[1], device=nodes.device)
        at = (slots[:, None], layer)
        w = weight[..., None]
        empty = torch.lerp(self.empty[(*at, lower)], self.empty[(*at, lower + 1)], w)
        w = weight[..., None, None]
        quantiles = torch.lerp(self.quantiles[(*at, lower)], self.quantiles[(*at, lower + 1)], w)
        return empty[:, :, None], quantiles

    def forward(self, energies: Tensor, layer_energies: Tensor, slots: Tensor, uniform: Tensor) -> Tensor:
        """Normal numbers of cells (n, Z, P, R), given layers (n, Z); ``uniform`` places empty cells."""
        empty, quantiles = self.tables(layer_energies, slots)
        place = self.ranks(energies, quantiles)
        above = normal_cdf(-place) * normal_cdf(-empty)  # probability of more energy
        lit = -normal_score(above)
        return torch.where(energies > 0, lit, normal_score(uniform * normal_cdf(empty)))

    def ranks(self, energies: Tensor, quantiles: Tensor) -> Tensor:
        """Normal scores of energies (n, Z, P, R) among the cells with energy, from their `tables`."""
        log_e = energies.clamp_min(1.0).log().transpose(2, 3).contiguous()  # (n, Z, R, P)
        upper = torch.searchsorted(quantiles, log_e).clamp(1, quantiles.shape[-1] - 1)
        left, right = quantiles.gather(-1, upper - 1), quantiles.gather(-1, upper)
        place = (upper - 1 + ((log_e - left) / (right - left)).clamp(0, 1)) * self.step - REACH
        return place.transpose(2, 3)

    def energies(self, ranks: Tensor, quantiles: Tensor) -> Tensor:
        """Undo `ranks`; both (n, Z, P, R)."""
        place = ((ranks.clamp(-REACH, REACH) + REACH) / self.step).transpose(2, 3)
        lower = place.floor().clamp(0, quantiles.shape[-1] - 2).long()
        log_e = torch.lerp(quantiles.gather(-1, lower), quantiles.gather(-1, lower + 1), place - lower)
        return log_e.transpose(2, 3).exp()

    def filled(self, layer_energies: Tensor, slots: Tensor) -> Tensor:
        """The probability of a cell with energy in layers of energies (n, Z): (n, Z, 1, R)."""
        return normal_cdf(-self.tables(layer_energies, slots)[0])

    @fusable
    def inverse(self, x: Tensor, tables: tuple[Tensor, Tensor], *, fill: bool = False) -> Tensor:
        """Energies (n, Z, P, R) of normal numbers (n, Z, P, R) with their `tables`; empty cells are 0.

        With ``fill`` the cell that comes nearest to having energy has some, if no cell of its layer has.
        """
        empty, quantiles = tables
        energies = self.energies(-normal_score(normal_cdf(-x) / normal_cdf(-empty)), quantiles)
        margin = x - empty
        lit = margin > 0
        if fill:
            lit = lit | (margin == margin.amax(dim=(2, 3), keepdim=True))
        return torch.where(lit, energies, 0.0)


def _layer_tables(cells: Tensor, n_nodes: int, n_quantiles: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tables of one layer of cells (n, P, R): nodes (K,), scores of emptiness (K, R), quantiles (K, R, Q)."""
    grid = normal_cdf(torch.linspace(-REACH, REACH, n_quantiles))
    columns = cells.shape[-1]
    sums = cells.sum(dim=(1, 2))
    cells, sums = cells[sums > 0], sums[sums > 0]
    own_nodes = min(max(len(sums) // NODE_SHOWERS, 1), n_nodes)
    n_used = len(sums) // own_nodes * own_nodes
    if not n_used:  # a layer that is never hit: everything is empty
        everything = torch.full((n_nodes, columns), FAR)
        rising = torch.linspace(0, 1, n_quantiles).expand(n_nodes, columns, -1)
        return torch.linspace(0, 1, n_nodes), everything, rising
    order = sums.argsort(stable=True)[len(sums) - n_used :]
    nodes = sums[order].log().view(own_nodes, -1).mean(dim=1)
    by_node = cells[order].view(own_nodes, -1, columns).transpose(1, 2)  # (own K, R, m)
    m = by_node.shape[-1]
    n_empty = (by_node <= 0).sum(dim=-1)
    empty = normal_score((n_empty / m).clamp(0.5 / m, 1 - 0.5 / m))
    own = _lit_quantiles(by_node, n_empty, grid)
    pooled = by_node.transpose(0, 1).reshape(1, columns, -1)
    common = _lit_quantiles(pooled, n_empty.sum(dim=0, keepdim=True), grid)
    of_layer = _lit_quantiles(by_node.reshape(1, 1, -1), n_empty.sum().view(1, 1), grid)
    n_lit = m - n_empty
    common = torch.where((n_lit.sum(dim=0) < FEWEST)[None, :, None], of_layer, common)
    quantiles = torch.where((n_lit < FEWEST)[..., None], common, own)
    rising = LEAST_STEP * torch.arange(n_quantiles)
    quantiles = (quantiles - rising).cummax(dim=-1).values + rising
    nodes, empty, quantiles = (_spread(table, n_nodes) for table in (nodes, empty, quantiles))
    return nodes.cummax(0).values + 1e-4 * torch.arange(n_nodes), empty, quantiles


def _spread(table: Tensor, n: int) -> Tensor:
    """A table (k, …) of k ≤ n nodes at n nodes, by linear interpolation."""
    place = torch.linspace(0, len(table) - 1, n)
    lower = place.floor().long().clamp(max=max(len(table) - 2, 0))
    weight = (place - lower).view(-1, *[1] * (table.dim() - 1))
    return torch.lerp(table[lower], table[(lower + 1).clamp(max=len(table) - 1)], weight)


def _lit_quantiles(values: Tensor, n_empty: Tensor, grid: Tensor) -> Tensor:
    """Quantiles (…, Q) of the logarithms of what is above zero in values (…, m), ``n_empty`` (…) are not."""
    ordered = values.clamp_min(1.0).log().sort(dim=-1).values  # empty cells first
    m = values.shape[-1]
    n_lit = (m - n_empty).clamp_min(1)[..., None]
    place = n_empty[..., None] + (grid * n_lit - 0.5).clamp_min(0).minimum(n_lit - 1.0)
    place = place.clamp_max(m - 1)
    lower = place.floor().long()
    upper = (lower + 1).clamp_max(m - 1)
    return torch.lerp(ordered.gather(-1, lower), ordered.gather(-1, upper), (place - lower).to(ordered))
