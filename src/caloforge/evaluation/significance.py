"""When is a separation power more than chance, among hundreds of them, and what could have been seen?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import Histogram, Separation

__all__ = [
    "FALSE_ALARMS",
    "HINT",
    "SIGMAS",
    "beyond_chance",
    "chance_sigmas",
    "detectable_auc",
    "equivalent_auc",
    "excess",
]

HINT = 2.0
"""Standard deviations from which a single number hints at a difference: of 40 numbers chance gives one."""
SIGMAS = 3.0
"""Standard deviations from which a single number differs from what chance gives."""
FALSE_ALARMS = 0.01
"""Expected share of false alarms among the features that are said to differ."""


def chance_sigmas(separation: Separation) -> float:
    """How far a separation power lies above chance, as standard deviations of a normal distribution.

    By chance S is distributed like a χ² with a skewed tail, so (S − floor) / floor_std is too large for few
    bins. Here the χ² of the same mean and variance is turned into a normal variable by its cube root
    (E. B. Wilson, M. M. Hilferty, PNAS 17 (1931) 684): z = 3 √k ((S / floor)^⅓ − 1) + 1 / (3 √k), with
    k = (floor / floor_std)², at least ½, a single degree of freedom: a second reference may have been lucky.
    """
    if separation.floor <= 0 or separation.floor_std <= 0:
        return math.inf if separation.value > separation.floor + 1e-12 else 0.0
    root = max(separation.floor / separation.floor_std, math.sqrt(0.5))
    mean = root * separation.floor_std
    return 3 * root * (math.cbrt(separation.value / mean) - 1) + 1 / (3 * root)


def beyond_chance(histograms: Sequence[Histogram], level: float = FALSE_ALARMS) -> NDArray[np.bool_]:
    """Which of many features differ by more than chance, (F,).

    Of 370 features of two equal samples several lie three standard deviations out. The procedure of
    Y. Benjamini and Y. Hochberg (J. R. Stat. Soc. B 57 (1995) 289) accounts for their number: among the
    features that it names, an expected share of at most ``level`` is named by chance, and where no feature
    differs it names any at all with at most that probability.
    """
    if not histograms:
        return np.zeros(0, dtype=bool)
    p = np.array([_tail(chance_sigmas(histogram.separation)) for histogram in histograms])
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= level * np.arange(1, len(p) + 1) / len(p))
    named = np.zeros(len(p), dtype=bool)
    if len(passed):
        named[order[: passed[-1] + 1]] = True
    return named


def equivalent_auc(excess: float) -> float:
    """The AUC that a feature alone gives if its separation power above chance comes from a shift.

    For two normal distributions a small d standard deviations apart S ≈ d² / 4 and AUC = Φ(d / √2).
    """
    return 0.5 * (1 + math.erf(math.sqrt(max(excess, 0.0))))


def excess(histogram: Histogram) -> float:
    """Separation power above chance, times the share of entries within the edges, (0 … 1).

    A separation power sees only entries in range: of a layer that one shower in ten reaches it says how well
    those showers are told apart, which are a tenth of all.
    """
    return (histogram.separation.value - histogram.separation.floor) * _inside(histogram)


def _inside(histogram: Histogram) -> float:
    return 1 - (sum(histogram.reference_outside) + sum(histogram.generated_outside)) / 2


def detectable_auc(histograms: Sequence[Histogram]) -> float:
    """The `equivalent_auc` from which `beyond_chance` names a typical feature; NaN without features."""
    spreads = [h.separation.floor_std * _inside(h) for h in histograms if h.separation.floor_std > 0]
    if not spreads:
        return math.nan
    return equivalent_auc(_threshold(FALSE_ALARMS / len(histograms)) * float(np.median(spreads)))


def _tail(z: float) -> float:
    """Probability of a normal variable above z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def _threshold(tail: float) -> float:
    """The z with this probability above it."""
    return NormalDist().inv_cdf(1 - tail)
