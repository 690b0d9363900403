"""How occupancy follows the rate factors. Legend: ``N`` events, ``L`` layers, ``B`` bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.pixels.reading import Sample
from caloforge.evaluation.results import RateCurve

__all__ = ["rate_curve", "rate_ranges", "rates_vary"]

Floats = NDArray[np.float64]

LEAST_SPREAD = 0.01
BINS, EVENTS_A_BIN = 8, 10


def rates_vary(samples: Sequence[Sample]) -> bool:
    """Whether all samples have the same sources, whose rates are known and vary enough to tell them apart."""
    names = {sample.events.conditions.sources for sample in samples}
    return len(names) == 1 and all(
        len(s) > 2 * (s.rates.shape[1] + 1)
        and s.rates.shape[1] > 0
        and np.isfinite(s.rates).all()
        and (s.rates.std(axis=0) > LEAST_SPREAD * s.rates.mean(axis=0)).all()
        for s in samples
    )


def rate_ranges(truth: Sample, generated: Sample) -> dict[str, dict[str, Any]]:
    """Smallest, mean and largest factor of every source in both samples; empty where they are not known."""
    return {
        role: {
            name: [float(column.min()), float(column.mean()), float(column.max())]
            for name, column in zip(sample.events.conditions.sources, sample.rates.T, strict=True)
            if np.isfinite(column).all()
        }
        for role, sample in (("reference", truth), ("generated", generated))
    }


def rate_curve(truth: Sample, generated: Sample) -> RateCurve:
    """Mean occupancy of each layer in bins of the mean of the rate factors."""
    mean = truth.rates.mean(axis=1)
    bins = int(np.clip(len(mean) // EVENTS_A_BIN, 2, BINS))
    edges = np.unique(np.quantile(mean, np.linspace(0, 1, bins + 1)))
    parts: dict[str, Floats] = {}
    for role, sample in (("reference", truth), ("generated", generated)):
        rate = sample.rates.mean(axis=1)
        place = np.clip(np.searchsorted(edges, rate, side="right") - 1, 0, len(edges) - 2)
        columns = np.column_stack([rate, _by_layer(sample)])
        with np.errstate(invalid="ignore", divide="ignore"):
            n = np.bincount(place, minlength=len(edges) - 1).astype(np.float64)
            sums, squares = (_sums(place, columns**power, len(n)) for power in (1, 2))
            means = sums / n
            errors = np.sqrt(np.maximum(squares / n - means**2, 0) / (n - 1))
        parts |= {f"{role}_rate": means[0], role: means[1:], f"{role}_error": errors[1:]}
    return RateCurve(edges=edges, **parts)


def _sums(place: NDArray[np.int64], columns: Floats, bins: int) -> Floats:
    return np.stack([np.bincount(place, column, bins) for column in columns.T])


def _by_layer(sample: Sample) -> Floats:
    """Occupancy of each layer, %, (N, L)."""
    detector = sample.events.detector
    layers = detector.sensor_layers
    images = 100 * sample.pixels / (detector.shape[1] * detector.shape[2])
    return np.stack([images[:, layers == i].mean(axis=1) for i in range(len(detector.layers))], axis=1)
