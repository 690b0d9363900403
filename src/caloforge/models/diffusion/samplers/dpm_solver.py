"""DPM-Solver++(2M) (Lu et al., arXiv:2211.01095)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

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
        self, process: Process, network: Network, x: Tensor, times: Sequence[float], extra: Tensor | None
    ) -> Tensor:
        signal, noise = ([b(t) for t in times] for b in (process.signal, process.noise))
        # lengths of the steps in λ = log(a/b)
        length = [
            _log_sigma(a, b) - _log_sigma(c, d)
            for (a, b), (c, d) in pairwise(zip(signal, noise, strict=True))
        ]
        length[-1] = math.inf
        last = None
        for i, t in enumerate(times[:-1]):
            x0 = ahead = process.denoised(network, x, t)
            if last is not None and math.isfinite(length[i]):
                ahead = x0 + length[i] / (2 * length[i - 1]) * (x0 - last)
            x = noise[i + 1] / noise[i] * x - signal[i + 1] * math.expm1(-length[i]) * ahead
            last = x0
        return x


def _log_sigma(signal: float, noise: float) -> float:
    """log σ, where σ = b/a may be infinite or 0."""
    return math.log(noise / signal) if signal > 0 and noise > 0 else math.copysign(math.inf, noise - signal)
