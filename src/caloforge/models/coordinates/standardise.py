"""Mean 0 and standard deviation 1, fitted in a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caloforge.errors import RecipeError

__all__ = ["FIT_BATCH", "RunningMoments"]

FIT_BATCH = 500
"""Showers that are read at once to fit statistics."""
LEAST_STD = 1e-3
"""Standard deviations below are taken as this, so that what never varies is not blown up."""


class RunningMoments:
    """Mean and variance of batches in float64, joined by the rule of Chan, Golub and LeVeque (1979).

    n = n_a + n_b, δ = mean_b − mean_a, mean = mean_a + δ·n_b/n, M = M_a + M_b + δ²·n_a·n_b/n,
    where M is the sum of squared distances from the mean. No large squares are ever subtracted.

    Args:
        shape: of the statistics; an axis of 1, and every axis that x has in front, is averaged over.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.count = 0
        self.mean = torch.zeros(self.shape, dtype=torch.float64)
        self.squares = torch.zeros(self.shape, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Take a batch (n, *S) in, where S ends in axes that ``shape`` can be broadcast to."""
        lead = x.dim() - len(self.shape)
        fits = lead >= 1 and all(d in (1, s) for d, s in zip(self.shape, x.shape[lead:], strict=True))
        if not fits:
            raise RecipeError(
                f"statistics of shape {self.shape} do not fit values (n, ...) of {tuple(x.shape)}"
            )
        if not x.numel():
            return
        values = x.detach().to("cpu", torch.float64)
        axes = [*range(lead), *(lead + i for i, d in enumerate(self.shape) if d == 1)]
        mean = values.mean(axes, keepdim=True)
        squares = (values - mean).square().sum(axes).reshape(self.shape)
        count = values.numel() // math.prod(self.shape)
        step = mean.reshape(self.shape) - self.mean
        total = self.count + count
        self.mean = self.mean + step * (count / total)
        self.squares = self.squares + squares + step.square() * (self.count * (count / total))
        self.count = total

    def std(self) -> Tensor:
        """Standard deviation with divisor n."""
        return (self.squares / max(self.count, 1)).sqrt()

    @torch.no_grad()
    def store(self, mean: Tensor, std: Tensor) -> None:
        """Write mean and standard deviation, at least 10⁻³, to buffers of their shape."""
        mean.copy_(self.mean)
        std.copy_(self.std().clamp_min(LEAST_STD))
