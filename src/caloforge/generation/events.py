"""Generating events of a pixel detector with a trained model.

An event is a function of the checkpoint, the seed, its number and its rates: models make one event at a time,
which are as many numbers as a block of showers. Legend: ``N`` events, ``B`` sources of background.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.pixels import ArrayHits, PixelConditions, PixelEvents, PixelHits, PixelWriter, open_events
from caloforge.data.pixels.hits import check_hits
from caloforge.data.pixels.rates import Rate, event_rates, parse_rates
from caloforge.data.quantities import whole_number
from caloforge.detector.pixel import PixelDetector
from caloforge.errors import CheckpointError, ConditionError, DataError
from caloforge.generation.noise import draw_key, draw_noise
from caloforge.generation.production import CHUNK_SECONDS, Production, told_of
from caloforge.generation.request import CODE, Request, code_versions, resolve_checkpoint
from caloforge.models.pixels.base import PixelModel
from caloforge.runtime.chunks import ChunkStore
from caloforge.runtime.cores import checked_threads
from caloforge.runtime.devices import cpu_threads, device_name
from caloforge.runtime.memory import peak_memory_mib
from caloforge.runtime.provenance import provenance
from caloforge.runtime.shards import Shard
from caloforge.runtime.signals import catch_signals
from caloforge.runtime.streams import checked_count, checked_seed

__all__ = ["EventRequest", "drawn_rates", "generate_events", "known_rates", "make_event"]

CHUNK_EVENTS = 50
"""Events held in memory until they are saved, at most."""
MARGIN = 0.05
"""Rates this much, relatively, outside the range of the training events are still inside."""
log = logging.getLogger(__name__)


def make_event(model: PixelModel, seed: int, number: int, rates: NDArray[np.float64]) -> PixelHits:
    """The event of a seed and number at rates (B,); call it under ``torch.inference_mode()``."""
    numbers = torch.tensor([number])
    noise = draw_noise(model.noise_shapes(), seed, numbers, model.device)
    noise["key"] = draw_key(seed, numbers, model.device)
    known = torch.tensor(rates[None], dtype=torch.float32, device=model.device)
    return model.hits(noise, known)


def drawn_rates(
    model: PixelModel, rate: Rate | None, seed: int, numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rates (N, B) of the events of these numbers, for what is asked of `generate_events`."""
    ranges = parse_rates(1.0 if rate is None else rate, model.detector)
    return event_rates(model.detector, ranges, seed, numbers, streams="generation.pixel")


