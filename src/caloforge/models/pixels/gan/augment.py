"""Random changes of images, real and generated alike, through which gradients go (arXiv:2006.10738).

Without them a critic learns the few training events by heart. Every image of ``n`` gets changes of its own:
brightness, contrast, a shift by an eighth at most, and a hole of half its height and width. Colours, which
DiffAugment changes, too, there are none.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["augmented"]

SHIFT = 8
"""Shifts are up to this part of the size."""
HOLE = 2
"""Holes are this part of it."""


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, H, W), changed; what is shifted in from outside, and the hole, are 0."""
    n, *size = images.shape
    rand = torch.rand(n, 2, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
    brighter, contrast = rand.unbind(dim=1)
    means = images.mean(dim=(1, 2), keepdim=True)
    # x + b is the brighter image, of the mean m + b, and (x − m)·c + m + b that of other contrast
    images = torch.lerp(means, images, contrast + 0.5) + (brighter - 0.5)
    seen: Tensor | None = None
    for axis, cells in enumerate(size, start=1):
        shape = [n, *(cells if a == axis else 1 for a in (1, 2))]
        place = torch.arange(cells, device=images.device).view([1, *shape[1:]])
        shift, hole = cells // SHIFT, cells // HOLE
        from_place = place + _whole(-shift, shift + 1, n, generator)
        inside = (from_place >= 0) & (from_place < cells)
        images = images.gather(axis, from_place.clamp(0, cells - 1).expand(images.shape)) * inside
        first = _whole(0, cells + 1 - hole % 2, n, generator) - hole // 2
        in_hole = (place >= first) & (place < first + hole)
        seen = in_hole if seen is None else seen & in_hole
    assert seen is not None
    return images * ~seen


def _whole(low: int, high: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, (n, 1, 1), generator=generator, device=generator.device)
