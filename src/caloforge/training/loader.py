"""Which showers are held out, and batches of them in an order that is a function of (seed, epoch) alone.

Showers that fit in memory are kept there; others are read from disk in windows of shuffled runs.
Legend: ``n`` showers, ``B`` showers of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.data.showers import Showers
from caloforge.data.sources import Energies
from caloforge.errors import TrainingError
from caloforge.models.base import Batch
from caloforge.runtime.memory import free_memory
from caloforge.runtime.seeds import derived_seed
from caloforge.runtime.share import Share

__all__ = ["ShowerLoader", "fits_in_memory", "hold_out"]

RUN = 256
WINDOW_BYTES = 256 << 20
SHARE = 0.25

Index = NDArray[np.int64]


def hold_out(showers: Showers, fraction: float, seed: int) -> tuple[Showers, Showers | None]:
    """Training and held-out showers, each in their order; which are which is a function of the seed.

    Args:
        showers: all showers.
        fraction: share that is held out, at least one shower; 0 for none, which is told by None.
        seed: seed of the choice.

    Raises:
        TrainingError: no shower is left to train on.
    """
    n = len(showers)
    n_held_out = max(1, round(n * fraction)) if fraction > 0 else 0
    if n - n_held_out < 1:
        raise TrainingError(f"{n} showers are too few to train on {n - n_held_out} and hold out {n_held_out}")
    if not n_held_out:
        return showers, None
    order = np.random.default_rng(derived_seed(seed, "split")).permutation(n)
    return showers[np.sort(order[n_held_out:])], showers[np.sort(order[:n_held_out])]


def _bytes(showers: Showers) -> int:
    return len(showers) * showers.n_voxels * 4


def fits_in_memory(showers: Showers) -> bool:
    """True where the showers, once for each process of a machine, take less than a quarter of free memory."""
    return _bytes(showers) * int(os.environ.get("LOCAL_WORLD_SIZE", "1")) < SHARE * free_memory()


class ShowerLoader:
    """Batches for training (`epoch`) and for validation (`in_order`), on one device.

    Args:
        showers: what to load.
        batch_size: B, over all processes.
        detectors: names that the detector index counts.
        device: where the batches are needed.
        in_memory: keep all energies in memory (on the device where they take less than a quarter of it).
        seed: seed of the order.
        prefetch: read the next window of a streamed epoch in a thread of its own.
        process, n_processes: this process takes its `Share` of every batch.
        given: the same showers on another mesh, which become ``Batch.given``.
    """

    def __init__(
        self,
        showers: Showers,
        batch_size: int,
        *,
        detectors: Sequence[str],
        device: torch.device,
        in_memory: bool,
        seed: int = 0,
        prefetch: bool = False,
        process: int = 0,
        n_processes: int = 1,
        given: Showers | None = None,
    ) -> None:
        self.given = given
        self.showers, self.detectors, self.device, self.seed = showers, detectors, device, seed
        self.batch_size = min(batch_size, len(showers))
        self._prefetch = prefetch
        self.share = Share(self.batch_size, process, n_processes)
        self._process = process, n_processes
        self._batch: Batch | None = None
        if in_memory:
            on_mesh = None if given is None else given.energies
            batch = Batch.with_energies(showers.energies, showers.conditions, detectors, given=on_mesh)
            if device.type == "cuda" and _bytes(showers) < SHARE * torch.cuda.mem_get_info(device)[0]:
                batch = batch.to(device)
            self._batch = batch

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; which showers are left over changes from epoch to epoch."""
        return len(self.showers) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of the shuffled batches of an epoch, from batch ``start`` on."""
        random = np.random.default_rng(derived_seed(self.seed, "order", epoch))
        if self._batch is not None:
            order = torch.from_numpy(random.permutation(len(self.showers))).to(self._batch.energy.device)
            for i in range(start, self.steps_per_epoch):
                index = order[i * self.batch_size : (i + 1) * self.batch_size][self.share.rows]
                yield self._batch[index].to(self.device, non_blocking=True)
        else:
            yield from self._streamed(self._windows(random), start)

    def in_order(self) -> Iterator[tuple[Share, Batch]]:
        """This process's share of all showers in order; the last batch may be smaller, a share empty."""
        for first in range(0, len(self.showers), self.batch_size):
            share = Share(min(self.batch_size, len(self.showers) - first), *self._process)
            start, stop = first + share.start, first + share.stop
            if self._batch is not None:
                yield share, self._batch[start:stop].to(self.device)
            else:
                energies = self.showers.read(start, stop)
                conditions = self.showers.conditions[start:stop]
                given = None if self.given is None else self.given.read(start, stop)
                yield share, Batch.with_energies(energies, conditions, self.detectors, self.device, given)

    def _windows(self, random: np.random.Generator) -> list[Index]:
        """Shuffled runs of neighbouring showers, cut into windows of whole batches and shuffled in them."""
        n, shower_bytes = len(self.showers), self.showers.n_voxels * 4
        runs = np.split(np.arange(n), np.arange(RUN, n, RUN))
        order = np.concatenate([runs[i] for i in random.permutation(len(runs))])
        size = self.batch_size * max(1, WINDOW_BYTES // (shower_bytes * self.batch_size))
        return [random.permutation(order[i : i + size]) for i in range(0, n, size)]

    def _streamed(self, windows: list[Index], start: int) -> Iterator[Batch]:
        first, todo = 0, []
        for window in windows:
            n_batches = len(window) // self.batch_size
            skipped = max(start - first, 0)
            if skipped < n_batches:
                batches = window[: n_batches * self.batch_size].reshape(n_batches, -1)
                todo.append(batches[skipped:, self.share.rows].ravel())
            first += n_batches
        with ThreadPoolExecutor(1) as pool:
            ahead: Future[tuple[Energies, Energies | None]] | None = None
            for i, window in enumerate(todo):
                energies, given = self._read(window) if ahead is None else ahead.result()
                if self._prefetch and i + 1 < len(todo):
                    ahead = pool.submit(self._read, todo[i + 1])
                conditions = self.showers.conditions[window]
                batch = Batch.with_energies(energies, conditions, self.detectors, given=given)
                for j in range(0, len(window), len(self.share)):
                    yield batch[j : j + len(self.share)].to(self.device, non_blocking=True)

    def _read(self, window: Index) -> tuple[Energies, Energies | None]:
        given = None if self.given is None else self.given[window].energies
        return self.showers[window].energies, given
