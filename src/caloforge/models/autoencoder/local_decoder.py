"""A decoder whose cells know their neighbours: four rounds, each of cells that lie apart.

Cells that are independent given a latent have no neighbours: whether a cell is lit beside another is decided
by chance. Here a chessboard over (layer, row, column) is filled in four rounds, first the white cells of even
layers, then those of odd ones, then the black cells likewise. A cell is drawn given the latent and the cells
near it of earlier rounds; no two cells that touch are of the same round. A density is one pass over all
rounds at once. A cell is lit with the probability Φ(a), and has then the rank m + s·ε among such cells.

Legend: ``n`` showers, mesh (Z, P, R), ``K`` numbers of latent and context, ``B`` maps, ``H`` channels.
Columns are channels, (n, Z, P, C): a convolution over (Z, P) sees all columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LocalDecoder"]

ROUNDS = 4
LOG_SPREAD = 2.0
"""Logarithms of s are kept within ±."""
SIDE = 1
"""Layers and rows to each side of which a cell knows."""
BESIDE = (0, 0, SIDE, SIDE, SIDE, SIDE)
"""Padding of (n, Z, P, C)."""


class _Round(nn.Module):
    """Maps (n, Z, P, B + 1), cells drawn before (n, Z + 2, P + 2, 2R) → a, m, log s of every second layer.

    The first round has none before.
    """

    def __init__(self, maps: int, hidden: int, shape: tuple[int, int, int], number: int) -> None:
        super().__init__()
        layers, _, columns = shape
        self.first = number % 2
        self.enter = nn.Linear(maps + 1, hidden)
        self.place = nn.Parameter(torch.zeros(len(range(self.first, layers, 2)), 1, hidden))
        self.near = None
        if number:
            self.near = nn.Conv2d(2 * columns, hidden, 2 * SIDE + 1, stride=(2, 1), bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 3 * columns)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, maps: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.enter(maps[:, self.first :: 2]) + self.place
        if self.near is not None:
            images = before[:, self.first :].permute(0, 3, 1, 2)  # channels are last in memory
            h = h + self.near(images).permute(0, 2, 3, 1)
        h = F.silu(h)
        a, m, log_s = self.last(h + F.silu(self.middle(h))).chunk(3, dim=-1)
        return a, m, log_s.clamp(-LOG_SPREAD, LOG_SPREAD)


class LocalDecoder(nn.Module):
    """Numbers and energies of layers → cells, round after round.

    Args:
        shape: (Z, P, R).
        known: K.
        width: hidden units of the network that makes maps of numbers.
        maps: B.
        hidden: H.
        periodic: whether rows close on themselves.
    """

    masks: Tensor

    def __init__(
        self, shape: tuple[int, int, int], known: int, *, width: int, maps: int, hidden: int, periodic: bool
    ) -> None:
        super().__init__()
        self.shape, self.periodic = shape, periodic
        layers, rows, _ = shape
        self.maps = nn.Sequential(
            nn.Linear(known, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, layers * rows * maps),
        )
        self.numbers = [i for i in range(ROUNDS) if i % 2 < layers]
        self.rounds = nn.ModuleList(_Round(maps, hidden, shape, i) for i in self.numbers)
        z, p, r = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        order = 2 * ((z + p + r) % 2) + z % 2  # round of a cell
        self.register_buffer("masks", torch.stack([order == i for i in range(ROUNDS)]), persistent=False)

    def _known(self, known: Tensor, layers: Tensor) -> Tensor:
        """Maps of numbers (n, K), and a number of each layer (n, Z) as another: (n, Z, P, B + 1)."""
        n_z, rows, _ = self.shape
        maps = self.maps(known).view(known.shape[0], n_z, rows, -1)
        return torch.cat([maps, layers[:, :, None, None].expand(-1, -1, rows, 1)], dim=-1)

    def _around(self, padded: Tensor) -> Tensor:
        """Cells (n, Z + 2, P + 2, C) with what is beside them where rows close on themselves."""
        if self.periodic:
            padded[:, :, :SIDE] = padded[:, :, -2 * SIDE : -SIDE]
            padded[:, :, -SIDE:] = padded[:, :, SIDE : 2 * SIDE]
        return padded

    def log_prob(self, lit: Tensor, ranks: Tensor, empty: Tensor, known: Tensor, layers: Tensor) -> Tensor:
        """log p of cells, (n,).

        Args:
            lit: whether they have energy, 0 or 1, (n, Z, P, R).
            ranks: normal scores of those that have, likewise.
            empty: normal score of the probability of an empty cell, (n, Z, 1, R), where nothing else is
                known; what the network says is a deviation from it.
            known: latent and context, (n, K).
            layers: a number of each layer, (n, Z).
        """
        maps, seen = self._known(known, layers), torch.cat([lit, ranks * lit], dim=-1)
        total = maps.new_zeros(len(maps))
        for i, step in zip(self.numbers, self.rounds, strict=True):
            drawn = self.masks[:i].any(dim=0).repeat(1, 1, 2)
            a, m, log_s = step(maps, self._around(F.pad(seen * drawn, BESIDE)))
            here, own = slice(i % 2, None, 2), self.masks[i, i % 2 :: 2]
            a = a - empty[:, here]
            is_lit = lit[:, here]
            z = (ranks[:, here] - m) * (-log_s).exp()
            log_p = torch.special.log_ndtr(torch.where(is_lit > 0, a, -a))
            log_p = log_p - is_lit * (0.5 * z.square() + log_s)
            total = total + torch.where(own, log_p, 0.0).sum(dim=(1, 2, 3))
        return total

    def sample(self, noise: Tensor, empty: Tensor, known: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """By how much cells are lit, above 0 where they are, and their ranks, (n, Z, P, R) each.

        ``noise`` is (n, 2, Z, P, R), the others as in `log_prob`.
        """
        maps, columns = self._known(known, layers), self.shape[2]
        margin, ranks = torch.empty_like(noise[:, 0]), torch.empty_like(noise[:, 0])
        padded = F.pad(maps.new_zeros(*maps.shape[:3], 2 * columns), BESIDE)
        seen = padded[:, SIDE:-SIDE, SIDE:-SIDE]
        for i, step in zip(self.numbers, self.rounds, strict=True):
            a, m, log_s = step(maps, self._around(padded))
            here, own = slice(i % 2, None, 2), self.masks[i, i % 2 :: 2]
            above = a - empty[:, here] + noise[:, 0, here]
            rank = torch.addcmul(m, log_s.exp(), noise[:, 1, here])
            if i < 2:  # white cells; the black ones are written over
                margin[:, here], ranks[:, here] = above, rank
            else:
                margin[:, here] = torch.where(own, above, margin[:, here])
                ranks[:, here] = torch.where(own, rank, ranks[:, here])
            lit = own & (above > 0)
            seen[:, here, :, :columns] += lit
            seen[:, here, :, columns:] += torch.where(lit, rank, 0.0)
        return margin, ranks
