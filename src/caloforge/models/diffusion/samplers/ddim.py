"""DDIM (Song, Meng, Ermon, arXiv:2010.02502)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caloforge.models.diffusion.processes import Network, Process
from caloforge.models.diffusion.samplers.base import SAMPLERS, Sampler

__all__ = ["DDIM"]


@SAMPLERS.add("ddim")
class DDIM(Sampler):
    """x₀ and ε are kept in a step and change their weights."""

    def solve(
        self, process: Process, network: Network, x: Tensor, times: Sequence[float], extra: Tensor | None
    ) -> Tensor:
        signal, noise = ([b(t) for t in times] for b in (process.signal, process.noise))
        for i, t in enumerate(times[:-1]):
            x0 = process.denoised(network, x, t)
            x = noise[i + 1] / noise[i] * x + (signal[i + 1] - noise[i + 1] / noise[i] * signal[i]) * x0
        return x
