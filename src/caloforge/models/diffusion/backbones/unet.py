"""CaloDiffusion's backbone: a three-dimensional U-Net whose convolutions are cyclic along φ.

Residual blocks that noise level and conditions scale and shift, linear attention, and constant maps that tell
a convolution where it is (Amram, Pedro, arXiv:2308.03876). What depends on the conditions alone is computed
once for all calls, with it the share of all constant maps in the first convolution.

Legend: ``n`` showers, mesh (Z, P, R), ``K`` condition numbers, ``L`` numbers of a layer, ``C`` channels,
``E`` numbers of the embedding. Maps are (n, C, Z, P, R).
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh
from caloforge.models.diffusion.backbones.base import BACKBONES, Backbone, LevelEmbedding
from caloforge.settings import KindSettings

__all__ = ["CylinderUNet", "UNetSettings"]

GROUPS = 8
"""Of channels that are normalised together."""

Size = tuple[int, int, int]
Flags = tuple[bool, bool, bool]


class UNetSettings(KindSettings):
    """Settings of the cylindrical U-Net.

    Attributes:
        channels: of each level, the finest first; each level halves all axes, rounding up. Multiples of 8.
        blocks: residual blocks of a level, on the way down and on the way up.
        attention: features of the linear attention after the blocks of each level; 0 for none.
        embedding: E, numbers of the embedding of noise level and conditions.
        phi_maps: maps of cos φ and sin φ, so that showers may depend on the direction. Without them a shower
            turns with its noise, by 2^(levels − 1) bins where that divides their number.
    """

    kind: str = "unet"
    channels: tuple[int, ...] = Field((16, 16, 16, 32), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: int = Field(32, ge=0)
    embedding: int = Field(128, ge=2)
    phi_maps: bool = True

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if any(c < 1 or c % GROUPS for c in self.channels):
            raise ValueError(f"channels must be multiples of {GROUPS}, got {self.channels}")
        return self


@BACKBONES.add("unet")
class CylinderUNet(Backbone):
    """Maps (n, Z, P, R) and levels of noise → maps (n, Z, P, R), on cylinders and boxes."""

    Settings = UNetSettings
    places: Tensor

    def __init__(
        self, settings: UNetSettings, mesh: Mesh, *, conditions: int, layers: int, levels: int = 1
    ) -> None:
        super().__init__(settings, mesh, conditions=conditions, layers=layers, levels=levels)
        s = self.settings = settings
        n_z, n_rows, n_columns = mesh.shape
        size, periodic = (n_z, n_rows, n_columns), mesh.periodic[1]
        self.register_buffer("places", _places(size, periodic, s.phi_maps), persistent=False)
        self.level = LevelEmbedding(s.embedding, levels)
        self.condition = nn.Sequential(
            nn.Linear(conditions, s.embedding), nn.SiLU(), nn.Linear(s.embedding, s.embedding)
        )
        self.first = _Convolution(1, s.channels[0], size, periodic)
        self.first_maps = _Convolution(len(self.places) + layers, s.channels[0], size, periodic, bias=False)
        self.down, self.coarser, self.finer, self.up = (nn.ModuleList() for _ in range(4))
        channels = s.channels[0]
        for i, width in enumerate(s.channels):
            self.down.append(_Level(channels, width, size, periodic, s))
            if i + 1 < len(s.channels):
                self.coarser.append(_Convolution(width, width, size, periodic, stride=2))
                self.finer.append(_Doubling(s.channels[i + 1], width, size))
                self.up.append(_Level(2 * width, width, size, periodic, s))
                size = (math.ceil(size[0] / 2), math.ceil(size[1] / 2), math.ceil(size[2] / 2))
            channels = width
        self.norm = nn.GroupNorm(GROUPS, s.channels[0])
        self.last = _Convolution(s.channels[0], 1, (n_z, n_rows, n_columns), periodic)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def prepare(self, conditions: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """The embedded conditions (n, E), and the share of maps (n, C, Z, P, R) in the first convolution.

        Args:
            conditions: (n, K).
            layers: (n, Z, L), numbers of each layer.
        """
        n, places = conditions.shape[0], self.places
        numbers = layers.transpose(1, 2)[..., None, None].expand(-1, -1, *places.shape[1:])  # (n, L, Z, P, R)
        maps = torch.cat([places.expand(n, -1, -1, -1, -1), numbers], dim=1)
        return self.condition(conditions), self.first_maps(maps)

    def forward(
        self, x: Tensor, level: Tensor, prepared: tuple[Tensor, Tensor], shares: Tensor | None = None
    ) -> Tensor:
        """The network's output (n, Z, P, R) for x (n, Z, P, R) at levels (n, levels)."""
        conditions, maps = prepared
        embedding = F.silu(conditions + self.level(level))  # (n, E)
        h = self.first(x[:, None]) + maps  # (n, C, Z, P, R)
        held = []
        for i, block in enumerate(self.down):
            h = block(h, embedding)  # (n, C_i, Z/2^i, P/2^i, R/2^i)
            if i < len(self.coarser):
                held.append(h)
                h = self.coarser[i](h)
        for i in reversed(range(len(held))):
            h = self.up[i](torch.cat([self.finer[i](h), held[i]], dim=1), embedding)
        out: Tensor = self.last(F.silu(self.norm(h)))
        return out[:, 0]


