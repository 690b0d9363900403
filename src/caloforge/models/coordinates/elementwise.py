"""Transforms of each value by itself: Scale, Log, Logit, and division by the incident energy."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from caloforge.errors import RecipeError
from caloforge.models.coordinates.base import (
    Context,
    Transform,
    per_energy,
    positive,
    require_all,
    sum_examples,
)

__all__ = ["DivideByEnergy", "Log", "Logit", "Scale"]

ROUNDING = 1e-6
"""How far outside [0, 1] a ratio may lie for it to be taken as rounding."""


class Scale(Transform):
    """y = factor·x + shift."""

    kind = "scale"

    def __init__(self, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = float(factor), float(shift)
        if self.factor == 0 or not math.isfinite(self.factor) or not math.isfinite(self.shift):
            raise RecipeError(f"scale needs a finite factor ≠ 0 and shift, got {factor} and {shift}")

    def config(self) -> dict[str, Any]:
        return {"factor": self.factor, "shift": self.shift}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        log_det = math.log(abs(self.factor)) * x[:1].numel()
        return self.factor * x + self.shift, x.new_full((len(x),), log_det)

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return (y - self.shift) / self.factor


class DivideByEnergy(Transform):
    """y = x / (scale·E_inc), with the incident energy from the context; CaloDiffusion (arXiv:2308.03876)."""

    kind = "divide-by-energy"

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = positive("scale", scale)

    def config(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        largest = self.scale * self.need(context, "energy").to(x.dtype)
        return x / per_energy(largest, x), -largest.log() * x[:1].numel()

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return y * per_energy(self.scale * self.need(context, "energy"), y)


class Log(Transform):
    """y = log(x + ε) for x ≥ 0, natural logarithm; the inverse gives no values below zero.

    Args:
        epsilon: ε > 0 in the units of x. In float32 an x below ε·10⁻⁷ comes back as 0.

    Raises:
        DataError: a value of x is negative.
    """

    kind = "log"

    def __init__(self, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.epsilon = positive("epsilon", epsilon)

    def config(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        require_all(x >= 0, x, "a logarithm needs values of at least 0")
        y = (x + self.epsilon).log()
        return y, -sum_examples(y)

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return (y.exp() - self.epsilon).clamp(min=0.0)


class Logit(Transform):
    """y = log p − log(1 − p) with p = α + (1 − 2α)x, for x in [0, 1]; the inverse stays in [0, 1].

    log(1 − p) is formed from 1 − x, so that y is exact to rounding at both ends in float32.
    Values outside [0, 1] by less than 10⁻⁶ are taken as rounding and set to the end of the interval.

    Args:
        alpha: α in (0, ½); |y| ≤ log((1 − α)/α), 13.8 for 10⁻⁶.

    Raises:
        DataError: a value lies outside [0, 1].
    """

    kind = "logit"

    def __init__(self, alpha: float = 1e-6) -> None:
        super().__init__()
        self.alpha = float(alpha)
        if not 0 < self.alpha < 0.5:
            raise RecipeError(f"alpha must lie in (0, 0.5), got {alpha}")

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        inside = (x >= -ROUNDING) & (x <= 1 + ROUNDING)
        require_all(inside, x, "a logit needs values in [0, 1]; scale them first")
        x = x.clamp(0.0, 1.0)
        slope = 1 - 2 * self.alpha
        log_p = (self.alpha + slope * x).log()
        log_q = (self.alpha + slope * (1 - x)).log()
        return log_p - log_q, sum_examples(math.log(slope) - log_p - log_q)

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return ((torch.sigmoid(y) - self.alpha) / (1 - 2 * self.alpha)).clamp(0.0, 1.0)
