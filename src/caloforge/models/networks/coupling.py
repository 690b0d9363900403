"""Spline couplings for one layer of a regular mesh, in context of maps and vectors.

Legend: ``n`` examples, ``P`` rows (φ or y), ``R`` columns (r or x), ``M`` columns of context maps,
``C`` context numbers, ``H`` hidden channels, ``K`` spline bins.

Columns are channels and rows are positions that learn from their neighbours, periodically where the rows
are bins in φ: what holds at one angle holds at all, while every radius has weights of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.fused import fusable
from caloforge.models.networks.linear import CastLinear
from caloforge.models.networks.splines.kernel import HasSplineKernel
from caloforge.models.networks.splines.splines import (
    n_spline_parameters,
    rational_quadratic,
    rational_quadratic_image,
)

__all__ = ["CouplingFlow", "RowNetwork", "SplineCoupling"]

KERNEL = 3


def _windows(x: Tensor, periodic: bool) -> Tensor:
    """Each row with its two neighbours: (n, P, C) → (n, P, 3C)."""
    if periodic:
        return torch.cat([x.roll(1, 1), x, x.roll(-1, 1)], dim=-1)
    padded = F.pad(x, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2], x, padded[:, 2:]], dim=-1)


def _shifted(x: Tensor, periodic: bool) -> Tensor:
    """A quarter of the channels from the row before, a quarter from the row after: (n, P, C) → (n, P, C).

    Followed by a dense layer this does the work of a convolution at a third of its cost.
    """
    quarter = x.shape[-1] // 4
    back, stay, ahead = (
        x[..., :quarter],
        x[..., quarter : x.shape[-1] - quarter],
        x[..., x.shape[-1] - quarter :],
    )
    if periodic:
        return torch.cat([back.roll(1, 1), stay, ahead.roll(-1, 1)], dim=-1)
    return torch.cat([F.pad(back, (0, 0, 1, 0))[:, :-1], stay, F.pad(ahead, (0, 0, 0, 1))[:, 1:]], dim=-1)


class RowNetwork(nn.Module):
    """Residual layers over rows: windows (n, P, 3M) and context (n, C) → features (n, P, H).

    Rows learn of their neighbours by shifted channels, and of all others by the mean over rows.
    """

    def __init__(self, maps: int, context: int, hidden: int, depth: int, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic
        self.enter = CastLinear(KERNEL * maps, hidden)
        self.context = CastLinear(context, hidden)
        self.blocks = nn.ModuleList(CastLinear(hidden, hidden) for _ in range(depth))
        self.pooled = nn.ModuleList(CastLinear(hidden, hidden, bias=False) for _ in range(depth))

    def forward(self, windows: Tensor, context: Tensor) -> Tensor:
        h = self.enter(windows) + self.context(context)[:, None]  # (n, P, H)
        for block, pooled in zip(self.blocks, self.pooled, strict=True):
            a = F.silu(h)
            h = h + block(_shifted(a, self.periodic)) + pooled(a.mean(dim=1))[:, None]
        return F.silu(h)


class SplineCoupling(HasSplineKernel):
    """Moves every second row, or every second column, by splines that depend on the others.

    Args:
        rows, columns: P and R.
        maps: M, columns of the context maps.
        context: C.
        hidden, depth: channels and residual layers of the network.
        bins, bound: K and half the range of the splines.
        periodic: whether rows are bins in φ.
        axis: 0 moves rows, 1 columns.
        parity: 0 moves the even ones, 1 the odd ones.
    """

    fixed: Tensor

    def __init__(
        self,
        rows: int,
        columns: int,
        maps: int,
        context: int,
        *,
        hidden: int,
        depth: int,
        bins: int,
        bound: float,
        periodic: bool,
        axis: int,
        parity: int,
    ) -> None:
        super().__init__()
        self.bound = bound
        every = slice(parity, None, 2)
        self.rows = every if axis == 0 else slice(None)
        self.columns = every if axis == 1 else slice(None)
        self.moved = len(range(columns)[self.columns])
        fixed = torch.ones(rows, columns)
        fixed[self.rows, self.columns] = 0
        self.register_buffer("fixed", fixed, persistent=False)
        self.network = RowNetwork(columns + maps, context, hidden, depth, periodic)
        self.head = CastLinear(hidden, n_spline_parameters(bins) * self.moved)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, y: Tensor, windows: Tensor, context: Tensor, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """y (n, P, R) → its image and log|det| (n,), or with ``inverse`` back again.

        Windows of the maps (n, P, 3M) and context (n, C) come in the precision of the network, bfloat16 or
        that of y; the splines are always computed in that of y.
        """
        flat, parameters = self._splines(y, windows, context)
        image, slope = rational_quadratic(
            flat, parameters, bound=self.bound, inverse=inverse, compiled=self.compiled
        )
        return self._put(y, image), slope.view(self.moved, y.shape[0], -1).sum(dim=(0, 2))

    @fusable
    def sample(self, y: Tensor, windows: Tensor, context: Tensor) -> Tensor:
        """The image of the inverse alone."""
        flat, parameters = self._splines(y, windows, context)
        return self._put(
            y,
            rational_quadratic_image(
                flat, parameters, bound=self.bound, inverse=True, compiled=self.compiled
            ),
        )

    def _splines(self, y: Tensor, windows: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """What is moved (R', n·P') and the parameters (Q, R', n·P') of its splines."""
        with torch.autocast(y.device.type, torch.bfloat16, enabled=windows.dtype == torch.bfloat16):
            known = _windows((y * self.fixed).to(windows.dtype), self.network.periodic)
            h = self.network(torch.cat([known, windows], dim=-1), context)
            h = h[:, self.rows].flatten(0, 1)  # (n·P', H)
            raw = self.head.weights(y.device.type)[0] @ h.T  # parameters first, as the splines want them
        parameters = raw + self.head.bias[:, None]  # in the precision of the latter
        moving = y[:, self.rows, self.columns]  # (n, P', R')
        flat = moving.permute(2, 0, 1).reshape(self.moved, -1)
        return flat, parameters.view(-1, *flat.shape)

    def _put(self, y: Tensor, image: Tensor) -> Tensor:
        """y with the image (R', n·P') in place of what is moved."""
        out = y.clone()
        out[:, self.rows, self.columns] = image.view(self.moved, y.shape[0], -1).permute(1, 2, 0)
        return out


class CouplingFlow(nn.Module):
    """Density of a layer's values y (n, P, R) given maps (n, P, M) and context (n, C).

    ``blocks`` couplings that move even rows, odd rows, even columns and odd columns in turn (directions in
    which the mesh has a single cell are left out).
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        maps: int,
        context: int,
        *,
        blocks: int,
        hidden: int,
        depth: int,
        bins: int,
        bound: float,
        periodic: bool,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        axes = [axis for axis, size in ((0, rows), (1, columns)) if size > 1]
        turns = [(axis, parity) for axis in axes for parity in (0, 1)]
        self.blocks = nn.ModuleList(
            SplineCoupling(
                rows,
                columns,
                maps,
                context,
                hidden=hidden,
                depth=depth,
                bins=bins,
                bound=bound,
                periodic=periodic,
                axis=turns[i % len(turns)][0],
                parity=turns[i % len(turns)][1],
            )
            for i in range(blocks)
        )

    def given(self, maps: Tensor, context: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
        """What all couplings are given: windows of maps (n, P, 3M) and context (n, C), maybe in bfloat16."""
        dtype = torch.bfloat16 if bf16 else maps.dtype
        return _windows(maps.to(dtype), self.periodic), context.to(dtype)

    def log_prob(self, y: Tensor, maps: Tensor, context: Tensor, bf16: bool = False) -> Tensor:
        """log p(y | maps, context), (n,)."""
        windows, context = self.given(maps, context, bf16)
        total = y.new_zeros(y.shape[0])
        for block in self.blocks:
            y, slope = block(y, windows, context)
            total = total + slope
        return total - 0.5 * y.square().sum(dim=(1, 2)) - 0.5 * math.log(2 * math.pi) * y[0].numel()

    def sample(self, noise: Tensor, maps: Tensor, context: Tensor, bf16: bool = False) -> Tensor:
        """The y (n, P, R) that standard normal noise (n, P, R) stands for."""
        windows, context = self.given(maps, context, bf16)
        for block in reversed(self.blocks):
            assert isinstance(block, SplineCoupling)
            noise = block.sample(noise, windows, context)
        return noise
