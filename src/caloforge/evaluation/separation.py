"""The separation power of two histograms, and what chance alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import DataError

__all__ = ["REPEATS", "separation_floor", "separation_floor_clustered", "separation_power"]

EPSILON = 1e-16
REPEATS = 200
"""Pairs of samples drawn for a floor."""

Floats = NDArray[np.float64]


def separation_power(first: ArrayLike, second: ArrayLike) -> float:
    """S = ½ Σ (h₁ − h₂)² / (h₁ + h₂ + 10⁻¹⁶) with each histogram normalised to Σ h = 1.

    0 for equal shapes, 1 for disjoint ones. Where only one histogram has entries S is 1, where none has, 0.

    Args:
        first, second: entries in the same bins, (B,), not negative.

    Raises:
        DataError: the shapes differ, or an entry is negative or not finite.
    """
    h = np.stack([_checked(first), _checked(second)]) if np.shape(first) == np.shape(second) else None
    if h is None:
        raise DataError(
            f"histograms to compare must have the same bins, got {np.shape(first)}, {np.shape(second)}"
        )
    return float(_separations(h[0], h[1]))


def separation_floor(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, repeats: int = REPEATS
) -> tuple[float, float]:
    """Mean and standard deviation of S where both samples come from one distribution.

    The entries of both are pooled and dealt out again at random, which is exact for any sizes and for sparse
    bins (a permutation test); drawing from one sample alone would miss the bins that it left empty by chance.
    In K occupied bins and for n entries each the mean is (K − 1) / (2n − 1).

    For independent entries, one a shower.

    Args:
        first, second: entries in the same bins, (B,), whole numbers.
        seed: of the draws.
        repeats: pairs of samples drawn.
    """
    h1, h2 = (np.rint(_checked(h)).astype(np.int64) for h in (first, second))
    n = int(h1.sum())
    if n == 0 or not h2.any():
        return 0.0, 0.0
    pooled = h1 + h2
    pooled = pooled[pooled > 0]
    dealt = np.random.default_rng(seed).multivariate_hypergeometric(pooled, n, size=repeats)
    values = _separations(dealt.astype(np.float64), (pooled - dealt).astype(np.float64))
    return float(values.mean()), float(values.std())


def separation_floor_clustered(
    first: ArrayLike, second: ArrayLike, *, seed: int = 0, repeats: int = REPEATS
) -> tuple[float, float]:
    """As `separation_floor` for many entries a shower: whole showers are dealt out, which may differ in size.

    Args:
        first, second: entries of each shower, (N₁, B) and (N₂, B).
        seed: of the draws.
        repeats: pairs of samples drawn.
    """
    entries = np.concatenate([np.asarray(first), np.asarray(second)]).astype(np.float64)
    n = len(np.asarray(first))
    rng = np.random.default_rng(seed)
    total = entries.sum(axis=0)
    values = np.empty(repeats)
    for i in range(repeats):
        dealt = entries[rng.permutation(len(entries))[:n]].sum(axis=0)
        values[i] = _separations(dealt, total - dealt)
    return float(values.mean()), float(values.std())


def _checked(counts: ArrayLike) -> Floats:
    h = np.asarray(counts, dtype=np.float64)
    if h.ndim != 1 or not np.isfinite(h).all() or (h < 0).any():
        raise DataError(
            f"a histogram must have one axis of finite, non-negative entries, got shape {h.shape}"
        )
    return h


def _separations(first: Floats, second: Floats) -> Floats:
    """S along the last axis, for unnormalised entries (..., B)."""
    sums = [h.sum(axis=-1, keepdims=True) for h in (first, second)]
    h1, h2 = (h / np.where(s > 0, s, 1.0) for h, s in zip((first, second), sums, strict=True))
    value = 0.5 * ((h1 - h2) ** 2 / (h1 + h2 + EPSILON)).sum(axis=-1)
    one_empty = (sums[0] > 0)[..., 0] != (sums[1] > 0)[..., 0]
    return np.asarray(np.where(one_empty, 1.0, value), dtype=np.float64)
