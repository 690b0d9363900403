"""How the learning rate rises and falls; a new schedule is a new file here, or a function elsewhere."""

from __future__ import annotations

from typing import Protocol

from caloforge.registry import Registry

__all__ = ["SCHEDULES", "Schedule"]


class Schedule(Protocol):
    """The learning rate as a fraction of its peak, in [0, 1].

    Args:
        done: fraction of the updates that are made, in [0, 1].
        warmup: fraction of the updates that warm up; None leaves it to the schedule.
    """

    def __call__(self, done: float, warmup: float | None) -> float: ...


SCHEDULES: Registry[Schedule] = Registry("schedule", "caloforge.training.schedules")
"""Schedules by name, ``training.schedule``."""
