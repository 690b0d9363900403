"""Where the AUC of a classifier goes with more showers: a curve of sample sizes, extrapolated.

Legend: ``K`` sample sizes, ``G`` shapes of a curve, ``R`` trainings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.evaluation.classifiers.scores import auc_error
from caloforge.evaluation.packages import needed
from caloforge.evaluation.results import Estimate, LearningCurve

__all__ = ["MANY", "extrapolate", "learning_curve", "shares"]

Floats = NDArray[np.float64]

MANY = 100_000
"""Showers of each sample at which published generators are judged."""
LEAST = 50
"""Showers of each sample below which a training is left out."""
POWERS = (0.5, 1.0)
HALVES = np.geomspace(1, MANY, 41)
DRAWS = 4000
LARGEST = 0.9999
"""Where everything is told apart, how well is not known."""


def shares(n: int, halvings: int) -> list[float]:
    """Shares of n showers to train with, rising, all of them last; halved as long as 50 are left."""
    return [0.5**k for k in range(halvings, -1, -1) if k == 0 or n * 0.5**k >= LEAST]


def learning_curve(
    showers: Sequence[int], aucs: ArrayLike, judged: int, *, at: int = MANY, seed: int = 0
) -> LearningCurve:
    """The AUCs of trainings with different numbers of showers, and what `extrapolate` makes of them.

    Args:
        showers: sizes of the samples, rising, (K,).
        aucs: of every training, (R, K).
        judged: held-out showers of each class that every training was judged on.
        at: showers to extrapolate to.
        seed: of the draws.
    """
    table = np.atleast_2d(np.asarray(aucs, dtype=np.float64))
    repeats = len(table)
    mean = table.mean(axis=0)
    held_out = np.array([auc_error(min(max(area, 0.5), LARGEST), judged) for area in mean])
    common = held_out / math.sqrt(repeats)
    own = common / 2
    if repeats > 1:  # a few trainings do not know their own scatter; relative to the other error they do
        scatter = table.std(axis=0, ddof=1) / held_out
        own = common * max(0.5, float(np.sqrt((scatter**2).mean())))
    return LearningCurve(
        showers=tuple(int(n) for n in showers),
        aucs=mean,
        errors=np.hypot(common, own),
        at=at,
        expected=extrapolate(showers, mean, common, own, at=at, seed=seed),
    )


def extrapolate(
    showers: Sequence[int], aucs: ArrayLike, common: Floats, own: Floats, *, at: int = MANY, seed: int = 0
) -> Estimate:
    """The AUC that samples of ``at`` showers would give.

    The separation d' = √2 Φ⁻¹(AUC) of a classifier that had to learn from n showers is taken to be
    d' = D / √(1 + (m / n)^p). With p = 1 that is what estimating a linear discriminant costs (K. Fukunaga,
    R. R. Hayes, IEEE Trans. Pattern Anal. Mach. Intell. 11 (1989) 873: a bias in 1/n); networks learn more
    slowly, so p = ½ counts as much. Instead of one fit, all m from 1 to 10⁵ and both p are averaged with
    their likelihoods, which makes the error that of the shape, too: few showers that see nothing leave room
    for a difference that many would see.

    Args:
        showers: sizes of the samples, (K,).
        aucs: one for each, (K,).
        common: errors that all share, since the same showers judged them, (K,).
        own: further errors of each, (K,).
        at: size to extrapolate to.
        seed: of the draws.

    Returns:
        Median and half the range from 16 to 84 %; the floor is 0.5.
    """
    normal = needed("scipy.stats").norm
    area = np.clip(np.asarray(aucs, dtype=np.float64), 1 - LARGEST, LARGEST)
    d = math.sqrt(2) * normal.ppf(area)
    slope = math.sqrt(2) / normal.pdf(normal.ppf(area))
    covariance = np.outer(slope * common, slope * common) + np.diag((slope * own) ** 2)
    precision = np.linalg.inv(covariance)
    n = np.asarray(showers, dtype=np.float64)
    power, half = (grid.ravel() for grid in np.meshgrid(POWERS, HALVES, indexing="ij"))
    shape = (1 + (half[:, None] / n) ** power[:, None]) ** -0.5  # (G, K)
    reach = (1 + (half / at) ** power) ** -0.5
    weight = np.einsum("gk,kl,gl->g", shape, precision, shape)
    height = shape @ precision @ d / weight
    rest = d - height[:, None] * shape
    chi2 = np.einsum("gk,kl,gl->g", rest, precision, rest)
    likelihood = np.exp(-0.5 * (chi2 - chi2.min()))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(half), size=DRAWS, p=likelihood / likelihood.sum())
    drawn = reach[chosen] * (height[chosen] + rng.standard_normal(DRAWS) / np.sqrt(weight[chosen]))
    low, middle, high = np.quantile(normal.cdf(drawn / math.sqrt(2)), (0.16, 0.5, 0.84))
    return Estimate(
        value=float(middle), error=float(high - low) / 2, floor=0.5, floor_from="expectation", ideal=0.5
    )
