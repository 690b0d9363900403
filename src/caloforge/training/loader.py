"""What is held out, and batches in an order that is a function of (seed, epoch) alone.

What fits in memory is kept there, and the rest is read from disk when it is due: the order is the same, so
that neither the memory of a machine nor the number of processes changes a training. Samples beyond
`WHOLE_BYTES` are shuffled in windows of runs of neighbours from anywhere, of which one (or two) is in memory
at a time. Showers and pixel events are loaded alike; a subclass of `Loader` says how some of them are read.
Legend: ``n`` showers or events, ``B`` of a batch.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.data.pixels import PixelEvents
from caloforge.data.showers import Showers
from caloforge.errors import TrainingError
from caloforge.models.base import Batch
from caloforge.models.pixels.batch import PixelBatch, SparseEvents
from caloforge.runtime.memory import free_memory
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.share import Share

__all__ = ["EventLoader", "Loader", "ShowerLoader", "fits_in_memory", "hold_out"]

WHOLE_BYTES = 1 << 30
"""What takes no more is shuffled as a whole."""
WINDOW_BYTES = 256 << 20
RUN = 64
"""Neighbours that are read together: fewer are shuffled better and read slower, since chunks are whole."""
SHARE = 0.25

Index = NDArray[np.int64]


class Sample(Protocol):
    """What is trained on: `Showers` or `PixelEvents`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Self: ...

    @property
    def n_bytes(self) -> int:
        """Memory that all take."""
        ...


