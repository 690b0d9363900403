"""Correlations between the energies of layers and of cells, at fixed incident energy.

Legend: ``N`` showers, ``K`` quantities, ``G`` groups of showers, ``R`` repeats, ``V`` voxels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data import Conditions
from caloforge.detector import Mesh
from caloforge.errors import DataError
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Correlation, Estimate

__all__ = ["MOST_CELLS", "ChosenCells", "cell_correlation", "cell_label", "choose_cells", "layer_correlation"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_CELLS = 96
MOST_SHOWERS = 100_000
MOST_ENERGY_BINS, SHOWERS_PER_BIN, LEAST_SHOWERS = 10, 200, 20
GROUPS = 512
"""Showers are summed in so many groups; whole groups are then shuffled, which is a matrix product."""
MOST_UNEQUAL = 31
"""For the floor the larger sample is drawn down to so many times the smaller: more would not change it."""
REPEATS = 200


def choose_cells(mean_cells: ArrayLike, most: int = MOST_CELLS) -> Ints:
    """The cells with the largest mean energy, at most 96, in the order of z, φ, r: (K,) flat voxels.

    Args:
        mean_cells: mean energy of each cell of the reference, (V,), as `MeanShower.cells` gives it.
        most: largest K.
    """
    mean = np.asarray(mean_cells, dtype=np.float64)
    strongest = np.argsort(-mean, kind="stable")[:most]
    return np.sort(strongest[mean[strongest] > 0]).astype(np.int64)


class ChosenCells:
    """Energies of some cells over the incident energy of each shower; a visitor of `compute_features`.

    Of more than 100,000 showers every second is kept, of more than 200,000 every fourth, and so on: the
    statistical error of a correlation is then below 0.005.

    Attributes:
        cells: flat voxels, (K,).
        shares: E_cell / E_inc, (N, K).
        incident_energy: MeV, (N,).

    Args:
        cells: of `choose_cells`.
        most: showers that are kept; 100,000 by default.
    """

    def __init__(self, cells: Ints, most: float | None = None) -> None:
        self.cells = np.asarray(cells, dtype=np.int64)
        self._most = MOST_SHOWERS if most is None else most
        self._parts = [np.zeros((0, len(self.cells)), dtype=np.float32)]
        self._energies = [np.zeros(0)]
        self._step, self._kept = 1, 0

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        rows = self.rows(start)
        incident = conditions.energy[rows]
        self.keep((energies[rows][:, self.cells] / incident[:, None]).astype(np.float32), incident)

    def rows(self, start: int) -> slice:
        """Which of the showers that follow the first ``start`` are kept."""
        return slice(-start % self._step, None, self._step)

    def keep(self, shares: NDArray[np.float32], incident: Floats) -> None:
        """Add E_cell / E_inc (n, K) and incident energies (n,) of the showers that `rows` chooses."""
        self._parts.append(shares)
        self._energies.append(incident)
        self._kept += len(incident)
        while self._kept > self._most:
            self._parts, self._energies = [self.shares[::2].copy()], [self.incident_energy[::2].copy()]
            self._step, self._kept = 2 * self._step, len(self._energies[0])

    @property
    def shares(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts)

    @property
    def incident_energy(self) -> Floats:
        return np.concatenate(self._energies)


def cell_label(mesh: Mesh, cell: int) -> str:
    """A cell by its indices z/φ/r (z/y/x on boxes), or on ragged meshes by layer number and place in it."""
    if mesh.is_regular:
        return "/".join(str(int(i)) for i in np.unravel_index(cell, mesh.shape))
    layer = int(mesh.voxel_layers[cell])
    return f"{mesh.layer_numbers[layer]}/{int(cell - mesh.layer_offsets[layer])}"


def cell_correlation(
    reference: ChosenCells, generated: ChosenCells, mesh: Mesh, *, seed: int = 0
) -> Correlation:
    """Correlation matrices of the chosen cells; see `layer_correlation`.

    Raises:
        DataError: the samples kept different cells.
    """
    if not np.array_equal(reference.cells, generated.cells):
        raise DataError("the two samples kept different cells; give both the same `choose_cells`")
    labels = tuple(cell_label(mesh, int(cell)) for cell in reference.cells)
    samples = (reference.shares, generated.shares)
    energies = (reference.incident_energy, generated.incident_energy)
    return _correlation("cells", labels, samples, energies, seed)


def layer_correlation(reference: Features, generated: Features, *, seed: int = 0) -> Correlation:
    """Pearson correlation of the energies in any two layers, both over E_inc and at fixed energy.

    Across a spectrum all layers follow the incident energy and so each other, which says nothing about the
    showers. Therefore in each of up to ten bins of E_inc (equal shares of the reference, at least 200
    showers) the straight line in log E_inc is removed and what is left is divided by its spread in the bin,
    so that showers of all energies count alike. A shower whose bin has fewer than 20 of either sample is
    left out, and of more than 100,000 every k-th is taken.

    ``distance`` is the root mean square difference of the elements off the diagonal. Its floor deals the
    showers of both samples out again at random, its error comes from bootstrap samples of each.

    Args:
        reference, generated: features of the two samples.
        seed: of the draws.
    """
    labels = tuple(str(number) for number in reference.mesh.layer_numbers)
    rows = [slice(None, None, math.ceil(len(f) / MOST_SHOWERS) or 1) for f in (reference, generated)]
    energies = (reference.incident_energy[rows[0]], generated.incident_energy[rows[1]])
    samples = (reference.e_layer[rows[0]], generated.e_layer[rows[1]])
    shares = (samples[0] / energies[0][:, None], samples[1] / energies[1][:, None])
    return _correlation("layers", labels, shares, energies, seed)


def _correlation(
    name: str,
    labels: tuple[str, ...],
    samples: tuple[NDArray[np.floating], NDArray[np.floating]],
    energies: tuple[Floats, Floats],
    seed: int,
) -> Correlation:
    first, second = _fluctuations(samples, energies)
    matrices = [_matrices(*(part[None] for part in _sums(x))) for x in (first, second)]
    return Correlation(
        name=name,
        labels=labels,
        reference=matrices[0][0],
        generated=matrices[1][0],
        distance=_distance_estimate(first, second, float(_distance(matrices[0], matrices[1])[0]), seed),
    )


def _fluctuations(
    samples: tuple[NDArray[np.floating], NDArray[np.floating]], energies: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """What is left of each quantity at fixed energy, in units of its spread, (N, K)."""
    n_bins = int(np.clip(min(len(e) for e in energies) // SHOWERS_PER_BIN, 1, MOST_ENERGY_BINS))
    edges = np.unique(np.quantile(energies[0], np.linspace(0, 1, n_bins + 1)[1:-1]))
    places = [np.searchsorted(edges, e, side="right") for e in energies]
    counts = [np.bincount(p, minlength=n_bins) for p in places]
    enough = np.minimum(*counts) >= LEAST_SHOWERS
    results = []
    for values, energy, place in zip(samples, energies, places, strict=True):
        left = np.empty(values.shape)
        for i in np.flatnonzero(enough):
            rows = place == i
            log_e = np.log(energy[rows])
            log_e -= log_e.mean()
            deviation = values[rows] - values[rows].mean(axis=0, dtype=np.float64)
            slope = log_e @ deviation / max(float(log_e @ log_e), 1e-12)
            deviation -= log_e[:, None] * slope
            spread = deviation.std(axis=0)
            left[rows] = deviation / np.where(spread > 1e-12, spread, np.inf)
        results.append(left[enough[place]])
    return results[0], results[1]


def _sums(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Number, sum (K,) and sum of products (K, K) of the rows of x (..., n, K)."""
    number = np.full(x.shape[:-2], float(x.shape[-2]))
    return number, x.sum(axis=-2), np.matmul(np.swapaxes(x, -1, -2), x)


