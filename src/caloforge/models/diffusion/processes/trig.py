"""Data and noise on a circle, the trigonometric flow (Lu, Song, arXiv:2410.11081)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable

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

    def signal(self, t: Tensor) -> Tensor:
        return (t * (math.pi / 2)).cos()

    def noise(self, t: Tensor) -> Tensor:
        return (t * (math.pi / 2)).sin()

    def time(self, sigma: Tensor) -> Tensor:
        return sigma.atan() / (math.pi / 2)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.noise(t), self.signal(t)

    def path_scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def path_variable(self, t: Tensor) -> Tensor:
        return t * (math.pi / 2)

    def time_of_path_variable(self, u: Tensor) -> Tensor:
        return u / (math.pi / 2)

    def slope_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.target(t)
