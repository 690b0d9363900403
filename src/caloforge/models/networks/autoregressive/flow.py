"""Autoregressive spline flows: blocks of masked splines one after the other, in changing orders.

Masked autoregressive flows (Papamakarios, Pavlakou, Murray, arXiv:1705.07057) made of MADE blocks (Germain
et al., arXiv:1502.03509) with rational-quadratic splines (arXiv:1906.04032). In direction "density" the
network of a block reads data, so that a density is one pass and a sample goes dimension by dimension (MAF);
in direction "sampling" it reads noise, and the other way round (IAF, Kingma et al., arXiv:1606.04934).

Legend: ``n`` examples, ``D`` dimensions, ``C`` context numbers. Inside, examples come last, see
`MaskedSplines`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.models.networks.autoregressive.block import MaskedSplines
from caloforge.models.networks.autoregressive.kernel import FlowKernel, flow_library
from caloforge.models.networks.autoregressive.sequential import sequential
from caloforge.models.networks.kernels import HasKernel
from caloforge.settings import Settings

__all__ = ["AutoregressiveFlow", "AutoregressiveFlowSettings", "Direction"]

Direction = Literal["density", "sampling"]


class AutoregressiveFlowSettings(Settings):
    """Sizes of an `AutoregressiveFlow`.

    Attributes:
        blocks, hidden, depth: MADE blocks, hidden units and hidden layers of each.
        bins, bound: of the splines, and half their range.
        dropout: fraction of hidden units that are dropped in training.
    """

    blocks: int = Field(8, ge=1)
    hidden: int = Field(256, ge=1)
    depth: int = Field(2, ge=1)
    bins: int = Field(8, ge=2)
    bound: float = Field(6.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)

    def flow(self, dims: int, context: int, direction: Direction = "density") -> AutoregressiveFlow:
        """A flow of D = ``dims`` dimensions given C = ``context`` numbers."""
        sizes = {name: getattr(self, name) for name in AutoregressiveFlowSettings.model_fields}
        return AutoregressiveFlow(dims, context, direction=direction, **sizes)


class AutoregressiveFlow(HasKernel):
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

    kernel = "autoregressive"
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

    def use_kernel(self, yes: bool) -> None:
        super().use_kernel(yes)
        for block in self.masked_splines():
            block.compiled = yes

    def load_kernel(self, bf16: bool) -> bool:
        return flow_library(torch.float32, bf16) is not None

    def to_noise(self, x: Tensor, context: Tensor | None = None, bf16: bool = False) -> tuple[Tensor, Tensor]:
        """Data x (n, D) → noise z (n, D) and log|det ∂z/∂x| (n,)."""
        return self._run(x, context, bf16, inverse=False)

    def to_data(self, z: Tensor, context: Tensor | None = None, bf16: bool = False) -> tuple[Tensor, Tensor]:
        """Noise z (n, D) → data x (n, D) and log|det ∂x/∂z| (n,)."""
        return self._run(z, context, bf16, inverse=True)

    def log_prob(self, x: Tensor, context: Tensor | None = None, bf16: bool = False) -> Tensor:
        """log p(x | context), (n,)."""
        z, log_det = self.to_noise(x, context, bf16)
        return log_det - 0.5 * z.square().sum(dim=1) - 0.5 * math.log(2 * math.pi) * self.dims

    def sample(self, noise: Tensor, context: Tensor | None = None, bf16: bool = False) -> Tensor:
        """The x (n, D) that standard normal noise (n, D) stands for."""
        return self._run(noise, context, bf16, inverse=True, slopes=False)[0]

    def _run(
        self, x: Tensor, context: Tensor | None, bf16: bool, inverse: bool, slopes: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Images (n, D) and the log-determinant (n,), which without ``slopes`` means nothing."""
        one_pass = inverse == (self.direction == "sampling")
        masked = self.masked_splines()
        if self.compiled:
            computed = self._kernel.run(masked, self.orders, x, context, bf16, inverse, not one_pass)
            if computed is not None:
                return computed
        values, total = x.T, x.new_zeros(x.shape[0])
        blocks = list(zip(masked, self.orders, self.inverse_orders, strict=True))
        for block, order, back in reversed(blocks) if inverse else blocks:
            ordered = values[order]
            if one_pass:
                raw = block.parameters_for(ordered, context, bf16)
                ordered, slope = block.splines(ordered, raw, inverse=inverse, slopes=slopes)
            else:
                ordered, slope = sequential(block, ordered, context, bf16, inverse, slopes)
            values, total = ordered[back], total if slope is None else total + slope.sum(dim=0)
        return values.T, total
