"""From noise to data with a trained process: solvers of one and the same differential equation.

With σ = b/a and y = x/a, every process of `caloforge.models.diffusion.process` has the probability-flow
equation dy/dσ = (y − x₀(x, t))/σ = ε (Song et al., arXiv:2011.13456; Karras et al., arXiv:2206.00364), where
x₀ and ε are the network's estimates. All samplers work with all processes.

| kind           | order | calls       | paper |
|----------------|-------|-------------|-------|
| "euler"        | 1     | steps       | |
| "ddim"         | 1     | steps       | Song, Meng, Ermon, arXiv:2010.02502 |
| "midpoint"     | 2     | 2·steps     | |
| "heun"         | 2     | 2·steps − 1 | Karras et al., arXiv:2206.00364, without its noise |
| "dpm-solver++" | 2     | steps       | 2M: Lu et al., arXiv:2211.01095 |
| "ddpm"         | –     | steps       | ancestral, noise in each step: Ho et al., arXiv:2006.11239 |

Euler's, the midpoint and Heun's method step along the process's own curve. Where that is a straight line, a
step of DDIM is one of Euler's.

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates, ``S`` steps.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from caloforge.models.diffusion.process import Network, Process

__all__ = ["SamplerSettings", "noise_steps", "sample", "trajectory"]


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
    process: Process, network: Network, noise: Tensor, settings: SamplerSettings, extra: Tensor | None = None
) -> Tensor:
    """Coordinates (n, *) of standard normal noise (n, *); deterministic.

    Args:
        process, network: what was trained; the network is called with all n at once.
        noise: standard normal, (n, *), of any floating type.
        settings: solver and steps.
        extra: noise of the steps of the ancestral sampler, standard normal, (n, S − 1, *).
    """
    times = process.schedule(settings.steps, settings.power)
    times = torch.cat([times, process.time(torch.zeros_like(times[:1]))])
    x = noise * process.noise(times[0])
    if settings.kind == "ddpm":
        return _ancestral(process, network, x, times, extra)
    if settings.kind == "ddim":
        return _ddim(process, network, x, times)
    if settings.kind == "dpm-solver++":
        return _dpm_solver(process, network, x, times)
    return trajectory(process, network, x, times, settings.kind)[-1]


def trajectory(
    process: Process, network: Network, x: Tensor, times: Tensor, kind: Literal["euler", "midpoint", "heun"]
) -> list[Tensor]:
    """Where the probability-flow equation leads from x (n, *), at each of S + 1 falling times, float64.

    The last time may be that of the data, where there is no noise to estimate: Heun's last step is then
    Euler's.
    """

    def slope(x: Tensor, t: Tensor) -> Tensor:
        return process.slope(process.raw(network, x, t), x, t)

    places = [x]
    for t, s in pairwise(times):
        k = slope(x, t)
        if kind == "midpoint":
            middle = process.time_of_clock((process.clock(t) + process.clock(s)) / 2)
            k = slope(process.move(x, k, t, middle), middle)
        elif kind == "heun" and process.noise(s) > 1e-6:
            k = (k + slope(process.move(x, k, t, s), s)) / 2
        x = process.move(x, k, t, s)
        places.append(x)
    return places


def _ddim(process: Process, network: Network, x: Tensor, times: Tensor) -> Tensor:
    """x₀ and ε are kept in a step and change their weights."""
    signal, noise = process.signal(times), process.noise(times)
    for i, t in enumerate(times[:-1]):
        x0 = process.denoised(network, x, t)
        x = noise[i + 1] / noise[i] * x + (signal[i + 1] - noise[i + 1] / noise[i] * signal[i]) * x0
    return x


def _dpm_solver(process: Process, network: Network, x: Tensor, times: Tensor) -> Tensor:
    """DPM-Solver++(2M): exact but for x₀, which goes on along the line over λ of its last two estimates.

    The steps from infinite σ and to σ = 0 are of first order.
    """
    signal, noise = process.signal(times), process.noise(times)
    length = (noise[:-1] / signal[:-1]).log() - (noise[1:] / signal[1:]).log()  # of the steps in λ = log(a/b)
    length[-1] = math.inf
    last = None
    for i, t in enumerate(times[:-1]):
        x0 = ahead = process.denoised(network, x, t)
        if last is not None and length[i].isfinite():
            ahead = x0 + length[i] / (2 * length[i - 1]) * (x0 - last)
        x = noise[i + 1] / noise[i] * x - signal[i + 1] * torch.expm1(-length[i]) * ahead
        last = x0
    return x


def _ancestral(process: Process, network: Network, x: Tensor, times: Tensor, extra: Tensor | None) -> Tensor:
    """x at the next time from its distribution given x₀ and x: part of ε is kept, the rest is new noise."""
    signal, noise = process.signal(times), process.noise(times)
    kept = noise[1:] / signal[1:] * signal[:-1] / noise[:-1]
    steps = len(times) - 1
    if steps > 1 and extra is None:
        raise ValueError(f"sampler 'ddpm' needs standard normal noise of {steps - 1} steps as extra")
    for i in range(steps - 1):
        assert extra is not None
        x0 = process.denoised(network, x, times[i])
        epsilon = (x - signal[i] * x0) / noise[i]
        fresh = (1 - kept[i] ** 2).sqrt() * extra[:, i]
        x = signal[i + 1] * x0 + noise[i + 1] * (kept[i] * epsilon + fresh)
    return process.denoised(network, x, times[-2])
