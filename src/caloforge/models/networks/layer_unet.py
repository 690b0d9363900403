"""Small U-Nets over the cells of a layer, cyclic along φ, for one layer or for many side by side.

Legend: ``n`` examples, ``G`` groups, each with weights of its own (one for each layer, or a single one that
all share), ``g`` of them in use, ``P`` rows (φ or y), ``R`` columns (r or x), ``C`` channels of a group.
Maps are (n, g·C, P, R). The slice ``group`` says which groups are in use: all in training, one in sampling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["GroupedConvolution", "LayerUNet"]

SLOPE = 0.01
"""Of leaky ReLUs."""


class GroupedConvolution(nn.Module):
    """Convolutions with G groups of weights, of odd kernels (3, or 1 along an axis that has a single cell).

    Args:
        groups: G.
        inputs, outputs: channels of a group.
        size: (P, R) of the maps that come in.
        periodic: whether rows are bins in φ.
        stride: 2 halves both axes, rounding up.
        kernel: along axes with more than one cell.
    """

    sources: Tensor

    def __init__(
        self,
        groups: int,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        *,
        periodic: bool,
        stride: int = 1,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.periodic, self.stride = periodic, stride
        self.kernel = tuple(kernel if length > 1 else 1 for length in size)
        fan = inputs * math.prod(self.kernel)
        self.weight = nn.Parameter(torch.empty(groups, outputs, inputs, *self.kernel))
        self.bias = nn.Parameter(torch.zeros(groups, outputs))
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan))
        self.derived: TensorCache[tuple[Tensor, Tensor]] = TensorCache()
        taps = torch.arange(self.kernel[0]) - self.kernel[0] // 2
        sources = (torch.arange(0, size[0], stride)[:, None] + taps) % size[0]
        self.register_buffer("sources", sources.flatten(), persistent=False)  # rows of each window, cyclic

    def forward(self, x: Tensor, group: slice) -> Tensor:
        """Maps (n, g·inputs, P, R) → (n, g·outputs, P', R'), in the precision of x."""
        groups = self.weight[group].shape[0]
        by_rows = groups == 1 and self.kernel[1] == 1
        key = (group.start, group.stop, x.dtype)
        weight, bias = self.derived(
            key, (self.weight, self.bias), lambda: self._weights(group, x.dtype, by_rows)
        )
        if by_rows:
            # one column: windows of rows times a matrix are faster than a convolution
            windows = self._windows(x.permute(0, 2, 3, 1))
            y = torch.addmm(bias, windows.reshape(-1, len(weight)), weight)
            return y.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)
        rows, columns = (k // 2 for k in self.kernel)
        if self.periodic and rows:
            x = torch.cat([x[:, :, -rows:], x, x[:, :, :rows]], dim=2)
            rows = 0
        return F.conv2d(x, weight, bias, self.stride, (rows, columns), 1, groups)

    def _weights(self, group: slice, dtype: torch.dtype, by_rows: bool) -> tuple[Tensor, Tensor]:
        """Weights and biases of groups; ``by_rows`` a single one's as a matrix (taps·inputs, outputs)."""
        weight, bias = self.weight[group].to(dtype), self.bias[group].to(dtype).flatten()
        if by_rows:
            return weight[0, :, :, :, 0].permute(2, 1, 0).flatten(0, 1), bias
        return weight.flatten(0, 1), bias

    def _windows(self, x: Tensor) -> Tensor:
        """Each (or each second) row of x (n, P, R, C) between its neighbours: (n, P', R, taps·C)."""
        if self.kernel[0] == 1:
            return x
        if self.periodic and not torch.is_grad_enabled():
            return x.index_select(1, self.sources).view(x.shape[0], -1, 1, self.kernel[0] * x.shape[3])
        above, below = x.roll(1, 1), x.roll(-1, 1)  # whose gradients are cheaper than those of slices
        if not self.periodic:
            above, below = F.pad(above[:, 1:], (0, 0, 0, 0, 1, 0)), F.pad(below[:, :-1], (0, 0, 0, 0, 0, 1))
        windows = torch.cat([above, x, below], dim=-1)
        if self.stride == 1:
            return windows
        return windows[:, :: self.stride]


