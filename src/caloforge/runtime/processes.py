"""Child processes of ours: ``python -m module``, spoken to in lines of JSON over a channel of their own.

Bytes may go with a message, behind its line.

Plain processes, so that a user's script needs no ``if __name__ == "__main__"``. The channel is not the
standard output: whatever a library prints, or dies of, ends up in a log. A child imports nothing from the
working directory (``-P``), and signals that stop a program reach the parent alone, which then ends its
children, also where a batch system sends them to all.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from caloforge.errors import CaloforgeError
from caloforge.runtime.cores import wait_passively
from caloforge.runtime.signals import interrupts_deferred, signals_held_back
from caloforge.runtime.structured import parse_json

__all__ = ["Channel", "Child", "ChildError", "MessageError", "run_module", "serve", "serve_and_leave"]

Message = dict[str, Any]
BYTES = "bytes"
"""Key of a message under which bytes that go with it arrive; in the line it is their number."""
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
LOG_LINES = 15
LOG_BYTES = 1 << 14
LOG_ENCODING = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
"""Of what children print, whatever the user's terminal takes."""
SECONDS_TO_END = 2.0
MOST_LINE = 1 << 16
"""Bytes of the line of a message, where there is a limit."""


class ChildError(CaloforgeError, RuntimeError):
    """A child process ended before its time, or reports an error.

    Attributes:
        status: its exit status, −n after signal n.
        details: the reason and the last lines of what it printed.
    """

    def __init__(self, reason: str, status: int, details: str) -> None:
        super().__init__(reason)
        self.status, self.details = status, details


class MessageError(CaloforgeError, ValueError):
    """What the other side sent is no message, or one that is too long."""


