"""A causal transformer that is trained on whole sequences and sampled step by step from what it has kept.

Legend: ``n`` showers, ``T`` steps, ``W`` width, ``H`` heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import RecipeError

__all__ = ["CausalTransformer", "KeyValueCache"]

RATIO = 4
"""Hidden numbers of a block's network over its width."""


class KeyValueCache:
    """Keys and values of the steps that are done, for every block."""

    def __init__(self, n: int, steps: int, transformer: CausalTransformer) -> None:
        like = transformer.last.weight
        shape = (len(transformer.blocks), 2, n, transformer.heads, steps, len(like) // transformer.heads)
        self.tensors = torch.zeros(shape, dtype=like.dtype, device=like.device)


class CausalTransformer(nn.Module):
    """Tokens → states, each of which knows the tokens up to its own.

    Args:
        width, depth, heads: W, blocks, H.
        dropout: of what the blocks add, in training.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise RecipeError(f"the width {width} of a transformer must be a multiple of its {heads} heads")
        self.heads = heads
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(depth))
        self.last = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T, W) → states (n, T, W), all steps at once."""
        for block in self.blocks:
            tokens = block(tokens)
        states: Tensor = self.last(tokens)
        return states

    def step(self, token: Tensor, i: int, cache: KeyValueCache) -> Tensor:
        """The state (n, W) of step i, given its token (n, W); steps must come in order."""
        x = token[:, None]
        for block, kept in zip(self.blocks, cache.tensors, strict=True):
            assert isinstance(block, _Block)
            x = block.step(x, i, kept)
        state: Tensor = self.last(x[:, 0])
        return state


class _Block(nn.Module):
    """Causal attention and a two-layer network, each after a layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, RATIO * width), nn.SiLU(), nn.Linear(RATIO * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._qkv(x)
        return self._rest(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: Tensor, i: int, kept: Tensor) -> Tensor:
        """The same for step i alone, x (n, 1, W); kept keys and values are (2, n, H, T, W/H)."""
        q, k, v = self._qkv(x)
        kept[0, :, :, i : i + 1], kept[1, :, :, i : i + 1] = k, v
        keys, values = kept[:, :, :, : i + 1]
        return self._rest(x, F.scaled_dot_product_attention(q, keys, values))

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, steps, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.network(x))
        return out