class _Doubling(nn.Module):
    """Transposed convolution of kernel and stride 2, as a 1×1 convolution whose channels become cells."""

    def __init__(self, groups: int, inputs: int, outputs: int, finer: tuple[int, int]) -> None:
        super().__init__()
        self.finer, self.outputs = finer, outputs
        self.factors = (min(finer[0], 2), min(finer[1], 2))
        cells = self.factors[0] * self.factors[1]
        self.mix = GroupedConvolution(groups, inputs, cells * outputs, finer, periodic=False, kernel=1)

    def forward(self, x: Tensor, group: slice) -> Tensor:
        """(n, g·inputs, P/2, R/2), rounded up, → (n, g·outputs, P, R)."""
        (n, _, rows, columns), (a, b) = x.shape, self.factors
        y: Tensor = self.mix(x, group).permute(0, 2, 3, 1).reshape(n, rows, columns, -1, a, b, self.outputs)
        y = y.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, rows * a, columns * b, -1)
        return y[:, : self.finer[0], : self.finer[1]].permute(0, 3, 1, 2)


class _Convolutions(nn.Module):
    """``depth`` times conv3, norm, leaky ReLU."""

    def __init__(
        self,
        groups: int,
        inputs: int,
        width: int,
        size: tuple[int, int],
        depth: int,
        periodic: bool,
        norm: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GroupedConvolution(groups, width if i else inputs, width, size, periodic=periodic)
            for i in range(depth)
        )
        # scale and shift of each channel after a norm, whose statistics are those of one example
        self.scale = nn.Parameter(torch.ones(depth, groups, width)) if norm else None
        self.shift = nn.Parameter(torch.zeros(depth, groups, width)) if norm else None

    def forward(self, x: Tensor, group: slice) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x, group)
            if self.scale is not None and self.shift is not None:
                scale, shift = self.scale[i, group].to(x.dtype), self.shift[i, group].to(x.dtype)
                x = F.group_norm(x, len(scale), scale.flatten(), shift.flatten())
            x = F.leaky_relu(x, SLOPE)
        return x


class LayerUNet(nn.Module):
    """Maps (n, g·inputs, P, R) → features (n, g·width, P, R) that know of their neighbourhood.

    On each level ``depth`` times conv3, norm and leaky ReLU; strided convolutions lead down to levels of half
    the size and twice the width, transposed ones up again, where what the level held is added.

    Args:
        groups, inputs, size, periodic: as in `GroupedConvolution`.
        width: channels of the finest level; level i has width·2^i.
        levels: levels below the finest.
        depth: convolutions on each level, on the way down and on the way up.
        norm: normalise over channels and positions of an example (group norm, arXiv:1803.08494).
    """

    def __init__(
        self,
        groups: int,
        inputs: int,
        size: tuple[int, int],
        *,
        width: int,
        levels: int,
        depth: int,
        periodic: bool,
        norm: bool,
    ) -> None:
        super().__init__()
        self.down, self.coarser, self.finer, self.up = (nn.ModuleList() for _ in range(4))
        for level in range(levels + 1):
            here = width * 2**level
            first = inputs if level == 0 else here
            self.down.append(_Convolutions(groups, first, here, size, depth, periodic, norm))
            if level < levels:
                self.coarser.append(
                    GroupedConvolution(groups, here, 2 * here, size, periodic=periodic, stride=2)
                )
                self.finer.append(_Doubling(groups, 2 * here, here, size))
                self.up.append(_Convolutions(groups, here, here, size, depth, periodic, norm))
                size = ((size[0] + 1) // 2, (size[1] + 1) // 2)

    def forward(self, x: Tensor, group: slice) -> Tensor:
        held = []
        for level, block in enumerate(self.down):
            x = block(x, group)  # (n, g·width·2^level, P/2^level, R/2^level)
            if level < len(self.coarser):
                held.append(x)
                x = F.leaky_relu(self.coarser[level](x, group), SLOPE)
        for level in reversed(range(len(held))):
            x = self.up[level](self.finer[level](x, group) + held[level], group)
        return x