def _matrices(number: Floats, total: Floats, products: Floats) -> Floats:
    """Correlation matrices (R, K, K) from sums of R sets of showers; NaN where a quantity never varies."""
    n = np.maximum(number, 1.0)[:, None]
    mean = total / n
    covariance = products / n[..., None] - mean[:, :, None] * mean[:, None, :]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    spread = np.sqrt(np.where(variance > 1e-12, variance, np.nan))
    return np.asarray(covariance / (spread[:, :, None] * spread[:, None, :]), dtype=np.float64)


def _distance(first: Floats, second: Floats) -> Floats:
    """Root mean square difference off the diagonal of matrices (R, K, K), of what both know: (R,)."""
    above = np.triu_indices(first.shape[-1], k=1)
    squares = (first[:, above[0], above[1]] - second[:, above[0], above[1]]) ** 2
    known = np.isfinite(squares)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.where(known, squares, 0.0).sum(axis=1) / known.sum(axis=1)))


def _distance_estimate(first: Floats, second: Floats, value: float, seed: int) -> Estimate:
    n1, n2 = len(first), len(second)
    if min(n1, n2) < 2 * LEAST_SHOWERS or not math.isfinite(value):
        return Estimate(value=value)
    rng = np.random.default_rng(seed)
    weights = [_bootstrap_weights(x, rng) for x in (first, second)]
    drawn = [_matrices(*_weighted(*w)) for w in weights]
    error = float(np.nanstd(_distance(*drawn)))
    most = MOST_UNEQUAL * min(n1, n2)
    parts = [x[rng.permutation(len(x))[:most]] if len(x) > most else x for x in (first, second)]
    share = len(parts[0]) / (len(parts[0]) + len(parts[1]))
    groups = _grouped(np.concatenate(parts), rng)
    n_groups = len(groups[0])
    ranks = np.argsort(rng.random((REPEATS, n_groups)), axis=1)
    dealt = (ranks < round(share * n_groups)).astype(np.float64)
    floors = _distance(_matrices(*_weighted(groups, dealt)), _matrices(*_weighted(groups, 1 - dealt)))
    return Estimate(
        value=value,
        error=error,
        floor=float(np.nanmean(floors)),
        floor_error=float(np.nanstd(floors)),
        floor_from="permutation",
    )


def _grouped(x: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Sums over at most 512 random groups of equally many showers; at most one group's worth is left out."""
    size = math.ceil(len(x) / GROUPS)
    chosen = rng.permutation(len(x))[: len(x) // size * size]
    return _sums(x[chosen].reshape(-1, size, x.shape[1]))


def _bootstrap_weights(x: Floats, rng: np.random.Generator) -> tuple[tuple[Floats, Floats, Floats], Floats]:
    groups = _grouped(x, rng)
    n = len(groups[0])
    return groups, rng.multinomial(n, np.full(n, 1 / n), size=REPEATS).astype(np.float64)


def _weighted(groups: tuple[Floats, Floats, Floats], weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Sums of R sets of groups, given how often each group is in a set, (R, G)."""
    number, total, products = groups
    flat = weights @ products.reshape(len(products), -1)
    return weights @ number, weights @ total, flat.reshape(len(weights), *products.shape[1:])
