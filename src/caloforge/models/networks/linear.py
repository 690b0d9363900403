"""A dense layer that autocast finds in its precision already, where each rounding is a launch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["CastLinear"]


class CastLinear(nn.Linear):
    """A dense layer whose weights a GPU rounds once for autocast, not in each call: the same numbers."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.derived: TensorCache[tuple[Tensor, Tensor | None]] = TensorCache()

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weights(x.device.type)
        return F.linear(x, weight, bias)

    def weights(self, device: str) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, in the precision of autocast where `keeps` says so and it is on."""
        weight, bias = self.weight, self.bias
        if not keeps(device) or not torch.is_autocast_enabled(device):
            return weight, bias
        dtype = torch.get_autocast_dtype(device)
        parameters = (weight,) if bias is None else (weight, bias)
        return self.derived(
            dtype, parameters, lambda: (weight.to(dtype), None if bias is None else bias.to(dtype))
        )


def keeps(device: str) -> bool:
    """Whether rounded weights are kept on a kind of device.

    Not on a CPU, where it is memory that counts; a meta device has no autocast, and torch before 2.4 cannot
    be asked whether it is on.
    """
    return device not in ("cpu", "meta") and hasattr(torch, "get_autocast_dtype")
