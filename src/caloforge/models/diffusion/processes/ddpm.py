"""DDPM (Ho et al., arXiv:2006.11239) with the cosine schedule (Nichol, Dhariwal, arXiv:2102.09672)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable
from caloforge.models.diffusion.processes.times import T, acos, clamp, constant, cos, power, sin

__all__ = ["DDPM", "DDPMSettings"]

START_SIGMA = 80.0  # a standard normal x is taken for σ = 80: the signal that is missing has 1/80 of its size
OFFSET = 0.008  # of the cosine schedule: less noise than a cell's resolution teaches nothing
LARGEST_BETA = 0.999


class DDPMSettings(ProcessTable):
    """See `ProcessTable`."""

    kind: str = "ddpm"


@PROCESSES.add("ddpm")
class DDPM(Process):
    """Variance-preserving with the cosine schedule; the network estimates the noise.

    a = cos θ / cos θ₀ with θ = (t + 0.008)/1.008 · π/2, but at the end not below what β ≤ 0.999 leaves in
    ``steps`` steps. Samplers begin where σ = 80, since the x₀ of an estimated noise has σ times its error.
    Their steps are uniform in arctan σ, which is θ but for the offset θ₀: σ begins like √t, so that the last
    of steps uniform in t would be too long for any order above 1.
    """

    Settings = DDPMSettings
    settings: DDPMSettings
    times: ClassVar[Literal["log-normal", "uniform"]] = "uniform"

    def signal(self, t: T) -> T:
        last = math.cos(_theta(1 - 1 / self.settings.steps)) / math.cos(_theta(0.0))
        return clamp(cos(_theta(t)) / math.cos(_theta(0.0)), last * math.sqrt(1 - LARGEST_BETA))

    def noise(self, t: T) -> T:
        first, angle = _theta(0.0), _theta(t)  # cos²θ₀ − cos²θ without the cancellation at small t
        square = sin(angle - first) * sin(angle + first) / math.cos(first) ** 2
        return power(clamp(square, 0.0, 1.0), 0.5)

    def time(self, sigma: T) -> T:
        angle = acos(math.cos(_theta(0.0)) / power(1 + power(sigma, 2), 0.5))
        return angle * (1 + OFFSET) / (math.pi / 2) - OFFSET

    def target(self, t: T) -> tuple[T, T]:
        return constant(0.0, t), constant(1.0, t)

    def schedule(self, steps: int, power: float = 1.0) -> list[float]:
        last = math.atan(START_SIGMA)
        return [self.time(math.tan(last * part)) for part in super().schedule(steps, power)]

    def draw_times(self, n: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
        steps = self.settings.steps
        t = super().draw_times(n, generator, device)
        return (t * steps).floor().add(1).clamp(1, steps) / steps


def _theta(t: T) -> T:
    """θ of the cosine schedule at time t."""
    return (t + OFFSET) / (1 + OFFSET) * (math.pi / 2)
