"""Do lit cells have lit neighbours as often as in Geant4? What layers, rings and sums cannot tell.

A generator whose cells are independent given the energy of their layer has every mean and every spectrum
right, and yet its showers are salt and pepper where Geant4's are tracks and clumps. A cell is **lit** where
its energy is above zero; its neighbours are the next cells along z, φ (periodic) and r, or z, y and x.

Legend: ``n`` showers of a batch, ``V`` voxels, ``H`` lit cells of all of them, ``Z`` layers, ``R`` rings,
``G`` groups of cells (the rings of each layer), ``C`` pairs of groups, ``K`` pairs of cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions
from caloforge.detector import Mesh
from caloforge.evaluation.packages import needed
from caloforge.evaluation.profiles import ring_places

__all__ = ["HOLE", "LAGS", "NeighbourhoodObservables"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LAGS = (1, 2, 3)
"""Distances, in cells, of the two-point correlation."""
HOLE = 4
"""Lit neighbours of a dark cell that make it a hole; 3 in a single layer, where a cell has at most 4."""
BLOCK = 1 << 22
"""Cells looked at together, which bounds the memory."""


class _Pairs:
    """Pairs of cells some steps apart along an axis, and how many there are between the groups.

    Args:
        pairs: the voxels, (2, K).
        groups: of each voxel, (V,).
        sizes: cells of each group, (G,).
        rings: of each group, (G,).
    """

    def __init__(self, pairs: Ints, groups: Ints, sizes: Ints, rings: Ints) -> None:
        self.pairs = pairs
        self.partners = _table(pairs[0], pairs[1], len(groups))
        (self._first, self._second), self._count = np.unique(groups[pairs], axis=1, return_counts=True)
        self._equal = self._first == self._second
        self._ways = np.where(
            self._equal,
            sizes[self._first] * (sizes[self._first] - 1),
            sizes[self._first] * sizes[self._second],
        )
        self._sizes, n_rings = sizes, int(rings.max()) + 1
        self.rings = np.unique(rings[self._first])
        self._in_ring = (rings[self._first][:, None] == np.arange(n_rings)).astype(np.float64)  # (C, R)

    def independent(self, sums: Floats, squares: Floats) -> Floats:
        """Σ s s' over the pairs of each ring if the cells of a group were dealt out at random, (n, R).

        Args:
            sums, squares: Σ s and Σ s² of the cells of each group, (n, G).
        """
        product = sums[:, self._first] * sums[:, self._second]
        product -= np.where(self._equal, squares[:, self._first], 0.0)
        return np.asarray((product * (self._count / np.maximum(self._ways, 1))) @ self._in_ring)

    def scale(self, sums: Floats, squares: Floats) -> Floats:
        """Σ σ σ' over all pairs, with the standard deviations σ within the groups, (n,)."""
        mean = sums / self._sizes
        sigma = np.sqrt(np.maximum(squares / self._sizes - mean**2, 0.0))
        return np.asarray((sigma[:, self._first] * sigma[:, self._second]) @ self._count.astype(np.float64))


