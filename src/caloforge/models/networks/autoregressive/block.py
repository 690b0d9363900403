"""One block of an autoregressive flow: a masked network (MADE) that gives the parameters of splines.

MADE: Germain, Gregor, Murray, Larochelle, arXiv:1502.03509.

Legend: ``n`` examples, ``D`` dimensions, ``C`` context numbers, ``H`` hidden units of a layer, ``K`` spline
bins, ``Q = 3K − 1`` parameters of a spline. Examples come last: (D, n), (H, n), (Q, D, n), which is the order
that splines are fastest in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.lit import drawn
from caloforge.models.networks.fused import Fusable, fusable
from caloforge.models.networks.splines.splines import (
    n_spline_parameters,
    rational_quadratic,
    rational_quadratic_image,
)

__all__ = ["MaskedSplines"]


class MaskedSplines(Fusable):
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
        self.compiled = True  # as that of the flow
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

    def parameters_for(self, known: Tensor, context: Tensor | None, bf16: bool = False) -> Tensor:
        """Raw parameters (Q, D, n) of the splines, given (D, n) what the network reads and context (n, C).

        With ``bf16`` the network is computed in bfloat16; the parameters are in the precision of
        ``known`` in any case.
        """
        dtype = torch.bfloat16 if bf16 else known.dtype
        h = (self.enter.weight * self.mask_in).to(dtype) @ known.to(dtype)  # (H, n)
        if self.context is not None:
            assert context is not None
            h = h + self.context.weight.to(dtype) @ context.T.to(dtype)
        h = self._dropped(F.relu(h + self.enter.bias[:, None].to(dtype)))
        for layer in self.hidden_layers():
            h = (layer.weight * self.mask_hidden).to(dtype) @ h
            h = self._dropped(F.relu(h + layer.bias[:, None].to(dtype)))
        raw: Tensor = self.out_weight().to(dtype) @ h + self.bias[:, None]  # in the precision of the latter
        return raw.reshape(self.n_parameters, self.dims, -1)

    def _dropped(self, h: Tensor) -> Tensor:
        """Hidden units (H, n) of which dropout leaves some; it is drawn with the examples first."""
        share = self.dropout.p
        if not (self.training and share):
            return h
        return h * drawn(lambda n: F.dropout(h.new_ones(n, len(h)), share), h.shape[1]).T

    def splines(
        self, values: Tensor, raw: Tensor, *, inverse: bool = False, slopes: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Values (*) mapped by the splines with parameters (Q, *), data → noise; log-slopes (*) if wanted."""
        if not slopes:
            return self._images(values, raw, inverse), None
        return rational_quadratic(
            values,
            raw,
            bound=self.bound,
            inverse=inverse,
            largest_logit=self.largest_logit,
            compiled=self.compiled,
        )

    @fusable
    def _images(self, values: Tensor, raw: Tensor, inverse: bool) -> Tensor:
        return rational_quadratic_image(
            values,
            raw,
            bound=self.bound,
            inverse=inverse,
            largest_logit=self.largest_logit,
            compiled=self.compiled,
        )
