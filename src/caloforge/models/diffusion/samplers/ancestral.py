"""The ancestral sampler of DDPM (Ho et al., arXiv:2006.11239)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from caloforge.models.diffusion.processes import Network, Process
from caloforge.models.diffusion.samplers.base import SAMPLERS, Sampler

__all__ = ["Ancestral"]


@SAMPLERS.add("ddpm")
class Ancestral(Sampler):
    """x at the next time from its distribution given x₀ and x: part of ε is kept, the rest is new noise."""

    @property
    def noise_steps(self) -> int:
        return self.settings.steps - 1

    def solve(
        self, process: Process, network: Network, x: Tensor, times: Sequence[float], extra: Tensor | None
    ) -> Tensor:
        signal, noise = ([b(t) for t in times] for b in (process.signal, process.noise))
        steps = len(times) - 1
        if steps > 1 and extra is None:
            raise ValueError(f"sampler 'ddpm' needs standard normal noise of {steps - 1} steps as extra")
        for i in range(steps - 1):
            assert extra is not None
            x0 = process.denoised(network, x, times[i])
            epsilon = (x - signal[i] * x0) / noise[i]
            kept = noise[i + 1] / signal[i + 1] * signal[i] / noise[i]
            fresh = math.sqrt(1 - kept**2) * extra[:, i]
            x = signal[i + 1] * x0 + noise[i + 1] * (kept * epsilon + fresh)
        return process.denoised(network, x, times[-2])
