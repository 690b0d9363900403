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

START_SECONDS = 8.0
"""Work that each process must have: beside another program on two cores, less would not pay for its start."""
WARM = 2
"""Blocks made by this process before it is decided whether others pay."""
ORDERS = 2
"""Blocks that a process has before it, so that it need not wait while this one makes a block."""
AHEAD = 8
"""Blocks per process that may be finished while one before them is not."""
log = logging.getLogger(__name__)


def most_workers(request: GenerationRequest, threads: int | None) -> int:
    """Processes that may make the showers: ``threads``, or as many as there are usable cores; 1 on a GPU.

    One of a pool of processes that the user started is left alone, and so are models that are known to the
    user's script only.
    """
    alone = multiprocessing.parent_process() is not None and threads is None
    if request.model.device.type != "cpu" or alone or type(request.model).__module__ == "__main__":
        return 1
    return threads or usable_threads()


class BlockWorkers:
    """Makes the blocks of a request, alone or with other processes; a context, at whose end they are stopped.

    Args:
        decoder: makes blocks in this process, and counts all showers.
        most: processes at most, this one included.
        interrupt: a signal in it lets no further blocks begin.

    Attributes:
        wanted: showers to make in all.
    """

    def __init__(self, decoder: BlockDecoder, most: int, interrupt: Interrupt) -> None:
        self._decoder, self._most, self._interrupt = decoder, most, interrupt
        self.wanted = len(decoder.request)
        self._stack, self._selector = ExitStack(), selectors.DefaultSelector()
        self._starting: set[Child] = set()
        self._orders: dict[Child, deque[int]] = {}
        self._under_way: deque[int] = deque()
        self._finished: dict[int, Energies] = {}
        self._peaks: dict[Child, float] = {}
        self._proof: tuple[Block, Energies] | None = None
        self._made_here = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        self._stack.__exit__(kind, error, trace)

    def __len__(self) -> int:
        """Processes that make showers, with this one."""
        return 1 + len(self._orders)

    @property
    def peak_memory_mib(self) -> float:
        """Largest memory of all of them, summed, MiB."""
        return peak_memory_mib(self._decoder.request.model.device) + sum(self._peaks.values())

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, Energies]]:
        """First position and energies (n, V) of each block of the showers start … stop − 1, in order.

        After an interrupt those under way are finished.

        Raises:
            ChildError: a process ended; all that was yielded is good.
            CheckpointError: energies are not legal.
        """
        spans = deque(self._decoder.spans(start, stop))
        began = time.perf_counter()
        while True:
            if self._starting or self._orders:
                self._listen(0)
            if self._interrupt.signal:
                spans.clear()
            self._hand_out(spans)
            if self._under_way and self._under_way[0] in self._finished:
                low = self._under_way.popleft()
                energies = self._finished.pop(low)
                self._decoder.check(energies, low)
                self._decoder.count(len(energies), time.perf_counter() - began)
                began = time.perf_counter()
                yield low, energies
                if not self._orders:  # what is done with the showers meanwhile does not count
                    began = time.perf_counter()
            elif spans and len(self._finished) < AHEAD * len(self):
                self._make_here(*spans.popleft())
            elif self._under_way:
                self._listen(None)
            else:
                return

    def _make_here(self, low: int, high: int) -> None:
        """Make a block in this process; the second one, when all is warm, tells whether others pay."""
        began, request = time.perf_counter(), self._decoder.request
        self._under_way.append(low)
        block = self._decoder.block(low, high)
        self._finished[low] = self._decoder.energies(block)
        self._made_here += 1
        if self._made_here == WARM:
            left = -(-(self.wanted - self._decoder.n_made) // request.block_size) - 1
            self._start(block, self._finished[low], time.perf_counter() - began, left)

    def _start(self, block: Block, energies: Energies, seconds: float, left: int) -> None:
        """Start as many processes as have enough to do, of ``left`` blocks that take ``seconds`` each."""
        size = peak_memory_mib(self._decoder.request.model.device) * 2**20  # about that of this one
        paying = seconds * left / START_SECONDS if START_SECONDS else left
        n = int(min(self._most, paying, 1 + free_memory() // size))
        self._proof = block, energies
        for _ in range(n - 1):
            try:
                child = self._stack.enter_context(Child("caloforge.generation.worker"))
            except OSError as error:
                log.warning("showers are made by fewer processes: %s", error)
                return
            self._starting.add(child)
            self._selector.register(child, selectors.EVENT_READ)

    def _hand_out(self, spans: deque[tuple[int, int]]) -> None:
        """Give the next blocks to processes that have none, or one as long as there are many."""
        if len(self._finished) >= AHEAD * len(self):
            return
        for depth in range(1, ORDERS + 1):
            for child, orders in self._orders.items():
                if len(orders) < depth and len(spans) > (depth - 1) * len(self):
                    low, high = spans.popleft()
                    orders.append(low)
                    self._under_way.append(low)
                    child.send({}, pickle.dumps(self._decoder.block(low, high)))

    def _listen(self, timeout: float | None) -> None:
        """Hear the processes that have something to say; wait for one unless ``timeout`` is 0."""
        for key, _ in self._selector.select(timeout):
            child = key.fileobj
            assert isinstance(child, Child)
            try:
                for message in child.receive():
                    self._hear(child, message)
            except ChildError as error:
                if child not in self._starting:
                    raise
                self._drop(child, f"a process that was to make showers did not start: {error}")

    def _hear(self, child: Child, message: dict[str, Any]) -> None:
        assert self._proof is not None
        request = self._decoder.request
        if "started" in message:
            execution = request.model.execution  # "mixed", "none": what the settings say
            how = [
                known if known in ("float32", "bfloat16", "compiled", "fused", "plain") else "auto"
                for known in (execution.precision, execution.kernels)
            ]
            setting = {"path": _module_path(request), "execution": how, "seed": request.seed}
            child.send(setting, pickle.dumps(request.checkpoint))
            child.send({}, pickle.dumps(self._proof[0]))
            return
        energies = np.frombuffer(message["bytes"], np.float32).reshape(-1, request.mesh.n_voxels)
        self._peaks[child] = message["peak_memory_mib"]
        if child in self._orders:
            self._finished[self._orders[child].popleft()] = energies
        elif np.array_equal(energies, self._proof[1]):
            self._starting.remove(child)
            self._orders[child] = deque()
        else:
            self._drop(child, "a process gave other showers than this one and is not used")

    def _drop(self, child: Child, why: str) -> None:
        self._starting.remove(child)
        self._selector.unregister(child)
        log.warning("%s", why)


def _module_path(request: GenerationRequest) -> list[str]:
    """Where modules are looked for, for a model that is not ours."""
    ours = type(request.model).__module__.startswith("caloforge.")
    return [] if ours else [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100
