"""Make showers with Geant4; see `caloforge.geant4.production`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.beam import Beam
from caloforge.data.conditions import Conditions
from caloforge.data.event_list import EventList
from caloforge.data.formats import open_showers
from caloforge.data.packing import PackedEnergies
from caloforge.data.particles import pdg_name
from caloforge.data.quantities import Quantity, whole_number
from caloforge.data.showers import Showers
from caloforge.data.writer import ShowerWriter
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.errors import ConditionError
from caloforge.geant4.beam import make_beam
from caloforge.geant4.environment import find_data, require_particle
from caloforge.geant4.production import produce
from caloforge.runtime.chunks import ChunkStore
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.files import output_file
from caloforge.runtime.shards import Shard
from caloforge.runtime.streams import checked_count, checked_seed

__all__ = ["mean_energy", "of_shard", "shoot", "simulate"]

ENGINE_VERSION = 1  # raise when the showers of given settings change
CHUNK_MEV = 200_000.0  # about two seconds of one core: what a kill loses at most


def simulate(
    detector: str | os.PathLike[str] | Detector,
    *,
    out: str | os.PathLike[str],
    n: int | None = None,
    events: Sequence[Conditions] | Conditions | None = None,
    particle: str = "e-",
    energy: Quantity = "1-10GeV",
    spectrum: str = "log-uniform",
    theta: Quantity | None = None,
    phi: Quantity | None = None,
    impact: Sequence[Quantity] | str | None = None,
    seed: int = 0,
    shard: Shard | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    mesh: Mesh | None = None,
    allow_outside: bool = False,
    reduced_data: bool = False,
) -> Showers:
    """Simulate ``n`` showers into the file ``out`` and open it.

    Args:
        detector: name, path of a TOML file, or `Detector`.
        out: HDF5 file to make.
        n: number of showers.
        events: in their place, the particles of each event, of which the first is the axis of cells that go
            with a shower, or of events of one each; angles, energies and the like then mean nothing.
        particle: Geant4's name; hadrons need the official data sets.
        energy: kinetic energy, ``"10GeV"``, a range ``"1-50GeV"``, or a list that the showers take in turn
            (``"1GeV,10GeV"``); numbers are MeV.
        spectrum: ``"log-uniform"`` or ``"uniform"``, for ranges of energy.
        theta, phi: direction, ``"90deg"``, ``"1.2-1.6rad"``, or numbers in rad; by default normal incidence
            and 0.
        impact: point on the face of a box, ``"0mm,-20..20mm"`` or pairs of numbers in mm; the detector's
            spread by default.
        seed: with a shower's number, decides everything random in it.
        shard: make this part of the n showers alone, ``"17/1000"``; the first of 1000 is ``"1/1000"``.
        workers: processes; the number of usable cores by default. The result does not depend on it.
        resume: go on with what an interrupted run of the same settings left.
        overwrite: replace ``out`` and what an interrupted run left.
        progress: show a progress bar where stderr is a terminal.
        mesh: other cells than the detector's own.
        allow_outside: simulate beyond the detector's valid range.
        reduced_data: use the reduced electromagnetic data even where the official data sets are found.

    Returns:
        The showers on disk, MeV, with the column ``geant4_cpu_seconds`` (N,).

    Raises:
        ConditionError: the beam is malformed or outside the valid range.
        DataError: ``out`` exists or cannot be written, what is unfinished has other settings or is not to be
            gone on with, or another process makes the same file.
        SimulationError: no data for the particle, or a worker failed.
        KeyboardInterrupt: Ctrl-C; finished showers are kept for ``resume``.
    """
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    source: Beam | EventList
    if events is not None:
        source = EventList.of(events)
    else:
        source = make_beam(
            detector,
            particle=particle,
            energy=energy,
            spectrum=spectrum,
            theta=theta,
            phi=phi,
            impact=impact,
            allow_outside=allow_outside,
        )
    return shoot(
        detector,
        source,
        out=out,
        n=n,
        seed=seed,
        shard=Shard.parse(shard),
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        mesh=mesh,
        reduced_data=reduced_data,
    )


def shoot(
    detector: Detector,
    source: Beam | EventList,
    *,
    out: str | os.PathLike[str],
    n: int | None,
    seed: int,
    shard: Shard,
    workers: int | None,
    resume: bool,
    overwrite: bool,
    progress: bool,
    mesh: Mesh | None,
    reduced_data: bool,
    module: str = "caloforge.geant4.worker",
    more: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Showers:
    """`simulate` of a beam or of events that are made already.

    Args:
        detector, out, n, seed, shard, workers, resume, overwrite, progress, mesh, reduced_data: as there.
        source: what is shot.
        module: of the worker processes.
        more: what the showers depend on besides, JSON-able; a ``chunk`` replaces the usual one.
        told: what the workers are told, which decides nothing.
    """
    if isinstance(source, EventList):
        if n not in (None, len(source)):
            raise ConditionError(f"{len(source)} events are given, but n = {n}")
        n, particles = len(source), sorted(set(map(pdg_name, source.all.particle)))
    else:
        particles = [str(source.particle)]
    seed, (first, stop) = checked_seed(seed), shard.span(whole_number("n", n))
    n = checked_count(stop - first, first)
    if isinstance(source, EventList):
        source = source.part(first, stop)
    workers = usable_cores() if workers is None else whole_number("workers", workers)
    data = find_data(reduced=reduced_data)
    for particle in particles:
        require_particle(data, particle)
    target, cells = output_file(out), mesh or detector.mesh
    produce(
        target,
        {**_settings(detector, cells, source, n, seed), **of_shard(shard, first), **(more or {})},
        data,
        module=module,
        what="showers",
        workers=workers,
        made_before=lambda path: open_showers(path).provenance,
        join=lambda store, made: _join(store, made, target, detector, cells, source, overwrite),
        told=told,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
    return open_showers(target)


def of_shard(shard: Shard, first: int) -> dict[str, Any]:
    """What settings say of a shard; nothing for the whole, whose showers begin with number 0."""
    return {} if shard.is_whole else {"shard": str(shard), "first": first}


def mean_energy(source: Beam | EventList) -> float:
    """Mean energy of a shower or event, MeV, roughly."""
    if isinstance(source, EventList):
        return float(source.all.energy.sum() / len(source))
    return float(np.mean([(a + b) / 2 for a, b in source.energies]))


def _settings(detector: Detector, mesh: Mesh, source: Beam | EventList, n: int, seed: int) -> dict[str, Any]:
    """Everything that the showers depend on, JSON-able."""
    return {
        "detector": detector.to_dict(),
        "mesh": mesh.to_dict(),
        "events" if isinstance(source, EventList) else "beam": source.to_dict(),
        "n": n,
        "seed": seed,
        "engine": ENGINE_VERSION,
        "chunk": int(np.clip(CHUNK_MEV / mean_energy(source), 1, max(1, -(-n // 16)))),
    }


def _join(
    store: ChunkStore,
    made: dict[str, Any],
    target: Path,
    detector: Detector,
    mesh: Mesh,
    source: Beam | EventList,
    overwrite: bool,
) -> None:
    """Move the chunks, in order of shower number, into the output file."""
    with ShowerWriter(target, mesh, provenance=made, overwrite=overwrite) as writer:
        for chunk in store.complete():
            columns = chunk.read()
            numbers = np.arange(chunk.start, chunk.stop) + store.request.get("first", 0)
            conditions = source.conditions(detector.name, store.request["seed"], numbers)
            extra = PackedEnergies.others(columns)
            extra["geant4_cpu_seconds"] = extra.pop("seconds")
            writer.append_packed(PackedEnergies.from_columns(columns), conditions, extra)
