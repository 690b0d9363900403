"""Autoregressive spline flows: masked networks (MADE) that give the parameters of splines.

Masked autoregressive flows (Papamakarios, Pavlakou, Murray, arXiv:1705.07057) made of MADE blocks (Germain
et al., arXiv:1502.03509) with rational-quadratic splines (arXiv:1906.04032). In direction "density" the
network of a block reads data, so that a density is one pass and a sample goes dimension by dimension (MAF);
in direction "sampling" it reads noise, and the other way round (IAF, Kingma et al., arXiv:1606.04934).

Legend: ``n`` examples, ``D`` dimensions, ``C`` context numbers, ``H`` hidden units of a layer, ``K`` spline
bins, ``Q = 3K − 1`` parameters of a spline. Inside, examples come last: (D, n), (H, n), (Q, D, n), which is
the order that splines are fastest in.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.flow.autoregressive.kernel import FlowKernel
from caloforge.models.flow.autoregressive.sequential import sequential
from caloforge.models.flow.splines.splines import n_spline_parameters, rational_quadratic

__all__ = ["AutoregressiveFlow", "MaskedSplines"]

Direction = Literal["density", "sampling"]


class MaskedSplines(nn.Module):
    """D splines, one for each dimension, whose parameters depend on the dimensions before it and on context.

    Each hidden unit has a degree: it sees the dimensions below it, and splines of that dimension and later
    ones see it. Units stand in the order of their degrees, so that all masks are block triangular: what a
    dimension changes lies behind what does not depend on it. The first ``context_units`` have degree 0; they
    see the context alone and are seen by all.

    Args:
        dims, context: D and C.
        hidden, depth: hidden units (beside ``context_units``) and hidden layers.
        bins, bound: K and half the range of the splines.
        context_units: hidden units of every layer that see the context alone.
        dropout: fraction of hidden units that are dropped in training.
        largest_logit: see `rational_quadratic`.
    """

    mask_in: Tensor
    mask_hidden: Tensor
    mask_out: Tensor
    degrees: Tensor

    def __init__(
        self,
        dims: int,
        context: int,
        *,
        hidden: int,
        depth: int = 1,
        bins: int = 8,
        bound: float = 6.0,
        context_units: int = 32,
        dropout: float = 0.0,
        largest_logit: float = 4.0,
    ) -> None:
        super().__init__()
        self.dims, self.bins, self.bound, self.largest_logit = dims, bins, bound, largest_logit
        self.n_parameters = n_spline_parameters(bins)
        spread = torch.arange(hidden) * max(dims - 1, 1) // hidden + 1
        degrees = torch.cat([torch.zeros(context_units, dtype=torch.int64), spread.clamp(max=dims - 1)])
        position = torch.arange(dims)
        # units of degree d and below, for each dimension d
        self.ends: list[int] = (degrees <= position[:, None]).sum(dim=1).tolist()
        self.register_buffer("degrees", degrees, persistent=False)  # (H,)
        self.register_buffer("mask_in", (position < degrees[:, None]).float(), persistent=False)  # (H, D)
        self.register_buffer("mask_hidden", (degrees <= degrees[:, None]).float(), persistent=False)  # (H, H)
        self.register_buffer("mask_out", (degrees <= position[:, None]).float(), persistent=False)  # (D, H)
        units = len(degrees)
        self.enter = nn.Linear(dims, units)
        self.context: nn.Linear | None
        self.context = nn.Linear(context, units, bias=False) if context else None
        self.hidden = nn.ModuleList(nn.Linear(units, units) for _ in range(depth - 1))
        # parameters first: rows q·D + d
        self.weight = nn.Parameter(torch.zeros(self.n_parameters * dims, units))
        self.bias = nn.Parameter(torch.zeros(self.n_parameters * dims))
        self.dropout = nn.Dropout(dropout)

    def hidden_layers(self) -> list[nn.Linear]:
        """The layers from hidden units to hidden units."""
        return [layer for layer in self.hidden if isinstance(layer, nn.Linear)]

    def out_weight(self) -> Tensor:
        """Masked weights of the last layer, (Q·D, H)."""
        masked = self.weight.view(self.n_parameters, self.dims, -1) * self.mask_out
        return masked.view(self.n_parameters * self.dims, -1)

    def parameters_for(self, known: Tensor, context: Tensor | None, low_precision: bool = False) -> Tensor:
        """Raw parameters (Q, D, n) of the splines, given (D, n) what the network reads and context (n, C).

        With ``low_precision`` the network is computed in bfloat16; the parameters are in the precision of
        ``known`` in any case.
        """
        dtype = torch.bfloat16 if low_precision else known.dtype
        h = (self.enter.weight * self.mask_in).to(dtype) @ known.to(dtype)  # (H, n)
        if self.context is not None:
            assert context is not None
            h = h + self.context.weight.to(dtype) @ context.T.to(dtype)
        h = self.dropout(F.relu(h + self.enter.bias[:, None].to(dtype)))
        for layer in self.hidden_layers():
            h = (layer.weight * self.mask_hidden).to(dtype) @ h
            h = self.dropout(F.relu(h + layer.bias[:, None].to(dtype)))
        raw: Tensor = (self.out_weight().to(dtype) @ h).to(known.dtype) + self.bias[:, None]
        return raw.reshape(self.n_parameters, self.dims, -1)

    def splines(self, values: Tensor, raw: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Values (*) mapped by the splines with parameters (Q, *), and log-slopes (*); data → noise."""
        return rational_quadratic(
            values, raw, bound=self.bound, inverse=inverse, largest_logit=self.largest_logit
        )


