"""The counter-based noise of `caloforge.generation.noise` by operations that change no tensor, for graphs.

Legend: ``n`` showers, ``b`` blocks of four numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from caloforge.generation.noise import _LOW, _M0, _M1, _W0, _W1
from caloforge.runtime.streams import ROUNDS, stream_id

__all__ = ["keyed_normals"]


def keyed_normals(seed: int, numbers: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """As `torch_normals`: of showers (n,), int64, standard normal numbers (n, k) of each stream."""
    blocks = [-(-k // 4) for k in sizes.values()]
    block = torch.cat([torch.arange(n) for n in blocks])
    stream = torch.cat([torch.full((n,), stream_id(name)) for name, n in zip(sizes, blocks, strict=True)])
    parts = torch.split(_normals(seed, stream, block, numbers[:, None]), blocks, dim=1)
    return {
        name: part.reshape(numbers.shape[0], 4 * n)[:, :k]
        for (name, k), n, part in zip(sizes.items(), blocks, parts, strict=True)
    }


def _normals(seed: int, stream: Tensor, block: Tensor, number: Tensor) -> Tensor:
    """Numbers (n, b, 4) of the counters (block, stream, low and high word of the number)."""
    c0, c1, c2, c3 = block, stream, number & _LOW, number >> 32
    k0, k1 = seed & _LOW, (seed >> 32) & _LOW
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, _M0)
        high1, low1 = _product(c2, _M1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    made = []
    for radius, angle in ((c0, c1), (c2, c3)):
        r, turn = (-2 * _uniform(radius).log()).sqrt(), 2 * math.pi * _uniform(angle)
        made += [r * turn.cos(), r * turn.sin()]
    return torch.stack(made, dim=-1)


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low word of a product of words of 32 bits, by halves, so that none is larger than 63 bits."""
    upper, lower = (x >> 16) * factor, (x & 0xFFFF) * factor
    whole = ((upper & 0xFFFF) << 16) + lower
    return (upper >> 16) + (whole >> 32), whole & _LOW


def _uniform(words: Tensor) -> Tensor:
    """Uniform numbers in (0, 1] with 24 random bits, float32."""
    return ((words >> 8).to(torch.float32) + 0.5) * 2.0**-24
