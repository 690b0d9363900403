"""Discrete energies and angles, which rounding in files must not tell apart.

An energy that was written as float32 GeV, or is the exponential of a float32 logarithm, is off by up to 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caloforge.data.conditions import Conditions

__all__ = ["ROUNDING", "discrete_values", "matched_conditions", "places_among", "share_among", "within"]

Floats = NDArray[np.float64]

TOLERANCE = 1e-5
"""Energies this much apart, relatively, are the same, and angles, rad."""
MOST = 20
ROUNDING = 1e-6
"""What rounding alone makes of an energy, relatively."""


def discrete_values(values: Floats, *, most: int = MOST, each: int = 5) -> Floats:
    """The distinct values but for rounding, in order, where they are few; else none.

    Few are a single one, or at most ``most`` that have at least ``each`` showers on average. Of values that
    are equal but for rounding the one that occurs most often stands for all.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if not len(distinct):
        return distinct
    starts = np.flatnonzero(np.diff(distinct, prepend=-np.inf) > _tolerance(distinct))
    if len(starts) > most or (len(starts) > 1 and len(values) < each * len(starts)):
        return distinct[:0]
    stops = [*starts[1:].tolist(), len(distinct)]
    return np.array([distinct[a + np.argmax(counts[a:b])] for a, b in zip(starts, stops, strict=True)])


def matched_conditions(samples: Sequence[Conditions]) -> list[Conditions]:
    """The samples with energies and angles made equal where they differ by rounding alone.

    Where those of the first sample are discrete, see `discrete_values`, what is one of its values but for
    rounding becomes that value, in all samples. All else stays as it is.
    """
    found = [{name: getattr(c, name) for name in ("energy", "theta", "phi")} for c in samples]
    for name in found[0]:
        known = discrete_values(found[0][name])
        if len(known):
            for columns in found:
                columns[name] = _snapped(columns[name], known)
    return [
        Conditions(**columns, particle=c.particle, detector=c.detector, impact=c.impact)
        for columns, c in zip(found, samples, strict=True)
    ]


def places_among(values: Floats, known: Floats, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """Place of each value among known ones, which increase; −1 where it is none of them but for rounding."""
    if not len(known):
        return np.full(len(values), -1)
    right = np.searchsorted(known, values).clip(0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    near = np.where(np.abs(values - known[left]) < np.abs(values - known[right]), left, right)
    return np.where(np.abs(values - known[near]) <= _tolerance(known[near], tolerance), near, -1)


def share_among(values: Floats, others: Floats) -> float:
    """Share of values of a spectrum that are also among others, but for rounding and beyond chance.

    By chance, as many are near the others when these are moved a little.
    """
    known = np.unique(others)
    found, by_chance = (
        float((places_among(values, known * moved, ROUNDING) >= 0).mean()) for moved in (1.0, 1 + 1e-4)
    )
    return max(0.0, found - by_chance)


def within(values: Floats, low: float, high: float, *, closed: bool = False) -> NDArray[np.bool_]:
    """Which are in [low, high), or [low, high] if ``closed``; what is a limit but for rounding is that."""
    above = values >= low - _tolerance(low)
    return np.asarray(
        above & ((values <= high + _tolerance(high)) if closed else (values < high - _tolerance(high)))
    )


def _snapped(values: Floats, known: Floats) -> Floats:
    place = places_among(values, known)
    return np.where(place >= 0, known[place], values)


def _tolerance(values: Floats | float, tolerance: float = TOLERANCE) -> Floats:
    size = np.abs(values)
    return np.where(np.isfinite(size), tolerance * np.maximum(size, 1.0), 0.0)
