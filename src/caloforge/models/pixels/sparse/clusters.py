"""Clusters of lit cells that touch, also at a corner, and their pixels in the order in which they are made.

A cluster's pixels are ordered by v, then u. Each but the first is named by a *step* from the one before it:
further up in the same row of cells, by 1 … `SAME`, or to a cell of the next row, by −`SIDE` … `SIDE` from the
first pixel of the current row; `END` says that there is none. Since the cells touch, no row is left out.
Legend: ``H`` hits, ``C`` clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["END", "SAME", "SIDE", "STEPS", "Clusters", "find_clusters"]

SAME, SIDE = 6, 8
END = SAME + 2 * SIDE + 1
STEPS = END + 1
"""Steps that there are; further ones count as the furthest."""


@dataclass(frozen=True)
class Clusters:
    """C clusters, in no particular order, and their H pixels, cluster by cluster.

    Attributes:
        image: number of the image of each cluster, (C,).
        size: its pixels, (C,).
        first: its first pixel, (C,).
        cluster: of each pixel, (H,).
        rank: of each pixel in its cluster, from 0, (H,).
        u, v, charge: of each pixel, (H,).
    """

    image: Tensor
    size: Tensor
    first: Tensor
    cluster: Tensor
    rank: Tensor
    u: Tensor
    v: Tensor
    charge: Tensor

    def __len__(self) -> int:
        return len(self.size)


def find_clusters(image: Tensor, u: Tensor, v: Tensor, charge: Tensor) -> Clusters:
    """The clusters of hits (H,), int64, in any order, of numbered images."""
    n_u, n_v = (int(x.max()) + 3 if len(x) else 3 for x in (u, v))  # a border of cells that are never lit
    flat, order = torch.sort((image * n_v + v) * n_u + u)
    label = _touching(flat, n_u)
    # a label is the place of the cluster's first pixel, so that sorting by it keeps the order of the pixels
    label, within = torch.sort(label, stable=True)
    order = order[within]
    _, cluster, size = torch.unique_consecutive(label, return_inverse=True, return_counts=True)
    first = torch.cumsum(size, 0) - size
    rank = torch.arange(len(flat), device=flat.device) - first[cluster]
    image, u, v, charge = image[order], u[order], v[order], charge[order]
    return Clusters(image[first], size, first, cluster, rank, u, v, charge)


def _touching(flat: Tensor, n_u: int) -> Tensor:
    """Place of the first of all cells that hang together with each of the sorted cells (H,)."""
    here, there = [], []
    for step in (1, n_u - 1, n_u, n_u + 1):
        place = torch.searchsorted(flat, flat + step).clamp_max(len(flat) - 1)
        found = torch.nonzero(flat[place] == flat + step).squeeze(1)
        here.append(found)
        there.append(place[found])
    a, b = torch.cat(here), torch.cat(there)
    label = torch.arange(len(flat), device=flat.device)
    while True:  # the lower of two labels becomes that of both and of their roots, until all edges agree
        low, high = torch.minimum(label[a], label[b]), torch.maximum(label[a], label[b])
        apart = low < high
        if not bool(apart.any()):
            return label
        a, b, low, high = a[apart], b[apart], low[apart], high[apart]
        label.scatter_reduce_(0, high, low, "amin")
        while True:
            further = label[label]
            if torch.equal(further, label):
                break
            label = further
