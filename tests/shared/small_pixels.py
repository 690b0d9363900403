"""A pixel detector of 8 sensors of 10 × 12 cells, and events of it that no simulation made."""

from typing import Any

import numpy as np

from caloforge.data.pixels import ArrayHits, PixelConditions, PixelEvents, PixelHits
from caloforge.detector.pixel import PixelDetector

__all__ = ["small_detector", "small_events", "small_hits"]


def small_detector(**changes: Any) -> PixelDetector:
    description = PixelDetector.load("belle2-pxd").to_dict()
    for layer in description["layers"]:
        layer["ladders"] = 2
        layer["pitches_u"] = [{"cells": 10, "um": 50.0}]
        layer["pitches_v"] = [{"cells": 8, "um": 60.0}, {"cells": 4, "um": 55.0}]
    return PixelDetector.from_dict(description | {"name": "small"} | changes)


def small_hits(n: int, seed: int = 0, detector: PixelDetector | None = None) -> PixelHits:
    """Hits of ``n`` events, the first of which has none, on a tenth of the cells."""
    random = np.random.default_rng(seed)
    shape = (n, *(detector or small_detector()).shape)
    images = random.integers(7, 256, shape).astype(np.uint8) * (random.random(shape) < 0.1)
    images[:1] = 0
    return PixelHits.from_dense(images.astype(np.uint8))


def small_events(n: int, seed: int = 0) -> PixelEvents:
    detector = small_detector()
    sources = tuple(source.name for source in detector.sources)
    rates = np.random.default_rng(seed).uniform(0.5, 2.0, (n, len(sources)))
    conditions = PixelConditions(sources, rates, np.full(n, seed, dtype=np.uint64), np.arange(n))
    extra = {"geant4_cpu_seconds": np.arange(n) / 10}
    made = {"action": "simulate", "settings": {"n": n, "seed": seed}}
    return PixelEvents(ArrayHits(small_hits(n, seed)), conditions, detector, made, extra)
