"""Schedules that rise linearly from zero to the peak."""

from __future__ import annotations

import math

from caloforge.training.schedules import SCHEDULES

__all__ = ["constant", "cosine"]

WARMUP = 0.02


@SCHEDULES.add("cosine")
def cosine(done: float, warmup: float | None) -> float:
    """Up, then down to zero by a cosine."""
    warmup = WARMUP if warmup is None else warmup
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / max(1 - warmup, 1e-12))) / 2


@SCHEDULES.add("constant")
def constant(done: float, warmup: float | None) -> float:
    """Up, then at the peak."""
    warmup = WARMUP if warmup is None else warmup
    return done / warmup if done < warmup else 1.0