class AutoregressiveFlow(nn.Module):
    """Density and sampler of x (n, D) given context (n, C).

    Blocks act in natural order, reversed, and then in random orders and their reverses, from a seed of the
    flow's own, so that two flows with the same settings have the same orders.

    Args:
        dims, context: D and C; C may be 0.
        blocks: how many `MaskedSplines` follow each other.
        direction: "density" or "sampling", which of the two is a single pass.
        seed: of the random orders.
        settings: hidden, depth, bins, bound, context_units, dropout, largest_logit of `MaskedSplines`.
    """

    orders: Tensor
    inverse_orders: Tensor

    def __init__(
        self,
        dims: int,
        context: int,
        *,
        blocks: int,
        direction: Direction = "density",
        seed: int = 0,
        **settings: float,
    ) -> None:
        super().__init__()
        self.dims, self.n_context, self.direction = dims, context, direction
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.arange(dims)]
        for i in range(1, blocks):
            orders.append(orders[-1].flip(0) if i % 2 else torch.randperm(dims, generator=generator))
        stacked = torch.stack(orders)
        self.register_buffer("orders", stacked)  # (blocks, D): original dimension at each place
        self.register_buffer("inverse_orders", stacked.argsort(dim=1), persistent=False)
        self.blocks = nn.ModuleList(MaskedSplines(dims, context, **settings) for _ in range(blocks))  # type: ignore[arg-type]
        self._kernel = FlowKernel()

    def masked_splines(self) -> list[MaskedSplines]:
        """The blocks, in the order in which they lead from data to noise."""
        return [block for block in self.blocks if isinstance(block, MaskedSplines)]

    def to_noise(
        self, x: Tensor, context: Tensor | None = None, low_precision: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Data x (n, D) → noise z (n, D) and log|det ∂z/∂x| (n,)."""
        return self._run(x, context, low_precision, inverse=False)

    def to_data(
        self, z: Tensor, context: Tensor | None = None, low_precision: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Noise z (n, D) → data x (n, D) and log|det ∂x/∂z| (n,)."""
        return self._run(z, context, low_precision, inverse=True)

    def log_prob(self, x: Tensor, context: Tensor | None = None, low_precision: bool = False) -> Tensor:
        """log p(x | context), (n,)."""
        z, log_det = self.to_noise(x, context, low_precision)
        return log_det - 0.5 * z.square().sum(dim=1) - 0.5 * math.log(2 * math.pi) * self.dims

    def sample(self, noise: Tensor, context: Tensor | None = None, low_precision: bool = False) -> Tensor:
        """The x (n, D) that standard normal noise (n, D) stands for."""
        return self.to_data(noise, context, low_precision)[0]

    def _run(
        self, x: Tensor, context: Tensor | None, low_precision: bool, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        done = self._kernel.run(self, x, context, low_precision, inverse)
        if done is not None:
            return done
        values, total = x.T, x.new_zeros(len(x))
        one_pass = inverse == (self.direction == "sampling")
        blocks = list(zip(self.masked_splines(), self.orders, self.inverse_orders, strict=True))
        for block, order, back in reversed(blocks) if inverse else blocks:
            ordered = values[order]
            if one_pass:
                raw = block.parameters_for(ordered, context, low_precision)
                ordered, slope = block.splines(ordered, raw, inverse=inverse)
            else:
                ordered, slope = sequential(block, ordered, context, low_precision, inverse)
            values, total = ordered[back], total + slope.sum(dim=0)
        return values.T, total
