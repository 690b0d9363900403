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
    parts_of: Tensor

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
            "parts_of": _places(torch.from_numpy(grouping.middle_cells).flatten(), grouping.fine.shape[1]),
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
        return given.reshape(given.shape[0], self.n_layers, -1).sum(dim=2)

    def gather(self, energies: Tensor, given: Tensor | None = None) -> Tensor:
        """Energies of the parts (n, V, S) of fine showers (n, Z, B, C); see `Grouping.gather`."""
        if self.grouping.nested:
            return self.spread(energies)
        assert given is not None
        return self.spread(energies) * self._shares(energies, given.reshape(-1, *self.grouping.coarse.shape))

    def _shares(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Which share of its fine cell's energy each part has, (n, V, S): `Grouping.gather` says how."""
        (fz, _, fc), (n_z, n_b, n_c) = self.grouping.factors, self.grouping.coarse.shape
        n_fine = self.grouping.fine.shape[1]
        ring = fine.double().reshape(-1, n_z, fz, n_fine, n_c, fc).sum(dim=(2, 5))  # (n, Zc, B, Cc)
        left = list(ring.unbind(dim=2))  # energy of each fine bin that no part has yet
        taken: list[Tensor] = []  # by the parts, (n, Zc, Cc) each
        for k, cells in enumerate(self.grouping.middle_cells.tolist()):
            known = torch.zeros_like(left[0])
            straddles = (k + 1) * n_fine % n_b != 0
            for cell in cells:
                part = left[cell] if cell >= 0 else torch.zeros_like(known)
                if cell == max(cells) and straddles:
                    part = torch.minimum((coarse[:, :, k] - known).clamp_min(0), part)
                taken.append(part)
                if cell >= 0:
                    known, left[cell] = known + part, left[cell] - part
        whole = ring[:, :, self.middle.clamp_min(0)]
        shares = torch.stack(taken, dim=2) / torch.where(whole > 0, whole, 1.0)  # (n, Zc, Bc·fb, Cc)
        shares = shares.repeat_interleave(fz, dim=1).repeat_interleave(fc, dim=3)
        return self._by_slot(shares.to(fine.dtype))

    def spread(self, fine: Tensor) -> Tensor:
        """The value of the fine cell of each slot: (n, Z, B, C) → (n, V, S)."""
        return self._by_slot(fine if self.grouping.nested else fine[:, :, self.middle])

    def _by_slot(self, split: Tensor) -> Tensor:
        """Values of parts (n, Z, Bc·fb, C) by the slots of coarse cells: (n, V, S)."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.grouping.factors, self.grouping.coarse.shape
        split = split.reshape(-1, n_z, fz, n_b, fb, n_c, fc).permute(0, 1, 3, 5, 2, 4, 6)
        return split.reshape(-1, n_z * n_b * n_c, fz * fb * fc)

    def scatter(self, parts: Tensor) -> Tensor:
        """Fine showers (n, Z, B, C) of parts (n, V, S); those of a fine cell are summed."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.grouping.factors, self.grouping.coarse.shape
        split = parts.reshape(-1, n_z, n_b, n_c, fz, fb, fc).permute(0, 1, 4, 2, 5, 3, 6)
        joined = split.reshape(-1, n_z * fz, n_b * fb, n_c * fc)
        if self.grouping.nested:
            return joined
        return F.pad(joined, (0, 0, 0, 1))[:, :, self.parts_of].sum(dim=3)

    def towards_layers(self, parts: Tensor, layers: Tensor, rows: Tensor, every: bool) -> Tensor:
        """Parts (L, S) of the coarse cells ``rows`` (L,) = shower·V + cell, scaled to fine layers (n, Z).

        Factors are within `FACTORS`, so that cells that are alone in their coarse cell come back. Where the
        rows are those of ``every`` cell in order, sums need no atomic additions, whose order a GPU changes.
        """
        fz, n_cells = self.grouping.factors[0], len(self.around)
        groups = rows // n_cells * self.n_layers + rows % n_cells // (n_cells // self.n_layers)
        split = parts.reshape(parts.shape[0], fz, -1)
        shares = split.sum(dim=2)
        if every:
            summed = shares.view(layers.shape[0] * self.n_layers, -1, fz).sum(dim=1)
        else:
            summed = layers.new_zeros(layers.shape[0] * self.n_layers, fz).index_add(0, groups, shares)
        factors = layers.reshape(summed.shape) / torch.where(summed > 0, summed, 1.0)
        return (split * factors.clamp(*FACTORS)[groups][:, :, None]).view_as(parts)

    def filled(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Values (n·V, S) of all coarse cells, with normal noise in the slots that hold no part."""
        if self.full:
            return values
        noise = torch.randn(values.shape, generator=generator, device=values.device)
        return torch.where(self.mask.repeat(values.shape[0] // len(self.mask), 1), values, noise)


def _places(cells: Tensor, n: int) -> Tensor:
    """Where in ``cells`` (K,) each of 0 … n − 1 stands, (n, most times that one does), filled up with K."""
    found = [(cells == cell).nonzero()[:, 0] for cell in range(n)]
    return nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=len(cells))
