"""A Geant4 run in which a model makes the showers of electrons, positrons and photons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.data.beam import Beam
from caloforge.data.conditions import Conditions
from caloforge.data.event_list import EventList
from caloforge.data.quantities import Quantity, parse_range, whole_number
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.fast.own_server import server_of
from caloforge.geant4.acceptance import REASONS, Acceptance
from caloforge.geant4.beam import make_beam
from caloforge.geant4.simulate import CHUNK_MEV, mean_energy, shoot
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.shards import Shard

__all__ = ["simulate_fast", "told_of_fast"]

FAST_VERSION = 1  # raise when the showers of given settings change
CHEAPER = 20
"""A chunk has so much more energy than one of full simulation."""
MOST_CHUNK = 512


def simulate_fast(
    detector: str | os.PathLike[str] | Detector,
    model: Checkpoint | str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str],
    n: int | None = None,
    events: Sequence[Conditions] | Conditions | None = None,
    above: Quantity | None = None,
    together: int = 256,
    particle: str = "e-",
    energy: Quantity = "1-10GeV",
    spectrum: str = "log-uniform",
    theta: Quantity | None = None,
    phi: Quantity | None = None,
    impact: Sequence[Quantity] | str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "auto",
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
    """Simulate as `caloforge.geant4.simulate` does, with a model in the place of electromagnetic showers.

    Geant4 tracks everything up to the face of the calorimeter. Electrons, positrons and photons that enter
    there within the range of the model end, and their energy is what the model makes of them; all others are
    simulated in full. A shower is a function of the model, the seed, and the numbers of its event and track.

    Args:
        model: a checkpoint, its folder or name, or the socket of a server (``caloforge serve``); by default
            the model that comes with caloforge for the detector.
        above: kinetic energy from which particles are taken over, the model's lowest by default.
        together: showers that are made at once, at least, of as many events as that takes within a chunk; 1
            makes those of each event by themselves.
        settings, device, precision, kernels: of the model, as `caloforge.generate` has them; a server has its
            own.
        shard: as all others, what `caloforge.geant4.simulate` has under this name; the last bits of a shard
            may differ from those of the whole, as with another ``n``.

    Returns:
        The showers on disk, with the columns of full simulation and, by event, ``fast_showers`` and
        ``fast_energy`` (how many and how much energy a model took over), and ``fallback_energy``,
        ``fallback_angle``, ``fallback_particle`` and ``fallback_place`` (how many it did not, and why).

    Raises:
        CheckpointError: the model cannot be used.
        ConditionError: it does not know the detector.
        SimulationError: there is no server, or it failed, and what `caloforge.geant4.simulate` raises.
    """
    name = None if isinstance(detector, Detector) else os.fspath(detector)
    detector = detector if isinstance(detector, Detector) else Detector.load(detector)
    source: Beam | EventList = (
        EventList.of(events)
        if events is not None
        else make_beam(
            detector,
            particle=particle,
            energy=energy,
            spectrum=spectrum,
            theta=theta,
            phi=phi,
            impact=impact,
            allow_outside=allow_outside,
        )
    )
    lowest = None if above is None else parse_range(above, "energy")[0]
    workers = usable_cores() if workers is None else whole_number("workers", workers)
    threads = min(workers, usable_cores())
    served = server_of(model, name or detector.name, settings, threads, device, precision, kernels)
    with served as (path, offer):
        cells = offer.mesh(detector.name)
        cells.points(np.zeros(1, dtype=np.int64), np.full((1, 3), 0.5))  # raises where it cannot tell
        acceptance = Acceptance.of(detector, cells, offer.ranges[detector.name], lowest)
        size = int(np.clip(CHEAPER * CHUNK_MEV / mean_energy(source), 1, MOST_CHUNK))
        number = (len(source) if isinstance(source, EventList) else n or 1) // Shard.parse(shard).of
        decides = {
            "version": FAST_VERSION,
            "checkpoint": offer.fingerprint,
            "name": offer.name,
            "execution": offer.execution,
            "acceptance": acceptance.to_dict(),
            "together": whole_number("together", together),
        }
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
            module="caloforge.fast.worker",
            more={"fast": decides, "chunk": min(size, max(16, -(-number // 4)))},
            told={"server": str(path)},
        )


def told_of_fast(showers: Showers) -> str:
    """How many showers of a run a model made, and how many Geant4, in words."""
    made, extra = int(showers.extra["fast_showers"].sum()), showers.extra
    left = {reason: int(extra[f"fallback_{reason}"].sum()) for reason in REASONS}
    others = ", ".join(f"{count} for their {reason}" for reason, count in left.items() if count)
    name = showers.provenance["settings"]["fast"]["name"]
    kept = f"Geant4 kept {others}" if others else "all that came were in its range"
    return f"{made} particles were taken over by {name}, {kept}"
