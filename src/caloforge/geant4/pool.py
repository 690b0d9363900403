"""The worker processes of a simulation: started, fed with chunks, watched and stopped."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from caloforge.errors import SimulationError
from caloforge.runtime.chunks import Chunk
from caloforge.runtime.processes import Child, ChildError

__all__ = ["run_chunks"]


def run_chunks(
    chunks: Sequence[Chunk],
    *,
    module: str,
    workers: int,
    folder: Path,
    environment: Mapping[str, str],
    settings: dict[str, Any],
    progress: Callable[[int], None],
) -> None:
    """Run every chunk, each on the first worker that is free.

    Args:
        chunks: what to make.
        module: of the worker processes.
        workers: processes, at most.
        folder: where the workers' logs go, ``worker-<number>.log``.
        environment: variables that Geant4 needs.
        settings: of the simulation, as the workers take them.
        progress: hears how many showers were made so far.

    Raises:
        SimulationError: a worker failed; the others are stopped.
    """
    waiting = list(reversed(chunks))
    unfinished, made = len(chunks), 0
    try:
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            for number in range(min(workers, len(chunks))):
                log = folder / f"worker-{number}.log"
                worker = Child(module, log=log, environment=environment)
                selector.register(stack.enter_context(worker), selectors.EVENT_READ)
                worker.send(settings)
            while unfinished:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, Child)
                    for message in key.fileobj.receive():
                        if "shower" in message:
                            made += 1
                            progress(made)
                            continue
                        unfinished -= "chunk" in message
                        if waiting:
                            chunk = waiting.pop()
                            order = {"start": chunk.start, "stop": chunk.stop, "path": str(chunk.path)}
                            key.fileobj.send(order)
    except ChildError as error:
        raise SimulationError(f"a Geant4 worker failed: {error}") from None
