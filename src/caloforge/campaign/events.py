"""Campaigns of events of pixel detectors: the tables ``[generate_events]`` and ``[simulate_events]``."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from caloforge.campaign.record import Cost
from caloforge.campaign.work import Generated, Made, Simulated, Work, checkpoint_of, place_of
from caloforge.data.packing import COMPRESSION
from caloforge.data.pixels import PixelEvents, PixelWriter, open_events
from caloforge.data.pixels.events import rates_digest
from caloforge.detector.description import kind_of
from caloforge.runtime.shards import MOST, Shard
from caloforge.runtime.structured import json_text

__all__ = ["GenerateEvents", "SimulateEvents"]

KNOWN = ("rates", "seed", "number")
"""Of an event, besides its hits."""


class OfEvents(Work):
    """Beam background in a pixel detector."""

    what: ClassVar[str] = "events"

    @field_validator("detector", check_fields=False)
    @classmethod
    def _a_pixel_detector(cls, detector: str | None) -> str | None:
        if detector is not None and kind_of(detector) != "pixel":
            raise ValueError(
                f"{detector} is no pixel detector; its showers are those of the tables [generate] and "
                "[simulate]"
            )
        return detector

    def opened(self, path: Path, *, allow_external: bool = False) -> PixelEvents:
        return open_events(path)

    def bytes_each(self, made: PixelEvents) -> float:
        columns = made.read(0, len(made)).columns().values()
        return sum(len(zlib.compress(column.tobytes(), COMPRESSION)) for column in columns) / len(made)

    def writer(self, path: Path, like: PixelEvents, made_by: Made, *, overwrite: bool) -> PixelWriter:
        sources = like.conditions.sources
        return PixelWriter(path, like.detector, sources, provenance=made_by, overwrite=overwrite)

    def equal(self, one: PixelEvents, other: PixelEvents) -> bool:
        told = ((getattr(events.conditions, name) for name in KNOWN) for events in (one, other))
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*told, strict=True)):
            return False
        pairs = zip(one.batches(), other.batches(), strict=True)
        columns = ((a.columns(), b.columns()) for (a, _), (b, _) in pairs)
        return all(np.array_equal(a[name], b[name]) for a, b in columns for name in a)


class GenerateEvents(OfEvents, Generated):
    """``[generate_events]``: what `caloforge.generation.generate_events` is asked for.

    Attributes:
        model, detector: see `Generated`.
        rate, settings, device, precision, kernels: as there, in text.
    """

    rate: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    kernels: str = "auto"

    def _which(self, folder: Path) -> tuple[str | None, str | None, str]:
        """What `checkpoint_of` is told."""
        return place_of(self.model, folder), place_of(self.detector, folder), json_text(self.settings)

    def _asked(self, folder: Path) -> dict[str, Any]:
        which = self._which(folder)
        told = self.model_dump(exclude={"model", "settings"})
        return told | {"checkpoint": checkpoint_of(*which), "detector": which[1]}

    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> PixelEvents:
        from caloforge.generation.events import generate_events

        how: dict[str, Any] = {"threads": 1, "resume": resume, "progress": False}
        return generate_events(out=out, n=n, seed=seed, shard=shard, **how, **self._asked(folder))

    def decided_here(self, n: int, seed: int, folder: Path) -> dict[str, Any]:
        from caloforge.generation.events import EventRequest

        first = Shard(1, min(n, MOST))
        request = EventRequest.resolve(n=n, seed=seed, shard=first, **self._asked(folder))
        return self.described_here(request.description, request.model.execution.device)

    def expected(self, n: int, seed: int, shard: Shard, folder: Path) -> str:
        from caloforge.generation.events import drawn_rates, known_rates

        model, numbers = _model(*self._which(folder)), np.arange(*shard.span(n))
        return rates_digest(known_rates(model, drawn_rates(model, self.rate, seed, numbers)))

    def digest(self, made: Made) -> str:
        return str(made["request"]["rates"])

    def decided_by(self, made: Made) -> dict[str, Any]:
        decided = super().decided_by(made)
        del decided["rates"]
        return decided

    def probe(self, n: int, seed: int, wanted: int, folder: Path) -> tuple[Made, Cost]:
        count = min(n, wanted)
        return self.probed(lambda out: self.make(count, seed, Shard(), out, folder, resume=False))


class SimulateEvents(OfEvents, Simulated):
    """``[simulate_events]``: what `caloforge.geant4.simulate_events` is asked for.

    Attributes:
        detector: name or file.
        rate, reduced_data: as there, in text.
    """

    few: ClassVar[int] = 1

    detector: str
    rate: str = "1"
    reduced_data: bool = False

    def make(
        self, n: int, seed: int, shard: Shard, out: Path, folder: Path, *, resume: bool = True
    ) -> PixelEvents:
        from caloforge.geant4.pixel.simulate import simulate_events

        detector = str(place_of(self.detector, folder))
        how: dict[str, Any] = {"workers": 1, "resume": resume, "progress": False}
        asked: dict[str, Any] = {"rate": self.rate, "reduced_data": self.reduced_data}
        return simulate_events(detector, out=out, n=n, seed=seed, shard=shard, **how, **asked)


@cache
def _model(*which: Any) -> Any:
    """The model of `checkpoint_of`, which knows its sources of background; built once in each process."""
    return checkpoint_of(*which).pixel_model()
