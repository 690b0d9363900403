"""Networks of showers as volumes of cells on regular meshes: convolutions along all three axes.

Legend: ``n`` showers, mesh (Z, P, R), ``C`` channels, ``K`` numbers of context.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Critic", "Size", "Step", "VolumeDecoder", "VolumeEncoder", "dense", "trunk"]

SLOPE = 0.2
"""Of leaky ReLUs."""
Size = tuple[int, int, int]


class Step(NamedTuple):
    """A convolution: channels, kernel, stride and padding along (Z, P, R)."""

    channels: int
    kernel: Size
    stride: Size
    padding: Size = (0, 0, 0)

    @classmethod
    def cube(cls, channels: int, kernel: int, stride: int, padding: int = 0) -> Step:
        """The same along all axes."""
        return cls(channels, (kernel,) * 3, (stride,) * 3, (padding,) * 3)


def trunk(size: Size, steps: Sequence[Step], *, norm_last: bool = True) -> tuple[nn.Sequential, int]:
    """Convolutions (n, 1, Z, P, R) → (n, F), each normalised over its cells, and F.

    Kernels are at most as large as what they see, so that small meshes have them, too.
    """
    modules: list[nn.Module] = []
    before = 1
    for i, step in enumerate(steps):
        kernel: Size = tuple(  # type: ignore[assignment]
            min(k, s + 2 * p) for k, s, p in zip(step.kernel, size, step.padding, strict=True)
        )
        modules.append(nn.Conv3d(before, step.channels, kernel, step.stride, step.padding, bias=False))
        size = tuple(  # type: ignore[assignment]
            (s + 2 * p - k) // d + 1
            for s, p, k, d in zip(size, step.padding, kernel, step.stride, strict=True)
        )
        before = step.channels
        if norm_last or i + 1 < len(steps):
            modules += [_norm(size), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*modules, nn.Flatten()), before * math.prod(size)


def _norm(size: Size) -> nn.Module:
    """Layer normalisation over the cells of each channel; one cell has nothing to be normalised by."""
    return nn.LayerNorm(size) if math.prod(size) > 1 else nn.Identity()


def dense(sizes: Sequence[int], *, bias_last: bool = True) -> nn.Sequential:
    """Dense layers with leaky ReLUs between them."""
    steps: list[nn.Module] = []
    for a, b in pairwise(sizes[:-1]):
        steps += [nn.Linear(a, b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*steps, nn.Linear(sizes[-2], sizes[-1], bias=bias_last))


class VolumeEncoder(nn.Module):
    """BIB-AE's encoder: cells (n, V) and context (n, K) → mean and log standard deviation of latents."""

    def __init__(
        self, size: Size, context: int, *, channels: int, hidden: Sequence[int], latent: int
    ) -> None:
        super().__init__()
        self.size = size
        steps = [Step.cube(channels * 2**i, 4, 2, 2) for i in range(3)]
        self.convolutions, features = trunk(size, [*steps, Step.cube(8 * channels, 3, 1, 1)])
        self.dense = dense([features + context, *hidden, 2 * latent])

    def forward(self, seen: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolutions(seen.view(-1, 1, *self.size))
        mean, log_std = self.dense(torch.cat([features, context], dim=1)).chunk(2, dim=1)
        return mean, log_std


class VolumeDecoder(nn.Module):
    """BIB-AE's decoder: latents and context (n, K) → cells (n, V) ≥ 0.

    A third of the cells along each axis, all of them, twice as many, and convolutions of all of them.
    """

    def __init__(self, size: Size, known: int, *, channels: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.start = tuple(-(-s // 3) for s in size)
        whole: Size = tuple(3 * s for s in self.start)  # type: ignore[assignment]
        twice: Size = tuple(2 * s for s in whole)  # type: ignore[assignment]
        c = channels
        self.dense = dense([known, *hidden, c * math.prod(self.start)])
        up = [
            nn.ConvTranspose3d(c, c, 3, 3, bias=False),
            nn.LayerNorm(whole),
            nn.LeakyReLU(SLOPE),
            nn.ConvTranspose3d(c, 2 * c, 3, 2, 1, 1, bias=False),
            nn.LayerNorm(twice),
            nn.LeakyReLU(SLOPE),
            nn.Conv3d(2 * c, c, 2, 2, bias=False),
            nn.LayerNorm(whole),
            nn.LeakyReLU(SLOPE),
        ]
        for a, b in pairwise((c, 2 * c, 4 * c, 2 * c)):
            up += [nn.Conv3d(a, b, 3, padding=1, bias=False), nn.LayerNorm(whole), nn.LeakyReLU(SLOPE)]
        self.convolutions = nn.Sequential(*up, nn.Conv3d(2 * c, 1, 3, padding=1, bias=False))

    def forward(self, known: Tensor) -> Tensor:
        x = F.leaky_relu(self.dense(known), SLOPE).view(-1, self.channels, *self.start)
        z, p, r = self.size
        cells: Tensor = self.convolutions(x)[:, 0, :z, :p, :r]
        return torch.relu(cells).flatten(1)


class Critic(nn.Module):
    """BIB-AE's critic: streams of x, of log(x + 1), of the difference to what was encoded, and context."""

    def __init__(self, size: Size, context: int, channels: int) -> None:
        super().__init__()
        self.size, half = size, max(channels // 2, 1)
        steps = [Step.cube(channels, 3, 2), Step.cube(channels, 3, 2), Step.cube(channels, 3, 1)]
        self.plain, features = trunk(size, steps, norm_last=False)
        self.logs, _ = trunk(size, steps, norm_last=False)
        self.streams = nn.ModuleList(
            nn.Linear(inputs, half) for inputs in (features, features, math.prod(size), context)
        )
        wide = 2 * channels
        self.last = dense([4 * half, wide, wide, wide, 1], bias_last=False)

    def forward(self, seen: Tensor, difference: Tensor, context: Tensor) -> Tensor:
        """(n, V), (n, V) and (n, K) → (n,)."""
        x = seen.view(-1, 1, *self.size)
        of_streams = (
            F.leaky_relu(self.plain(x), SLOPE),
            F.leaky_relu(self.logs(torch.log1p(x)), SLOPE),
            difference,
            context,
        )
        told = [F.leaky_relu(f(y), SLOPE) for f, y in zip(self.streams, of_streams, strict=True)]
        scores: Tensor = self.last(torch.cat(told, dim=1))
        return scores[:, 0]
