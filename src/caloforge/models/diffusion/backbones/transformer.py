"""A transformer over patches of cells (Peebles and Xie, DiT, arXiv:2212.09748, in three dimensions).

As in CaloDiT (Raikwar, Zaborowska, McKeown et al., arXiv:2509.07700) a shower is cut into patches along z, φ
and r, each of which is a token. Conditions act through adaptive layer norm, whose gates start at zero.
Attention turns queries and keys by their positions (rotary embeddings), by whole numbers of turns around φ,
so that it knows only differences of φ: without the table of absolute φ the network is equivariant to turns by
patches.

Legend: ``n`` showers, ``T`` tokens (Zt, Pt, Rt), ``W`` width, ``H`` heads.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.detector.mesh import Mesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.diffusion.backbones.base import BACKBONES, Backbone, LevelEmbedding
from caloforge.models.networks.fused import Fusable, fusable
from caloforge.models.networks.linear import CastLinear
from caloforge.settings import KindSettings

__all__ = ["Transformer", "TransformerSettings"]

SHARE_SCALE, MOST_EXCESS, LEAST_LEVEL = 4.0, 10.0, 0.02
LONGEST = 100.0
"""Longest period of the rotations along z and r, in tokens over 2π."""
SHORT = 192
"""Tokens up to which a processor multiplies all queries and keys at once, see `_attend`."""


class TransformerSettings(KindSettings):
    """Sizes of the transformer.

    Attributes:
        patch: cells (z, φ, r) of a patch; divisors of the mesh's shape.
        width, depth, heads: numbers of a token, blocks, heads of the attention.
        ratio: hidden numbers of a block's network over its width.
        phi: "relative" where all directions around the shower's axis are alike (normal incidence),
            "absolute" where they are not.
        shares: also read the shares of their layers' energies that the noisy cells stand for, so that the
            network sees directly whether a layer's cells add up; for coordinates of kind "marginals".
    """

    kind: str = "transformer"
    patch: tuple[int, int, int] = (3, 2, 9)
    width: int = Field(192, ge=2)
    depth: int = Field(6, ge=1)
    heads: int = Field(6, ge=1)
    ratio: float = Field(4.0, gt=0)
    phi: Literal["relative", "absolute"] = "absolute"
    shares: bool = False


@BACKBONES.add("transformer")
class Transformer(Backbone):
    """Patches, blocks of attention with adaptive layer norm, and back to cells."""

    Settings = TransformerSettings
    cosines: Tensor
    sines: Tensor

    def __init__(
        self, settings: TransformerSettings, mesh: Mesh, *, conditions: int, layers: int, levels: int = 1
    ) -> None:
        super().__init__(settings, mesh, conditions=conditions, layers=layers, levels=levels)
        s = self.settings = settings
        self.reads_shares = s.shares
        if len(mesh.shape) != 3 or any(a % b for a, b in zip(mesh.shape, s.patch, strict=True)):
            raise MeshError(f"patches of {s.patch} cells do not divide the {mesh}; set backbone.patch")
        if s.width % s.heads or s.width // s.heads % 2:
            raise RecipeError(
                f"backbone.width {s.width} must be an even multiple of backbone.heads {s.heads}"
            )
        n_z, n_p, n_r = mesh.shape
        pz, pp, pr = s.patch
        self.grid = (n_z // pz, n_p // pp, n_r // pr)
        width, cells = s.width, pz * pp * pr
        self.patches = CastLinear(cells, width)
        self.layer_patches = CastLinear(pz * layers, width) if layers else None
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0], 1, self.grid[2], width))
        self.turn = nn.Parameter(0.02 * torch.randn(self.grid[1], 1, width)) if s.phi == "absolute" else None
        self.level = LevelEmbedding(width, levels)
        self.condition = nn.Sequential(
            CastLinear(conditions + n_z * layers, width), nn.SiLU(), CastLinear(width, width)
        )
        self.blocks = nn.ModuleList(_Block(width, s.heads, int(s.ratio * width)) for _ in range(s.depth))
        self.modulation = CastLinear(width, (6 * s.depth + 2) * width)
        self.last = CastLinear(width, cells)
        closed = [self.modulation, self.last]
        if s.shares:
            self.share_patches = CastLinear(cells + pz, width)
            self.share_last = CastLinear(width, cells)
            self.excess_last = CastLinear(width, pz)
            closed += [self.share_last, self.excess_last]
        for layer in closed:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        periodic = mesh.periodic[1]
        cosines, sines = _rotations(self.grid, width // s.heads, periodic)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def prepare(self, conditions: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """The embedded conditions (n, W), and what each token knows of its layers and place (n, T, W)."""
        embedded = self.condition(torch.cat([conditions, layers.flatten(1)], dim=1))
        place = self.position if self.turn is None else self.position + self.turn  # (Zt, 1 or Pt, Rt, W)
        place = place.expand(*self.grid, -1)[None]
        if self.layer_patches is not None:
            layer_tokens = self.layer_patches(layers.reshape(layers.shape[0], self.grid[0], -1))
            place = place + layer_tokens[:, :, None, None]
        return embedded, place.expand(conditions.shape[0], *self.grid, -1).flatten(1, 3)

    def forward(
        self, x: Tensor, level: Tensor, prepared: tuple[Tensor, Tensor], shares: Tensor | None = None
    ) -> Tensor:
        embedded, place = prepared
        tokens = self.patches(self._cut(x)) + place
        if shares is not None:
            cut, (direction, excess) = self._cut(shares), self._excess(shares, level)
            tokens = tokens + self.share_patches(torch.cat([SHARE_SCALE * cut, excess], dim=-1))
        signal = F.silu(embedded + self.level(level))
        signals = self.modulation(signal)[:, None].chunk(6 * self.settings.depth + 2, dim=-1)
        shift, scale, *block_signals = signals
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, block_signals[6 * i : 6 * i + 6], self.cosines, self.sines)
        tokens = _modulate(tokens, shift, scale)
        if shares is None:
            return self._join(self.last(tokens))
        along = (self.excess_last(tokens) * excess).repeat_interleave(cut.shape[-1] // excess.shape[-1], -1)
        return self._join(self.last(tokens) + cut * self.share_last(tokens) + along * self._cut(direction))

    def _excess(self, shares: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The direction in which a layer's sum changes most, and how far the noise has moved the sum.

        The sum is that of the energies of cells, whose logarithms have a slope of order one in the
        coordinates: its deviation from 1, over the size of the noise and the length of its gradient, is the
        noise along the gradient, as long as the noise is small.

        Returns:
            Unit vectors (n, Z, P, R) over the cells of each layer, and numbers of order one (n, T, pz).
        """
        length = shares.square().sum(dim=(2, 3)).sqrt().clamp_min(1 / MOST_EXCESS)  # (n, Z)
        total = shares.sum(dim=(2, 3)).clamp(1 / MOST_EXCESS, MOST_EXCESS).log()
        excess = (total / length / (level[:, :1] + LEAST_LEVEL)).clamp(-MOST_EXCESS, MOST_EXCESS)
        (tz, tp, tr), pz = self.grid, self.settings.patch[0]
        spread = excess.reshape(-1, tz, 1, pz).expand(-1, -1, tp * tr, -1).flatten(1, 2)
        return shares / length[:, :, None, None], spread

    def _cut(self, x: Tensor) -> Tensor:
        """Cells (n, Z, P, R) in patches (n, T, cells)."""
        (pz, pp, pr), (tz, tp, tr) = self.settings.patch, self.grid
        return (
            x.reshape(-1, tz, pz, tp, pp, tr, pr)
            .permute(0, 1, 3, 5, 2, 4, 6)
            .reshape(x.shape[0], tz * tp * tr, pz * pp * pr)
        )

    def _join(self, patches: Tensor) -> Tensor:
        """The inverse of `_cut`."""
        (pz, pp, pr), (tz, tp, tr) = self.settings.patch, self.grid
        return (
            patches.reshape(-1, tz, tp, tr, pz, pp, pr)
            .permute(0, 1, 4, 2, 5, 3, 6)
            .reshape(patches.shape[0], tz * pz, tp * pp, tr * pr)
        )


