"""DPM-Solver++(2M) (Lu et al., arXiv:2211.01095)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caloforge.models.diffusion.processes import Network, Process
from caloforge.models.diffusion.samplers.base import SAMPLERS, Sampler

__all__ = ["DPMSolver"]


@SAMPLERS.add("dpm-solver++")
class DPMSolver(Sampler):
    """DPM-Solver++(2M): exact but for x₀, which goes on along the line over λ of its last two estimates.

    The steps from infinite σ and to σ = 0 are of first order.
    """

    def solve(
        self, process: Process, network: Network, x: Tensor, times: Tensor, extra: Tensor | None
    ) -> Tensor:
        signal, noise = process.signal(times), process.noise(times)
        log_sigma = (noise / signal).log()
        length = log_sigma[:-1] - log_sigma[1:]  # of the steps in λ = log(a/b)
        length[-1] = math.inf
        last = None
        for i, t in enumerate(times[:-1]):
            x0 = ahead = process.denoised(network, x, t)
            if last is not None and length[i].isfinite():
                ahead = x0 + length[i] / (2 * length[i - 1]) * (x0 - last)
            x = noise[i + 1] / noise[i] * x - signal[i + 1] * torch.expm1(-length[i]) * ahead
            last = x0
        return x
