"""Distances of the features' projections onto random directions, with p-values.

S. Grossi, M. Letizia, R. Torre, "Refereeing the Referees: Evaluating Two-Sample Tests for Validating
Generators in Precision Sciences" (arXiv:2409.16336).

Legend: ``N`` showers of both samples, ``D`` features, ``S`` slices.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.distances.matrix import Floats, Pool, Rows, dealt_again
from caloforge.evaluation.distances.parallel import threads
from caloforge.evaluation.results import Estimate

__all__ = ["MOST_SHOWERS", "PERMUTATIONS", "SLICES", "sliced_distances"]

SLICES = 64
PERMUTATIONS = 100
BOOTSTRAPS = 20
MOST_SHOWERS = 20_000
"""Of each sample; of more, so many are drawn."""


def sliced_distances(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    seed: int = 0,
    second: NDArray[np.floating] | None = None,
    slices: int = SLICES,
    permutations: int = PERMUTATIONS,
) -> dict[str, Estimate]:
    """Sliced Wasserstein and sliced Kolmogorov-Smirnov distances: means over random directions.

    Every feature is divided by the reference's standard deviation. Along directions that are uniform on the
    sphere, with the two distribution functions F and G of the projections, ``sliced_wasserstein`` is the mean
    of ∫ |F − G| dt (in standard deviations of a feature; for slices J. Rabin et al., SSVM 2011) and
    ``sliced_ks`` that of max |F − G|. The p-value is the share of random deals of the pooled showers, this
    one counted, whose distance is at least as large: with 100 deals none is below 0.01.

    Args:
        reference, generated: features, (N, D) and (M, D); see `feature_matrix`.
        seed: of directions, deals and bootstrap samples.
        second: features of a second, independent reference, which then gives floor and its error.
        slices, permutations: to be changed in tests only.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """
    rng = np.random.default_rng((seed, 7))
    matrices = [_some(m, rng) for m in (reference, generated, second) if m is not None]
    together = Pool(*matrices)
    x, y, *others = together.rows
    pool = together.take(np.arange(len(together)))
    spread = pool[x].std(axis=0)
    pool = (pool - pool[x].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    directions = rng.standard_normal((pool.shape[1], slices))
    projected = pool @ (directions / np.linalg.norm(directions, axis=0))  # (N, S)
    order = np.argsort(projected, axis=0, kind="stable")
    steps = np.diff(np.take_along_axis(projected, order, axis=0), axis=0)

    def between(rows: tuple[Rows, Rows]) -> Floats:
        first, other = rows
        weights = np.bincount(first, minlength=len(pool)) / len(first)
        weights = weights - np.bincount(other, minlength=len(pool)) / len(other)
        return _distances(weights, order, steps)

    value = between((x, y))
    again = [(rng.choice(x, len(x)), rng.choice(y, len(y))) for _ in range(BOOTSTRAPS)]
    with threads() as each:
        error = np.array([*each(between, again)]).std(axis=0, ddof=1)
        dealt = np.array([*each(between, dealt_again(x, y, seed, permutations))])
    p_value = (1 + (dealt >= value).sum(axis=0)) / (1 + len(dealt))
    floor, scatter, origin = dealt.mean(axis=0), dealt.std(axis=0, ddof=1), "permutation"
    if others:
        floor, scatter, origin = between((x, others[0])), math.sqrt(2) * scatter, "second reference"
    return {
        name: Estimate(
            value=float(value[i]),
            error=float(error[i]),
            floor=float(floor[i]),
            floor_error=float(scatter[i]),
            floor_from=origin,
            p_value=float(p_value[i]),
            showers=(len(x), len(y)),
        )
        for i, name in enumerate(("sliced_wasserstein", "sliced_ks"))
    }


def _some(matrix: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    if len(matrix) <= MOST_SHOWERS:
        return matrix
    return matrix[np.sort(rng.permutation(len(matrix))[:MOST_SHOWERS])]


def _distances(weights: Floats, order: Rows, steps: Floats) -> Floats:
    """Both distances, of the showers' weights (N,): positive in one sample, negative in the other.

    Where several projections are equal the difference of the distribution functions counts after the last.
    """
    difference = np.abs(np.cumsum(weights[order], axis=0)[:-1])
    wasserstein = np.einsum("ns,ns->s", difference, steps)
    largest = np.where(steps > 0, difference, 0.0).max(axis=0)
    return np.array([wasserstein.mean(), largest.mean()])
