"""Layers whose weights have the largest singular value 1 (Miyato et al., arXiv:1802.05957).

It is estimated from the power iteration's vector u, a buffer that `power_iteration` moves on after each
update of the weights and nothing else does: what a network gives is a function of its state alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SpectralConv", "SpectralLinear", "convolution", "dense", "power_iteration"]


class SpectralLinear(nn.Linear):
    """A dense layer of spectral norm 1."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / _norm(self.weight, self.u), self.bias)


class SpectralConv(nn.Conv2d):
    """A convolution without padding whose weights, as a matrix, have spectral norm 1."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / _norm(self.weight.flatten(1), self.u)
        return F.conv2d(x, weight, self.bias, self.stride)


def dense(spectral: bool) -> Callable[..., nn.Linear]:
    """The class of dense layers."""
    return SpectralLinear if spectral else nn.Linear


def convolution(spectral: bool) -> Callable[..., nn.Conv2d]:
    """The class of convolutions without padding."""
    return SpectralConv if spectral else nn.Conv2d


@torch.no_grad()
def power_iteration(network: nn.Module) -> None:
    """One step of the power iteration in all layers of a network."""
    for module in network.modules():
        if isinstance(module, SpectralLinear | SpectralConv):
            module.u.copy_(_next(module.weight.flatten(1), module.u)[1])


def _next(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    v = F.normalize(weight.T @ u, dim=0)
    return v, F.normalize(weight @ v, dim=0)


def _norm(weight: Tensor, u: Tensor) -> Tensor:
    """uᵀ·W·v for the v and u of the next step of the iteration."""
    v, u = _next(weight.detach(), u)
    return torch.dot(u, weight @ v)
