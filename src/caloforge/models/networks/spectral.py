"""Layers whose weights have the largest singular value 1 (Miyato et al., arXiv:1802.05957).

It is estimated from the power iteration's vector u, a buffer that `power_iteration` moves on after each
update of the weights and nothing else does: what a network gives is a function of its state alone.

Legend: ``k`` layers of one shape, whose weights are matrices of ``O`` × ``I``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["SpectralConv", "SpectralLinear", "SpectralNetwork", "convolution", "dense", "power_iteration"]


class SpectralLinear(nn.Linear):
    """A dense layer of spectral norm 1."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.ready: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, _ready(self), self.bias)


class SpectralConv(nn.Conv2d):
    """A convolution, by default without padding, whose weights, as a matrix, have spectral norm 1."""

    u: Tensor

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, size, stride, padding, bias=bias)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.ready: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _ready(self), self.bias, self.stride, self.padding)


SpectralLayer = SpectralLinear | SpectralConv


class SpectralNetwork(nn.Module):
    """A network whose layers are normalised together, those of one shape in a few operations.

    A GPU is given ten times fewer that way; without gradients they are kept while weights stay.
    """

    def __init__(self) -> None:
        super().__init__()
        self.derived: TensorCache[list[Tensor]] = TensorCache()

    @contextmanager
    def normalised(self) -> Iterator[None]:
        """In it, all layers have their weights ready."""
        layers = _layers(self)
        states = [tensor for layer in layers for tensor in (layer.weight, layer.u)]
        ready = self.derived(None, states, lambda: _normalised(layers))
        for layer, weight in zip(layers, ready, strict=True):
            layer.ready = weight
        try:
            yield
        finally:
            for layer in layers:
                layer.ready = None


def dense(spectral: bool) -> Callable[..., nn.Linear]:
    """The class of dense layers."""
    return SpectralLinear if spectral else nn.Linear


def convolution(spectral: bool) -> Callable[..., nn.Conv2d]:
    """The class of convolutions without padding."""
    return SpectralConv if spectral else nn.Conv2d


@torch.no_grad()
def power_iteration(network: nn.Module) -> None:
    """One step of the power iteration in all layers of a network."""
    for layers, weights, u in _stacks(_layers(network)):
        for layer, moved in zip(layers, F.normalize(_images(weights, u), dim=1), strict=True):
            layer.u.copy_(moved)


def _layers(network: nn.Module) -> list[SpectralLayer]:
    return [module for module in network.modules() if isinstance(module, SpectralLinear | SpectralConv)]


def _stacks(layers: Sequence[SpectralLayer]) -> Iterator[tuple[list[SpectralLayer], Tensor, Tensor]]:
    """Layers of one shape, their weights (k, O, I) and their u (k, O)."""
    shapes: dict[torch.Size, list[SpectralLayer]] = {}
    for layer in layers:
        shapes.setdefault(layer.weight.shape, []).append(layer)
    for alike in shapes.values():
        weights, u = ([getattr(layer, name) for layer in alike] for name in ("weight", "u"))
        yield alike, torch.stack(weights).flatten(2), torch.stack(u)


def _images(weights: Tensor, u: Tensor) -> Tensor:
    """W·v (k, O) for v along Wᵀ·u, of length 1; sums of products, which autocast leaves in full precision."""
    v = F.normalize((weights.detach() * u[:, :, None]).sum(dim=1), dim=1)
    return (weights * v[:, None]).sum(dim=2)


def _normalised(layers: Sequence[SpectralLayer]) -> list[Tensor]:
    """Weights over the length of W·v, which is uᵀ·W·v for the u of the next step of the iteration."""
    found: dict[SpectralLayer, Tensor] = {}
    for alike, weights, u in _stacks(layers):
        lengths = torch.linalg.vector_norm(_images(weights, u), dim=1)
        normal = (weights / lengths[:, None, None]).view(len(alike), *alike[0].weight.shape)
        found.update(zip(alike, normal, strict=True))
    return [found[layer] for layer in layers]


def _ready(layer: SpectralLayer) -> Tensor:
    return _normalised([layer])[0] if layer.ready is None else layer.ready
