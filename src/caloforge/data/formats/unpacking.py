"""Chunks that are packed as ours, by several threads at once: HDF5 itself unpacks one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.data.packing import inflated
from caloforge.runtime.cores import usable_threads

__all__ = ["for_all", "is_packed", "unpacked_rows", "unpacking_threads"]

T = TypeVar("T")
FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
MOST_THREADS = 16
"""More would wait for the disk."""


def unpacking_threads() -> int:
    """Threads that unpack what one call reads."""
    return min(usable_threads(), MOST_THREADS)


def is_packed(stored: h5py.Dataset) -> bool:
    """Whether chunks of a data set are whole rows (V,) of float32 as `PackedEnergies` has them."""
    if stored.chunks is None or stored.ndim != 2 or stored.chunks[1] != stored.shape[1]:
        return False
    plist = stored.id.get_create_plist()
    filters = [plist.get_filter(place)[0] for place in range(plist.get_nfilters())]
    return bool(stored.dtype == np.dtype("<f4")) and filters == FILTERS


def unpacked_rows(stored: h5py.Dataset, start: int, stop: int) -> NDArray[np.float32]:
    """Rows start … stop − 1, all of one chunk; ValueError where the chunk is damaged."""
    rows, n_voxels = stored.chunks
    at = start // rows * rows
    skipped, block = stored.id.read_direct_chunk((at, 0))
    if skipped:  # filters, which HDF5 knows how to do without
        return np.asarray(stored[start:stop])
    return inflated(block, rows, n_voxels)[start - at : stop - at]


def for_all(work: Callable[[T], None], items: Sequence[T], threads: int) -> None:
    """Do the work for all items, by as many threads; raises the first error."""
    if threads == 1 or len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        for _ in pool.map(work, items):
            pass