def _places(size: Size, periodic: bool, phi_maps: bool) -> Tensor:
    """Constant maps (2-4, Z, P, R) of where a cell is: z and r, then cos φ and sin φ; in a box z, x and y."""
    z, row, column = (torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1) for length in size)
    angle = 2 * math.pi * (torch.arange(size[1]) + 0.5) / size[1] - math.pi
    across = [row] if not periodic else [angle.cos(), angle.sin()] if phi_maps else []
    maps = [z[:, None, None], column[None, None, :], *(values[None, :, None] for values in across)]
    return torch.stack([values.expand(size) for values in maps])


class _Convolution(nn.Conv3d):
    """Convolution of kernel 3, or 1 along an axis with a single cell.

    Maps are continued cyclically along φ and by zeros along other axes. Stride 2 halves all, rounding up.
    """

    def __init__(
        self, inputs: int, outputs: int, size: Size, periodic: bool, *, stride: int = 1, bias: bool = True
    ) -> None:
        kernel = [3 if length > 1 else 1 for length in size]
        padding = [k // 2 for k in kernel]
        self.rows = padding[1] if periodic else 0
        padding[1] -= self.rows
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if self.rows:
            x = torch.cat([x[..., -1:, :], x, x[..., :1, :]], dim=3)
        return super().forward(x)


class _Doubling(nn.ConvTranspose3d):
    """Transposed convolution to the finer level's size; axes with a single cell stay."""

    def __init__(self, inputs: int, outputs: int, finer: Size) -> None:
        factors = tuple(min(length, 2) for length in finer)
        super().__init__(inputs, outputs, factors, factors)  # type: ignore[arg-type]
        self.finer = finer

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        n_z, n_rows, n_columns = self.finer
        return super().forward(x)[:, :, :n_z, :n_rows, :n_columns]


class _Block(nn.Module):
    """Two convolutions beside a residual; an embedding (n, E) scales and shifts the channels between."""

    def __init__(self, inputs: int, outputs: int, size: Size, periodic: bool, embedding: int) -> None:
        super().__init__()
        self.one = _Convolution(inputs, outputs, size, periodic)
        self.two = _Convolution(outputs, outputs, size, periodic)
        self.norm_one, self.norm_two = nn.GroupNorm(GROUPS, outputs), nn.GroupNorm(GROUPS, outputs)
        self.told = nn.Linear(embedding, 2 * outputs)
        self.short = nn.Identity() if inputs == outputs else _Mixing(inputs, outputs)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.told(embedding)[..., None, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm_one(self.one(x)), 1 + scale))
        out: Tensor = F.silu(self.norm_two(self.two(h))) + self.short(x)
        return out


class _Mixing(nn.Linear):
    """A matrix for the channels of each cell, as a product of batches, which is faster than a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, …) → (n, outputs, …)."""
        mixed = torch.bmm(self.weight.expand(x.shape[0], -1, -1), x.flatten(2))
        return mixed.view(x.shape[0], -1, *x.shape[2:])


class _LinearAttention(nn.Module):
    """Attention whose cost is linear in the number of cells (Shen et al., arXiv:1812.01243), with a residual.

    Queries are normalised over F features, keys over all cells, so that each cell reads a mixture of F
    averages over the shower. Values are a matrix times the maps; it is applied to the averages, which are
    fewer.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.queries, self.keys = _Mixing(channels, features), _Mixing(channels, features)
        self.values = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm_in(x).flatten(2)  # (n, C, cells)
        queries, keys = self.queries(h).softmax(dim=1), self.keys(h).softmax(dim=2)  # (n, F, cells)
        averages = self.values(torch.bmm(keys, h.transpose(1, 2)))  # (n, F, C)
        read: Tensor = self.norm_out(
            torch.bmm(averages.transpose(1, 2), queries.to(averages.dtype)).view_as(x)
        )
        return x + read


class _Level(nn.Module):
    """Residual blocks and attention at one resolution."""

    def __init__(self, inputs: int, outputs: int, size: Size, periodic: bool, s: UNetSettings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(outputs if i else inputs, outputs, size, periodic, s.embedding) for i in range(s.blocks)
        )
        self.attention = _LinearAttention(outputs, s.attention) if s.attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        out: Tensor = self.attention(x)
        return out
