"""The parts of coarse cells as tensors: gathered, scattered, and what is known of each coarse cell.

Legend: ``n`` showers, fine mesh (Z, B, C), coarse mesh (Zc, Bc, Cc) of ``V`` cells, ``S`` slots of parts
(fz, fb, fc), ``L`` chosen coarse cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.grouping import Grouping

__all__ = ["GroupedCells"]

STEPS = ((2, -1), (2, 1), (0, -1), (0, 1), (1, -1), (1, 1))
"""Neighbours in the published order: r in and out, z before and after, φ on both sides."""
FACTORS = (0.05, 4.0)
"""Least and largest factor of a cell in one pass towards the energies of its layer."""


class GroupedCells(nn.Module):
    """Tensor operations of a `Grouping`, whose coarse cells hold parts of fine ones.

    Attributes:
        context_size: numbers that `context` gives for each coarse cell.
        n_layers: Zc.
    """

    around: Tensor
    table: Tensor
    middle: Tensor
    mask: Tensor
    layers_of: Tensor

    def __init__(self, grouping: Grouping) -> None:
        super().__init__()
        self.grouping = grouping
        coarse, n = grouping.coarse, grouping.coarse.n_voxels
        (fz, _, _), (n_z, n_b, n_c) = grouping.factors, coarse.shape
        self.n_layers = n_z
        around = [torch.arange(n), *(torch.from_numpy(coarse.neighbours(*step)) for step in STEPS)]
        place = torch.arange(n)
        z, b, c = place // (n_b * n_c), place // n_c % n_b, place % n_c
        phases = torch.from_numpy(grouping.phases)
        n_phases = int(phases.max()) + 1
        hot = [F.one_hot(c, n_c), F.one_hot(z, n_z)]
        if n_phases > 1:
            hot.append(F.one_hot(phases[b], n_phases))
        table = torch.cat(hot, dim=1).float()
        buffers = {
            "around": torch.stack(around, dim=1) % (n + 1),  # (V, 7), itself first; V where there is none
            "table": table,  # (V, one-hots)
            "layers_of": z[:, None] * fz + torch.arange(fz),  # (V, fz)
            "middle": torch.from_numpy(grouping.middle_cells).flatten(),  # (Bc·fb,)
            "mask": torch.from_numpy(grouping.mask.copy()),  # (V, S)
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        self.full = bool(grouping.mask.all())
        self.context_size = fz + len(around) + table.shape[1]

    def bordered(self, given: Tensor) -> Tensor:
        """Logarithms of coarse energies (n, V) and, last, that of no energy, beyond the mesh: (n, V + 1)."""
        return F.pad(given, (0, 1), value=-1.0)

    def context(self, layers: Tensor, given: Tensor, shower: Tensor, cell: Tensor) -> Tensor:
        """What is known of L coarse cells: fine layers, its energy and its neighbours', one-hot r, z (, φ).

        Args:
            layers, given: logarithms of the energies of fine layers (n, Z) and, `bordered`, of coarse cells.
            shower, cell: of each coarse cell, (L,).
        """
        near = given[shower[:, None], self.around[cell]]  # (L, 7)
        return torch.cat([layers[shower[:, None], self.layers_of[cell]], near, self.table[cell]], dim=1)

    def coarse_layers(self, given: Tensor) -> Tensor:
        """Energies of the coarse layers: (n, V) → (n, Zc)."""
        return given.reshape(len(given), self.n_layers, -1).sum(dim=2)

    def gather(self, energies: Tensor, given: Tensor | None = None) -> Tensor:
        """Energies of the parts (n, V, S) of fine showers (n, Z, B, C); see `Grouping.gather`."""
        if self.grouping.nested:
            return self.spread(energies)
        assert given is not None
        parts = self.grouping.gather(energies.cpu().numpy(), given.cpu().numpy())
        return torch.from_numpy(parts).to(energies)

    def spread(self, fine: Tensor) -> Tensor:
        """The value of the fine cell of each slot: (n, Z, B, C) → (n, V, S)."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.grouping.factors, self.grouping.coarse.shape
        split = fine if self.grouping.nested else fine[:, :, self.middle]
        split = split.reshape(-1, n_z, fz, n_b, fb, n_c, fc).permute(0, 1, 3, 5, 2, 4, 6)
        return split.reshape(-1, n_z * n_b * n_c, fz * fb * fc)

    def scatter(self, parts: Tensor) -> Tensor:
        """Fine showers (n, Z, B, C) of parts (n, V, S); those of a fine cell are summed."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.grouping.factors, self.grouping.coarse.shape
        split = parts.reshape(-1, n_z, n_b, n_c, fz, fb, fc).permute(0, 1, 4, 2, 5, 3, 6)
        joined = split.reshape(-1, n_z * fz, n_b * fb, n_c * fc)
        if self.grouping.nested:
            return joined
        fine = joined.new_zeros(len(joined), *self.grouping.fine.shape)
        exists = self.middle >= 0
        return fine.index_add(2, self.middle[exists], joined[:, :, exists])

    def towards_layers(self, parts: Tensor, layers: Tensor, rows: Tensor) -> Tensor:
        """Parts (L, S) of the coarse cells ``rows`` (L,) = shower·V + cell, scaled to fine layers (n, Z).

        Factors are within `FACTORS`, so that cells that are alone in their coarse cell come back.
        """
        fz, n_cells = self.grouping.factors[0], len(self.around)
        groups = rows // n_cells * self.n_layers + rows % n_cells // (n_cells // self.n_layers)
        split = parts.reshape(len(parts), fz, -1)
        summed = layers.new_zeros(len(layers) * self.n_layers, fz).index_add(0, groups, split.sum(dim=2))
        factors = layers.reshape(summed.shape) / torch.where(summed > 0, summed, 1.0)
        return (split * factors.clamp(*FACTORS)[groups][:, :, None]).view_as(parts)

    def filled(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Values (n·V, S) of all coarse cells, with normal noise in the slots that hold no part."""
        if self.full:
            return values
        noise = torch.randn(values.shape, generator=generator, device=values.device)
        return torch.where(self.mask.repeat(len(values) // len(self.mask), 1), values, noise)
