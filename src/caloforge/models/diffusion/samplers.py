"""From noise to data with a trained process: solvers of one and the same differential equation.

With σ = b/a and y = x/a, every process of `caloforge.models.diffusion.process` has the probability-flow
equation dy/dσ = (y − x₀(x, t))/σ = ε (Song et al., arXiv:2011.13456; Karras et al., arXiv:2206.00364), where
x₀ and ε are the network's estimates. All samplers work with all processes.

| kind                | order | calls      | paper |
|---------------------|-------|------------|-------|
| "euler" and "ddim"  | 1     | steps      | Song, Meng, Ermon, arXiv:2010.02502 |
| "midpoint"          | 2     | 2·steps    | |
| "heun"              | 2     | 2·steps − 1 | Karras et al., arXiv:2206.00364, without its noise |
| "dpm-solver++"      | 2     | steps      | 2M: Lu et al., arXiv:2211.01095 |
| "ddpm"              | –     | steps      | ancestral, noise in each step: Ho et al., arXiv:2006.11239 |

DDIM's step keeps x₀ and ε and changes their weights, which is Euler's step along the straight line of the
process: two names of one sampler.

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates, ``S`` steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from caloforge.models.diffusion.process import Network, Process

__all__ = ["SamplerSettings", "noise_steps", "sample"]


class SamplerSettings(BaseModel):
    """How showers are sampled; may be changed after training.

    Attributes:
        kind: the solver, see the table above.
        steps: steps from noise to data.
        power: times are those of the process to this power; above 1 more steps go to small noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["euler", "midpoint", "heun", "ddim", "ddpm", "dpm-solver++"] = "midpoint"
    steps: int = Field(16, ge=1)
    power: float = Field(1.0, gt=0)


def noise_steps(settings: SamplerSettings) -> int:
    """Number of noises beside the first that `sample` takes as ``extra``."""
    return settings.steps - 1 if settings.kind == "ddpm" else 0


def sample(
    process: Process,
    network: Network,
    noise: Tensor,
    settings: SamplerSettings,
    extra: Tensor | None = None,
) -> Tensor:
    """Coordinates (n, *) of standard normal noise (n, *); deterministic.

    Args:
        process, network: what was trained; the network is called with all n at once.
        noise: standard normal, (n, *), of any floating type.
        settings: solver and steps.
        extra: noise of the steps of the ancestral sampler, standard normal, (n, S − 1, *).
    """
    if noise_steps(settings) and extra is None:
        raise ValueError(f"sampler {settings.kind!r} needs noise of {noise_steps(settings)} steps as extra")
    times = process.schedule(settings.steps, settings.power)
    points = [_Point.at(process, t) for t in times]
    x = noise * points[0].noise
    points.append(_Point(torch.zeros_like(times[0]), 1.0, 0.0))

    def denoise(x: Tensor, point: _Point) -> Tensor:
        return process.denoised(network, x, point.t)

    if settings.kind == "ddpm":
        return _ancestral(denoise, x, points, extra)
    if settings.kind == "dpm-solver++":
        return _dpm_solver(denoise, x, points)
    return _runge_kutta(denoise, x, points, process, settings.kind)


Denoise = Callable[[Tensor, "_Point"], Tensor]


@dataclass(frozen=True)
class _Point:
    """A time and all that depends on it alone, computed in double precision once for all showers."""

    t: Tensor  # of no dimension, float64
    signal: float
    noise: float

    @classmethod
    def at(cls, process: Process, t: Tensor) -> _Point:
        return cls(t, float(process.signal(t)), float(process.noise(t)))

    @property
    def sigma(self) -> float:
        return self.noise / self.signal if self.signal else math.inf

    @property
    def log_snr(self) -> float:
        """λ = log(a/b), at finite σ > 0."""
        return -math.log(self.sigma)


def _runge_kutta(denoise: Denoise, x: Tensor, points: list[_Point], process: Process, kind: str) -> Tensor:
    """Euler's, the midpoint or Heun's method along z = x/(a + c·b) over u = b/(a + c·b), c the slant.

    z = (1 − c·u)·x₀ + u·ε, hence dz/du = ε − c·x₀. Along an arc z = x/√(a² + b²) = x₀·cos u + ε·sin u, hence
    dz/du = ε·cos u − x₀·sin u.
    """
    c = process.slant

    def length(point: _Point) -> float:
        if c is None:
            return math.hypot(point.signal, point.noise)
        return point.signal + c * point.noise

    def along(point: _Point) -> float:
        return math.atan2(point.noise, point.signal) if c is None else point.noise / length(point)

    def slope(z: Tensor, point: _Point) -> Tensor:
        x = z * length(point)
        of_x = point.signal / length(point) if c is None else 1.0
        return (of_x * x - length(point) * denoise(x, point)) / point.noise

    z = x / length(points[0])
    for here, there in pairwise(points):
        u, end = along(here), along(there)
        first = slope(z, here)
        if kind == "midpoint":
            middle = (u + end) / 2
            sigma = math.tan(middle) if c is None else middle / (1 - c * middle)
            t = process.time(torch.tensor(sigma, dtype=torch.float64))
            first = slope(z + (middle - u) * first, _Point.at(process, t))
        z_end = z + (end - u) * first
        if kind == "heun" and there.noise > 0:  # at σ = 0 there is no ε to estimate
            z_end = z + (end - u) / 2 * (first + slope(z_end, there))
        z = z_end
    return z


def _dpm_solver(denoise: Denoise, x: Tensor, points: list[_Point]) -> Tensor:
    """DPM-Solver++(2M): exact but for x₀, which goes on along the line of λ of its last two estimates.

    The steps from infinite σ and to σ = 0 are of first order.
    """
    previous: tuple[Tensor, float] | None = None  # the last estimate and the length of its step
    for here, there in pairwise(points):
        x0 = denoise(x, here)
        step = there.log_snr - here.log_snr if there.noise and here.signal else math.inf
        ahead = x0
        if previous is not None and math.isfinite(step):
            last, last_step = previous
            ahead = x0 + step / (2 * last_step) * (x0 - last)
        x = there.noise / here.noise * x - there.signal * math.expm1(-step) * ahead
        previous = x0, step
    return x


def _ancestral(denoise: Denoise, x: Tensor, points: list[_Point], extra: Tensor | None) -> Tensor:
    """x at the next time from its distribution given x₀ and x: part of ε is kept, the rest is new noise."""
    for i, (here, there) in enumerate(pairwise(points)):
        x0 = denoise(x, here)
        if extra is None or there.noise == 0:
            return x0
        kept = there.sigma / here.sigma
        epsilon = (x - here.signal * x0) / here.noise
        fresh = math.sqrt(1 - kept**2) * extra[:, i]
        x = there.signal * x0 + there.noise * (kept * epsilon + fresh)
    return x
