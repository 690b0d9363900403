"""Residual blocks of BigGAN-deep (Brock, Donahue, Simonyan, arXiv:1809.11096), and their attention.

Legend: ``m`` images, ``n`` events of them, ``C`` channels of (h, w), ``K`` numbers that an image is told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.spectral import SpectralConv, SpectralLinear

__all__ = ["Attention", "CriticBlock", "GeneratorBlock", "event_norm"]

SHRINK = 4
"""Channels of a block's inside are fewer by this factor."""


def event_norm(x: Tensor, events: int, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Batch norm over the images of each event alone, (m, C, h, w): no statistics are kept."""
    parts = [F.batch_norm(x_, None, None, weight, bias, training=True) for x_ in x.chunk(events)]
    return parts[0] if events == 1 else torch.cat(parts)


class _Told(nn.Module):
    """`event_norm`, then a gain and a shift of what each image is told, and a rectifier."""

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.gain = SpectralLinear(told, channels, bias=False)
        self.shift = SpectralLinear(told, channels, bias=False)

    def forward(self, x: Tensor, told: Tensor, events: int) -> Tensor:
        gain, shift = (layer(told)[:, :, None, None].to(x.dtype) for layer in (self.gain, self.shift))
        return F.relu(torch.addcmul(shift, event_norm(x, events), 1 + gain), inplace=True)


class GeneratorBlock(nn.Module):
    """1 × 1, 3 × 3, 3 × 3 and 1 × 1 convolutions of fewer channels, beside the first channels themselves.

    Args:
        inputs, outputs, told: channels, of which there may not be more after than before, and K.
        double: whether height and width are doubled, by copies of each cell.
    """

    def __init__(self, inputs: int, outputs: int, told: int, *, double: bool) -> None:
        super().__init__()
        inside = max(inputs // SHRINK, 1)
        self.outputs, self.doubles = outputs, double
        sizes = ((inputs, inside, 1), (inside, inside, 3), (inside, inside, 3), (inside, outputs, 1))
        self.norms = nn.ModuleList(_Told(a, told) for a, _, _ in sizes)
        self.convolutions = nn.ModuleList(SpectralConv(a, b, k, padding=k // 2) for a, b, k in sizes)

    def forward(self, x: Tensor, told: Tensor, events: int) -> Tensor:
        """(m, C, h, w) and (m, K) → (m, C', h', w')."""
        inside, x = x, x[:, : self.outputs]
        if self.doubles:
            x = F.interpolate(x, scale_factor=2.0)
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            inside = norm(inside, told, events)
            if i == 1 and self.doubles:
                inside = F.interpolate(inside, scale_factor=2.0)
            inside = convolution(inside)
        return inside + x


class CriticBlock(nn.Module):
    """The same convolutions, beside the channels themselves and, where there are more after, learnt ones.

    Args:
        inputs, outputs: channels, of which there may not be fewer after than before.
        halve: whether height and width are halved, by means.
        first: whether it is the first of the network, whose inputs are taken as they are.
    """

    def __init__(self, inputs: int, outputs: int, *, halve: bool, first: bool = False) -> None:
        super().__init__()
        inside = max(outputs // SHRINK, 1)
        self.halves, self.first = halve, first
        sizes = ((inputs, inside, 1), (inside, inside, 3), (inside, inside, 3), (inside, outputs, 1))
        self.convolutions = nn.ModuleList(SpectralConv(a, b, k, padding=k // 2) for a, b, k in sizes)
        self.more = SpectralConv(inputs, outputs - inputs, 1) if outputs > inputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(m, C, h, w) → (m, C', h', w')."""
        inside = x if self.first else F.relu(x)
        *wide, last = self.convolutions
        for convolution in wide:
            inside = F.relu(convolution(inside), inplace=True)
        if self.halves:
            inside, x = F.avg_pool2d(inside, 2), F.avg_pool2d(x, 2)
        if self.more is not None:
            x = torch.cat([x, self.more(x)], dim=1)
        out: Tensor = x + last(inside)
        return out


class Attention(nn.Module):
    """Of each cell to the largest of two by two, weighed by a number that begins at 0 (arXiv:1805.08318)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query, self.key = (SpectralConv(channels, few, 1, bias=False) for _ in range(2))
        self.value = SpectralConv(channels, half, 1, bias=False)
        self.last = SpectralConv(half, channels, 1, bias=False)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(m, C, h, w) → (m, C, h, w)."""
        query, key, value = self.query(x), *(F.max_pool2d(layer(x), 2) for layer in (self.key, self.value))
        query, key, value = (y.flatten(2).mT for y in (query, key, value))
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0).mT
        found = found.reshape(*found.shape[:2], *x.shape[2:])
        return torch.addcmul(x, self.weight.to(x.dtype), self.last(found))
