"""Convolutional spline flows over the cells of a layer: squeeze, ActNorm, U-Net couplings, 1×1 convolutions.

The steps are those of Glow (Kingma, Dhariwal, arXiv:1807.03039) with spline couplings (arXiv:1906.04032), as
in the convolutional L2LFlows (Buss, Gaede, Kasieczka, Krause, Shih, arXiv:2405.20407).

Legend: ``n`` examples, ``G`` groups of weights (see `unet`), ``g`` of them in use, rows × columns of a layer,
(a, b) cells along them that are squeezed into C = a·b channels of P × R positions, ``N = n·P·R``,
``K`` context channels, ``Q`` parameters of a spline. The flow's values are kept as (g, C, N): channels
are then the rows of a matrix product, and splines want their parameters first.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.fused import fusable
from caloforge.models.networks.layer_unet import SLOPE, GroupedConvolution, LayerUNet
from caloforge.models.networks.splines.kernel import HasSplineKernel
from caloforge.models.networks.splines.splines import (
    n_spline_parameters,
    rational_quadratic,
    rational_quadratic_image,
)
from caloforge.models.networks.tensor_cache import TensorCache

__all__ = ["ActNorm", "ConvolutionFlow", "LUConvolution", "UNetCoupling", "squeeze", "unsqueeze"]

ALL = slice(None)


def squeeze(x: Tensor, factors: tuple[int, int]) -> Tensor:
    """Cells (*, P·a, R·b) → channels (*, a·b, P, R); channel i·b + j is row i, column j of each patch."""
    (a, b), (rows, columns) = factors, x.shape[-2:]
    split = x.reshape(*x.shape[:-2], rows // a, a, columns // b, b)
    d = split.dim()
    return split.permute(*range(d - 4), d - 3, d - 1, d - 4, d - 2).reshape(
        *x.shape[:-2], a * b, rows // a, columns // b
    )


def unsqueeze(x: Tensor, factors: tuple[int, int]) -> Tensor:
    """Undo `squeeze`: (*, a·b, P, R) → (*, P·a, R·b)."""
    (a, b), (rows, columns) = factors, x.shape[-2:]
    split = x.reshape(*x.shape[:-3], a, b, rows, columns)
    d = split.dim()
    return split.permute(*range(d - 4), d - 2, d - 4, d - 1, d - 3).reshape(
        *x.shape[:-3], rows * a, columns * b
    )


class ActNorm(nn.Module):
    """y = (x + shift)·exp(log_scale) for each channel, trained, with first values from data."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(groups, channels))
        self.log_scale = nn.Parameter(torch.zeros(groups, channels))

    @torch.no_grad()
    def start(self, mean: Tensor, std: Tensor) -> None:
        """Standardise channels that have this mean and standard deviation, (G, C) or (C,)."""
        self.shift.copy_((-mean).expand_as(self.shift))
        self.log_scale.copy_((-std.log()).expand_as(self.log_scale))

    def forward(self, x: Tensor, group: slice = ALL, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """x (g, C, N) → image and log|det| of each position, (g,); with ``inverse`` back again."""
        shift, log_scale = self.shift[group, :, None], self.log_scale[group, :, None]
        log_det = log_scale.sum(dim=(1, 2))
        if inverse:
            return x * (-log_scale).exp() - shift, -log_det
        return (x + shift) * log_scale.exp(), log_det


class LUConvolution(nn.Module):
    """1×1 convolution by L·U after a fixed order of the channels; L and U start as the identity.

    Args:
        groups: G.
        order: channel that is taken to each place.
    """

    order: Tensor
    back: Tensor

    def __init__(self, groups: int, order: Tensor) -> None:
        super().__init__()
        c = len(order)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self.lower = nn.Parameter(torch.zeros(groups, c, c))
        self.upper = nn.Parameter(torch.zeros(groups, c, c))
        self.log_diagonal = nn.Parameter(torch.zeros(groups, c))
        self.derived: TensorCache[Tensor] = TensorCache()

    def factors(self, group: slice) -> tuple[Tensor, Tensor]:
        """L with a diagonal of ones and U with a positive one, (g, C, C) each."""
        eye = torch.eye(len(self.order), device=self.lower.device, dtype=self.lower.dtype)
        upper = self.upper[group].triu(1) + torch.diag_embed(self.log_diagonal[group].exp())
        return self.lower[group].tril(-1) + eye, upper

    def matrix(self, group: slice, inverse: bool) -> Tensor:
        """The whole map as matrices (g, C, C), or those of its inverse."""
        lower, upper = self.factors(group)
        if not inverse:
            return (lower @ upper)[:, :, self.back]
        eye = torch.eye(len(self.order), device=lower.device, dtype=lower.dtype).expand_as(lower)
        undone: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False, unitriangular=True)
        undone = torch.linalg.solve_triangular(upper, undone, upper=True)
        return undone[:, self.back]

    def forward(self, x: Tensor, group: slice = ALL, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """x (g, C, N) → image and log|det| of each position, (g,); with ``inverse`` back again."""
        parameters = (self.lower, self.upper, self.log_diagonal)
        matrix = self.derived(
            (group.start, group.stop, inverse), parameters, lambda: self.matrix(group, inverse)
        )
        log_det = self.log_diagonal[group].sum(dim=1)
        return matrix @ x, -log_det if inverse else log_det


class UNetCoupling(HasSplineKernel):
    """Moves the first channels by splines that a U-Net makes of the others and of context maps.

    Args:
        groups, size, periodic: G, (P, R), whether rows are bins in φ.
        channels, moved: C, and how many of them are moved.
        context: K.
        bins, bound: of the splines.
        width, levels, depth, norm: of the `LayerUNet`.
    """

    def __init__(
        self,
        groups: int,
        channels: int,
        moved: int,
        context: int,
        size: tuple[int, int],
        *,
        periodic: bool,
        bins: int,
        bound: float,
        width: int,
        levels: int,
        depth: int,
        norm: bool,
    ) -> None:
        super().__init__()
        self.moved, self.bound = moved, bound
        self.network = LayerUNet(
            groups,
            channels - moved + context,
            size,
            width=width,
            levels=levels,
            depth=depth,
            periodic=periodic,
            norm=norm,
        )
        # rows q·moved + c; zero, so that the coupling starts as the identity
        self.weight = nn.Parameter(torch.zeros(groups, n_spline_parameters(bins) * moved, width))
        self.bias = nn.Parameter(torch.zeros(groups, n_spline_parameters(bins) * moved, 1))
        self.derived: TensorCache[Tensor] = TensorCache()

    def forward(
        self, x: Tensor, context: Tensor, group: slice = ALL, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """x (g, C, N) → image and log-slopes (g, moved, N); context (n, g·K, P, R) sets the precision."""
        moving, fixed = x.split_with_sizes((self.moved, x.shape[1] - self.moved), dim=1)
        raw = self.spline_parameters(fixed, context, group)
        image, slope = rational_quadratic(
            moving, raw, bound=self.bound, inverse=inverse, compiled=self.compiled
        )
        return torch.cat([image, fixed], dim=1), slope

    @fusable
    def sample(self, x: Tensor, context: Tensor, linear: tuple[Tensor, Tensor], group: slice = ALL) -> Tensor:
        """The image of the inverse, and then matrix·image + shift: ``linear`` are (g, C, C) and (g, C, 1)."""
        moving, fixed = x.split_with_sizes((self.moved, x.shape[1] - self.moved), dim=1)
        raw = self.spline_parameters(fixed, context, group)
        image = rational_quadratic_image(moving, raw, bound=self.bound, inverse=True, compiled=self.compiled)
        return torch.baddbmm(linear[1], linear[0], torch.cat([image, fixed], dim=1))

    def spline_parameters(self, fixed: Tensor, context: Tensor, group: slice) -> Tensor:
        """Parameters (Q, g, moved, N) of the splines, given the channels (g, C − moved, N) that stay."""
        n, _, *size = context.shape
        g, dtype = len(fixed), context.dtype
        # channels last, as the network wants them: (n, P, R, g, C − moved + K)
        known = fixed.view(g, -1, n, *size).permute(2, 3, 4, 0, 1).to(dtype)
        told = context.view(n, g, -1, *size).permute(0, 3, 4, 1, 2)
        maps = torch.cat([known, told], dim=4).flatten(3).permute(0, 3, 1, 2)
        h = self.network(maps, group).permute(0, 2, 3, 1).reshape(fixed.shape[2], g, -1)  # (N, g, W)
        key = (group.start, group.stop, dtype)
        weight = self.derived(key, (self.weight,), lambda: self.weight[group].to(dtype))
        # plain matrices are multiplied faster than a batch of one
        raw = (weight[0] @ h[:, 0].T)[None] if g == 1 else weight @ h.permute(1, 2, 0)
        parameters: Tensor = raw + self.bias[group]  # in the precision of the latter
        return parameters.view(g, -1, self.moved, raw.shape[-1]).transpose(0, 1)


def _turns(factors: tuple[int, int]) -> list[Tensor]:
    """Which channels are moved in turn, as masks (C,): even rows, odd rows, even columns, odd columns."""
    row, column = torch.arange(factors[0]), torch.arange(factors[1])
    parities = [
        parity.expand(factors).flatten() % 2
        for parity, length in ((row[:, None], factors[0]), (column[None], factors[1]))
        if length > 1
    ]
    return [parity == value for parity in parities for value in (0, 1)]


class ConvolutionFlow(nn.Module):
    """Density of the cells of layers, y (n, g, rows, columns), in context of maps and vectors.

    Squeeze, then ``blocks`` times ActNorm, U-Net coupling and 1×1 convolution. The couplings move even rows,
    odd rows, even columns and odd columns (of those squeezed into channels) in turn. At first all couplings
    are the identity and 1×1 convolutions permute, so that the first ActNorm alone standardises every step.

    Args:
        groups: G.
        rows, columns: cells of a layer.
        factors: (a, b), which must divide them and give two channels at least.
        maps, vector: context maps of a layer, and context numbers.
        context: K, channels that a small convolutional network makes of both.
        periodic: whether rows are bins in φ.
        blocks: how many steps.
        coupling: bins, bound, width, levels, depth, norm of `UNetCoupling`.
    """

    first: Tensor
    last: Tensor

    def __init__(
        self,
        groups: int,
        rows: int,
        columns: int,
        factors: tuple[int, int],
        *,
        maps: int,
        vector: int,
        context: int,
        periodic: bool,
        blocks: int,
        **coupling: float,
    ) -> None:
        super().__init__()
        self.groups, self.factors = groups, factors
        self.channels = factors[0] * factors[1]
        self.size = (rows // factors[0], columns // factors[1])
        hidden = 4 * context
        self.vector = nn.Parameter(torch.randn(groups, vector, hidden) / math.sqrt(vector))
        self.enter = GroupedConvolution(groups, maps * self.channels, hidden, self.size, periodic=periodic)
        self.leave = GroupedConvolution(groups, hidden, context, self.size, periodic=periodic)
        turns = _turns(factors)
        masks = [turns[i % len(turns)] for i in range(blocks)]
        orders = [torch.cat([mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]]) for mask in masks]
        self.register_buffer("first", orders[0], persistent=False)
        self.register_buffer("last", orders[-1].argsort(), persistent=False)
        steps = [order.argsort()[after] for order, after in itertools.pairwise(orders)]
        steps.append(torch.arange(self.channels))
        self.norms = nn.ModuleList(ActNorm(groups, self.channels) for _ in range(blocks))
        self.couplings = nn.ModuleList(
            UNetCoupling(
                groups,
                self.channels,
                int(mask.sum()),
                context,
                self.size,
                periodic=periodic,
                **coupling,  # type: ignore[arg-type]
            )
            for mask in masks
        )
        self.convolutions = nn.ModuleList(LUConvolution(groups, step) for step in steps)
        self.derived: TensorCache[list[tuple[Tensor, Tensor]]] = TensorCache()

    @torch.no_grad()
    def start(self, mean: Tensor, std: Tensor) -> None:
        """First values of the first ActNorm: mean and spread of squeezed channels, (G, C) or (C,)."""
        norm = self.norms[0]
        assert isinstance(norm, ActNorm)
        norm.start(mean[..., self.first], std[..., self.first])

    def given(self, maps: Tensor, vector: Tensor, group: slice, bf16: bool) -> Tensor:
        """Context channels (n, g·K, P, R) of maps (n, g, M, rows, columns) and numbers (n, g, V)."""
        dtype = torch.bfloat16 if bf16 else maps.dtype
        x = squeeze(maps.to(dtype), self.factors).flatten(1, 3)
        bias = torch.einsum("ngv,gvh->ngh", vector.to(dtype), self.vector[group].to(dtype)).flatten(1)
        h = self.enter(x.contiguous(memory_format=torch.channels_last), group) + bias[:, :, None, None]
        return F.leaky_relu(self.leave(F.leaky_relu(h, SLOPE), group), SLOPE)

    def to_noise(self, y: Tensor, context: Tensor, group: slice = ALL) -> tuple[Tensor, Tensor]:
        """y (n, g, rows, columns) → noise of the same shape and log|det| (n, g), in context of `given`."""
        x = self._to_rows(y)[:, self.first]
        slopes = y.new_zeros(x.shape[0], x.shape[2])  # (g, N)
        volume = y.new_zeros(x.shape[0])  # the same at all positions
        for norm, coupling, convolution in zip(self.norms, self.couplings, self.convolutions, strict=True):
            x, scaled = norm(x, group)
            x, slope = coupling(x, context, group)
            x, mixed = convolution(x, group)
            slopes, volume = slopes + slope.sum(dim=1), volume + scaled + mixed
        positions = self.size[0] * self.size[1]
        log_det = slopes.view(len(volume), -1, positions).sum(dim=2).T + volume * positions
        return self._to_cells(x[:, self.last]), log_det

    def to_data(self, z: Tensor, context: Tensor, group: slice = ALL) -> Tensor:
        """Undo `to_noise`: the y (n, g, rows, columns) that noise z stands for."""
        parameters = (*self.norms.parameters(), *self.convolutions.parameters())
        first, *steps = self.derived(
            (group.start, group.stop), parameters, lambda: self._linear_to_data(group)
        )
        x = torch.baddbmm(first[1], first[0], self._to_rows(z))
        for coupling, linear in zip(reversed(self.couplings), steps, strict=True):
            assert isinstance(coupling, UNetCoupling)
            x = coupling.sample(x, context, linear, group)
        return self._to_cells(x)

    def _linear_to_data(self, group: slice) -> list[tuple[Tensor, Tensor]]:
        """All that lies before, between and after couplings on the way to data: x → matrix·x + shift each.

        Matrices are (g, C, C), shifts (g, C, 1).
        """
        steps, order = [], self.last.argsort()
        matrix = torch.eye(self.channels, device=order.device, dtype=self.vector.dtype)[order]
        shift = matrix.new_zeros(self.channels, 1)
        for norm, convolution in reversed(list(zip(self.norms, self.convolutions, strict=True))):
            assert isinstance(norm, ActNorm)
            assert isinstance(convolution, LUConvolution)
            undone = convolution.matrix(group, inverse=True)
            steps.append((undone @ matrix, undone @ shift))
            matrix = torch.diag_embed((-norm.log_scale[group]).exp())
            shift = -norm.shift[group, :, None]
        order = self.first.argsort()
        return [*steps, (matrix[:, order], shift[:, order])]

    def log_prob(self, y: Tensor, maps: Tensor, vector: Tensor, bf16: bool = False) -> Tensor:
        """log p(y | maps, vector) of every layer, (n, G); y (n, G, rows, columns), see `given`."""
        z, log_det = self.to_noise(y, self.given(maps, vector, ALL, bf16))
        return log_det - 0.5 * z.square().sum(dim=(2, 3)) - 0.5 * math.log(2 * math.pi) * z[0, 0].numel()

    def sample(
        self, z: Tensor, maps: Tensor, vector: Tensor, group: slice = ALL, bf16: bool = False
    ) -> Tensor:
        """The y (n, g, rows, columns) that standard normal noise z of that shape stands for."""
        return self.to_data(z, self.given(maps, vector, group, bf16), group)

    def _to_rows(self, y: Tensor) -> Tensor:
        """(n, g, rows, columns) → (g, C, N)."""
        return squeeze(y, self.factors).permute(1, 2, 0, 3, 4).flatten(2)

    def _to_cells(self, x: Tensor) -> Tensor:
        """Undo `_to_rows`."""
        split = x.reshape(*x.shape[:2], -1, *self.size).permute(2, 0, 1, 3, 4)
        return unsqueeze(split, self.factors)