def known_rates(model: PixelModel, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rates (N, B) as far as the model is told of them; unknown where it is not."""
    return rates if model.uses_rates else np.full_like(rates, np.nan)


@dataclass(frozen=True, eq=False)
class EventRequest(Request):
    """N events of one model.

    Attributes:
        checkpoint: the model on disk, with the settings that are wanted.
        model: the model, which knows where and how it computes.
        rates: (N, B).
        seed: of the noise.
        first: number of the first event.
        shard: which part of a production they are.
    """

    checkpoint: Checkpoint
    model: PixelModel
    rates: NDArray[np.float64]
    seed: int
    first: int
    shard: Shard

    @classmethod
    def resolve(
        cls,
        checkpoint: Checkpoint | str | os.PathLike[str] | None,
        *,
        detector: str | None = None,
        n: int | None = None,
        rate: Rate | None = None,
        like: PixelEvents | str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        first: int = 0,
        shard: Shard | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        kernels: str = "auto",
    ) -> Self:
        """The request in the words of `generate_events`, which raises the same."""
        seed, first = checked_seed(seed), whole_number("first", first, 0)
        n, shard = None if n is None else whole_number("n", n), Shard.parse(shard)
        checkpoint = resolve_checkpoint(checkpoint, detector, settings)
        model = checkpoint.pixel_model(device, precision, kernels)
        if detector is not None:
            _require_detector(model, PixelDetector.load(detector), checkpoint)
        if like is not None:
            if rate is not None:
                raise ConditionError("give either rate or like, events whose rates to take")
            rates = _rates_like(open_events(like), model, n)
            low, high = shard.span(len(rates))
            rates, first = rates[low:high], first + low
        else:
            low, high = shard.span(1 if n is None else n)
            first += low
            numbers = np.arange(first, first + checked_count(high - low, first))
            rates = drawn_rates(model, rate, seed, numbers)
        checked_count(len(rates), first)
        if not model.uses_rates and (rate is not None or like is not None):
            log.warning("this model is not told of rates: its events are those that it was trained on")
        rates = known_rates(model, rates)
        return cls(checkpoint, model, rates, seed, first, shard)

    def __len__(self) -> int:
        """N."""
        return len(self.rates)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the B sources."""
        return tuple(source.name for source in self.model.detector.sources)

    @cached_property
    def conditions(self) -> PixelConditions:
        """Of all events."""
        n = len(self)
        numbers = np.arange(self.first, self.first + n)
        return PixelConditions(self.sources, self.rates, np.full(n, self.seed, dtype=np.uint64), numbers)

    @cached_property
    def extrapolated(self) -> dict[str, list[float]]:
        """Lowest and highest rate of the sources of which some are outside the trained range."""
        trained, found = self.checkpoint.valid_range["rates"], {}
        for name, span in self.conditions.ranges().items():
            low, high = trained.get(name) or (-np.inf, np.inf)
            if span is not None and (span[0] < low * (1 - MARGIN) or span[1] > high * (1 + MARGIN)):
                found[name] = span
        return found

    @cached_property
    def description(self) -> dict[str, Any]:
        execution = self.model.execution
        return {
            "changed_settings": self.checkpoint.provenance.get("changed_settings"),
            "checkpoint": self.checkpoint.fingerprint,
            "rates": self.conditions.digest,
            "n": len(self),
            "seed": self.seed,
            "first": self.first,
            "device": execution.device.type,
            "precision": execution.precision,
            "kernels": execution.kernels,
            CODE: code_versions(),
        }


class EventProduction(Production[EventRequest, PixelEvents]):
    """Makes events, one after the other; arguments as for `Production`."""

    what = "events"
    opened = staticmethod(open_events)
    n_made, seconds = 0, 0.0

    def __len__(self) -> int:
        return len(self.request)

    def in_memory(self) -> PixelEvents:
        """The events; an interrupt drops them."""
        request, made = self.request, list(self._events(0, len(self)))
        self.raise_if_stopped(f"{len(made)} of {len(self)} events were made and dropped")
        hits = PixelHits.concatenate(made)
        return PixelEvents(ArrayHits(hits), request.conditions, request.model.detector, self.provenance())

    def fill(self, store: ChunkStore, start: int, stop: int, show: Callable[[int], None]) -> None:
        held: list[PixelHits] = []
        saved, saved_at = start, time.monotonic()

        def save() -> None:
            nonlocal saved, saved_at
            hits = PixelHits.concatenate(held)
            store.chunk(saved, saved + len(held)).write(hits.columns())
            saved, saved_at = saved + len(held), time.monotonic()
            held.clear()

        for hits in self._events(start, stop):
            held.append(hits)
            show(self.n_made)
            if len(held) >= CHUNK_EVENTS or time.monotonic() - saved_at > CHUNK_SECONDS:
                save()
        if held:
            save()

    def _events(self, start: int, stop: int) -> Iterator[PixelHits]:
        """Events start … stop − 1, checked, until an interrupt."""
        request, detector = self.request, self.request.model.detector
        for position in range(start, stop):
            if self.interrupt.signal:
                return
            began = time.perf_counter()
            number = request.first + position
            hits = make_event(request.model, request.seed, number, request.rates[position])
            self.seconds += time.perf_counter() - began
            self.n_made += 1
            try:
                check_hits(hits, detector, "the model", number)
            except DataError as error:
                raise CheckpointError(f"{error} The checkpoint is not usable there.") from None
            yield hits

    def join(self, store: ChunkStore, out: Path, overwrite: bool) -> None:
        request, detector = self.request, self.request.model.detector
        made = self.provenance()
        with PixelWriter(out, detector, request.sources, provenance=made, overwrite=overwrite) as writer:
            for chunk in store.complete():
                hits = PixelHits.from_columns(detector.shape, chunk.read())
                writer.append(hits, request.conditions[chunk.start : chunk.stop])

    def provenance(self) -> dict[str, Any]:
        """Who made the events, with what, and how fast."""
        request, execution = self.request, self.request.model.execution
        told = {"seed": request.seed, "first": request.first, "shard": str(request.shard)}
        made_by = provenance("generate", **told)
        return made_by | {
            "request": request.description,
            "checkpoint": told_of(request.checkpoint),
            **({"extrapolated": request.extrapolated} if request.extrapolated else {}),
            "performance": {
                "ms_per_event": 1e3 * self.seconds / max(self.n_made, 1),
                "seconds": self.seconds,
                "n_events": self.n_made,
                "threads": torch.get_num_threads(),
                "device": device_name(execution.device),
                "precision": execution.precision,
                "kernels": execution.kernels,
                "peak_memory_mib": peak_memory_mib(execution.device),
            },
        }


def generate_events(
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    *,
    detector: str | None = None,
    out: str | os.PathLike[str] | None = None,
    n: int | None = None,
    rate: Rate | None = None,
    like: PixelEvents | str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    first: int = 0,
    shard: Shard | str | None = None,
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> PixelEvents:
    """Generate events of beam background in a pixel detector with a trained model.

    Args:
        checkpoint: the model, its folder, or the name of one that comes with caloforge; without it, the one
            that comes with caloforge for the detector.
        detector: whose model is taken, or, with a checkpoint, for which it has to be.
        out: file to write; without one, the events stay in memory.
        n: how many; with ``like``, the first n of those.
        rate: factor of the nominal background, or its range, log-uniform, or of single sources, as
            `caloforge.simulate_events` has it; 1 by default. Beyond the trained range it is extrapolated,
            which is logged as a warning and recorded in the provenance.
        like: events (or their file) whose rates to take.
        settings: other values of settings that leave the weights as they are, by dotted key.
        seed: seed of the noise, and of the rates where they have a range.
        first: number of the first event.
        shard: make this part of the n events alone, as for `caloforge.generate`.
        device, precision, kernels: as for `caloforge.generate`.
        threads: threads of torch, 1 by default.
        overwrite: replace an existing file or an unfinished generation.
        resume: go on with a generation that was stopped; a finished one is returned as it is.
        progress: show how far it is, on a terminal.

    Returns:
        The events; their provenance has the speed under "performance".

    Raises:
        ConditionError: a rate is malformed, negative, not known or of another source.
        DetectorError: there is no such detector.
        CheckpointError: the checkpoint is unusable, for another detector, or makes no events.
        DataError: the file exists, or cannot be written, or what is unfinished is of another request.
        KeyboardInterrupt: Ctrl-C; what is finished is kept for ``resume``.
    """
    threads = 1 if threads is None else checked_threads(whole_number("threads", threads))
    request = EventRequest.resolve(
        checkpoint,
        detector=detector,
        n=n,
        rate=rate,
        like=like,
        settings=settings,
        seed=seed,
        first=first,
        shard=shard,
        device=device,
        precision=precision,
        kernels=kernels,
    )
    for name, (low, high) in request.extrapolated.items():
        trained = request.checkpoint.valid_range["rates"][name]
        log.warning(
            "rates of %s from %.3g to %.3g are beyond those of the training, %.3g to %.3g: the events are "
            "extrapolated, and their provenance says so",
            *(name, low, high, *trained),
        )
    with cpu_threads(threads), catch_signals() as interrupt, torch.inference_mode():
        production = EventProduction(request, interrupt, progress)
        if out is None:
            return production.in_memory()
        return production.to_file(Path(out), resume=resume, overwrite=overwrite)


def _require_detector(model: PixelModel, wanted: PixelDetector, checkpoint: Checkpoint) -> None:
    own = model.detector
    if wanted.decisive() != own.decisive():
        raise CheckpointError(
            f"{checkpoint.name} makes events of {own.name}, not of {wanted.name}; take a checkpoint of that "
            "detector, or train one (caloforge train)"
        )


def _rates_like(events: PixelEvents, model: PixelModel, n: int | None) -> NDArray[np.float64]:
    """Rates of the first n events, for the sources of the model."""
    if n is not None and n > len(events):
        raise ConditionError(f"{n} events were asked for, but there are rates for {len(events)}")
    conditions, sources = events.conditions[:n], tuple(s.name for s in model.detector.sources)
    if conditions.sources != sources:
        raise ConditionError(
            f"the events have rates of {', '.join(conditions.sources)}, the model of {', '.join(sources)}"
        )
    if len(conditions.unknown_rates):
        raise ConditionError(
            f"the rates of event {conditions.unknown_rates[0]} are not known; say which are wanted by rate"
        )
    return conditions.rates
