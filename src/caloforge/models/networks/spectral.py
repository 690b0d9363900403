"""Layers whose weights have the largest singular value 1 (Miyato et al., arXiv:1802.05957).

It is estimated from the power iteration's vector u, a buffer that `power_iteration` moves on after each
update of the weights and nothing else does: what a network gives is a function of its state alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["SpectralConv", "SpectralLinear", "convolution", "dense", "power_iteration"]


class SpectralLinear(nn.Linear):
    """A dense layer of spectral norm 1."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.derived: TensorCache[Tensor] = TensorCache()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, _normalised(self), self.bias)


class SpectralConv(nn.Conv2d):
    """A convolution, by default without padding, whose weights, as a matrix, have spectral norm 1."""

    u: Tensor

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, size, stride, padding, bias=bias)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.derived: TensorCache[Tensor] = TensorCache()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _normalised(self), self.bias, self.stride, self.padding)


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
    """The next v and u of the power iteration; sums of products, which autocast leaves in full precision."""
    v = F.normalize((weight * u[:, None]).sum(dim=0), dim=0)
    return v, F.normalize((weight * v).sum(dim=1), dim=0)


def _normalised(layer: SpectralLinear | SpectralConv) -> Tensor:
    """The weights over uᵀ·W·v, for the v and u of the next step of the iteration."""

    def normalised() -> Tensor:
        weight = layer.weight.flatten(1)
        v, u = _next(weight.detach(), layer.u)
        return layer.weight / (u * (weight * v).sum(dim=1)).sum()

    return layer.derived(None, (layer.weight, layer.u), normalised)
