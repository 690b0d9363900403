"""Charges as images that dense networks make: logarithms between −1 and 1, with a frame of empty rows.

Legend: ``n`` events of ``S`` sensors with ``U`` × ``V`` cells, which become images of ``H`` × ``W``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Charges", "framed"]


def framed(cells: int, unit: int) -> int:
    """The least multiple of the unit that is not less than so many cells."""
    return -(-cells // unit) * unit


class Charges:
    """y = 2 log(q + 1) / log(Q + 1) − 1 for charges q of 0 … Q ADU, with noise, and its inverse.

    The noise is uniform in (0, ``noise``) before the step to [−1, 1], as Hashemi et al. have it; its mean is
    taken off again in the inverse. Charges below the threshold become 0.

    Args:
        cells: (U, V).
        size: (H, W), of which the cells are the middle.
        threshold, largest: ADU.
        noise: of real images; 0 for none.
    """

    def __init__(
        self, cells: tuple[int, int], size: tuple[int, int], *, threshold: int, largest: int, noise: float
    ) -> None:
        self.cells, self.size, self.threshold, self.largest = cells, size, threshold, largest
        self.noise = noise
        self.log = math.log(largest + 1)
        self.before = tuple((whole - inner) // 2 for whole, inner in zip(size, cells, strict=True))

    def images(self, charges: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Charges (n, S, U, V) → images (n, S, H, W), with noise where there is a generator."""
        (u, v), (height, width) = self.cells, self.size
        (top, left) = self.before
        frame = (left, width - v - left, top, height - u - top)
        y = F.pad(charges.float().log1p() / self.log, frame)
        if generator is not None:
            y = y + self.noise * torch.rand(y.shape, generator=generator, device=y.device)
        return 2 * y - 1

    def charges(self, images: Tensor) -> Tensor:
        """Images (n, S, H, W) → charges (n, S, U, V), uint8."""
        (u, v), (top, left) = self.cells, self.before
        inner = images[..., top : top + u, left : left + v].float()
        charge = ((inner + 1 - self.noise) * (self.log / 2)).expm1().clamp(0, self.largest).round()
        return torch.where(charge >= self.threshold, charge, 0.0).to(torch.uint8)
