"""A dense layer that autocast finds in its precision already."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["CastLinear"]


class CastLinear(nn.Linear):
    """A dense layer whose weights are rounded once for autocast, not in each call: the same numbers."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.derived: TensorCache[tuple[Tensor, Tensor | None]] = TensorCache()

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weights(x.device.type)
        return F.linear(x, weight, bias)

    def weights(self, device: str) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in the precision of autocast on a kind of device, where it is on."""
        if not _autocast(device):
            return self.weight, self.bias
        dtype = torch.get_autocast_dtype(device)
        parameters = [p for p in (self.weight, self.bias) if p is not None]
        return self.derived(dtype, parameters, lambda: self._rounded(dtype))

    def _rounded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        return self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)


def _autocast(device: str) -> bool:
    """Whether autocast is on; before torch 2.4 it cannot be asked, and rounds the weights itself."""
    known = hasattr(torch, "get_autocast_dtype") and device != "meta"  # which has none
    return known and torch.is_autocast_enabled(device)
