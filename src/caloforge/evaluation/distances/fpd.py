"""The Fréchet physics distance (Kansal et al., arXiv:2211.10295), as the CaloChallenge uses it.

Legend: ``N`` showers of a sample, ``U`` of them drawn at least once, ``D`` features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.distances.matrix import Floats, Pool, Rows, dealt_again, draw, taken, with_floor
from caloforge.evaluation.distances.parallel import threads
from caloforge.evaluation.results import Estimate
from caloforge.evaluation.tables import row_blocks

__all__ = ["SIZES", "fpd", "frechet_distance", "trimmed_fpd"]

SIZES: Rows = (1 / np.linspace(1 / 10_000, 1 / 50_000, 10)).astype(np.int64)
"""Numbers of showers drawn, regular in 1/n."""

BATCHES = 20
FLOOR_BATCHES = 2
TRIMMED = 0.01
PERMUTATIONS = 4
_BLOCK = 1024
_COLUMNS = 16
"""Of a matrix, looked at together: those of a line of the processor's cache."""


def fpd(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    seed: int = 0,
    floor: bool = True,
    second: NDArray[np.floating] | None = None,
    sizes: Rows = SIZES,
    batches: int = BATCHES,
) -> Estimate:
    """FPD between two samples: the Fréchet distance of Gaussians, extrapolated to infinitely many showers.

    For each of ten sizes n, regular in 1/n, showers are drawn with replacement 20 times from both samples and
    the Fréchet distances averaged; a straight line in 1/n with intercept and slope ≥ 0 is fitted, whose
    intercept is the FPD. Values are as they are; tables often quote them times 10³.

    Args:
        reference, generated: features, (N, D) and (M, D); see `feature_matrix`.
        seed: of the draws. The package ``jetnet`` draws the same showers from the same seed (its own is 42).
        floor: also give what two samples of one origin have: of ``reference`` and ``second`` where that is
            given, else of both samples pooled and dealt out again at random, four times, with two batches.
            Their scatter also enters the error of a second reference's floor.
        second: features of a second, independent reference, (K, D).
        sizes, batches: the protocol's, to be changed in tests only.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """
    matrices = (reference, generated) if second is None else (reference, generated, second)
    pool = Pool(*matrices)
    x, y, *others = pool.rows
    single = pool.centred()

    def extrapolated(first: Rows, second: Rows, key: int | tuple[int, int], n: int) -> tuple[float, float]:
        return _extrapolated(single, first, second, np.random.default_rng(key), sizes, n)

    value, showers = extrapolated(x, y, seed, batches), (len(x), len(y))
    if not floor:
        return Estimate(value=value[0], error=value[1], showers=showers)
    levels = [
        extrapolated(*rows, (seed, i), FLOOR_BATCHES)[0]
        for i, rows in enumerate(dealt_again(x, y, seed, PERMUTATIONS))
    ]
    against = extrapolated(x, others[0], seed, batches) if others else None
    return with_floor(value, np.array(levels), against, showers)


