"""Samplers that step along the path of the process: Euler's, the midpoint and Heun's method.

Legend: ``n`` showers, ``*`` the shape of one shower's coordinates, ``S`` steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from caloforge.models.diffusion.processes import Network, Process
from caloforge.models.diffusion.processes.times import T, per_shower
from caloforge.models.diffusion.samplers.base import SAMPLERS, Sampler

__all__ = ["Euler", "Heun", "Midpoint", "PathSampler"]

LEAST_NOISE = 1e-6
"""b(t) below which there is no noise to estimate."""

Slope = Callable[[Tensor, T], Tensor]
"""x (n, *) and its time, (n,) or a number, to dz/du (n, *)."""


class PathSampler(Sampler):
    """Each step follows a constant slope dz/du."""

    @abstractmethod
    def mean_slope(self, process: Process, slope: Slope[T], x: Tensor, t: T, s: T) -> Tensor:
        """The slope (n, *) of the step from x_t = x (n, *) to the time s, from a few calls of ``slope``."""

    def trajectory(self, process: Process, network: Network, x: Tensor, times: Sequence[T]) -> list[Tensor]:
        """Where the probability-flow equation leads from x (n, *), at each of S + 1 falling times."""

        def slope(x: Tensor, t: T) -> Tensor:
            return process.slope(process.raw(network, x, t), x, t)

        places = [x]
        for t, s in pairwise(times):
            x = process.move(x, self.mean_slope(process, slope, x, t, s), t, s)
            places.append(x)
        return places

    def solve(
        self, process: Process, network: Network, x: Tensor, times: Sequence[float], extra: Tensor | None
    ) -> Tensor:
        return self.trajectory(process, network, x, times)[-1]


@SAMPLERS.add("euler")
class Euler(PathSampler):
    """The slope where the step begins."""

    def mean_slope(self, process: Process, slope: Slope[T], x: Tensor, t: T, s: T) -> Tensor:
        return slope(x, t)


@SAMPLERS.add("midpoint")
class Midpoint(PathSampler):
    """The slope in the middle of Euler's step."""

    def mean_slope(self, process: Process, slope: Slope[T], x: Tensor, t: T, s: T) -> Tensor:
        middle = process.time_of_path_variable((process.path_variable(t) + process.path_variable(s)) / 2)
        return slope(process.move(x, slope(x, t), t, middle), middle)


@SAMPLERS.add("heun")
class Heun(PathSampler):
    """The mean of the slopes where Euler's step begins and ends (Karras et al., arXiv:2206.00364).

    At the data there is no noise to estimate: a step that ends there is Euler's.
    """

    def mean_slope(self, process: Process, slope: Slope[T], x: Tensor, t: T, s: T) -> Tensor:
        first, noisy = slope(x, t), per_shower(process.noise(s), x) > LEAST_NOISE
        if noisy is False:
            return first
        mean = (first + slope(process.move(x, first, t, s), s)) / 2
        return torch.where(noisy, mean, first) if isinstance(noisy, Tensor) else mean
