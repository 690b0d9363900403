"""Convolutions whose weights differ from place to place, as CaloGAN has (arXiv:1712.10321)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LocallyConnected"]


class LocallyConnected(nn.Module):
    """(H, W, C, n) → (H′, W′, C′, n) by weights of their own at each place.

    Showers are last, so that each place is a product of matrices and nothing is copied element by element.

    Args:
        inputs, outputs: C, C′.
        size: (H, W) of the inputs.
        kernel: cells along each axis that a place sees.
        stride: step from place to place along each axis.
        same: zeros beside the image, so that without a stride H′ = H and W′ = W; else only whole kernels
            count.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        same: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        beside = [((k - 1) // 2, k // 2) if same else (0, 0) for k in kernel]
        self.beside = [0, 0, 0, 0, *beside[1], *beside[0]]  # left, right, top, bottom, as torch pads
        rows, columns = (
            (length + sum(more) - k) // step + 1
            for length, more, k, step in zip(size, beside, kernel, stride, strict=True)
        )
        self.size = rows, columns
        seen, places = inputs * math.prod(kernel), math.prod(self.size)
        bound = 1 / math.sqrt(seen)
        self.weight = nn.Parameter(torch.empty(places, outputs, seen).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(places, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.beside)
        (rows, columns), (down, right) = self.size, self.stride
        shifted = [
            x[i : i + rows * down : down, j : j + columns * right : right][:rows, :columns]
            for i, j in itertools.product(*map(range, self.kernel))
        ]
        patches = torch.cat(shifted, dim=2).flatten(0, 1)  # (places, kernel·C, n)
        made = torch.baddbmm(self.bias, self.weight, patches)  # (places, C′, n)
        return made.view(*self.size, *made.shape[1:])
