"""Response, linearity and resolution of both samples against what is known before the shower.

Legend: ``N`` showers, ``B`` bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.data import Conditions
from caloforge.data.matching import discrete_values, places_among
from caloforge.errors import DataError
from caloforge.evaluation.physics.resolution import BinnedResponse, binned_response, fit_resolution
from caloforge.evaluation.results import Conservation, Estimate, ResponseCurve
from caloforge.evaluation.results.base import of_both
from caloforge.evaluation.separation import bin_places

__all__ = ["conservation", "response_curves"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_DISCRETE = 20
MOST_BINS, SHOWERS_PER_BIN = 12, 200
LEAST_SHOWERS = 50
"""Showers of each sample that a bin must have to enter the linearity."""
DRAWS = 1000
LIMIT = 0.999
WORST = 10
_TOLD = ("count", "response", "response_error", "resolution", "resolution_error")
_LABELS = {
    "energy": "incident energy [MeV]",
    "theta": "incident θ [rad]",
    "phi": "incident φ [rad]",
    "detector": "detector",
}


@dataclass(frozen=True, eq=False)
class _Bins:
    """Bins of one condition: as in `ResponseCurve`, with the bin of each shower of both samples."""

    edges: Floats
    positions: Floats
    names: tuple[str, ...]
    reference: Ints
    generated: Ints


def response_curves(
    reference_ratio: ArrayLike,
    reference: Conditions,
    generated_ratio: ArrayLike,
    generated: Conditions,
    *,
    seed: int = 0,
) -> list[ResponseCurve]:
    """Response and resolution against the energy, and against θ, φ and detector where the reference varies.

    Where the reference has at most 20 distinct values with at least five showers each on average, these are
    the bins; else there are 3 to 12 bins, logarithmic in the energy, between its smallest and largest value,
    so that about 200 showers are in each. Generated showers with other values are in none, which the counts
    show.

    ``linearity`` is |generated / reference response − 1| in the bin where it is largest in units of its
    scatter (among bins with at least 50 showers of each sample), so that noisy bins do not hide the others.
    The scatter is what shuffling the showers of a bin between the samples gives, by the Gaussian limit of the
    permutation distribution of means; the floor is the largest of so many bins that shuffling gives, times
    the scatter of the bin concerned.

    Args:
        reference_ratio, generated_ratio: ΣE/E_inc of the two samples, (N,).
        reference, generated: conditions of the same showers.
        seed: of the floors.

    Raises:
        DataError: ratios and conditions differ in length, or a ratio is not finite.
    """
    ratios = _checked(reference_ratio, reference), _checked(generated_ratio, generated)
    curves = []
    for condition, bins in _all_bins(reference, generated):
        n_bins = len(bins.positions)
        first = binned_response(ratios[0], bins.reference, n_bins)
        second = binned_response(ratios[1], bins.generated, n_bins)
        fits = {}
        if condition == "energy":
            samples = (
                ("reference", first, reference.energy, bins.reference),
                ("generated", second, generated.energy, bins.generated),
            )
            for role, sample, energy, place in samples:
                fit = fit_resolution(sample, energy / 1000, place)
                if fit is not None:
                    fits[role] = fit
        curves.append(
            ResponseCurve(
                condition=condition,
                label=_LABELS[condition],
                edges=bins.edges,
                positions=bins.positions,
                names=bins.names,
                **of_both(first, second, *_TOLD),
                linearity=_linearity(first, second, seed),
                fits=fits,
            )
        )
    return curves


def conservation(reference_ratio: ArrayLike, generated_ratio: ArrayLike) -> Conservation:
    """Showers with more energy than the reference ever or hardly ever shows, and showers with none.

    The limit is the 99.9 % quantile of the reference's ΣE/E_inc or, for fewer than 1,000 showers, its
    largest. With k of n₁ reference showers above it, p = (k + 1)/(n₁ + 1) is expected of either sample, and
    the difference of the fractions scatters by √(p (1 − p) (1/n₁ + 1/n₂)).

    Args:
        reference_ratio, generated_ratio: ΣE/E_inc, (N,).

    Raises:
        DataError: a sample has no showers, or a ratio is not finite.
    """
    first, second = _checked(reference_ratio), _checked(generated_ratio)
    few = len(first) < 1 / (1 - LIMIT)
    limit = float(first.max()) if few else float(np.quantile(first, LIMIT))
    above = int((first > limit).sum())
    p = (above + 1) / (len(first) + 1)
    exceeding = np.flatnonzero(second > limit)
    worst = exceeding[np.argsort(-second[exceeding], kind="stable")][:WORST]
    return Conservation(
        limit=limit,
        reference_above=above / len(first),
        generated_above=len(exceeding) / len(second),
        expected_error=math.sqrt(p * (1 - p) * (1 / len(first) + 1 / len(second))),
        largest=float(second.max()),
        largest_reference=float(first.max()),
        worst=tuple(int(i) for i in worst),
        negative_or_empty=int((second <= 0).sum()),
    )


def _checked(ratio: ArrayLike, conditions: Conditions | None = None) -> Floats:
    values = np.asarray(ratio, dtype=np.float64)
    if values.ndim != 1 or not len(values) or (conditions is not None and len(values) != len(conditions)):
        n = "at least 1" if conditions is None else len(conditions)
        raise DataError(f"ΣE/E_inc of shape {values.shape}, expected one number a shower for {n} showers")
    if not np.isfinite(values).all():
        raise DataError(f"ΣE/E_inc of shower {int(np.argmin(np.isfinite(values)))} is not finite")
    return values


def _all_bins(reference: Conditions, generated: Conditions) -> Iterator[tuple[str, _Bins]]:
    for name in ("energy", "theta", "phi"):
        first, second = getattr(reference, name), getattr(generated, name)
        if name == "energy" or np.ptp(first) > 0:
            yield name, _numeric_bins(first, second, logarithmic=name == "energy")
    names, place = np.unique(reference.detector, return_inverse=True)
    if len(names) > 1:
        known = np.searchsorted(names, generated.detector).clip(0, len(names) - 1)
        second = np.where(names[known] == generated.detector, known, -1)
        bins = tuple(str(name) for name in names)
        yield "detector", _Bins(np.zeros(0), np.arange(len(names), dtype=np.float64), bins, place, second)


def _numeric_bins(first: Floats, second: Floats, *, logarithmic: bool) -> _Bins:
    distinct = discrete_values(first, most=MOST_DISCRETE)
    if len(distinct):
        return _Bins(np.zeros(0), distinct, (), *(places_among(v, distinct) for v in (first, second)))
    n_bins = int(np.clip(min(len(first), len(second)) // SHOWERS_PER_BIN, 3, MOST_BINS))
    space = np.geomspace if logarithmic else np.linspace
    edges = np.asarray(space(first.min(), first.max(), n_bins + 1), dtype=np.float64)
    edges[0], edges[-1] = first.min(), first.max()  # rounding of logarithms must lose no shower
    places = [_interval(values, edges) for values in (first, second)]
    count = np.bincount(places[0], minlength=n_bins)
    summed = np.bincount(places[0], weights=first, minlength=n_bins)
    middle = (edges[1:] + edges[:-1]) / 2
    positions = np.where(count > 0, summed / np.maximum(count, 1), middle)
    return _Bins(edges, positions, (), places[0], places[1])


def _interval(values: Floats, edges: Floats) -> Ints:
    """Bin of each value, the last one with its upper edge; −1 outside."""
    place = bin_places(values, edges)
    return np.where(place < len(edges), place - 1, -1)


def _linearity(first: BinnedResponse, second: BinnedResponse, seed: int) -> Estimate:
    enough = np.minimum(first.count, second.count) >= LEAST_SHOWERS
    enough &= (first.response > 0) & np.isfinite(second.response)
    if not enough.any():
        return Estimate(value=math.nan)
    n1, n2, m1, m2, e1, e2, s1, s2 = (
        getattr(sample, name)[enough]
        for name in ("count", "response", "response_error", "spread")
        for sample in (first, second)
    )
    # the mean of n1 showers drawn from the n of both: exact mean and variance, and Gaussian for 50 or more
    n = n1 + n2
    pooled = (n1 * m1 + n2 * m2) / n
    squares = (n1 - 1) * s1**2 + n1 * m1**2 + (n2 - 1) * s2**2 + n2 * m2**2
    variance = np.maximum(squares / n - pooled**2, 0.0)
    width = np.sqrt(variance * n2 / (n1 * (n - 1)))
    drawn = pooled + width * np.random.default_rng(seed).standard_normal((DRAWS, len(n)))
    shuffled = (n * pooled - n1 * drawn) / n2 / drawn - 1
    scatter = np.maximum(shuffled.std(axis=0), 1e-12)
    deviation = m2 / m1 - 1
    worst = int(np.argmax(np.abs(deviation) / scatter))
    floors = (np.abs(shuffled) / scatter).max(axis=1) * scatter[worst]
    error = math.hypot(float(e2[worst]), float((1 + deviation[worst]) * e1[worst])) / float(m1[worst])
    return Estimate(
        value=float(abs(deviation[worst])),
        error=error,
        floor=float(floors.mean()),
        floor_error=float(floors.std()),
        floor_from="permutation",
    )