def trimmed_fpd(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    seed: int = 0,
    second: NDArray[np.floating] | None = None,
) -> Estimate:
    """FPD of the central 99 % of the showers of each sample, from a tenth of the draws.

    A few broken showers move means and covariances as much as a fault of all. Left out is the hundredth of
    each sample that lies farthest out, by its largest |feature − median| in units of the reference's range
    from 16 to 84 %; covariances of what is central are the idea of P. J. Rousseeuw's minimum covariance
    determinant (J. Am. Stat. Assoc. 79 (1984) 871). Where `fpd` is high and this is not, few showers are to
    blame.

    Args:
        reference, generated, second: features, as for `fpd`.
        seed: of the draws.
    """
    columns = np.array_split(np.arange(reference.shape[1]), -(-reference.shape[1] // _COLUMNS))
    low, middle, high = np.concatenate(
        [np.quantile(reference[:, part], (0.16, 0.5, 0.84), axis=0) for part in columns], axis=1
    )
    # a feature that hardly ever varies says nothing about what is far out
    unit = np.where(high > low, high - low, np.inf)

    def central(values: NDArray[np.floating]) -> NDArray[np.floating]:
        distance = np.concatenate(
            [(np.abs(values[rows] - middle) / unit).max(axis=1) for rows in row_blocks(len(values))]
        )
        return taken(values, np.flatnonzero(distance <= np.quantile(distance, 1 - TRIMMED)))

    extra = None if second is None else central(second)
    return fpd(central(reference), central(generated), seed=seed, second=extra, batches=FLOOR_BATCHES)


def frechet_distance(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """d² = |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) of two Gaussians given as mean (D,) and covariance (D, D).

    tr (C₁ C₂)^½ is the sum of the singular values of L₁ᵀ L₂, where C = L Lᵀ: everything stays real and
    symmetric, also for features that are constant or depend on each other.
    """
    (mean1, cov1), (mean2, cov2) = first, second
    singular = np.linalg.svd(_factor(cov1).T @ _factor(cov2), compute_uv=False)
    shift = mean1 - mean2
    return float(shift @ shift + np.trace(cov1) + np.trace(cov2) - 2 * singular.sum())


def _factor(covariance: Floats) -> Floats:
    """L with L Lᵀ = C; by eigenvectors where C is not positive definite to rounding."""
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _moments(values: NDArray[np.float32], sample: Rows) -> tuple[Floats, Floats]:
    """Mean and covariance of the sample that holds these rows (n,) of ``values`` (N, D), some several times.

    Σ w x xᵀ over the U ≤ min(N, n) rows that were drawn: in single precision within blocks of 1024 rows, in
    double over the blocks, which moves an FPD by 10⁻⁸. The values must be centred, since the mean is
    subtracted at the end.
    """
    n, columns, counts = len(sample), values.shape[1], np.bincount(sample)
    drawn = np.flatnonzero(counts)
    roots = np.sqrt(counts[drawn].astype(np.float32))
    product, total = np.zeros((columns, columns)), np.zeros(columns)
    for start in range(0, len(drawn), _BLOCK):
        root = roots[start : start + _BLOCK]
        rows = values[drawn[start : start + _BLOCK]]
        rows *= root[:, None]
        product += rows.T @ rows
        total += root @ rows
    mean = total / n
    return mean, (product - n * np.outer(mean, mean)) / (n - 1)


def _extrapolated(
    pool: NDArray[np.float32], first: Rows, second: Rows, rng: np.random.Generator, sizes: Rows, batches: int
) -> tuple[float, float]:
    """Intercept in 1/n of the Fréchet distance between draws from two sets of rows, and its error."""

    def distance(samples: tuple[Rows, Rows]) -> float:
        return frechet_distance(_moments(pool, samples[0]), _moments(pool, samples[1]))

    values = np.empty(len(sizes))
    with threads() as each:
        for i, size in enumerate(sizes.tolist()):
            draws = [(draw(rng, first, size), draw(rng, second, size)) for _ in range(batches)]
            values[i] = np.mean([*each(distance, draws)])
    return _intercept(1 / sizes, values)


def _intercept(x: Floats, values: Floats) -> tuple[float, float]:
    """Intercept of the least-squares line with intercept and slope ≥ 0, and its standard error.

    The error is that of the line without bounds, with the residuals of the one with bounds.
    """
    centred = x - x.mean()
    slope = float(centred @ values / (centred @ centred))
    if slope < 0:
        slope = 0.0
    intercept = float(values.mean() - slope * x.mean())
    if intercept < 0:
        intercept, slope = 0.0, max(0.0, float(x @ values / (x @ x)))
    residuals = values - intercept - slope * x
    variance = float(residuals @ residuals) / (len(x) - 2)
    return intercept, float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / (centred @ centred))))
