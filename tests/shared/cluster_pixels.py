"""Events of a small pixel detector of which all is known: two kinds of clusters and their rates."""

from __future__ import annotations

import numpy as np

from caloforge.data.pixels import ArrayHits, PixelConditions, PixelEvents, PixelHits
from caloforge.detector.pixel import PixelDetector

SINGLES, PAIRS = 12.0, 20.0
"""Mean numbers of single pixels (of the first source) and of pairs (of the second) of a sensor at rate 1."""

SPREAD = 0.1
"""How much the numbers of pairs of all sensors fluctuate together at rate 1."""


def cluster_detector() -> PixelDetector:
    """8 sensors of 64 × 100 cells."""
    description = PixelDetector.load("belle2-pxd").to_dict()
    for layer in description["layers"]:
        layer["ladders"] = 2
        layer["pitches_u"] = [{"cells": 64, "um": 50.0}]
        layer["pitches_v"] = [{"cells": 60, "um": 60.0}, {"cells": 40, "um": 55.0}]
    description["sources"] = description["sources"][:2]
    return PixelDetector.from_dict(description | {"name": "clusters"})


def cluster_events(n: int, seed: int = 0, low: float = 0.5, high: float = 2.0) -> PixelEvents:
    """Single pixels of 10 ADU anywhere, and pairs along v of 20 and 40 ADU in the upper half in u.

    What a sensor has of pairs fluctuates with that of the other sensors.
    """
    random, detector = np.random.default_rng(seed), cluster_detector()
    sensors, n_u, n_v = detector.shape
    rates = random.uniform(low, high, (n, 2))
    images = np.zeros((n, sensors, n_u, n_v), dtype=np.int64)
    sigma = SPREAD / np.sqrt(rates[:, 1].clip(0.1))
    common = np.exp(random.normal(0, sigma) - sigma**2 / 2)  # of mean 1
    for event in range(n):
        for sensor in range(sensors):
            image = images[event, sensor]
            k = random.poisson(SINGLES * rates[event, 0])
            np.add.at(image, (random.integers(n_u, size=k), random.integers(n_v, size=k)), 10)
            k = random.poisson(PAIRS * rates[event, 1] * common[event])
            u, v = random.integers(n_u // 2, n_u, size=k), random.integers(n_v - 1, size=k)
            np.add.at(image, (u, v), 20)
            np.add.at(image, (u, v + 1), 40)
    hits = PixelHits.from_dense(np.minimum(images, 255).astype(np.uint8))
    sources = tuple(source.name for source in detector.sources)
    conditions = PixelConditions(sources, rates, np.full(n, seed, dtype=np.uint64), np.arange(n))
    return PixelEvents(ArrayHits(hits), conditions, detector, {"action": "toy"})