class NeighbourhoodObservables:
    """Collects, for every shower, what the neighbours of its lit cells are; a visitor of `compute_features`.

    * ``isolated``, ``isolated_share``: lit cells without a lit neighbour, and their share of the lit cells;
      ``isolated_ring_<i>`` (from the axis outwards, 0 the innermost) and ``isolated_layer_<layer>`` count
      those of a ring or layer.
    * ``pairs_<axis>``, ``pairs_<axis>_ring_<i>``: pairs of lit neighbours along an axis beyond as many as
      independent cells have: the lit cells of each ring of each layer of this shower are thought to be dealt
      out again within it, where k of m cells give k (k − 1) / (m (m − 1)) for a pair in it and k k' / (m m')
      for a pair with another ring or layer. A pair belongs to the ring of its inner (or front) cell.
    * ``correlation_<axis>_<d>``: two-point correlation of s = √E at a distance of d cells, Σ (s − s̄)(s' − s̄')
      over Σ σ σ', with mean and spread of each ring of each layer; cells of the same ring as above.
    * ``clusters``, ``cluster_size``, ``cluster_largest``: connected clusters of lit cells, one cell or more;
      their mean number of cells; the share of the lit cells in the largest.
    * ``holes``: dark cells with at least `HOLE` lit neighbours.

    On boxes and ragged meshes a ring is one of the bins of the radial profile. Shares, sizes and correlations
    of showers to which they do not apply (nothing lit, nothing that varies) are NaN. A mesh that knows of no
    neighbours has none of this.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._parts: list[dict[str, Floats]] = []
        pairs = {name: p for name, p in mesh.neighbour_pairs().items() if p.shape[1]}
        if not pairs:
            self._steps: dict[str, list[_Pairs]] = {}
            return
        self._ring = ring_places(mesh)
        self._n_rings = int(self._ring.max()) + 1
        self._group, sizes, rings = _groups(mesh, self._ring)
        self._n_groups = len(sizes)
        self._steps = {
            name: [_Pairs(p, self._group, sizes, rings) for p in _further(first, mesh.n_voxels)]
            for name, first in pairs.items()
        }
        both = np.concatenate(list(pairs.values()), axis=1)
        self._around = _table(np.r_[both[0], both[1]], np.r_[both[1], both[0]], mesh.n_voxels)
        self._hole = max(min(HOLE, len(self._around) - 1), 2)

    def __call__(self, start: int, energies: NDArray[np.floating], conditions: Conditions) -> None:
        self._parts.append(self.of(energies))

    def columns(self) -> dict[str, Floats]:
        """The observables of all showers seen, by name, each (N,)."""
        return _joined(self._parts)

    def of(self, energies: NDArray[np.floating]) -> dict[str, Floats]:
        """The observables of showers (n, V) by name, each (n,)."""
        rows = max(BLOCK // self.mesh.n_voxels, 1)
        starts = range(0, len(energies), rows) if self._steps else ()
        return _joined([dict(self._measure(energies[first : first + rows])) for first in starts])

    def names(self) -> list[str]:
        """The names of the observables."""
        return list(self.of(np.zeros((1, self.mesh.n_voxels))))

    def table(self, energies: NDArray[np.floating]) -> NDArray[np.float32]:
        """The observables of showers (n, V) in the order of the names, (n, D); 0 where there are none."""
        columns = [np.nan_to_num(column) for column in self.of(energies).values()]
        empty = np.zeros((len(energies), 0), dtype=np.float32)
        return np.stack(columns, axis=1, dtype=np.float32) if columns else empty

    def _measure(self, energies: NDArray[np.floating]) -> Iterator[tuple[str, Floats]]:
        n, wide = len(energies), self.mesh.n_voxels + 1  # one voxel more, always dark, beyond every edge
        row, voxel = np.nonzero(energies > 0)
        where = np.full(n * wide, -1, dtype=np.int64)
        where[row * wide + voxel] = np.arange(len(row))
        lit = np.bincount(row, minlength=n).astype(np.float64)
        beside = np.bincount((row * wide + self._around[:, voxel]).ravel(), minlength=n * wide)
        alone = beside[row * wide + voxel] == 0

        def counted(chosen: NDArray[np.bool_], kind: Ints, kinds: int) -> Floats:
            place = row[chosen] * kinds + kind[voxel[chosen]]
            return np.bincount(place, minlength=n * kinds).reshape(n, kinds).astype(np.float64)

        isolated = counted(alone, self._ring, self._n_rings)
        yield "isolated", isolated.sum(axis=1)
        yield "isolated_share", _ratio(isolated.sum(axis=1), lit)
        yield from ((f"isolated_ring_{i}", isolated[:, i]) for i in range(self._n_rings))
        if self.mesh.n_layers > 1:
            by_layer = counted(alone, self.mesh.voxel_layers, self.mesh.n_layers)
            for number, column in zip(self.mesh.layer_numbers, by_layer.T, strict=True):
                yield f"isolated_layer_{number}", column

        root = np.sqrt(energies[row, voxel].astype(np.float64))
        group = row * self._n_groups + self._group[voxel]
        count, first_moment, second_moment = (
            np.asarray(np.bincount(group, weights=w, minlength=n * self._n_groups), dtype=np.float64).reshape(
                n, self._n_groups
            )
            for w in (np.ones_like(root), root, root**2)
        )
        links = []
        for name, steps in self._steps.items():
            for distance, step in zip(LAGS, steps, strict=False):
                other = where[row * wide + step.partners[:, voxel]]  # (F, H)
                first = np.nonzero(other >= 0)[1]
                second = other[other >= 0]
                if distance == 1:
                    links.append((first, second))
                    place = row[first] * self._n_rings + self._ring[voxel[first]]
                    pairs = np.bincount(place, minlength=n * self._n_rings).reshape(n, self._n_rings)
                    beyond = pairs - step.independent(count, count)
                    yield f"pairs_{name}", beyond.sum(axis=1)
                    yield from ((f"pairs_{name}_ring_{i}", beyond[:, i]) for i in step.rings)
                products = np.bincount(row[first], weights=root[first] * root[second], minlength=n)
                together = products - step.independent(first_moment, second_moment).sum(axis=1)
                yield (
                    f"correlation_{name}_{distance}",
                    _ratio(together, step.scale(first_moment, second_moment)),
                )

        clusters, largest = _clusters(row, np.concatenate(links, axis=1), n)
        yield "clusters", clusters
        yield "cluster_size", _ratio(lit, clusters)
        yield "cluster_largest", _ratio(largest, lit)
        holes = (beside >= self._hole) & (where < 0)
        yield "holes", holes.reshape(n, wide)[:, :-1].sum(axis=1).astype(np.float64)


def _groups(mesh: Mesh, ring: Ints) -> tuple[Ints, Ints, Ints]:
    """Group of each voxel, (V,), cells of each group and its ring, (G,): rings of each layer.

    On cylinders they are the layer's own rings, of which several may lie in one ring of the profile.
    """
    centres = mesh.centres()
    own = np.unique(centres["r"].round(6), return_inverse=True)[1] if "r" in centres else ring
    keys = np.stack([mesh.voxel_layers, ring, own.ravel()])
    unique, group, sizes = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    return group.ravel(), sizes, unique[1]


def _further(pairs: Ints, n_voxels: int) -> Iterator[Ints]:
    """Pairs one, two, … steps apart, as long as there are any; each pair once, in its first order."""
    steps, found = _table(pairs[0], pairs[1], n_voxels), pairs
    for distance in LAGS:
        if distance > 1:
            second = steps[:, found[1]]
            found = np.stack([np.broadcast_to(found[0], second.shape).ravel(), second.ravel()])
            found = found[:, (found[1] < n_voxels) & (found[0] != found[1])]
            found = found[:, np.sort(np.unique(np.sort(found, axis=0), axis=1, return_index=True)[1])]
        if not found.shape[1]:
            return
        yield found


def _table(first: Ints, second: Ints, n_voxels: int) -> Ints:
    """The partners of each voxel, (F, V); the voxel beyond all others, V, where it has fewer than F."""
    order = np.argsort(first, kind="stable")
    first, second = first[order], second[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    table = np.full((int(rank.max(initial=-1)) + 1, n_voxels), n_voxels, dtype=np.int64)
    table[rank, first] = second
    return table


def _clusters(row: Ints, links: Ints, n: int) -> tuple[Floats, Floats]:
    """Connected clusters of each shower, and the cells of its largest, (n,)."""
    if not len(row):
        return np.zeros(n), np.zeros(n)
    sparse = needed("scipy.sparse")
    graph = sparse.coo_array(
        (np.ones(links.shape[1], dtype=np.int8), (links[0], links[1])), shape=2 * (len(row),)
    )
    number, label = needed("scipy.sparse.csgraph").connected_components(graph, directed=False)
    owner = np.zeros(number, dtype=np.int64)
    owner[label] = row
    largest = np.zeros(n)
    np.maximum.at(largest, owner, np.bincount(label, minlength=number).astype(np.float64))
    return np.bincount(owner, minlength=n).astype(np.float64), largest


def _joined(parts: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    empty = np.full(len(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=empty, where=denominator > 0))
