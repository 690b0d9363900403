"""Clusters: lit cells of a sensor that touch each other.

Legend: ``H`` hits, ``C`` clusters, ``S`` sensors, ``E`` pairs of touching hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.data.pixels.hits import PixelHits

__all__ = ["Clusters", "find_clusters"]

Ints = NDArray[np.int64]

_NEXT = {4: ((0, 1), (1, 0)), 8: ((0, 1), (1, -1), (1, 0), (1, 1))}
"""Steps in u and v to the neighbours that come later in the order of hits."""


@dataclass(frozen=True)
class Clusters:
    """C clusters in the order of their first hits, that is of event and sensor.

    Attributes:
        label: (H,) the cluster of each hit.
        first: (C,) its first hit.
        image: (C,) event · S + sensor.
        pixels, size_u, size_v: (C,) cells in all, and from end to end along u and v.
        charge: (C,) sum, ADU.
    """

    label: Ints
    first: Ints
    image: Ints
    pixels: Ints
    size_u: Ints
    size_v: Ints
    charge: Ints

    def __len__(self) -> int:
        return len(self.first)


def find_clusters(hits: PixelHits, connectivity: Literal[4, 8] = 8) -> Clusters:
    """Connected components of the hits of every sensor, of all events at once.

    Args:
        hits: in order, one at most on each cell.
        connectivity: 4, cells with a common side touch; 8, cells with a common corner do, too.
    """
    images = hits.image
    label = _components(len(images), *_touching(hits, images, connectivity))
    first, label = np.unique(label, return_inverse=True)
    n = len(first)

    def size(cells: NDArray[np.uint16]) -> Ints:
        low, high = cells[first].astype(np.int64), cells[first].astype(np.int64)
        np.minimum.at(low, label, cells)
        np.maximum.at(high, label, cells)
        return high - low + 1

    return Clusters(
        label=label,
        first=first,
        image=images[first],
        pixels=np.bincount(label, minlength=n),
        size_u=size(hits.u),
        size_v=size(hits.v),
        charge=np.bincount(label, hits.charge, n).astype(np.int64),
    )


def _touching(hits: PixelHits, images: Ints, connectivity: Literal[4, 8]) -> tuple[Ints, Ints]:
    """Pairs of hits that touch, (E,) and (E,)."""
    _, n_u, n_v = hits.shape
    # a row and a column that are never lit keep apart what lies at the edges of two sensors
    place = (images * (n_u + 1) + hits.u) * (n_v + 1) + hits.v
    one, other = [], []
    for step_u, step_v in _NEXT[connectivity]:
        wanted = place + step_u * (n_v + 1) + step_v
        found = np.minimum(np.searchsorted(place, wanted), max(len(place) - 1, 0))
        touch = np.flatnonzero(place[found] == wanted)
        one.append(touch)
        other.append(found[touch])
    return np.concatenate(one), np.concatenate(other)


def _components(n: int, one: Ints, other: Ints) -> Ints:
    """The lowest number that each of n points is connected to, (n,): hook to the lower root, then jump."""
    root = np.arange(n)
    while len(one):
        low = np.minimum(root[one], root[other])
        np.minimum.at(root, root[one], low)
        np.minimum.at(root, root[other], low)
        while (root[root] != root).any():
            root = root[root]
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
    return root
