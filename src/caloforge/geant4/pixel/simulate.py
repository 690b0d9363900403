"""Make pixel events with Geant4; see `caloforge.geant4.production`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.pixels import PixelConditions, PixelEvents, PixelHits, PixelWriter, open_events
from caloforge.data.pixels.rates import Rate, parse_rates
from caloforge.data.quantities import whole_number
from caloforge.detector.pixel import PixelDetector
from caloforge.geant4.environment import find_data
from caloforge.geant4.production import produce
from caloforge.geant4.simulate import of_shard
from caloforge.runtime.chunks import ChunkStore
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.files import output_file
from caloforge.runtime.shards import Shard
from caloforge.runtime.streams import checked_count, checked_seed

__all__ = ["simulate_events"]

ENGINE_VERSION = 1  # raise when the events of given settings change
CHUNK = 2  # events, some seconds of one core: what a kill loses at most


def simulate_events(
    detector: str | os.PathLike[str] | PixelDetector,
    *,
    out: str | os.PathLike[str],
    n: int,
    rate: Rate = 1.0,
    seed: int = 0,
    shard: Shard | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    reduced_data: bool = False,
) -> PixelEvents:
    """Simulate ``n`` events of beam background in a pixel detector into the file ``out`` and open it.

    Args:
        detector: name, path of a TOML file, or `PixelDetector`.
        out: HDF5 file to make.
        n: number of events.
        rate: factor of the nominal background, or its range, log-uniform: ``"0.5-2"``; or of single sources,
            ``"two_photon=1,single_beam=0.5-2"``.
        seed: with an event's number, decides everything random in it.
        shard: make this part of the n events alone, as for `caloforge.simulate`.
        workers: processes; the number of usable cores by default. The result does not depend on it.
        resume: go on with what an interrupted run of the same settings left.
        overwrite: replace ``out`` and what an interrupted run left.
        progress: show a progress bar where stderr is a terminal.
        reduced_data: use the reduced electromagnetic data even where the official data sets are found.

    Returns:
        The events on disk, with the column ``geant4_cpu_seconds`` (N,).

    Raises:
        ConditionError: the rate is malformed or negative.
        DataError, SimulationError, KeyboardInterrupt: as `caloforge.geant4.simulate`.
    """
    detector = detector if isinstance(detector, PixelDetector) else PixelDetector.load(detector)
    ranges = parse_rates(rate, detector)
    seed, shard = checked_seed(seed), Shard.parse(shard)
    first, stop = shard.span(whole_number("n", n))
    n = checked_count(stop - first, first)
    workers = usable_cores() if workers is None else whole_number("workers", workers)
    data = find_data(reduced=reduced_data)
    target = output_file(out)
    settings = {
        "detector": detector.to_dict(),
        "rates": ranges,
        "n": n,
        "seed": seed,
        "engine": ENGINE_VERSION,
        "chunk": min(CHUNK, max(1, n // 8)),
        **of_shard(shard, first),
    }
    produce(
        target,
        settings,
        data,
        module="caloforge.geant4.pixel.worker",
        what="events",
        workers=workers,
        made_before=lambda path: open_events(path).provenance,
        join=lambda store, made: _join(store, made, target, detector, overwrite),
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
    return open_events(target)


def _join(
    store: ChunkStore, made: dict[str, Any], target: Path, detector: PixelDetector, overwrite: bool
) -> None:
    """Move the chunks, in order of event number, into the output file."""
    sources = tuple(source.name for source in detector.sources)
    with PixelWriter(target, detector, sources, provenance=made, overwrite=overwrite) as writer:
        for chunk in store.complete():
            columns = chunk.read()
            hits = PixelHits.from_columns(detector.shape, columns)
            seeds = np.full(len(hits), store.request["seed"], dtype=np.uint64)
            numbers = np.arange(chunk.start, chunk.stop) + store.request.get("first", 0)
            conditions = PixelConditions(sources, columns["rates"], seeds, numbers)
            writer.append(hits, conditions, {"geant4_cpu_seconds": columns["seconds"]})
