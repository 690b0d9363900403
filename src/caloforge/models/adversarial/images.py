"""Networks of images: layers are channels, cells across them pixels.

Legend: ``n`` showers, ``Z`` layers of (Y, X) cells, ``K`` numbers of context, ``W`` channels.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.spectral import convolution, dense

__all__ = ["ImageGenerator", "ImageTrunk", "padded"]

SLOPE = 0.2
"""Of leaky ReLUs."""


def padded(x: Tensor, by: int, periodic: bool) -> Tensor:
    """Images with ``by`` rows and columns more on each side: zeros, but rows of periodic ones go on."""
    rows = F.pad(x, (0, 0, by, by), mode="circular") if periodic else F.pad(x, (0, 0, by, by))
    return F.pad(rows, (by, by))


class _Convolution(nn.Conv2d):
    """Convolution 3 × 3 of `padded` images, to images of the same size."""

    def __init__(self, inputs: int, outputs: int, periodic: bool) -> None:
        super().__init__(inputs, outputs, 3, padding=(0 if periodic else 1, 1))
        self.periodic = periodic

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 0, 1, 1), mode="circular") if self.periodic else x)


class _Modulated(nn.Module):
    """Convolution 3 × 3, normalised in each shower, scaled and shifted by the context."""

    def __init__(self, inputs: int, outputs: int, context: int, periodic: bool) -> None:
        super().__init__()
        self.convolution = _Convolution(inputs, outputs, periodic)
        self.norm = nn.GroupNorm(1, outputs, affine=False)
        self.modulation = nn.Linear(context, 2 * outputs)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        scale, shift = self.modulation(context)[:, :, None, None].chunk(2, dim=1)
        return F.leaky_relu(x * (1 + scale) + shift, SLOPE)


class ImageGenerator(nn.Module):
    """Latent noise, noise of cells, maps and context → images (n, Z, Y, X), of any sign.

    A dense layer, doublings of the size with a convolution each, cropped to (Y, X); the last layers see the
    maps and the noise of the cells.

    Args:
        latent, context, maps, cells: numbers of noise, K, maps and noises of a cell.
        layers, size, periodic: Z, (Y, X), whether rows close on themselves.
        width, levels: channels W at the end, doublings; the first has W·2^(levels − 1) channels.
    """

    def __init__(
        self,
        latent: int,
        context: int,
        maps: int,
        cells: int,
        layers: int,
        size: tuple[int, int],
        *,
        periodic: bool,
        width: int,
        levels: int,
    ) -> None:
        super().__init__()
        self.size = size
        self.start = tuple(-(-s // 2**levels) for s in size)
        widths = [width * 2 ** (levels - 1 - i) for i in range(levels)]
        told = latent + context
        self.first = nn.Linear(told, widths[0] * math.prod(self.start))
        self.blocks = nn.ModuleList(
            _Modulated(a, b, told, periodic) for a, b in zip(widths, [*widths[1:], width], strict=True)
        )
        self.fine = _Convolution(width + maps + cells, width, periodic)
        self.last = nn.Conv2d(width, layers, 1)

    def forward(self, latent: Tensor, context: Tensor, maps: Tensor, cells: Tensor) -> Tensor:
        """(n, L), (n, K), (n, M, Y, X) and (n, C, Y, X) → (n, Z, Y, X)."""
        told = torch.cat([latent, context], dim=1)
        x = F.leaky_relu(self.first(told), SLOPE).view(latent.shape[0], -1, *self.start)
        x = x.contiguous(memory_format=torch.channels_last)  # in which convolutions are fastest
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest"), told)
        top, left = ((have - want) // 2 for have, want in zip(x.shape[2:], self.size, strict=True))
        x = x[:, :, top : top + self.size[0], left : left + self.size[1]]
        x = self.fine(torch.cat([x, maps, cells], dim=1).contiguous(memory_format=torch.channels_last))
        images: Tensor = self.last(F.leaky_relu(x, SLOPE))
        return images


class ImageTrunk(nn.Module):
    """Images, maps and numbers → features: convolutions of stride 2 with twice the channels, a dense layer.

    Args:
        channels, size, periodic: Z and maps, (Y, X), whether rows close on themselves.
        context: numbers that the dense layer is given beside.
        width, levels, hidden: channels of the first convolution, how many, features.
        spectral: layers have spectral norm 1.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        context: int,
        *,
        periodic: bool,
        width: int,
        levels: int,
        hidden: int,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        conv, linear = convolution(spectral), dense(spectral)
        widths = [channels, *(width * 2**i for i in range(levels))]
        self.convolutions = nn.ModuleList(conv(a, b, 3, 2) for a, b in itertools.pairwise(widths))
        rows, columns = size
        for _ in range(levels):
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        self.features = linear(widths[-1] * rows * columns + context, hidden)

    def forward(self, images: Tensor, context: Tensor) -> Tensor:
        """(n, C, Y, X) and (n, K) → (n, H)."""
        for step in self.convolutions:
            images = F.leaky_relu(step(padded(images, 1, self.periodic)), SLOPE)
        return F.leaky_relu(self.features(torch.cat([images.flatten(1), context], dim=1)), SLOPE)
