"""Tables of numbers of showers, which may be larger than memory.

Legend: ``N`` showers, ``n`` of them in a batch, ``C`` columns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from caloforge.errors import DataError

__all__ = ["MEMORY_LIMIT", "Columns", "allocate", "row_blocks"]

MEMORY_LIMIT = 512 << 20
"""Tables of more bytes than this lie in a temporary file: features of 185,000 showers of 45 layers."""
_BLOCK = 8192

Floats = NDArray[np.float64]


def allocate(rows: int, columns: int, memory_limit: float | None, dtype: DTypeLike = np.float64) -> Any:
    """A table (rows, columns) in memory, or in an unnamed temporary file beyond the limit, bytes.

    Raises:
        DataError: the temporary folder is full.
    """
    size = np.dtype(dtype).itemsize * rows * columns
    if memory_limit is None or size <= memory_limit:
        return np.empty((rows, columns), dtype=dtype)
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a crash later
        except OSError as error:
            raise DataError(
                f"a table needs {size >> 20} MiB in {tempfile.gettempdir()}: {error.strerror}; "
                "make room or set TMPDIR to another folder"
            ) from error
        return np.memmap(file, dtype=dtype, mode="r+", shape=(rows, columns))


def row_blocks(n: int) -> Iterator[slice]:
    """Slices of n rows, each of so few that what is made of them on the way takes little memory."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


class Columns:
    """Numbers of N showers by name, which come in batches.

    Args:
        n: showers that will come.
        memory_limit: bytes; a larger table lies in an unnamed temporary file.
    """

    def __init__(self, n: int, memory_limit: float = MEMORY_LIMIT) -> None:
        self._n, self._limit, self._filled = n, memory_limit, 0
        self._names: list[str] | None = None
        self._table: Floats = np.empty((0, n))

    def append(self, part: Mapping[str, NDArray[Any]]) -> None:
        """Add n showers, each column (n,)."""
        if self._names is None:
            self._names = list(part)
            self._table = allocate(len(part), self._n, self._limit)
        for row, name in zip(self._table, self._names, strict=True):
            values = part[name]
            row[self._filled : self._filled + len(values)] = values
        self._filled += len(next(iter(part.values()), ()))

    def columns(self) -> dict[str, Floats]:
        """What has come, each column (N,), contiguous."""
        return dict(zip(self._names or (), self._table[:, : self._filled], strict=True))
