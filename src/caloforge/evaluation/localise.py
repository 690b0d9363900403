"""Where do two samples differ? Means layer by layer given the other layers, cell by cell, and of neighbours.

A generator may be 1 % off in a single layer and no histogram shows it, since energies of a layer fluctuate by
tens of per cent. Given all other layers they fluctuate far less: the mean of one layer is therefore compared
after its linear dependence on the others (and on log E_inc) is removed, which is Fisher's discriminant taken
apart. Cells are compared by the mean of s = √(E/E_inc); next neighbours by the mean of t·t', where t is s
less the mean of its ring on a cylinder: that also sees cells which trade places without changing any mean.

Legend: ``N`` showers, ``n`` of a batch, ``V`` voxels, ``Z`` layers, ``K`` layers and covariates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions
from caloforge.detector import Mesh
from caloforge.detector.mesh import RegularMesh
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Localisation, Shift
from caloforge.evaluation.tables import row_blocks

__all__ = ["CellSums", "layer_shifts", "localise"]

Floats = NDArray[np.float64]

LEVEL = 0.01
"""Corrected p-value below which a place is named."""

LEAST_EFFECTIVE = 50.0
"""A cell is compared where (Σ x)² / Σ x² reaches this in a sample, so that its mean is nearly Gaussian."""

MOST_NAMED = 20
_SAME = 1e-6


@dataclass
class _Moments:
    """Sums over showers of a quantity and of its square in each place."""

    first: Floats
    second: Floats

    def add(self, values: NDArray[np.float32]) -> None:
        self.first += values.sum(axis=0, dtype=np.float64).ravel()
        self.second += np.einsum("n...,n...->...", values, values).ravel()


_Set = tuple[_Moments, _Moments, NDArray[np.bool_], Callable[[int], str]]
"""Moments of both samples in many places, which of these are compared, and what a place is called."""


class CellSums:
    """Sums over showers for every cell and pair of next neighbours; a visitor of `compute_features`."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.n = 0
        self.cells = _Moments(np.zeros(mesh.n_voxels), np.zeros(mesh.n_voxels))
        self.pairs: dict[int, _Moments] = {}
        if isinstance(mesh, RegularMesh):
            for axis, size in enumerate(mesh.shape):
                steps = size if mesh.periodic[axis] and size > 2 else size - 1
                if steps > 0:
                    places = mesh.n_voxels // size * steps
                    self.pairs[axis] = _Moments(np.zeros(places), np.zeros(places))

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        n = len(energies)
        self.n += n
        root = np.sqrt(energies / conditions.energy.astype(np.float32)[:, None])
        self.cells.add(root)
        grid = root.reshape(n, *self.mesh.shape)
        for axis in self.pairs:
            if self.mesh.periodic[axis]:
                grid = grid - grid.mean(axis=axis + 1, keepdims=True)
        for axis, moments in self.pairs.items():
            size = self.mesh.shape[axis]
            first, second = _along(grid, axis, 0, size - 1), _along(grid, axis, 1, size)
            product = first * second
            if moments.first.size == self.mesh.n_voxels:  # a closed ring has one pair more
                last = _along(grid, axis, size - 1, size) * _along(grid, axis, 0, 1)
                product = np.concatenate([product, last], axis=axis + 1)
            moments.add(product)

    def totals(self) -> dict[str, Floats]:
        """What is summed, to be added to."""
        moments = {"root": self.cells} | {f"pairs_{axis}": pairs for axis, pairs in self.pairs.items()}
        return {name: m.first for name, m in moments.items()} | {
            f"{name}_squared": m.second for name, m in moments.items()
        }

    def n_pairs(self, axis: int) -> int:
        """Pairs of neighbours along an axis: one more where it closes to a ring."""
        return self.pairs[axis].first.size * self.mesh.shape[axis] // self.mesh.n_voxels

    def pair_name(self, axis: int, place: int) -> str:
        """The two neighbours of a pair, by their indices."""
        shape = list(self.mesh.shape)
        size, shape[axis] = shape[axis], self.n_pairs(axis)
        first = [int(i) for i in np.unravel_index(place, shape)]
        second = list(first)
        second[axis] = (second[axis] + 1) % size
        return f"cells {_indices(first)} and {_indices(second)}"

    def cell_name(self, voxel: int) -> str:
        """``cell z/φ/r``, or the number of the voxel where layers differ in shape."""
        if not isinstance(self.mesh, RegularMesh):
            return f"cell {voxel}"
        return f"cell {_indices([int(i) for i in np.unravel_index(voxel, self.mesh.shape)])}"


