"""What can be said of pixel events without loading them all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caloforge.data.pixels.events import EVENTS, PixelEvents
from caloforge.errors import DataError

__all__ = ["describe_events", "require_different"]

SAMPLE = 100


def describe_events(
    events: PixelEvents, *, everything: bool = False, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Numbers that tell what events these are, JSON-able; occupancies are in %, by layer.

    They are of all events if ``everything``, which thereby checks every one, and otherwise of about 100 that
    are spread over the file; ``looked_at`` says of how many.

    Raises DataError where an event that is read is damaged or has illegal hits.
    """
    detector, n = events.detector, len(events)
    facts: dict[str, Any] = {
        "events": n,
        "detector": detector.name,
        "cells": list(detector.shape),
        "rates": events.conditions.ranges(),
        "columns": {name: list(column.shape[1:]) for name, column in events.extra.items()},
    }
    chosen = events if everything else events[np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))]
    facts["looked_at"] = len(chosen)
    if not len(chosen):
        return facts
    counts = np.zeros(detector.shape[0], dtype=np.int64)
    charges = np.zeros(256, dtype=np.int64)
    for i, (hits, _) in enumerate(chosen.batches()):
        counts += hits.counts.sum(axis=0)
        charges += np.bincount(hits.charge, minlength=256)
        if progress is not None:
            progress(min((i + 1) * EVENTS, len(chosen)), len(chosen))
    cells = detector.shape[1] * detector.shape[2]
    layers = detector.sensor_layers
    of_layer = [counts[layers == i].mean() / len(chosen) / cells * 100 for i in range(len(detector.layers))]
    lit = np.flatnonzero(charges)
    mean = float(np.average(np.arange(256), weights=charges)) if len(lit) else 0.0
    return facts | {
        "pixels": float(counts.sum() / len(chosen)),
        "occupancy": [float(x) for x in of_layer],
        "charge": [int(lit[0]), mean, int(lit[-1])] if len(lit) else None,
    }


def require_different(files: Sequence[tuple[str, PixelEvents]]) -> None:
    """Raise DataError where two files, with their names, hold an event of one seed, number and rates."""
    keys = [
        {
            (int(seed), int(number), *rates)
            for seed, number, rates in zip(c.seed, c.number, c.rates.tolist(), strict=True)
            if number >= 0
        }
        for c in (events.conditions for _, events in files)
    ]
    for (i, one), (j, other) in itertools.combinations(enumerate(keys), 2):
        if shared := one & other:
            seed, number, *_ = min(shared)
            raise DataError(
                f"{files[i][0]} and {files[j][0]} hold the same events: {len(shared)} of the same seed, "
                f"number and rates, the first of seed {seed} and number {number}; make one of the files with "
                "another seed (caloforge simulate --seed)"
            )
