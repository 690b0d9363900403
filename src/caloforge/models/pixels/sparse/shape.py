"""The pixels of a cluster, one after the other: a small network that sees the last few of them.

Legend: ``C`` clusters, ``P`` pixels of a step, ``K`` = `PAST` pixels that are seen, ``F`` features,
``W`` width, ``Q`` charge bins. Charges are ADU.
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.pixels.sparse.clusters import SAME, SIDE, STEPS

__all__ = [
    "PAST",
    "SIZES",
    "ShapeNetwork",
    "charge_edges",
    "drawn",
    "past_features",
    "place_features",
    "seen_charge",
    "size_class",
    "step_of",
]

PAST = 5
SIZES = (*range(1, 14), 16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 160)
"""Least number of pixels of each class of clusters; those of the last one have so many in what is made."""
LEVELS = 64
"""Quantiles of the charges in a bin."""
FLOOR = 1e-4
"""Share of a uniform distribution in what is trained, which bounds the losses of single pixels."""


def size_class(size: Tensor) -> Tensor:
    """Class of clusters of so many pixels."""
    return torch.bucketize(size, torch.tensor(SIZES, device=size.device), right=True) - 1


def charge_edges(threshold: int, largest: int) -> list[int]:
    """Edges of bins of whole charges, an eighth of the charge wide."""
    edges = [threshold]
    while edges[-1] <= largest:
        edges.append(edges[-1] + max(1, edges[-1] // 8))
    edges[-1] = largest + 1
    return edges


class ShapeNetwork(nn.Module):
    """Probabilities of the next step and of the charge there.

    Args:
        kinds: kinds of sensors that look alike (layer and place on the ladder).
        width: W.
        edges: of the charge bins.
    """

    low: Tensor
    levels: Tensor

    def __init__(self, kinds: int, width: int, edges: list[int]) -> None:
        super().__init__()
        self.kinds, self.classes, bins = kinds, len(SIZES), len(edges) - 1
        self.register_buffer("low", torch.tensor(edges[:-1], dtype=torch.float32), persistent=False)
        self.register_buffer("levels", self.low[:, None].repeat(1, LEVELS))
        known = kinds + len(SIZES) + 8
        self.known = nn.Sequential(nn.Linear(known, width), nn.ReLU(), nn.Linear(width, width))
        self.begin = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, bins))
        self.past = nn.Linear(3 * PAST + 6, width)
        self.deep = nn.Linear(width, width)
        self.step = nn.Linear(width, STEPS)
        self.after = nn.Linear(width, width // 2)
        self.of_step = nn.Embedding(STEPS, width // 2)
        self.charge = nn.Linear(width // 2, bins)

    def cluster(self, kind: Tensor, size: Tensor, place: Tensor) -> Tensor:
        """What is known of clusters before their pixels: (C, W) of kinds, classes and places (C, 8)."""
        one_hot = torch.cat(
            [
                nn.functional.one_hot(kind, self.kinds).to(torch.float32),
                nn.functional.one_hot(size, self.classes).to(torch.float32),
                place,
            ],
            dim=1,
        )
        known: Tensor = self.known(one_hot)
        return known

    def hidden(self, known: Tensor, past: Tensor) -> Tensor:
        """State of pixels (P, W) from their clusters' and their past (F, P)."""
        h = torch.relu(known + self.past(past.t()))
        return torch.relu(self.deep(h))

    def charges(self, hidden: Tensor, step: Tensor) -> Tensor:
        """Logits (P, Q) of the charge after a step."""
        h = torch.relu(self.after(hidden) + self.of_step(step))
        logits: Tensor = self.charge(h)
        return logits

    def bin_of(self, charge: Tensor) -> Tensor:
        """Bin of each charge."""
        return torch.bucketize(charge.to(torch.float32), self.low, right=True) - 1

    def drawn_charge(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Charges (P,) from logits and uniform numbers (P,): the bin, and in it as all charges are."""
        bins, along = drawn(logits, uniform)
        levels = self.levels.shape[1]
        return self.levels[bins, (along * levels).to(torch.int64).clamp_max(levels - 1)]

    @torch.jit.unused
    def set_spectrum(self, spectrum: NDArray[np.float64]) -> None:
        """Take the numbers of pixels of each charge, which say how those of a bin are distributed in it."""
        edges = [*self.low.to(torch.int64).tolist(), len(spectrum)]
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            share = np.cumsum(spectrum[low:high] + 1e-6)
            middle = (np.arange(LEVELS) + 0.5) / LEVELS * share[-1]
            self.levels[i] = torch.from_numpy(low + np.searchsorted(share, middle))


def drawn(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One of the columns of logits (P, Q) for each uniform number (P,), and where in it the number lies."""
    weights = logits.exp()
    cumulated = weights.cumsum(dim=1)
    wanted = uniform[:, None] * cumulated[:, -1:]
    column = torch.searchsorted(cumulated, wanted).clamp_max(logits.shape[1] - 1)
    beyond = (cumulated.gather(1, column) - wanted) / weights.gather(1, column).clamp_min(1e-30)
    return column.squeeze(1), (1 - beyond).squeeze(1).clamp(0.0, 1.0)


def place_features(u: Tensor, v: Tensor, n_u: int, n_v: int, fine: Tensor, ladder: Tensor) -> Tensor:
    """Where clusters begin, (C, 8): u and v, how near the ends they are, the size of cells, the azimuth."""
    x, y = u.to(torch.float32), v.to(torch.float32)
    return torch.stack(
        [
            x / n_u - 0.5,
            y / n_v - 0.5,
            torch.exp(-x / 4),
            torch.exp((x - n_u) / 4),
            torch.exp((y - n_v) / 8),
            fine,
            torch.cos(ladder),
            torch.sin(ladder),
        ],
        dim=1,
    )


def past_features(
    u: Tensor, v: Tensor, seen: Tensor, rank: Tensor, row: Tensor, before: Tensor, last: Tensor
) -> Tensor:
    """What is seen of the past of pixels, (3K + 6, P), of float32.

    Args:
        u, v: of the pixel and the K − 1 before it, (K, P).
        seen: `seen_charge` of their charges.
        rank: of the pixel in its cluster, (P,).
        row: u of the first pixel of its row of cells, (P,).
        before, last: u of the first and the last pixel of the row before; ``row`` where there is none.
    """
    there = (seen >= 0).to(torch.float32) / 4
    others = torch.stack([u[0] - row, before - row, last - u[0]]).clamp(-20.0, 20.0) / 4
    n = torch.stack([rank / 8, torch.log1p(rank), (u[0] == row).to(torch.float32)])
    return torch.cat([((u - u[0]) * there).clamp(-5.0, 5.0), (v - v[0]) * there, seen, others, n])


def seen_charge(charge: Tensor) -> Tensor:
    """Charges as the network sees them; negative for 0, which says that there is no pixel."""
    return torch.log(charge.clamp_min(2.0) / 7)


def step_of(u: Tensor, v: Tensor, row: Tensor, next_u: Tensor, next_v: Tensor) -> Tensor:
    """The step from pixels to the next ones of their clusters."""
    same = (next_u - u).clamp(1, SAME) - 1
    other = (next_u - row).clamp(-SIDE, SIDE) + SAME + SIDE
    return torch.where(next_v == v, same, other)