class _Block(Fusable):
    """Attention and a two-layer network, both with adaptive layer norm and gates."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = CastLinear(width, 3 * width)
        self.out = CastLinear(width, width)
        self.up = CastLinear(width, hidden)
        self.down = CastLinear(hidden, width)

    @fusable
    def forward(self, x: Tensor, signals: list[Tensor], cosines: Tensor, sines: Tensor) -> Tensor:
        """Tokens (n, T, W) → the same shape; six signals (n, 1, W)."""
        n, length, width = x.shape
        qkv = self.qkv(_modulate(x, signals[0], signals[1])).view(n, length, 3, self.heads, -1)
        q, k = _rotate(qkv[:, :, :2], cosines, sines).permute(2, 0, 3, 1, 4)  # (n, H, T, d)
        attended = _attend(q, k, qkv[:, :, 2].transpose(1, 2)).transpose(1, 2).reshape(n, length, width)
        x = x + signals[2] * self.out(attended)
        hidden = F.gelu(self.up(_modulate(x, signals[3], signals[4])))
        out: Tensor = x + signals[5] * self.down(hidden)
        return out


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ) v of heads (n, H, T, d), of which q and k hold the factor d^−½.

    On a processor torch's own attention takes longer for few tokens, with gradients five times as long for 45
    of them; a softmax of so few is faster in float32 than in bfloat16, as well as more precise.
    """
    if q.device.type == "cpu" and q.shape[2] <= SHORT:
        return (q @ k.transpose(-1, -2)).softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn pairs of numbers (n, T, …, H, d), a number and the one d/2 after it, see `_rotations`."""
    return torch.addcmul(x * cosines.to(x.dtype), x.roll(x.shape[-1] // 2, dims=-1), sines.to(x.dtype))


def _rotations(grid: tuple[int, int, int], size: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines (T, 1, 1, size) of the angles by which tokens are turned, times size^−¼.

    Pairs of numbers are dealt in turn to the axes that have more than one token. The factor is that of the
    attention's scores, shared by queries and keys.
    """
    axes = [axis for axis in range(3) if grid[axis] > 1] or [0]
    pairs = size // 2
    positions = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
    columns = []
    for order, axis in enumerate(axes):
        own = len(range(order, pairs, len(axes)))
        if axis == 1 and periodic:
            turns = torch.arange(own) % (grid[1] // 2) + 1  # whole turns around φ
            frequencies = 2 * math.pi / grid[1] * turns
        else:
            frequencies = LONGEST ** (-torch.arange(own) / max(own, 1))
        columns.append(positions[axis].flatten()[:, None] * frequencies)
    angles = torch.cat(columns, dim=1)[:, None, None]
    cosines, sines = angles.cos() * size**-0.25, angles.sin() * size**-0.25
    return torch.cat([cosines, cosines], dim=-1), torch.cat([-sines, sines], dim=-1)
