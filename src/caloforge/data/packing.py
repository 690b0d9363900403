"""Energies as an HDF5 file holds them, so that they are compressed once and then only moved.

Legend: ``n`` showers, ``V`` voxels. A block of rows becomes what HDF5's filters "shuffle" and "gzip" make of
it: the first bytes of all numbers, the second bytes, …, deflated. Blocks begin at multiples of `chunk_rows`,
where the chunks of a file begin, so that full ones can be moved into it as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPRESSION", "PackedEnergies", "chunk_rows"]

COMPRESSION = 1
"""Level of gzip."""
CHUNK_BYTES = 1 << 20


def chunk_rows(row_bytes: int) -> int:
    """Rows of a chunk of a data set: about a MiB, 4096 at most."""
    return int(np.clip(CHUNK_BYTES // max(1, row_bytes), 1, 4096))


@dataclass(frozen=True)
class PackedEnergies:
    """Energies (n, V), MeV, float32, of consecutive showers, in compressed blocks.

    Attributes:
        n_voxels: V.
        rows: showers of each block, (k,).
        sizes: bytes of each block, (k,).
        content: the blocks one after the other, (sum of sizes,) uint8.
    """

    n_voxels: int
    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    content: NDArray[np.uint8]

    @classmethod
    def pack(cls, energies: NDArray[np.float32], start: int = 0, threads: int = 1) -> Self:
        """Pack energies (n, V), the first of which will be shower ``start`` of its file."""
        n, n_voxels = energies.shape
        rows = chunk_rows(4 * n_voxels)
        borders = [0, *range(rows - start % rows, n, rows), n]
        parts = [energies[low:high] for low, high in pairwise(borders)]
        with ThreadPoolExecutor(threads) as pool:
            blocks = list(pool.map(_deflated, parts) if threads > 1 else map(_deflated, parts))
        sizes = np.array([len(block) for block in blocks], dtype=np.int64)
        return cls(
            n_voxels,
            np.diff(borders).astype(np.int64),
            sizes,
            np.frombuffer(b"".join(blocks), dtype=np.uint8),
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]]) -> Self:
        """The energies whose `columns` these are."""
        return cls(int(columns["n_voxels"]), columns["rows"], columns["sizes"], columns["content"])

    @staticmethod
    def others(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What was stored beside `columns`."""
        return {
            name: x for name, x in columns.items() if name not in ("n_voxels", "rows", "sizes", "content")
        }

    def columns(self) -> dict[str, NDArray[Any]]:
        """Named arrays to store them by."""
        return {
            "n_voxels": np.array(self.n_voxels),
            "rows": self.rows,
            "sizes": self.sizes,
            "content": self.content,
        }

    def __len__(self) -> int:
        return int(self.rows.sum())

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Number of rows and compressed bytes of each block."""
        at = 0
        for rows, size in zip(self.rows.tolist(), self.sizes.tolist(), strict=True):
            yield rows, self.content[at : at + size].tobytes()
            at += size

    def unpack(self) -> NDArray[np.float32]:
        """The energies, (n, V)."""
        parts = [inflated(block, rows, self.n_voxels) for rows, block in self.blocks()]
        return np.concatenate([np.empty((0, self.n_voxels), dtype=np.float32), *parts])


def _deflated(energies: NDArray[np.float32]) -> bytes:
    numbers = np.ascontiguousarray(energies, dtype=np.float32).view(np.uint8).reshape(-1, 4)
    return zlib.compress(numbers.T.tobytes(), COMPRESSION)


def inflated(block: bytes, rows: int, n_voxels: int) -> NDArray[np.float32]:
    """Energies (rows, V) of a block; ValueError where it is damaged or holds another number of them."""
    try:
        content = zlib.decompress(block, bufsize=4 * rows * n_voxels)
    except zlib.error as error:
        raise ValueError(f"a block cannot be unpacked, {error}") from error
    shuffled = np.frombuffer(content, dtype=np.uint8).reshape(4, rows * n_voxels)
    return np.stack(list(shuffled), axis=1).view(np.float32).reshape(rows, n_voxels)  # faster than .T
