"""Noise that is a function of (seed, shower number, name) alone, on any device.

On a CPU it comes from `caloforge.runtime.streams`. Elsewhere torch computes the same numbers, to the rounding
of float32: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC'11) with 32-bit words in int64, then Box and Muller.
Legend: ``n`` showers, ``k`` numbers of a shower, ``b`` blocks of four words, b = ⌈k/4⌉.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from caloforge.errors import ConditionError
from caloforge.runtime import streams

__all__ = ["draw_key", "draw_noise", "noise_stream", "normals", "torch_normals"]

_LOW = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
BLOCKS_AT_ONCE = 1 << 23
"""Philox blocks that are worked on at once; they take 64 bytes each."""


def noise_stream(name: str) -> str:
    """Name of the stream (see `caloforge.runtime.streams`) of a model's noise ``name``."""
    return f"noise/{name}"


def draw_noise(
    shapes: Mapping[str, Sequence[int]],
    seed: int,
    numbers: ArrayLike | Tensor,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """The noise of showers with the given numbers.

    Args:
        shapes: shape of each named part of one shower's noise, as `GeneratorModel.noise_shapes` gives.
        seed: any integer, of which 64 bits count.
        numbers: shower numbers (n,), not negative, which is not checked where they are on a GPU already:
            it would have to wait.
        device: where to draw and leave it.

    Returns:
        Standard normal numbers (n, \\*shape), float32, by part.
    """
    device = torch.device(device)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if device.type == "cpu":
        flat = {name: normals(seed, numbers, noise_stream(name), k) for name, k in sizes.items()}
    else:
        on_device = _checked(numbers).to(device)
        by_stream = torch_normals(seed, on_device, {noise_stream(name): k for name, k in sizes.items()})
        flat = {name: by_stream[noise_stream(name)] for name in sizes}
    return {name: flat[name].reshape(len(flat[name]), *shape) for name, shape in shapes.items()}


def draw_key(seed: int, numbers: ArrayLike, device: torch.device | str = "cpu") -> Tensor:
    """Low and high word of the seed and of the numbers (n,) of events: (n, 4) int64, of 32 bits each."""
    number, seed = _checked(numbers), int(seed) & 0xFFFFFFFFFFFFFFFF
    words = (torch.full_like(number, seed & _LOW), torch.full_like(number, seed >> 32))
    return torch.stack([*words, number & _LOW, number >> 32], dim=1).to(device)


def normals(
    seed: int, numbers: ArrayLike | Tensor, stream: str, k: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal numbers (n, k), float32, as `runtime.streams.normals` gives, for showers (n,)."""
    numbers, device = _checked(numbers), torch.device(device)
    if device.type == "cpu":
        return torch.from_numpy(streams.normals(seed, numbers.cpu().numpy(), stream, k))
    return torch_normals(seed, numbers.to(device), {stream: k})[stream]


def _checked(numbers: ArrayLike | Tensor) -> Tensor:
    if not isinstance(numbers, Tensor):
        numbers = torch.from_numpy(np.array(numbers, dtype=np.int64, ndmin=1))
    if numbers.device.type == "cpu" and len(numbers) and int(numbers.min()) < 0:
        raise ConditionError(f"shower numbers must not be negative, got {int(numbers.min())}")
    return numbers


def torch_normals(seed: int, numbers: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The same by torch on the device of the numbers (n,), int64: (n, k) of each stream, by name.

    All streams go through each operation together, since on a GPU it is operations that cost.
    """
    seed, device = int(seed) & 0xFFFFFFFFFFFFFFFF, numbers.device
    n_blocks = [-(-k // 4) for k in sizes.values()]
    block = torch.cat([torch.arange(n, device=device) for n in n_blocks])
    stream = torch.cat(
        [
            torch.full((n,), streams.stream_id(name), device=device)
            for name, n in zip(sizes, n_blocks, strict=True)
        ]
    )
    result = torch.empty(len(numbers), len(block), 4, device=device)
    rows = max(1, BLOCKS_AT_ONCE // max(len(block), 1))
    for start in range(0, len(numbers), rows):
        words = _philox(seed, stream, numbers[start : start + rows], block)
        _box_muller(words, result[start : start + rows])
    parts = torch.split(result, n_blocks, dim=1)
    return {
        name: part.reshape(len(numbers), 4 * n)[:, :k]
        for (name, k), n, part in zip(sizes.items(), n_blocks, parts, strict=True)
    }


def _philox(
    seed: int, stream: Tensor, numbers: Tensor, block: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox4x32 on the counters (block, stream, number's low and high word): 4 × (n, b) int64.

    A product of two 32-bit words wraps around in int64 to the same 64 bits as in uint64. Its low word is only
    ever an operand of an exclusive or, so that it needs to be masked only when that has been done. The first
    two rounds work on what still depends on blocks (b,) and their streams (b,) or on the number (n,) alone.
    """
    assert streams.ROUNDS == 10
    c0, c1, c2, spare = torch.empty(4, len(numbers), len(block), dtype=torch.int64, device=numbers.device)
    k0, k1 = seed & _LOW, seed >> 32
    by_block = block * _M0
    low, high = (numbers & _LOW)[:, None] * _M1, (numbers >> 32)[:, None]
    # round 1: c0 and c1 do not depend on the block, c3 does on nothing else
    c3 = ((low >> 32) ^ (stream ^ k0)).bitwise_and_(_LOW)
    torch.bitwise_xor(by_block >> 32, high ^ k1, out=c2)
    k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    # round 2: c3 does not depend on the block
    c3 *= _M0
    torch.mul(c2, _M1, out=c1)
    torch.bitwise_right_shift(c1, 32, out=c0).bitwise_xor_(low ^ k0).bitwise_and_(_LOW)
    torch.bitwise_xor((c3 >> 32) ^ k1, by_block, out=c2).bitwise_and_(_LOW)
    for _ in range(streams.ROUNDS - 2):
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        torch.mul(c0, _M0, out=spare)
        c2.mul_(_M1)
        torch.bitwise_right_shift(c2, 32, out=c0).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_LOW)
        c1, c2 = c2, c1
        torch.bitwise_right_shift(spare, 32, out=c2).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_LOW)
        c3, spare = spare, c3
    return c0, c1.bitwise_and_(_LOW), c2, c3.bitwise_and_(_LOW)


def _box_muller(words: tuple[Tensor, Tensor, Tensor, Tensor], out: Tensor) -> None:
    """Fill (n, b, 4) with normal numbers: words 0 and 1 give numbers 0 and 1, words 2 and 3 the others."""
    for i in (0, 2):
        radius = _uniform(words[i]).log_().mul_(-2.0).sqrt_()
        angle = _uniform(words[i + 1]).mul_(2 * math.pi)
        torch.mul(radius, angle.cos(), out=out[..., i])
        torch.mul(radius, angle.sin_(), out=out[..., i + 1])


def _uniform(words: Tensor) -> Tensor:
    """Uniform numbers in (0, 1] with 24 random bits, float32."""
    return words.bitwise_right_shift_(8).to(torch.float32).add_(0.5).mul_(2.0**-24)
