"""The worker processes of a simulation: started, fed with chunks, watched and stopped.

Workers are plain child processes, so that a user's script needs no ``if __name__ == "__main__"`` and what
Geant4 prints, or dies of, ends up in a log file each.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.errors import SimulationError

__all__ = ["Chunk", "run_chunks"]

LOG_LINES = 15


@dataclass(frozen=True)
class Chunk:
    """Showers ``start``..``stop`` − 1 and the file they go to."""

    number: int
    start: int
    stop: int
    path: Path


class _Worker:
    def __init__(
        self, number: int, folder: Path, environment: dict[str, str], settings: dict[str, Any]
    ) -> None:
        self.log = folder / f"worker-{number}.log"
        package_root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "caloforge.geant4.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C goes to the parent alone, which then stops its workers
            )
        self._buffer = b""
        self.send(settings)

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.death(None) from None

    def receive(self) -> list[dict[str, Any]]:
        """Messages that have arrived; raises SimulationError where the worker died or reports an error."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            raise self.death(None)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            if "error" in message:
                raise self.death(message["error"])
        return messages

    def death(self, reason: str | None) -> SimulationError:
        """The one error that says why this worker ended."""
        self.stop()
        code = self.process.returncode
        if reason is None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            tail = self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
            reason = "\n".join([f"it {how}; the end of its output:", *tail])
        return SimulationError(f"a Geant4 worker failed: {reason}")

    def stop(self) -> None:
        try:
            self.process.wait(timeout=2 if self.process.poll() is None and self._at_end() else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _at_end(self) -> bool:
        """Close the worker's input, at whose end it stops by itself; False where it is gone."""
        try:
            if self.process.stdin is not None:
                self.process.stdin.close()
        except BrokenPipeError:
            return False
        return True


@contextmanager
def _workers(
    count: int, folder: Path, environment: dict[str, str], settings: dict[str, Any]
) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    finished = False
    try:
        for number in range(count):
            workers.append(_Worker(number, folder, environment, settings))
        yield workers
        finished = True
    finally:
        for worker in workers:
            if not finished:
                worker.process.kill()
            worker.stop()


def run_chunks(
    chunks: Sequence[Chunk],
    *,
    workers: int,
    folder: Path,
    environment: dict[str, str],
    settings: dict[str, Any],
    progress: Callable[[int], None],
) -> None:
    """Run every chunk, each on the first worker that is free; ``progress`` hears of each shower made.

    Raises SimulationError at the first worker that fails; the others are stopped.
    """
    waiting = list(reversed(chunks))
    left = len(chunks)
    count = min(workers, len(chunks))
    with _workers(count, folder, environment, settings) as pool, selectors.DefaultSelector() as selector:
        for worker in pool:
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        while left:
            for key, _ in selector.select():
                worker = key.data
                for message in worker.receive():
                    if "shower" in message:
                        progress(1)
                        continue
                    left -= "chunk" in message
                    if waiting:
                        chunk = waiting.pop()
                        worker.send(
                            {
                                "chunk": chunk.number,
                                "start": chunk.start,
                                "stop": chunk.stop,
                                "path": str(chunk.path),
                            }
                        )
