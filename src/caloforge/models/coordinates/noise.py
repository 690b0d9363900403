"""Making a density of energies that are zero or above a threshold: AddNoise and Threshold.

Noise is a tensor u of uniform numbers in (0, 1), drawn outside; the inverse needs none.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from caloforge.errors import RecipeError
from caloforge.models.coordinates.base import Context, Transform, positive, sum_examples

__all__ = ["AddNoise", "Fill", "Threshold", "cut_noise", "exp_threshold", "fill_below", "log_threshold"]

Fill = Literal["uniform", "exponential", "normal", "log-normal"]
U_MIN, U_MAX = 2.0**-32, 1 - 2.0**-23
"""Uniform numbers are kept between these: float32 may round one to 0 or 1, which the laws here exclude."""
GAP = 1e-4
"""γ, half the distance between lit and empty cells in y, so that later rounding moves none across."""
LOG_SIGMA = 0.3
LOG_SIGMA_SLOPE = math.log(LOG_SIGMA * math.sqrt(2 * math.pi))
LARGEST = 1e15
"""Energies that come out of an exponential are at most this many thresholds, so that sums stay finite."""


def cut_noise(y: Tensor, width: float, threshold: float) -> Tensor:
    """Undo the addition of uniform noise: 0 where y < threshold, else max(y − width/2, threshold).

    Taking half the width off leaves no bias in the mean of energies well above the threshold.
    """
    return torch.where(y >= threshold, (y - width / 2).clamp(min=threshold), 0.0)


class AddNoise(Transform):
    """y = x + width·u; the inverse cuts: see `cut_noise`.

    The noise of a flow's training data, 5 keV in CaloFlow and SuperCalo (arXiv:2106.05285, 2308.11700).
    Law: a value that is 0 comes back as 0, one of at least ``threshold`` comes back within width/2 and is
    still at least ``threshold``. The log-determinant is 0 at given noise.

    Args:
        width: of the noise, in the units of x (MeV).
        threshold: no legal value lies between 0 and this; at least ``width``, which is the default.
    """

    kind = "add-noise"

    def __init__(self, width: float, threshold: float | None = None) -> None:
        super().__init__()
        self.width = positive("width", width)
        self.threshold = self.width if threshold is None else positive("threshold", threshold)
        if self.threshold < self.width:
            raise RecipeError(
                f"noise of width {width} would lift empty cells over the threshold {threshold}; "
                "the threshold must be at least the width"
            )

    def config(self) -> dict[str, Any]:
        return {"width": self.width, "threshold": self.threshold}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        noise = self.need_noise(context, x).clamp(U_MIN, U_MAX)
        return x + self.width * noise, x.new_zeros(len(x))

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return cut_noise(y, self.width, self.threshold)


def fill_below(noise: Tensor, width: float = 1.0, fill: Fill = "uniform") -> tuple[Tensor, Tensor]:
    """Values y < −γ for empty cells from uniform noise u, and log|dy/du|; both of the noise's shape.

    ``uniform``: y = −γ − w·u. ``exponential``: y = −γ + w·log u, for w = 1 uniform in energy below the
    threshold. ``normal``: y = −γ − w·√2·erf⁻¹(u), half a normal distribution of standard deviation w, thus
    a log-normal spectrum below the threshold as in L2LFlows (arXiv:2302.11594). ``log-normal``:
    y = −γ − w·exp(0.3·√2·erf⁻¹(2u − 1)), whose density vanishes smoothly at the threshold, so that a smooth
    model needs no step there and spills fewer empty cells over it. γ = 10⁻⁴.
    """
    u = noise.clamp(U_MIN, U_MAX)
    slope = torch.full_like(u, math.log(width))
    if fill == "uniform":
        return -GAP - width * u, slope
    if fill == "exponential":
        return width * u.log() - GAP, slope - u.log()
    if fill == "log-normal":
        z = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(2.0**-23 - 1, 1 - 2.0**-23))
        log_step = LOG_SIGMA * z
        return -GAP - width * log_step.exp(), slope + log_step + z.square() / 2 + LOG_SIGMA_SLOPE
    z = math.sqrt(2) * torch.erfinv(u)
    return -GAP - width * z, slope + z.square() / 2 + math.log(math.pi / 2) / 2


def log_threshold(x: Tensor, threshold: float, below: Tensor) -> Tensor:
    """γ + log(x/threshold) where x ≥ threshold, else ``below`` < −γ of `fill_below`; x, below: (n, *S)."""
    lit = x >= threshold
    return torch.where(lit, torch.where(lit, x / threshold, 1.0).log() + GAP, below)


def exp_threshold(y: Tensor, threshold: float, cut: bool = True) -> Tensor:
    """Undo `log_threshold`: threshold·exp(y − γ) within [threshold, 10¹⁵·threshold] where y ≥ 0; y: (n, *S).

    Where y < 0 it is 0 if ``cut``, else threshold·exp(y − γ), which is below the threshold.
    """
    x = threshold * (y - GAP).clamp(max=math.log(LARGEST)).exp()
    return torch.where(y >= 0, x.clamp(min=threshold), 0.0 if cut else x)


class Threshold(Transform):
    """y = γ + log(x/t) for x ≥ t, and y < −γ from noise for what is below; the inverse sets y < 0 to 0.

    γ = 10⁻⁴ keeps the two apart under rounding, so that the inverse in a chain loses and invents no cell.

    The values below t carry no information but that they are below. The log-determinant is that of the map
    from (x where x ≥ t, u elsewhere) to y: −log x for each lit cell, log|dy/du| = −log q(y) for each empty
    one. With it, a model's log-likelihood of y is a lower bound of that of the shower, which is a density
    in lit cells and a probability for empty ones (SurVAE flows, arXiv:2007.02731).

    Args:
        threshold: t > 0 in the units of x. 10¹⁵·t is the largest value that the inverse gives.
        width: w of the fill, in units of y.
        fill: how empty cells are filled, see `fill_below`.
        cut: False leaves values below t in the inverse, for a `LayerClosure` before it in the chain, which
            cuts them itself and can then tell which cell is hottest in a layer without survivors.
    """

    kind = "threshold"

    def __init__(
        self, threshold: float, width: float = 1.0, fill: Fill = "uniform", cut: bool = True
    ) -> None:
        super().__init__()
        self.threshold, self.width = positive("threshold", threshold), positive("width", width)
        if fill not in get_args(Fill):
            raise RecipeError(f"fill must be one of {', '.join(get_args(Fill))}, got {fill!r}")
        if not isinstance(cut, bool):
            raise RecipeError(f"cut must be true or false, got {cut!r}")
        self.fill: Fill = fill
        self.cut = cut

    def config(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "width": self.width, "fill": self.fill, "cut": self.cut}

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        below, slope = fill_below(self.need_noise(context, x), self.width, self.fill)
        lit = x >= self.threshold
        term = torch.where(lit, -torch.where(lit, x, 1.0).log(), slope)
        return log_threshold(x, self.threshold, below), sum_examples(term)

    def inverse(self, y: Tensor, context: Context) -> Tensor:
        return exp_threshold(y, self.threshold, self.cut)
