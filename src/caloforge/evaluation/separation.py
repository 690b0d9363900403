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
    reference: ArrayLike, n_reference: float, n_generated: float, *, seed: int = 0, repeats: int = REPEATS
) -> tuple[float, float]:
    """Mean and standard deviation of S for two samples drawn from the reference's own histogram.

    For independent entries, one a shower. The ideal is ¼ (B − 1)(1/n₁ + 1/n₂) in well filled bins.

    Args:
        reference: entries of the reference, (B,).
        n_reference, n_generated: entries in range of the two samples.
        seed: of the draws.
        repeats: pairs of samples drawn.
    """
    counts = _checked(reference)
    n_first, n_second = round(n_reference), round(n_generated)
    if counts.sum() <= 0 or min(n_first, n_second) <= 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    p = counts / counts.sum()
    values = _separations(
        rng.multinomial(n_first, p, size=repeats).astype(np.float64),
        rng.multinomial(n_second, p, size=repeats).astype(np.float64),
    )
    return float(values.mean()), float(values.std())


def separation_floor_clustered(
    reference: ArrayLike, n_reference: int, n_generated: int, *, seed: int = 0, repeats: int = REPEATS
) -> tuple[float, float]:
    """As `separation_floor` for many entries a shower: whole showers are drawn, with replacement.

    Args:
        reference: entries of each reference shower, (N, B).
        n_reference, n_generated: showers of the two samples.
        seed: of the draws.
        repeats: pairs of samples drawn.
    """
    entries = np.asarray(reference, dtype=np.float64)
    if entries.sum() <= 0 or min(n_reference, n_generated) <= 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    n = len(entries)
    values = np.empty(repeats)
    for i in range(repeats):
        drawn = [np.bincount(rng.integers(n, size=m), minlength=n) for m in (n_reference, n_generated)]
        first, second = np.stack(drawn).astype(np.float64) @ entries
        values[i] = _separations(first, second)
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
