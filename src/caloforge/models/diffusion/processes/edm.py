"""EDM (Karras, Aittala, Aila, Laine, arXiv:2206.00364)."""

from __future__ import annotations

import math
from typing import Self

from pydantic import model_validator

from caloforge.models.diffusion.processes.base import PROCESSES, Process, ProcessTable
from caloforge.models.diffusion.processes.times import T, clamp, constant, log, power

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

    def signal(self, t: T) -> T:
        return constant(1.0, t)

    def noise(self, t: T) -> T:
        low, high = self._roots()
        return power(clamp(low + t * (high - low), 0.0), self.settings.rho)

    def time(self, sigma: T) -> T:
        low, high = self._roots()
        return (power(sigma, 1 / self.settings.rho) - low) / (high - low)

    def target(self, t: T) -> tuple[T, T]:
        sigma, scale = self.noise(t), self.input_scale(t)
        return sigma / self.settings.sigma_data * scale, -self.settings.sigma_data * scale

    def path_scale(self, t: T) -> T:
        return constant(1.0, t)

    def path_variable(self, t: T) -> T:
        return self.noise(t)

    def time_of_path_variable(self, u: T) -> T:
        return self.time(u)

    def slope_weights(self, t: T) -> tuple[T, T]:
        return constant(0.0, t), constant(1.0, t)

    def input_scale(self, t: T) -> T:
        return power(power(self.noise(t), 2) + self.settings.sigma_data**2, -0.5)

    def level(self, t: T) -> T:
        low, high = math.log(self.settings.sigma_min), math.log(self.settings.sigma_max)
        return (log(clamp(self.noise(t), self.settings.sigma_min / 2)) - low) / (high - low)

    def schedule(self, steps: int, power: float = 1.0) -> list[float]:
        return [(1 - i / max(steps - 1, 1)) ** power for i in range(steps)]
