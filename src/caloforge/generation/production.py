"""A production: what a request asks for, into memory or through a store of finished chunks into a file.

Each shower is checked and compressed once: the store keeps it as the file will hold it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.formats import open_showers
from caloforge.data.packing import PackedEnergies
from caloforge.data.pixels import PixelEvents
from caloforge.data.showers import Showers
from caloforge.data.sources import ArraySource
from caloforge.data.writer import ShowerWriter
from caloforge.errors import DataError
from caloforge.generation.blocks import BlockDecoder, Energies
from caloforge.generation.request import GenerationRequest, Request
from caloforge.generation.workers import BlockWorkers
from caloforge.runtime.chunks import ChunkStore
from caloforge.runtime.devices import device_name
from caloforge.runtime.files import output_file
from caloforge.runtime.processes import ChildError
from caloforge.runtime.progress import Display
from caloforge.runtime.provenance import provenance
from caloforge.runtime.signals import Interrupt, raise_interrupt

__all__ = ["Production", "ShowerProduction", "told_of"]

R = TypeVar("R", bound=Request)
M = TypeVar("M", Showers, PixelEvents)

BATCH_BYTES = 64 << 20
CHUNK_SECONDS = 30.0


class Production(ABC, Generic[R, M]):
    """Makes what one request asks for.

    Args:
        request: what.
        interrupt: a signal in it ends the production after the step under way.
        progress: show how far it is, on a terminal.

    Attributes:
        what: what is made, in the plural.
    """

    what: ClassVar[str]

    def __init__(self, request: R, interrupt: Interrupt, progress: bool) -> None:
        self.request, self.interrupt, self.progress = request, interrupt, progress

    @abstractmethod
    def __len__(self) -> int:
        """How many are asked for."""

    @staticmethod
    @abstractmethod
    def opened(path: Path) -> M:
        """What is in a file of them."""

    @abstractmethod
    def fill(self, store: ChunkStore, start: int, stop: int, show: Callable[[int], None]) -> None:
        """Make start … stop − 1, until an interrupt, and save all that were made.

        ``show`` hears how many were made since the beginning.
        """

    @abstractmethod
    def join(self, store: ChunkStore, out: Path, overwrite: bool) -> None:
        """Make the file of all finished chunks."""

    def begin(self, n: int) -> None:
        """Hear how many are to be made, of those that are asked for."""

    def to_file(self, out: Path, *, resume: bool, overwrite: bool) -> M:
        """What is made, in the file ``out``, which appears when all is made.

        Raises:
            DataError: the file exists or cannot be written, or what is unfinished is of another request.
        """
        n, out = len(self), output_file(out)
        store = ChunkStore(out, self.request.description, n, "generation", self.what)
        if out.exists() and not overwrite:
            recorded = self.opened(out).provenance.get("request") if resume else None
            if isinstance(recorded, dict):
                if self.request.matches(recorded):
                    store.clear()
                    return self.opened(out)
                self.request.require_execution(recorded, out)
            raise DataError(f"{out} exists; choose another name or allow overwriting (--overwrite)")
        if resume:
            self.request.require_execution(store.saved_request(), store.folder)
        with store.open(resume=resume, overwrite=overwrite):
            finished = store.n_finished
            self.begin(n - finished)
            with Display(self.what, enabled=self.progress) as show:
                show("generating", finished, n)
                for start, stop in store.gaps():
                    self.fill(store, start, stop, lambda made: show("generating", finished + made, n))
            self.raise_if_stopped(
                f"{store.n_finished} of {n} {self.what} were made and kept in {store.folder}; go on with "
                "resume=True (--resume)"
            )
            self.join(store, out, overwrite)
            store.remove()
        return self.opened(out)

    def raise_if_stopped(self, message: str) -> None:
        """Stop as a signal asked, with a word on what is kept."""
        if self.interrupt.signal:
            raise_interrupt(self.interrupt.signal, f"stopped: {message}")


class ShowerProduction(Production[GenerationRequest, Showers]):
    """Makes showers.

    Args:
        request, interrupt, progress: see `Production`.
        batch_size: showers held in memory until they are saved.
        most_workers: processes that may make showers; 1 for this one alone.
    """

    what = "showers"
    opened = staticmethod(open_showers)

    def __init__(
        self,
        request: GenerationRequest,
        batch_size: int | Literal["auto"],
        interrupt: Interrupt,
        progress: bool,
        most_workers: int = 1,
    ) -> None:
        super().__init__(request, interrupt, progress)
        self.decoder = BlockDecoder(request)
        self.workers = BlockWorkers(self.decoder, most_workers, interrupt)
        self._failure: ChildError | None = None
        if not request.fixed_blocks:
            self.batch_size = request.block_size
        elif batch_size == "auto":
            self.batch_size = max(1, BATCH_BYTES // (4 * request.mesh.n_voxels))
        else:
            self.batch_size = batch_size

    def __enter__(self) -> Self:
        self.workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.workers.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self.request)

    def begin(self, n: int) -> None:
        self.workers.wanted = n

    def in_memory(self) -> Showers:
        """The showers; an interrupt drops them."""
        n = len(self.request)
        energies = np.empty((n, self.request.mesh.n_voxels), dtype=np.float32)
        with Display("showers", enabled=self.progress) as show:
            for low, block in self._blocks(0, n):
                energies[low : low + len(block)] = block
                show("generating", low + len(block), n)
        self.raise_if_stopped(f"{self.decoder.n_made} of {n} showers were made and dropped")
        source = ArraySource(energies, checked=True)
        return Showers(source, self.request.conditions, self.request.mesh, self.provenance())

    def join(self, store: ChunkStore, out: Path, overwrite: bool) -> None:
        made = self.provenance()
        with ShowerWriter(out, self.request.mesh, provenance=made, overwrite=overwrite) as writer:
            for chunk in store.complete():
                energies = PackedEnergies.from_columns(chunk.read())
                writer.append_packed(energies, self.request.conditions[chunk.start : chunk.stop])

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, Energies]]:
        """Position and energies (n, V) of each block of the showers start … stop − 1.

        Ends early at an interrupt, or where a process that made showers was killed.
        """
        try:
            yield from self.workers.blocks(start, stop)
        except ChildError as error:
            self._failure = error

    def fill(self, store: ChunkStore, start: int, stop: int, show: Callable[[int], None]) -> None:
        size = min(self.batch_size + self.request.block_size, stop - start)
        held = np.empty((size, self.request.mesh.n_voxels), dtype=np.float32)
        saved, n_held, saved_at = start, 0, time.monotonic()

        def save() -> None:
            packed = PackedEnergies.pack(held[:n_held], saved, len(self.workers))
            store.chunk(saved, saved + n_held).write(packed.columns())

        for _, energies in self._blocks(start, stop):
            show(self.decoder.n_made)
            held[n_held : n_held + len(energies)] = energies
            n_held += len(energies)
            if n_held >= self.batch_size or time.monotonic() - saved_at > CHUNK_SECONDS:
                save()
                saved, n_held, saved_at = saved + n_held, 0, time.monotonic()
        if n_held:
            save()

    def raise_if_stopped(self, message: str) -> None:
        super().raise_if_stopped(message)
        if self._failure is not None:
            error = self._failure
            raise ChildError(
                f"a process that made showers ended: {error}\n{message}", error.status, error.details
            )

    def provenance(self) -> dict[str, Any]:
        """Who made the showers, with what, and how fast."""
        request, checkpoint, decoder = self.request, self.request.checkpoint, self.decoder
        seconds, on_cpu = max(decoder.seconds, 1e-9), request.device.type == "cpu"
        execution, names = request.model.execution, request.model.kernel_names
        told = {"seed": request.seed, "first": request.first, "batch_size": self.batch_size}
        made_by = provenance("generate", **told, shard=str(request.shard))
        return made_by | {
            "request": request.description,
            "checkpoint": told_of(checkpoint),
            "performance": {
                "showers_per_second": decoder.n_made / seconds,
                "ms_per_shower": 1e3 * seconds / max(decoder.n_made, 1),
                "seconds": decoder.seconds,
                "n_showers": decoder.n_made,
                "batch_size": request.block_size,
                "threads": len(self.workers) if on_cpu else torch.get_num_threads(),
                "device": device_name(request.device),
                "graph": decoder.make.told,
                "precision": execution.precision,
                "kernels": execution.kernels + (f" ({', '.join(names)})" if names else ""),
                "peak_memory_mib": self.workers.peak_memory_mib,
            },
        }


def told_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What provenance tells of a checkpoint."""
    return {
        "path": str(checkpoint.path or ""),
        "fingerprint": checkpoint.fingerprint,
        "model": checkpoint.model_name,
        "settings": checkpoint.settings,
        "provenance": checkpoint.provenance,
    }
