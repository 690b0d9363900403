"""Showers by several processes of one thread each.

Threads that share one operation wait for each other at its end, some thousand times a block, and all of them
for one whose core another program has. Blocks do not depend on each other: processes make them side by side,
each gets the next one when it has finished one, and showers are the same to the last bit. A process pays
only where there is work for longer than it takes to start, and it counts only once it has made a block that
this process made as well: where a bit differs it is not used.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import selectors
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from caloforge.generation.blocks import Block, BlockDecoder, Energies
from caloforge.generation.request import GenerationRequest
from caloforge.runtime.cores import usable_threads
from caloforge.runtime.memory import free_memory, peak_memory_mib
from caloforge.runtime.processes import Child, ChildError
from caloforge.runtime.signals import Interrupt

__all__ = ["BlockWorkers", "most_workers"]

START_SECONDS = 5.0
"""What starting a process costs: each must have work for longer."""
AHEAD = 8
"""Blocks per process that may be finished while one before them is not."""
log = logging.getLogger(__name__)


def most_workers(request: GenerationRequest, threads: int | None) -> int:
    """Processes that may make the showers: ``threads``, or as many as there are usable cores; 1 on a GPU.

    One of a pool of processes that the user started is left alone, and so are models that are known to the
    user's script only.
    """
    alone = multiprocessing.parent_process() is not None and threads is None
    if request.device.type != "cpu" or alone or type(request.model).__module__ == "__main__":
        return 1
    return threads or usable_threads()


class BlockWorkers:
    """Processes that make blocks of a request; a context, at whose end they are stopped.

    Args:
        decoder: makes blocks in this process, and counts all showers.
        most: processes at most.
    """

    def __init__(self, decoder: BlockDecoder, most: int) -> None:
        self._decoder, self._most = decoder, most
        self._stack, self._selector = ExitStack(), selectors.DefaultSelector()
        self._starting: set[Child] = set()
        self._idle: list[Child] = []
        self._busy: dict[Child, tuple[int, int]] = {}
        self._finished: dict[int, Energies] = {}
        self._peaks: dict[Child, float] = {}
        self._proof: tuple[Block, Energies] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        self._stack.__exit__(kind, error, trace)

    def __len__(self) -> int:
        """Processes that make showers, not counting this one."""
        return len(self._idle) + len(self._busy)

    @property
    def peak_memory_mib(self) -> float:
        """Largest memory of all of them, summed, MiB."""
        return sum(self._peaks.values())

    def start_if_it_pays(self, block: Block, energies: Energies, seconds: float, left: int) -> None:
        """Start as many as have enough to do, once.

        Args:
            block: one that this process made,
            energies: of it,
            seconds: in this time.
            left: blocks that are still to be made.
        """
        if self._proof is not None:
            return
        memory = peak_memory_mib(self._decoder.request.device) * 2**20  # each takes about as much as this one
        paying = seconds * left / START_SECONDS if START_SECONDS else left
        n = int(min(self._most, left, free_memory() // memory, paying))
        if n < 2:
            return
        self._proof = block, energies.copy()
        for _ in range(n):
            try:
                child = self._stack.enter_context(Child("caloforge.generation.worker"))
            except OSError as error:
                log.warning("showers are made by fewer processes: %s", error)
                break
            self._starting.add(child)
            self._selector.register(child, selectors.EVENT_READ)

    def ready(self) -> bool:
        """Whether any process can make showers by now."""
        if self._starting:
            self._listen(0)
        return len(self) > 0

    def blocks(self, spans: deque[tuple[int, int]], interrupt: Interrupt) -> Iterator[tuple[int, Energies]]:
        """Take the spans, make their blocks and yield each's first position and energies, in order.

        After an interrupt those under way are finished.

        Raises:
            ChildError: a process ended; all that was yielded is good.
            CheckpointError: energies are not legal.
        """
        under_way: deque[int] = deque()
        began = time.perf_counter()
        while True:
            while self._idle and spans and not interrupt.signal and len(under_way) < AHEAD * len(self):
                under_way.append(spans[0][0])
                self._order(self._idle.pop(), spans.popleft())
            if not under_way:
                return
            if under_way[0] not in self._finished:
                self._listen(None)
                continue
            low = under_way.popleft()
            energies = self._finished.pop(low)
            now = time.perf_counter()
            self._decoder.count(len(energies), now - began)
            began = now
            self._decoder.check(energies, low)
            yield low, energies

    def _order(self, child: Child, span: tuple[int, int]) -> None:
        self._busy[child] = span
        child.send({}, pickle.dumps(self._decoder.block(*span)))

    def _listen(self, timeout: float | None) -> None:
        """Hear the processes that have something to say; wait for one unless ``timeout`` is 0."""
        for key, _ in self._selector.select(timeout):
            child = key.fileobj
            assert isinstance(child, Child)
            try:
                for message in child.receive():
                    self._hear(child, message)
            except ChildError as error:
                self._selector.unregister(child)
                if child not in self._starting:
                    raise
                self._starting.remove(child)
                log.warning("a process that was to make showers did not start: %s", error)

    def _hear(self, child: Child, message: dict[str, Any]) -> None:
        assert self._proof is not None
        if "started" in message:
            request = self._decoder.request
            child.send({"path": _module_path(request)}, pickle.dumps((request.checkpoint, request.seed)))
            child.send({}, pickle.dumps(self._proof[0]))
            return
        energies = np.frombuffer(message["bytes"], np.float32).reshape(
            -1, self._decoder.request.mesh.n_voxels
        )
        self._peaks[child] = message["peak_memory_mib"]
        if child in self._busy:
            self._finished[self._busy.pop(child)[0]] = energies
        else:
            self._starting.remove(child)
            if not np.array_equal(energies, self._proof[1]):
                self._selector.unregister(child)
                log.warning("a process gave other showers than this one and is not used")
                return
        self._idle.append(child)


def _module_path(request: GenerationRequest) -> list[str]:
    """Where modules are looked for, for a model that is not ours."""
    ours = type(request.model).__module__.startswith("caloforge.")
    return [] if ours else [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100
