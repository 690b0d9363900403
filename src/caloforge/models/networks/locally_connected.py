"""Convolutions whose weights differ from place to place, as CaloGAN has (arXiv:1712.10321)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LocallyConnected"]


class LocallyConnected(nn.Module):
    """(n, C, H, W) → (n, C′, H′, W′) by weights of their own at each place.

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
        # left, right, top, bottom, as torch pads
        beside = [((k - 1) // 2, k // 2) if same else (0, 0) for k in kernel]
        self.beside = [*beside[1], *beside[0]]
        rows, columns = (
            (length + sum(more) - k) // step + 1
            for length, more, k, step in zip(size, beside, kernel, stride, strict=True)
        )
        self.size = rows, columns
        seen, places = inputs * math.prod(kernel), math.prod(self.size)
        bound = 1 / math.sqrt(seen)
        self.weight = nn.Parameter(torch.empty(places, outputs, seen).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs, places))

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(F.pad(x, self.beside), self.kernel, stride=self.stride)  # (n, C·kernel, places)
        y = torch.matmul(self.weight, patches.permute(2, 1, 0))  # (places, C′, n)
        y = y.permute(2, 1, 0) + self.bias
        return y.reshape(len(x), -1, *self.size)
