"""One cycle, up and down (Smith, Topin, arXiv:1708.07120)."""

from __future__ import annotations

import math

from caloforge.training.schedules import SCHEDULES

__all__ = ["one_cycle"]

START, END, WARMUP = 1 / 25, 1e-4, 0.3


@SCHEDULES.add("one-cycle")
def one_cycle(done: float, warmup: float | None) -> float:
    """Up from 1/25 and down to 1/10⁴ of the peak, both by a cosine."""
    warmup = WARMUP if warmup is None else warmup
    if done < warmup:
        return START + (1 - START) * (1 - math.cos(math.pi * (done / warmup))) / 2
    fall = (1 + math.cos(math.pi * (done - warmup) / max(1 - warmup, 1e-12))) / 2
    return END + (1 - END) * fall