def _checked(line: bytes, most: int) -> Message:
    """The message in a line from anywhere."""
    try:
        message = parse_json(line)
    except ValueError as error:
        raise MessageError(f"a message is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise MessageError(f"a message must be a table, got {type(message).__name__}")
    size = message.get(BYTES, 0)
    if type(size) is not int or not 0 <= size <= most:
        raise MessageError(f"a message comes with 0 to {most:,} bytes, not {size!r}")
    return message


class Channel:
    """Messages, JSON-able dicts, both ways over a socket.

    What the other side does not take at once is sent by a thread, in order: nobody waits to send, so that
    both may send much at the same time, and go on with their work.

    Args:
        end: the socket.
        most: bytes that may come with a message, at most; None where the other side is a process of ours.
    """

    def __init__(self, end: socket.socket, most: int | None = None) -> None:
        self._socket, self._rest, self._most = end, bytearray(), most
        self._sender: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def fileno(self) -> int:
        """What `selectors` wait for."""
        return self._socket.fileno()

    def send(self, message: Message, content: bytes | memoryview = b"") -> None:
        """Send one message, with ``content`` under "bytes"; ConnectionError where the other side is gone."""
        size = {BYTES: len(content)} if content else {}
        data = memoryview(b"".join([json.dumps(message | size).encode(), b"\n", content]))
        if self._under_way is None or self._under_way.done():
            self.flush()
            data = data[self._taken_at_once(data) :]
        if data:
            self._sender = self._sender or ThreadPoolExecutor(1)
            self._under_way = self._sender.submit(self._socket.sendall, data)

    def _taken_at_once(self, data: memoryview) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def flush(self) -> None:
        """Wait until all is sent; ConnectionError where the other side is gone."""
        if self._under_way is not None:
            self._under_way.result()

    def receive(self) -> list[Message]:
        """The messages that have arrived, at least one; none where the other side has ended.

        Raises:
            MessageError: what has arrived is none, or too long, where there is a limit.
        """
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                return []
            self._rest += data
            if messages := list(self._whole()):
                return messages

    def _whole(self) -> Iterator[Message]:
        """Take the messages that are complete out of what has arrived."""
        while (end := self._rest.find(b"\n", 0, None if self._most is None else MOST_LINE)) >= 0:
            line = self._rest[:end]
            message: Message = json.loads(line) if self._most is None else _checked(bytes(line), self._most)
            begin = end + 1
            stop = begin + message.get(BYTES, 0)
            if len(self._rest) < stop:
                return
            if stop > begin:
                message[BYTES] = bytes(self._rest[begin:stop])
            del self._rest[:stop]
            yield message
        if self._most is not None and len(self._rest) > MOST_LINE:
            raise MessageError(f"a message begins with a line of more than {MOST_LINE} bytes")

    def __iter__(self) -> Iterator[Message]:
        """All messages, as they arrive, until the other side ends."""
        while messages := self.receive():
            yield from messages

    def close(self) -> None:
        """Close it; what is not sent yet is dropped."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._sender is not None:
            self._sender.shutdown()
        self._socket.close()


class Child:
    """A process that runs one of our modules, whose ``main`` calls `serve`.

    A context: at a clean end the child is given a moment to finish by itself, otherwise it is killed.

    Args:
        module: the module's name.
        log: file for what the child prints; a temporary one where not given.
        environment: further environment variables.
        threads: for OpenMP and MKL.
    """

    def __init__(
        self,
        module: str,
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        variables = {**os.environ, **count, **LOG_ENCODING, **(environment or {}), **_where_we_are()}
        wait_passively(variables)
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._log = tempfile.TemporaryFile() if log is None else log.open("w+b")  # noqa: SIM115
        with theirs, signals_held_back():
            self._process = subprocess.Popen(
                _command(module, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(),),
                env=variables,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def fileno(self) -> int:
        """What `selectors` wait for."""
        return self._channel.fileno()

    def send(self, message: Message, content: bytes | memoryview = b"") -> None:
        """Send a message, with ``content`` under "bytes"; ChildError where the child has ended."""
        try:
            self._channel.send(message, content)
        except ConnectionError:
            raise self._failure() from None

    def receive(self) -> list[Message]:
        """The messages that have arrived, at least one.

        Raises:
            ChildError: the child ended, or it reports an exception.
        """
        messages = self._channel.receive()
        if not messages:
            raise self._failure()
        for message in messages:
            if "error" in message:
                raise self._failure(message["error"])
        return messages

    def ask(self, message: Message) -> Message:
        """Send a message and wait for one answer."""
        self.send(message)
        (answer,) = self.receive()
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(SECONDS_TO_END if kind is None else 0)
        self._log.close()

    def _end(self, patience: float) -> None:
        """Close the channel, at whose end the child stops by itself, and kill it where it does not."""
        self._channel.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _failure(self, reported: str | None = None) -> ChildError:
        self._end(SECONDS_TO_END)
        # one that has told its error may be slow to end, and be killed by us: that is not what it died of
        status = self._process.returncode if reported is None else 1
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
        how = f"it was killed by signal {-status}" if status < 0 else f"it ended with status {status}"
        last = "\n".join(text.strip().splitlines()[-LOG_LINES:])
        details = f"{reported or how}; the end of its output:\n{last}"
        return ChildError(reported or details, status, details)


def run_module(module: str, *arguments: object) -> int:
    """Run a module of ours as a command with the same screen; returns its exit status.

    It does not outlive us: where we are stopped, also just as it is started, it is asked to stop.
    """
    environment, process = {**os.environ, **_where_we_are()}, None
    try:
        with interrupts_deferred():
            process = subprocess.Popen(_command(module, *arguments), env=environment)
        return process.wait(math.inf)  # looks again and again: a signal just before it waits is not heard
    except BaseException:
        if process is not None:
            process.terminate()
            process.wait()
        raise


def _command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def _where_we_are() -> dict[str, str]:
    """The variable by which a child finds this package, wherever it was started."""
    return {"PYTHONPATH": os.pathsep.join([str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def serve(work: Callable[[Channel], None]) -> int:
    """In a child: do ``work`` with the channel to the parent; returns the exit status.

    The parent is told of an exception; its traceback goes to the log.
    """
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        work(channel)
        channel.flush()
    except ConnectionError:  # the parent is gone
        return 1
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        with suppress(ConnectionError):
            channel.send({"error": f"{type(error).__name__}: {error}"})
            channel.flush()
        return 1
    return 0


def serve_and_leave(work: Callable[[Channel], None]) -> NoReturn:
    """As `serve`, and end the process at once: Geant4's own clean-up frees what Python still holds."""
    status = serve(work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