def localise(
    reference: Features, generated: Features, cells: tuple[CellSums, CellSums] | None = None
) -> Localisation:
    """The places where the means of both samples differ by more than chance.

    Args:
        reference, generated: features of the two samples on the same mesh.
        cells: sums over the cells of both; without them only layers are compared.
    """
    shifts = layer_shifts(reference, generated)
    tested, found = {"layer": reference.e_layer.shape[1]}, {"layer": len(shifts)}
    if cells is not None:
        for kind, candidates, count in _cell_shifts(*cells):
            tested[kind], found[kind] = count, len(candidates)
            shifts += candidates[:MOST_NAMED]
    shared, exact = _shared(reference, generated)
    return Localisation(shifts=shifts, tested=tested, found=found, shared_showers=shared, exact=exact)


def layer_shifts(reference: Features, generated: Features) -> list[Shift]:
    """Layers whose mean of E/E_inc, given the other layers and log E_inc, differs by more than chance.

    With the covariance C of the difference δ of the samples' means in all K columns, and P = C⁻¹, the
    difference of column k given all others is (Pδ)_k / P_kk with variance 1 / P_kk. Showers count in
    proportion to their energy, since relative fluctuations fall with it. The layer that stands out most is
    taken as shifted and its shift removed, until none stands out: a shifted layer makes its neighbours look
    strange as well.
    """
    (mean, first), (other, second) = (_mean_and_covariance(f) for f in (reference, generated))
    covariance, delta = first + second, other - mean
    n_layers = reference.e_layer.shape[1]
    scale = np.sqrt(np.diag(covariance))
    used = np.flatnonzero(scale > 1e-12 * np.maximum(np.abs(mean), 1e-12))
    if len(used) < 2 or min(len(reference), len(generated)) < 4 * len(used):
        return []
    correlation = covariance[np.ix_(used, used)] / np.outer(scale[used], scale[used])
    precision = np.linalg.inv(correlation + 1e-9 * np.eye(len(used)))
    root = np.sqrt(np.diag(precision))
    delta = delta[used] / scale[used]
    free = used < n_layers
    n_free = int(free.sum())
    shifts: list[Shift] = []
    for _ in range(n_free):
        z = np.where(free, precision @ delta / root, 0.0)
        worst = int(np.argmax(np.abs(z)))
        p_value = _corrected(float(z[worst]), n_free)
        if p_value > LEVEL:
            break
        place, error = int(used[worst]), 1 / root[worst]
        delta[worst] -= z[worst] * error
        free[worst] = False
        unit = scale[place] / mean[place] if mean[place] else np.nan
        name = f"layer {reference.mesh.layer_numbers[place]}"
        shifts.append(
            Shift(
                name=name,
                kind="layer",
                relative=float(z[worst] * error * unit),
                error=float(error * unit),
                z=float(z[worst]),
                p_value=p_value,
            )
        )
    return shifts


def _mean_and_covariance(features: Features) -> tuple[Floats, Floats]:
    """Means of E_layer/E_inc, log E_inc and its square, weighted by E_inc, (K,), and their covariance."""
    weights = features.incident_energy / features.incident_energy.sum()

    def columns(rows: slice) -> Floats:
        energy = features.incident_energy[rows][:, None]
        log = np.log(energy)
        return np.concatenate([features.e_layer[rows] / energy, log, log**2], axis=1)

    blocks = list(row_blocks(len(features)))
    mean = np.sum([weights[rows] @ columns(rows) for rows in blocks], axis=0)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in blocks:
        spread = weights[rows][:, None] * (columns(rows) - mean)
        covariance += spread.T @ spread
    return mean, covariance


