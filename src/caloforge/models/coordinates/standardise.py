"""Mean 0 and standard deviation 1, fitted in a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caloforge.errors import DataError, RecipeError
from caloforge.models.coordinates.base import Context, Transform

__all__ = ["RunningMoments", "Standardise"]

CONSTANT = 1e-7
"""A feature is constant where its standard deviation is below this part of its mean, float32's rounding."""


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


class Standardise(Transform):
    """y = (x − mean)/std with fitted statistics; a constant feature is only shifted (std = 1).

    Args:
        shape: of the statistics, broadcast to the trailing axes of x: ``()`` shares one mean and std among
            all values, ``(d,)`` has one for each of d features, ``(Z, 1, 1)`` one for each layer.

    Raises:
        RecipeError: used before it was fitted, or the shape does not fit.
        DataError: fitted on nothing, or on values that are not finite.
    """

    kind = "standardise"
    forward_needs_fit = True
    mean: Tensor
    std: Tensor
    is_fitted: Tensor

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.shape = tuple(int(d) for d in shape)
        if any(d < 1 for d in self.shape):
            raise RecipeError(f"shape must hold positive lengths, got {shape}")
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("std", torch.ones(self.shape))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))
        self._moments: RunningMoments | None = None

    def config(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    @property
    def fitted(self) -> bool:
        return bool(self.is_fitted)

    def fit(self, x: Tensor, context: Context) -> None:
        if self._moments is None:
            self._moments = RunningMoments(self.shape)
        self._moments.add(x)

    def finish(self) -> None:
        moments, self._moments = self._moments, None
        if moments is None or not moments.count:
            raise DataError("a 'standardise' transform was fitted on no showers")
        std = moments.std()
        if not bool(torch.isfinite(moments.mean).all() and torch.isfinite(std).all()):
            raise DataError("a 'standardise' transform was fitted on values that are not finite")
        constant = (std <= CONSTANT * moments.mean.abs()) | (std < torch.finfo(torch.float32).tiny)
        self.mean.copy_(moments.mean)
        self.std.copy_(torch.where(constant, torch.ones_like(std), std))
        self.is_fitted.fill_(True)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        self.require_fit()
        mean, std = self.mean.to(x.dtype), self.std.to(x.dtype)
        log_det = -std.log().expand(x.shape[1:]).sum()
        return (x - mean) / std, log_det.expand(len(x))

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        self.require_fit()
        return y * self.std.to(y.dtype) + self.mean.to(y.dtype)
