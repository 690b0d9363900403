"""Data and noise on a circle, the trigonometric flow (Lu, Song, arXiv:2410.11081)."""

from __future__ import annotations

import math
from typing import ClassVar

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable
from caloforge.models.diffusion.processes.times import T, atan, constant, cos, sin

__all__ = ["Trigonometric", "TrigonometricSettings"]


class TrigonometricSettings(ProcessTable):
    """See `ProcessTable`."""

    kind: str = "trig"


@PROCESSES.add("trig")
class Trigonometric(Process):
    """Data and noise on a circle; where coordinates are independent and standard normal, F is zero.

    What an untrained network makes is then exact, whatever the number of steps.
    """

    Settings = TrigonometricSettings
    log_sigma: ClassVar[tuple[float, float]] = (0.0, 1.2)

    def signal(self, t: T) -> T:
        return cos(t * (math.pi / 2))

    def noise(self, t: T) -> T:
        return sin(t * (math.pi / 2))

    def time(self, sigma: T) -> T:
        return atan(sigma) / (math.pi / 2)

    def target(self, t: T) -> tuple[T, T]:
        return -self.noise(t), self.signal(t)

    def path_scale(self, t: T) -> T:
        return constant(1.0, t)

    def path_variable(self, t: T) -> T:
        return t * (math.pi / 2)

    def time_of_path_variable(self, u: T) -> T:
        return u / (math.pi / 2)

    def slope_weights(self, t: T) -> tuple[T, T]:
        return self.target(t)
