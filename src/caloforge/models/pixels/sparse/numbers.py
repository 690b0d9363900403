"""How many clusters of each class a sensor has: fitted to the numbers in events and their rates.

Without overlaps the mean number is the sum over the sources of rate times a mean at rate 1; clusters that
touch count as one, which changes it by a term of second order in the rate. Around the mean the numbers vary
more than Poisson's, and together in several sensors, since one particle may make many clusters: their excess
covariance grows with the rate like the mean, so that relatively it falls with 1/rate.
Legend: ``N`` events, ``S`` sensors, ``K`` classes, ``G`` groups of classes, ``B`` sources.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.pixel import PixelDetector

__all__ = ["Numbers", "fit_numbers"]

Floats = NDArray[np.float64]
TURNS = 4
"""In which shares and what overlaps do to them are found."""
PRIOR = 200.0
"""Clusters of a sensor besides its own that count as what is usual for its azimuth."""
MOST_BEND = 30.0
"""Of classes of which there are hardly any but by overlaps."""
FEWEST, FEW = 1e-9, 200.0
"""What is taken instead of 0, and numbers of clusters too small to be told apart by source."""


@dataclass(frozen=True)
class Numbers:
    """What is fitted.

    Attributes:
        means: (B, S, K) clusters at rate 1 of each source alone, without overlaps.
        factors: (S·G, R) of the relative deviations at rate 1: L with L·Lᵀ their covariance.
    """

    means: Floats
    factors: Floats


def azimuths_of(detector: PixelDetector) -> Floats:
    """Azimuth of the ladder of each sensor."""
    turns = [sensor.ladder / detector.layers[sensor.layer].ladders for sensor in detector.sensors]
    first = [math.radians(detector.layers[sensor.layer].first_phi_deg) for sensor in detector.sensors]
    return np.asarray(2 * math.pi * np.array(turns) + np.array(first), dtype=np.float64)


def fit_numbers(
    counts: Floats, rates: Floats, detector: PixelDetector, groups: NDArray[np.int64], rank: int
) -> Numbers:
    """Fit the numbers of clusters (N, S, K) in events at rates (N, B).

    Args:
        counts, rates: what is fitted to.
        detector: whose sensors.
        groups: group of each class, (K,).
        rank: columns of the factors, at most.
    """
    kinds, azimuths = detector.sensor_kinds, azimuths_of(detector)
    means = np.zeros((rates.shape[1], *counts.shape[1:]))
    expected = np.zeros_like(counts)
    for kind in np.unique(kinds):
        own = kinds == kind
        pooled = counts[:, own].sum(axis=1)  # (N, K)
        load = rates @ _shares(pooled.sum(axis=1), rates, rates.mean(axis=1))[0]
        load = rates @ _shares(pooled.sum(axis=1), rates, load)[0]
        for k in range(counts.shape[2]):
            shares, bend = _shares(pooled[:, k], rates, load)
            seen = (rates @ shares) * (1 + bend * load)
            each = _shared_out(counts[:, own, k].sum(axis=0), azimuths[own]) / max(seen.sum(), FEWEST)
            means[:, own, k] = shares[:, None] * each
            expected[:, own, k] = seen[:, None] * each
    return Numbers(means, _factors(counts, expected, rates.mean(axis=1), detector, groups, rank))


def _shared_out(counts: Floats, azimuth: Floats) -> Floats:
    """Clusters of a class in sensors of one kind, (S,), of those that are seen.

    Where there are few, they follow the azimuth as 1 + a·cos φ + b·sin φ.
    """
    waves = np.stack([np.ones_like(azimuth), np.cos(azimuth), np.sin(azimuth)], axis=1)
    found, *_ = np.linalg.lstsq(waves, counts, rcond=None)
    smooth = np.maximum(waves @ found, 0)
    smooth *= counts.sum() / max(smooth.sum(), FEWEST)
    mean = counts.mean()
    return np.asarray((mean * counts + PRIOR * smooth) / max(mean + PRIOR, FEWEST))


def _shares(counts: Floats, rates: Floats, load: Floats) -> tuple[Floats, float]:
    """Shares a (B,), of sum 1, of the sources in numbers (N,) of mean (rates · a)·(1 + b·load), and b.

    Least squares with the weights of Poisson's numbers, in turns for a and b. ``load`` is how many clusters
    there are, relative to those at rate 1.
    """
    shares, bend = np.full(rates.shape[1], 1 / rates.shape[1]), 0.0
    if counts.sum() < FEW:
        return shares, bend
    weight = 1 / np.sqrt(np.maximum(rates.mean(axis=1), FEWEST))
    for _ in range(TURNS):
        found = _not_negative(rates * ((1 + bend * load) * weight)[:, None], counts * weight)
        shares, rate = found / max(found.sum(), FEWEST), rates @ found
        if load.std() > 0.1 * load.mean():
            design = np.stack([rate, rate * load], axis=1) * weight[:, None]
            (one, more), *_ = np.linalg.lstsq(design, counts * weight, rcond=None)
            bend = float(np.clip(more / max(one, FEWEST), -0.3, MOST_BEND))
    return shares, bend


def _not_negative(design: Floats, wanted: Floats) -> Floats:
    """The least squares of few unknowns, 0 or more: the best of all choices of those that are not 0."""
    n = design.shape[1]
    best, least = np.zeros(n), np.inf
    for chosen in itertools.product((True, False), repeat=n):
        columns = np.flatnonzero(chosen)
        found, *_ = np.linalg.lstsq(design[:, columns], wanted, rcond=None)
        distance = float(np.square(design[:, columns] @ found - wanted).sum())
        if (found >= 0).all() and distance < least:
            best, least = np.zeros(n), distance
            best[columns] = found
    return best


def _factors(
    counts: Floats,
    expected: Floats,
    rate: Floats,
    detector: PixelDetector,
    groups: NDArray[np.int64],
    rank: int,
) -> Floats:
    """L of the excess covariance of the relative deviations at rate 1, turned by all symmetries."""
    n_groups = int(groups.max()) + 1
    n, sensors, _ = counts.shape

    def grouped(x: Floats) -> Floats:
        return np.stack([x[:, :, groups == g].sum(axis=2) for g in range(n_groups)], axis=2).reshape(n, -1)

    seen, mean = grouped(counts), np.maximum(grouped(expected), FEWEST)
    weight = np.sqrt(rate)[:, None]
    deviation = (seen - mean) / mean * weight
    poisson = (weight**2 / mean).mean(axis=0)
    excess = deviation.T @ deviation / n - np.diag(poisson)
    excess = _turned(excess.reshape(sensors, n_groups, sensors, n_groups), detector)
    excess = excess.reshape(sensors * n_groups, sensors * n_groups)
    values, vectors = np.linalg.eigh((excess + excess.T) / 2)
    kept = np.argsort(values)[::-1][:rank]
    factors = vectors[:, kept] * np.sqrt(np.clip(values[kept], 0, None))
    wanted, given = np.clip(np.diag(excess), 0, None), np.square(factors).sum(axis=1)
    return np.asarray(factors * np.sqrt(wanted / np.maximum(given, FEWEST))[:, None])


def _turned(excess: Floats, detector: PixelDetector) -> Floats:
    """Means over the turns that take ladders to ladders, for each pair of layers by itself."""
    first, starts = 0, []
    for layer in detector.layers:
        starts.append(first)
        first += layer.ladders * len(layer.sensors)
    result = np.empty_like(excess)
    for a, one in enumerate(detector.layers):
        for b, other in enumerate(detector.layers):
            rows, columns = (_of_layer(detector, starts, i) for i in (a, b))
            block = excess[rows][:, :, columns]
            turns = math.gcd(one.ladders, other.ladders)
            mean = np.zeros_like(block)
            for turn in range(turns):
                i, j = (_rolled(layer.ladders, len(layer.sensors), turn, turns) for layer in (one, other))
                mean += block[i][:, :, j]
            result[rows[:, None], :, columns] = (mean / turns).transpose(0, 2, 1, 3)
    return result


def _of_layer(detector: PixelDetector, starts: Sequence[int], i: int) -> NDArray[np.int64]:
    layer = detector.layers[i]
    return np.arange(starts[i], starts[i] + layer.ladders * len(layer.sensors))


def _rolled(ladders: int, sensors: int, turn: int, turns: int) -> NDArray[np.int64]:
    """The sensors of a layer in the order that ``turn`` of ``turns`` equal turns gives."""
    order = np.roll(np.arange(ladders), turn * ladders // turns)
    return np.asarray((order[:, None] * sensors + np.arange(sensors)).ravel())
