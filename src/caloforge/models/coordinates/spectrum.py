"""A monotone map of cell energies that restores their spectrum, fitted on generated and reference showers.

As at the end of L2LFlows (Diefenbacher et al., arXiv:2302.11594): the sorted energies of generated cells are
brought onto the sorted energies of reference cells.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caloforge.data.showers import Showers
from caloforge.models.base import Batch, GeneratorModel
from caloforge.models.networks.fused import Fusable, fusable

__all__ = ["SpectrumMap"]

NODES = 128
TAIL = 50
"""Cells that lie beyond the last node; further out the map goes on with a constant factor."""


class SpectrumMap(Fusable):
    """Maps each energy by itself, piecewise linear in log E between nodes; the identity before `fit`.

    Empty cells stay empty and lit ones stay lit: no energy at or above the threshold falls below it.

    Args:
        nodes: of the map.
    """

    source: Tensor
    target: Tensor

    def __init__(self, nodes: int = NODES) -> None:
        super().__init__()
        for name in ("source", "target"):  # logarithms of MeV
            self.register_buffer(name, torch.linspace(0, 1, nodes))

    def reset(self) -> None:
        """Make it the identity."""
        self.target.copy_(self.source)

    @torch.no_grad()
    def fit(self, generated: Tensor, reference: Tensor, threshold: float) -> None:
        """Bring the lit cells among ``generated`` (*) to the spectrum of those among ``reference`` (*), MeV.

        Each node is an energy that has as large a fraction of the lit generated cells above it as its target
        has of the lit reference cells. Nodes lie at equal steps in log E, since it is over decades of energy
        that spectra are compared. Too few cells (less than 100 lit ones on a side) leave the identity.
        """
        ours, theirs = (
            values[values >= threshold * (1 - 1e-6)].double().log().sort().values
            for values in (generated, reference)
        )
        if min(len(ours), len(theirs)) < 2 * TAIL:
            return
        low = float(torch.tensor(threshold, dtype=torch.float64).log())
        nodes = torch.linspace(low, float(ours[-TAIL]), len(self.source), dtype=torch.float64)
        rank = torch.searchsorted(ours, nodes, right=True).clamp(1, len(ours) - 1)
        step = (nodes - ours[rank - 1]) / (ours[rank] - ours[rank - 1]).clamp_min(1e-12)
        place = (rank - 1 + step.clamp(0, 1)) * ((len(theirs) - 1) / (len(ours) - 1))
        lower = place.floor().long().clamp(max=len(theirs) - 2)
        target = torch.lerp(theirs[lower], theirs[lower + 1], place - lower)
        target[0] = low
        # strictly rising, so that different energies stay different
        target = torch.maximum(target, target.cummax(0).values) + 1e-6 * torch.arange(len(nodes))
        self.source.copy_(nodes)
        self.target.copy_(target)

    @torch.no_grad()
    def calibrate(
        self,
        model: GeneratorModel,
        showers: Showers,
        generate: Callable[[Batch], Tensor],
        threshold: float,
        unit: Callable[[Batch], Tensor] | None = None,
    ) -> None:
        """`fit` on the showers that ``model`` generates at the conditions of some, with the identity so far.

        Args:
            model: whose map this is.
            showers: what is generated is compared to.
            generate: showers (n, \\*shape), MeV, at the conditions of a batch.
            threshold: of cells, MeV or, where one is given, in units.
            unit: of energy, MeV, for each shower of a batch, (n,).
        """
        self.reset()
        generated, reference = [], []
        for energies, conditions in showers.batches(model.block_size):
            batch = Batch.with_energies(energies, conditions, model.detectors, model.device)
            scale = 1.0 if unit is None else unit(batch).view(-1, *[1] * (batch.energies.dim() - 1))
            generated.append((generate(batch) / scale).flatten().cpu())
            reference.append((batch.energies / scale).flatten().cpu())
        self.fit(torch.cat(generated), torch.cat(reference), threshold)

    @fusable
    def forward(self, energies: Tensor) -> Tensor:
        """Energies (*), MeV, mapped; those below the first node stay what they are."""
        log_e = energies.clamp_min(1e-30).log()
        step = (self.source[-1] - self.source[0]) / (len(self.source) - 1)
        place = ((log_e - self.source[0]) / step).clamp(0, len(self.source) - 1)
        lower = place.floor().clamp(max=len(self.source) - 2).long()
        shift = self.target - self.source
        moved = energies * torch.lerp(shift[lower], shift[lower + 1], place - lower).exp()
        return torch.where(log_e >= self.source[0] - 1e-6, moved, energies)
