"""EDM (Karras, Aittala, Aila, Laine, arXiv:2206.00364)."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable

__all__ = ["EDM", "EDMSettings"]


class EDMSettings(ProcessTable):
    """See `ProcessTable`."""

    kind: str = "edm"

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max, got {self.sigma_min} and {self.sigma_max}")
        return self


@PROCESSES.add("edm")
class EDM(Process):
    """Noise of any size on the data; inputs, outputs and targets of unit variance.

    σ(t)^(1/ρ) is linear in t, from sigma_min at 0 to sigma_max at 1, so that steps uniform in t are those of
    the paper.
    """

    Settings = EDMSettings
    settings: EDMSettings

    def _roots(self) -> tuple[float, float]:
        s = self.settings
        return s.sigma_min ** (1 / s.rho), s.sigma_max ** (1 / s.rho)

    def signal(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def noise(self, t: Tensor) -> Tensor:
        low, high = self._roots()
        return (low + t * (high - low)).clamp_min(0) ** self.settings.rho

    def time(self, sigma: Tensor) -> Tensor:
        low, high = self._roots()
        return (sigma ** (1 / self.settings.rho) - low) / (high - low)

    def target(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma, scale = self.noise(t), self.input_scale(t)
        return sigma / self.settings.sigma_data * scale, -self.settings.sigma_data * scale

    def path_scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def path_variable(self, t: Tensor) -> Tensor:
        return self.noise(t)

    def time_of_path_variable(self, u: Tensor) -> Tensor:
        return self.time(u)

    def slope_weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def input_scale(self, t: Tensor) -> Tensor:
        return (self.noise(t).square() + self.settings.sigma_data**2).rsqrt()

    def level(self, t: Tensor) -> Tensor:
        low, high = math.log(self.settings.sigma_min), math.log(self.settings.sigma_max)
        return (self.noise(t).clamp_min(self.settings.sigma_min / 2).log() - low) / (high - low)

    def schedule(self, steps: int, power: float = 1.0) -> Tensor:
        return (1 - torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)) ** power
