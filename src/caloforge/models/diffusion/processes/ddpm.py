"""DDPM (Ho et al., arXiv:2006.11239) with the cosine schedule (Nichol, Dhariwal, arXiv:2102.09672)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable

__all__ = ["DDPM", "DDPMSettings"]

START_SIGMA = 80.0  # a standard normal x is taken for σ = 80: the signal that is missing has 1/80 of its size
OFFSET = 0.008  # of the cosine schedule: less noise than a cell's resolution teaches nothing
LARGEST_BETA = 0.999

T = TypeVar("T", float, Tensor)


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

    def signal(self, t: Tensor) -> Tensor:
        last = math.cos(_theta(1 - 1 / self.settings.steps)) / math.cos(_theta(0.0))
        return (_theta(t).cos() / math.cos(_theta(0.0))).clamp_min(last * math.sqrt(1 - LARGEST_BETA))

    def noise(self, t: Tensor) -> Tensor:
        first, angle = _theta(0.0), _theta(t)  # cos²θ₀ − cos²θ without the cancellation at small t
        square = (angle - first).sin() * (angle + first).sin() / math.cos(first) ** 2
        return square.clamp(0, 1).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        angle = (math.cos(_theta(0.0)) / (1 + sigma.square()).sqrt()).acos()
        return angle * (1 + OFFSET) / (math.pi / 2) - OFFSET

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def schedule(self, steps: int, power: float = 1.0) -> Tensor:
        return self.time((math.atan(START_SIGMA) * super().schedule(steps, power)).tan())

    def draw_times(self, n: int, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
        steps = self.settings.steps
        t = super().draw_times(n, generator, device)
        return (t * steps).floor().add(1).clamp(1, steps) / steps


def _theta(t: T) -> T:
    """θ of the cosine schedule at time t."""
    return (t + OFFSET) / (1 + OFFSET) * (math.pi / 2)
