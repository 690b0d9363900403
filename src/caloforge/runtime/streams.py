"""Counter-based random numbers: every number is a function of (seed, shower number, stream, position).

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC'11). Its key is the seed, its counter (block, stream, shower number), so that a shower's numbers do not
depend on which other showers are made, in what order, or on how many workers.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import ConditionError

__all__ = ["checked_count", "checked_seed", "generator", "normals", "philox", "stream_id", "uniforms"]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MOST_SHOWERS, MOST_NUMBER = 10**8, 2**62
_CACHED_WORDS = 1 << 16


def checked_seed(seed: object) -> int:
    """The seed as a plain int; ConditionError unless it is a whole number from 0 to 2^64 - 1."""
    try:
        number = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise ConditionError(f"a seed must be a whole number from 0 to 2^64 - 1, got {seed!r}")
    return number


def checked_count(n: int, first: int = 0) -> int:
    """``n`` showers from number ``first`` on; ConditionError where they are none, or too many for a file."""
    if n < 1:
        raise ConditionError(f"no showers were asked for: n must be at least 1, got {n}")
    if n > MOST_SHOWERS:
        raise ConditionError(f"{n:,} showers are too many for one file; make {MOST_SHOWERS:,} at a time")
    if not 0 <= first <= MOST_NUMBER - n:
        raise ConditionError(f"numbers of showers must be from 0 to {MOST_NUMBER:,}, got {first:,} and more")
    return n


def stream_id(name: str) -> int:
    """32-bit number of a named stream, so that different uses of one seed never share numbers."""
    return zlib.crc32(name.encode())


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10 of counters (..., 4) that hold 32-bit words, with a key of two words: (..., 4)."""
    c0, c1, c2, c3 = (np.array(counter[..., i], dtype=np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        # a round takes (c0, c1, c2, c3) to (hi(p1) ^ c1 ^ k0, lo(p1), hi(p0) ^ c3 ^ k1, lo(p0))
        c0 *= _MULTIPLIERS[0]
        c2 *= _MULTIPLIERS[1]
        c1 ^= np.uint64(k0)
        c1 ^= c2 >> _SHIFT
        c3 ^= np.uint64(k1)
        c3 ^= c0 >> _SHIFT
        c0 &= _LOW
        c2 &= _LOW
        c0, c1, c2, c3 = c1, c2, c3, c0
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    result = np.empty(counter.shape, dtype=np.uint32)
    for i, word in enumerate((c0, c1, c2, c3)):
        result[..., i] = word
    return result


def _words(seed: int, numbers: NDArray[np.uint64], stream: str, n: int) -> NDArray[np.uint32]:
    """The first ``n`` words of showers (N,): (N, n)."""
    blocks = -(-n // 4)
    counter = np.empty((len(numbers), blocks, 4), dtype=np.uint64)
    counter[..., 0] = np.arange(blocks, dtype=np.uint64)
    counter[..., 1] = stream_id(stream)
    counter[..., 2] = (numbers & _LOW)[:, None]
    counter[..., 3] = (numbers >> _SHIFT)[:, None]
    seed = operator.index(seed) & 0xFFFFFFFFFFFFFFFF
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(len(numbers), blocks * 4)[:, :n]


def _pieces(showers: ArrayLike, n: int) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """Shower numbers in pieces whose words stay in the processor's cache; the numbers do not depend on it."""
    numbers = np.asarray(showers, dtype=np.uint64).reshape(-1)
    rows = max(1, _CACHED_WORDS // max(n, 1))
    for start in range(0, len(numbers), rows):
        yield slice(start, start + rows), numbers[start : start + rows]


def uniforms(seed: int, showers: ArrayLike, stream: str, n: int) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) for shower numbers (N,): (N, n), float64 with 32 random bits each."""
    result = np.empty((np.size(showers), n), dtype=np.float64)
    for rows, numbers in _pieces(showers, n):
        result[rows] = (_words(seed, numbers, stream, n).astype(np.float64) + 0.5) * 2.0**-32
    return result


def normals(seed: int, showers: ArrayLike, stream: str, n: int) -> NDArray[np.float32]:
    """Standard normal numbers for shower numbers (N,): (N, n), float32, by Box and Muller's method.

    Words 2i and 2i + 1 give numbers 2i and 2i + 1. The radius uses 24 bits, so |x| < 5.9.
    """
    even = n + n % 2
    result = np.empty((np.size(showers), even), dtype=np.float32)
    for rows, numbers in _pieces(showers, n):
        words = _words(seed, numbers, stream, even)
        u = ((words >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
        radius = np.sqrt(np.float32(-2) * np.log(u[:, 0::2]))
        angle = np.float32(2 * np.pi) * u[:, 1::2]
        result[rows, 0::2] = radius * np.cos(angle)
        result[rows, 1::2] = radius * np.sin(angle)
    return result[:, :n]


def generator(seed: int, number: int, stream: str) -> np.random.Generator:
    """numpy's generator (Philox) for one event, where how many numbers it needs is not known."""
    counter = np.array([0, 0, 0, number], dtype=np.uint64)
    key = np.array([operator.index(seed) & 0xFFFFFFFFFFFFFFFF, stream_id(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