class Rows(Protocol):
    """Some of them in memory, on one device."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Tensor, /) -> Self: ...

    @property
    def index_device(self) -> torch.device:
        """Where an index of them has to be, so that no GPU is waited for."""
        ...

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self: ...


S = TypeVar("S", bound=Sample)
R = TypeVar("R", bound=Rows)
B = TypeVar("B")


def hold_out(sample: S, fraction: float, seed: int) -> tuple[S, S | None]:
    """What is trained on and what is held out, each in its order; which is which is a function of the seed.

    Args:
        sample: all of it.
        fraction: share that is held out, at least one shower; 0 for none, which is told by None.
        seed: seed of the choice.

    Raises:
        TrainingError: nothing is left to train on.
    """
    n = len(sample)
    n_held_out = max(1, round(n * fraction)) if fraction > 0 else 0
    if n - n_held_out < 1:
        raise TrainingError(f"{n} showers are too few to train on {n - n_held_out} and hold out {n_held_out}")
    if not n_held_out:
        return sample, None
    order = np.random.default_rng(derived_seed(seed, "split")).permutation(n)
    return sample[np.sort(order[n_held_out:])], sample[np.sort(order[:n_held_out])]


def fits_in_memory(sample: Sample) -> bool:
    """True where the sample, once for each process of a machine, takes less than a quarter of free memory."""
    return sample.n_bytes * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) < SHARE * free_memory()


class Loader(ABC, Generic[R, B]):
    """Batches for training (`epoch`) and for validation (`in_order`), on one device.

    Args:
        sample: what to load.
        batch_size: B, over all processes.
        device: where the batches are needed.
        in_memory: keep all in memory (on the device where they take less than a quarter of it).
        seed: seed of the order.
        prefetch: read the next window of a streamed epoch in a thread of its own.
        process, n_processes: this process takes its `Share` of every batch.
    """

    def __init__(
        self,
        sample: Sample,
        batch_size: int,
        *,
        device: torch.device,
        in_memory: bool,
        seed: int = 0,
        prefetch: bool = False,
        process: int = 0,
        n_processes: int = 1,
    ) -> None:
        self.n, self._bytes = len(sample), sample.n_bytes
        self.device, self.seed = device, seed
        self.batch_size = min(batch_size, self.n)
        self._prefetch = prefetch
        self.share = Share(self.batch_size, process, n_processes)
        self._process = process, n_processes
        self._held: R | None = None
        if in_memory:
            self._held = self._read(slice(0, self.n))
            if device.type == "cuda" and self._bytes < SHARE * torch.cuda.mem_get_info(device)[0]:
                self._held = self._held.to(device)

    @abstractmethod
    def _read(self, rows: slice | Index) -> R:
        """These rows, which a slice names by start and stop, in CPU memory."""

    @abstractmethod
    def _batch(self, rows: R) -> B:
        """What a model is given of rows that are on the device."""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; which showers are left over changes from epoch to epoch."""
        return self.n // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[B]:
        """This process's share of the shuffled batches of an epoch, from batch ``start`` on."""
        windows = self._windows(np.random.default_rng(derived_seed(self.seed, "order", epoch)))
        if self._held is None:
            yield from self._streamed(windows, start)
            return
        order = torch.from_numpy(np.concatenate(windows)).to(self._held.index_device)
        for i in range(start, self.steps_per_epoch):
            index = order[i * self.batch_size : (i + 1) * self.batch_size][self.share.rows]
            yield self._batch(self._held[index].to(self.device, non_blocking=True))

    def in_order(self) -> Iterator[tuple[Share, B]]:
        """This process's share of all showers in order; the last batch may be smaller, a share empty."""
        for first in range(0, self.n, self.batch_size):
            share = Share(min(self.batch_size, self.n - first), *self._process)
            rows = slice(first + share.start, first + share.stop)
            some = self._read(rows) if self._held is None else self._held[rows]
            yield share, self._batch(some.to(self.device))

    def _windows(self, random: np.random.Generator) -> list[Index]:
        """The order of an epoch, in the parts in which it is read.

        A large sample is cut into runs of neighbours, these are shuffled and joined to windows of whole
        batches, and each window is shuffled.
        """
        if self._bytes <= WHOLE_BYTES:
            return [random.permutation(self.n)]
        batch_bytes = max(1, self._bytes * self.batch_size // self.n)
        runs = np.split(np.arange(self.n), np.arange(RUN, self.n, RUN))
        order = np.concatenate([runs[i] for i in random.permutation(len(runs))])
        size = self.batch_size * max(1, WINDOW_BYTES // batch_bytes)
        return [random.permutation(order[i : i + size]) for i in range(0, self.n, size)]

    def _streamed(self, windows: list[Index], start: int) -> Iterator[B]:
        first, todo = 0, []
        for window in windows:
            n_batches = len(window) // self.batch_size
            skipped = max(start - first, 0)
            if skipped < n_batches:
                batches = window[: n_batches * self.batch_size].reshape(n_batches, -1)
                todo.append(batches[skipped:, self.share.rows].ravel())
            first += n_batches
        with ThreadPoolExecutor(1) as pool:
            ahead: Future[R] | None = None
            for i, window in enumerate(todo):
                read = self._read(window) if ahead is None else ahead.result()
                if self._prefetch and i + 1 < len(todo):
                    ahead = pool.submit(self._read, todo[i + 1])
                for j in range(0, len(window), len(self.share)):
                    some = read[j : j + len(self.share)]
                    yield self._batch(some.to(self.device, non_blocking=True))


class ShowerLoader(Loader[Batch, Batch]):
    """Batches of showers.

    Args:
        showers: what to load.
        batch_size: B, over all processes.
        detectors: names that the detector index counts.
        given: the same showers on another mesh, which become ``Batch.given``.
        how: see `Loader`.
    """

    def __init__(
        self,
        showers: Showers,
        batch_size: int,
        *,
        detectors: Sequence[str],
        given: Showers | None = None,
        **how: Any,
    ) -> None:
        self.showers, self.detectors, self.given = showers, detectors, given
        super().__init__(showers, batch_size, **how)

    def _read(self, rows: slice | Index) -> Batch:
        given = None if self.given is None else _energies(self.given, rows)
        return Batch.with_energies(
            _energies(self.showers, rows), self.showers.conditions[rows], self.detectors, given=given
        )

    def _batch(self, rows: Batch) -> Batch:
        return rows


class EventLoader(Loader[SparseEvents, PixelBatch]):
    """Batches of pixel events, which are kept sparse and become images on the device; see `Loader`."""

    def __init__(self, events: PixelEvents, batch_size: int, **how: Any) -> None:
        self.events = events
        super().__init__(events, batch_size, **how)

    def _read(self, rows: slice | Index) -> SparseEvents:
        return SparseEvents.of(self.events[rows])

    def _batch(self, rows: SparseEvents) -> PixelBatch:
        return rows.dense()


def _energies(showers: Showers, rows: slice | Index) -> NDArray[np.float32]:
    return showers.read(rows.start, rows.stop) if isinstance(rows, slice) else showers[rows].energies
