"""A model that makes showers for several processes of one user on one machine.

A thread for each client reads an order, waits until there is room for its showers in memory, and sends them;
a client with an order under way is not read from, so that it has to wait in its turn. Other threads take what
has been ordered, in turn, and let the model make it. A client that dies loses its own showers and nothing
else.

A block holds showers of one order, so that they do not depend, in the last bits, on what others order at the
same time; ``merge`` lets blocks hold those of several, which is quicker where orders are small.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import CaloforgeError, CheckpointError, SimulationError
from caloforge.fast import MEMORY_MIB
from caloforge.fast.maker import Piece, ShowerMaker
from caloforge.fast.orders import MOST_SHOWERS, Order, order_bytes
from caloforge.runtime.devices import cpu_threads
from caloforge.runtime.processes import Channel, Message, MessageError

__all__ = ["ShowerServer", "Tally"]

MOST_CLIENTS = 256
MOST_PATH = 107
"""Bytes of the name of a socket, which the system limits."""
COPIES = 3
"""Of showers that are made at a time: as the model made them, in order, and on their way."""
PATIENCE_SECONDS = 60
"""After so long without taking anything of an answer a client is taken for dead."""
ENDED = "the server was stopped"


@dataclass
class Tally:
    """What a server has made.

    Attributes:
        orders, showers, blocks: how many; a block is what the model was given at once.
    """

    orders: int = 0
    showers: int = 0
    blocks: int = 0


@dataclass(eq=False)
class _Job:
    """An order under way: its showers (n, V), how many are missing, and why it failed."""

    order: Order
    energies: NDArray[np.float32]
    given_out: int = 0
    missing: int = 0
    error: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def fail(self, why: str) -> None:
        self.error = why
        self.done.set()


class ShowerServer:
    """Makes showers for those who connect to its socket; a context.

    Args:
        maker: the model.
        path: of the socket to make.
        threads: blocks that the model makes side by side, each in a thread of its own.
        memory_mib: memory that showers under way may take, beside the model itself.
        merge: let the model make showers of several orders at once.

    Attributes:
        tally: what was made.

    Raises:
        SimulationError: there is a server, or something else, of that name, or the memory is too little.
    """

    def __init__(
        self,
        maker: ShowerMaker,
        path: Path,
        *,
        threads: int = 1,
        memory_mib: int = MEMORY_MIB,
        merge: bool = False,
    ) -> None:
        self.maker, self.path, self.merge, self.tally = maker, path, merge, Tally()
        self._room = memory_mib << 20
        self._shower_bytes = (
            4 * COPIES * max(maker.checkpoint.mesh_of(d).n_voxels for d in maker.model.detectors)
        )
        most = min(MOST_SHOWERS, self._room // self._shower_bytes)
        if most < 1:
            raise SimulationError(
                f"{memory_mib} MiB are not enough for one shower, which takes {self._shower_bytes >> 10} KiB"
            )
        self.offer = maker.offer(most)
        self._threads = threads if maker.model.execution.device.type == "cpu" else 1
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._clients: set[socket.socket] = set()
        self._running: list[threading.Thread] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._listener = _listening(self.path)
        self._inode = self.path.stat().st_ino
        self._stack.enter_context(cpu_threads(1 if self.offer.execution["device"] == "cpu" else None))
        for task in (self._accept, *[self._work] * self._threads):
            self._start(task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let nobody begin anything else, finish the blocks under way, and leave no socket."""
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        with self._changed:
            self._stopping = True
            for job in self._jobs:
                job.fail(ENDED)
            self._jobs.clear()
            self._changed.notify_all()
            for end in (self._listener, *self._clients):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
        for thread in self._running:
            thread.join()
        self._listener.close()
        self._stack.close()

    def _start(self, task: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._running = [*(t for t in self._running if t.is_alive()), thread]
        thread.start()

    def _accept(self) -> None:
        """Take clients until the end."""
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                if self._stopping:
                    return
                continue
            with self._changed:
                refused = "has ended" if self._stopping else _stranger(end)
                if not refused and len(self._clients) >= MOST_CLIENTS:
                    refused = f"has {MOST_CLIENTS} clients already"
                if not refused:
                    self._clients.add(end)
                    self._start(self._attend, end)
                    continue
            with suppress(OSError):
                Channel(end).send({"error": refused})
            end.close()

    def _attend(self, end: socket.socket) -> None:
        """Do what one client orders, until it goes."""
        channel = Channel(end, order_bytes(self.offer.most, True))
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE_SECONDS, 0))
            channel.send(self.offer.message())
            for message in channel:
                self._answer(channel, message)
        except MessageError as error:
            with suppress(OSError):
                channel.send({"error": str(error)})
        except OSError:  # the client is gone
            pass
        finally:
            with self._changed:
                self._clients.discard(end)
            with suppress(OSError):
                channel.flush()
            channel.close()

    def _answer(self, channel: Channel, message: Message) -> None:
        try:
            order = Order.read(message, self.offer)
        except MessageError:
            raise
        except CaloforgeError as error:
            channel.send({"error": str(error)})
            return
        with self._room_for(len(order) * self._shower_bytes):
            job = self._given(order)
            job.done.wait()
            if job.error:
                channel.send({"error": job.error})
                return
            channel.send({"n": len(order)}, job.energies.data.cast("B"))
            channel.flush()

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._room >= size or self._stopping)
            self._room -= size
        try:
            yield
        finally:
            with self._changed:
                self._room += size
                self._changed.notify_all()

    def _given(self, order: Order) -> _Job:
        """The job of an order, which is made in its turn."""
        n_voxels = self.maker.checkpoint.mesh_of(str(order.conditions.detector[0])).n_voxels
        job = _Job(order, np.empty((len(order), n_voxels), dtype=np.float32), missing=len(order))
        with self._changed:
            if self._stopping:
                job.fail(ENDED)
            else:
                self._jobs.append(job)
                self._changed.notify_all()
        return job

    def _work(self) -> None:
        """Let the model make what has been ordered, a block at a time, until the end."""
        torch.set_num_threads(1)  # of this thread, whose number is not that of the others
        while pieces := self._next():
            try:
                made = self.maker.make([piece for _, piece in pieces])
            except (CaloforgeError, RuntimeError, MemoryError) as error:
                made = [CheckpointError(f"{type(error).__name__}: {error}")] * len(pieces)
            with self._changed:
                self.tally.blocks += 1
                for (job, piece), energies in zip(pieces, made, strict=True):
                    self._take(job, piece, energies)

    def _take(self, job: _Job, piece: Piece, energies: NDArray[np.float32] | CheckpointError) -> None:
        if isinstance(energies, CheckpointError):
            job.fail(str(energies))
            return
        job.energies[piece.start : piece.stop] = energies
        job.missing -= len(piece)
        self.tally.showers += len(piece)
        if not job.missing:
            self.tally.orders += 1
            job.done.set()

    def _next(self) -> list[tuple[_Job, Piece]]:
        """What is to be made next, in the order in which it came; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopping)
            pieces: list[tuple[_Job, Piece]] = []
            room = self.maker.block
            while self._jobs and room:
                job = self._jobs[0]
                stop = min(job.given_out + room, len(job.order))
                if pieces and not (self.merge and _alike(pieces[0][1].order, job.order)):
                    break
                pieces.append((job, Piece(job.order, job.given_out, stop)))
                room -= stop - job.given_out
                job.given_out = stop
                if stop == len(job.order):
                    self._jobs.popleft()
            return pieces


def _alike(a: Order, b: Order) -> bool:
    """True where a model can make showers of both at once: in detectors on one mesh, told the same."""
    return bool(a.conditions.detector[0] == b.conditions.detector[0])


def _listening(path: Path) -> socket.socket:
    """A socket of that name for this user alone; one that a killed server left is replaced."""
    if len(os.fsencode(path)) > MOST_PATH:
        raise SimulationError(f"{path}: a socket's name has {MOST_PATH} bytes at most; choose a shorter one")
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as trial:
                if trial.connect_ex(str(path)) == 0:
                    raise FileExistsError(0, "there is a server already; choose another name")
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        raise SimulationError(f"cannot make a socket at {path}: {error.strerror or error}") from error
    return listener


def _stranger(end: socket.socket) -> str:
    """Why a client is not served: it is another user's; "" where it is ours, or the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return ""
    _, user, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return "" if user == os.geteuid() else "is another user's"