def _cell_shifts(first: CellSums, second: CellSums) -> Iterator[tuple[str, list[Shift], int]]:
    """By kind: the shifts, most significant first, and how many places were compared."""
    lit = np.maximum(_effective(first.cells), _effective(second.cells)) >= LEAST_EFFECTIVE
    yield "cell", *_named([(first.cells, second.cells, lit, first.cell_name)], first.n, second.n, "cell")
    grid = lit.reshape(first.mesh.shape)
    pairs: list[_Set] = []
    for axis in first.pairs:
        both = (grid & np.roll(grid, -1, axis)).swapaxes(0, axis)[: first.n_pairs(axis)].swapaxes(0, axis)
        pairs.append((first.pairs[axis], second.pairs[axis], both.ravel(), partial(first.pair_name, axis)))
    if pairs:
        yield "neighbours", *_named(pairs, first.n, second.n, "neighbours")


def _named(sets: list[_Set], n1: int, n2: int, kind: str) -> tuple[list[Shift], int]:
    """Places whose means differ (Welch's test) among those that are usable, and the number of these."""
    shifts, count = [], sum(int(usable.sum()) for _, _, usable, _ in sets)
    for a, b, usable, name in sets:
        m1, m2 = a.first / n1, b.first / n2
        v1, v2 = (np.maximum(x.second / n - (x.first / n) ** 2, 0) / n for x, n in ((a, n1), (b, n2)))
        error = np.sqrt(v1 + v2)
        z = np.divide(m2 - m1, error, out=np.zeros_like(error), where=usable & (error > 0))
        for place in np.flatnonzero(np.abs(z) > 3):
            p_value = _corrected(float(z[place]), count)
            if p_value < LEVEL:
                unit = 1 / abs(m1[place]) if m1[place] else np.nan
                change, spread = (m2[place] - m1[place]) * unit, error[place] * unit
                shifts.append(
                    Shift(
                        name=name(int(place)),
                        kind=kind,
                        relative=float(change),
                        error=float(spread),
                        z=float(z[place]),
                        p_value=p_value,
                    )
                )
    return sorted(shifts, key=lambda shift: -abs(shift.z)), count


def _effective(moments: _Moments) -> Floats:
    """(Σ x)² / Σ x²: about the number of showers that carry the mean, for each place."""
    square = np.maximum(moments.second, 1e-300)
    return np.where(moments.second > 0, moments.first**2 / square, 0.0)


def _corrected(z: float, places: int) -> float:
    """Two-sided p-value of a Gaussian, times the number of places."""
    return min(1.0, places * erfc(abs(z) / sqrt(2)))


def _shared(reference: Features, generated: Features) -> tuple[float, dict[str, float]]:
    """Share of rows that are one shower in both files, and the layers that differ nevertheless."""
    n = min(len(reference), len(generated))
    first, second = reference.e_layer[:n], generated.e_layer[:n]
    rows = np.concatenate([_alike(first[block], second[block]) for block in row_blocks(n)])
    share = float(rows.mean())
    if share < 0.5:
        return share, {}
    m1, m2 = (x[rows].mean(axis=0, dtype=np.float64) for x in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(m1 > 0, m2 / m1 - 1, 0.0)
    places = np.flatnonzero(np.abs(change) > _SAME)
    return share, {str(reference.mesh.layer_numbers[i]): float(change[i]) for i in places}


def _alike(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Rows whose layers (n, Z) for the most part agree to the last digits, (n,)."""
    lit = (first > 0) | (second > 0)
    equal = (np.abs(first - second) <= _SAME * first) & lit
    return np.asarray(equal.sum(axis=1) > 0.5 * np.maximum(lit.sum(axis=1), 1))


def _along(grid: NDArray[np.float32], axis: int, start: int, stop: int) -> NDArray[np.float32]:
    """A slice along one axis of the mesh, of showers (n, Z, ., .)."""
    where = [slice(None)] * grid.ndim
    where[axis + 1] = slice(start, stop)
    return grid[tuple(where)]


def _indices(place: list[int]) -> str:
    return "/".join(map(str, place))
