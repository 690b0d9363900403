"""What a benchmark measures with: the showers' conditions, the machine, and Geant4 in the same conditions."""

from __future__ import annotations

import math
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.bench.results import Geant4Time
from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.data.particles import pdg_name
from caloforge.data.quantities import Quantity, Range, parse_energies
from caloforge.detector.detector import Detector
from caloforge.errors import ConditionError, DetectorError, MeshError, MissingDependencyError, SimulationError
from caloforge.geant4 import simulate
from caloforge.generation.conditions import incident_conditions
from caloforge.generation.trained import trained_name
from caloforge.runtime.cores import usable_cores
from caloforge.runtime.processor import processor_name

__all__ = ["choose_conditions", "describe_machine", "time_geant4"]

GOLDEN = (math.sqrt(5) - 1) / 2


def choose_conditions(
    checkpoint: Checkpoint,
    n: int,
    like: Showers | str | os.PathLike[str] | None,
    energy: Quantity | None,
    seed: int,
    detector: str | None = None,
    particle: str | None = None,
) -> Conditions:
    """Conditions (n,) that generated and simulated showers take in turn, for a detector and particle.

    Energies are quantiles of their spectrum in golden-ratio order, so that the first few represent it well.
    """
    if like is not None:
        if energy is not None:
            raise ConditionError("give either like or energy")
        rows, _ = incident_conditions(checkpoint, like=like)
        order = np.argsort(rows.energy, kind="stable")
        return rows[order[(_golden(n) * len(rows)).astype(np.int64)]]
    valid = checkpoint.range_of(trained_name(checkpoint, "detector", detector))
    ranges = [_pair(valid["energy"])] if energy is None else parse_energies(energy)
    n = max(n, len(ranges))
    low, high = np.array(ranges)[np.arange(n) % len(ranges)].T
    values = low * (high / low) ** _golden(n)[np.arange(n) // len(ranges)]
    in_turn = ",".join(f"{value!r}MeV" for value in values.tolist())
    rows, _ = incident_conditions(
        checkpoint, energy=in_turn, detector=detector, particle=particle, n=n, seed=seed
    )
    return rows


def _golden(n: int) -> NDArray[np.float64]:
    """n points of [0, 1) of which every first few are spread evenly."""
    return ((np.arange(n) + 0.5) * GOLDEN % 1.0).astype(np.float64)


def _pair(span: Sequence[float]) -> Range:
    low, high = span
    return float(low), float(high)


def describe_machine(devices: Sequence[str]) -> dict[str, Any]:
    import torch

    from caloforge.runtime.devices import device_name

    gpus = [d for d in devices if d.startswith("cuda")]
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "gpu": device_name(torch.device(gpus[0])) if gpus else "",
        "system": platform.platform(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def time_geant4(
    checkpoint: Checkpoint, pool: Conditions, detector: str | os.PathLike[str] | Detector | None, seed: int
) -> Geant4Time:
    """Geant4 at the pool's energies and directions, one worker; a remark where it cannot be done."""
    particles, names = sorted({pdg_name(code) for code in pool.particle}), sorted({*pool.detector.tolist()})
    if len(particles) > 1 or (detector is None and len(names) > 1):
        return Geant4Time(remark=f"not simulated: several particles or detectors ({particles}, {names})")
    if particles == ["unknown"] or (detector is None and names == [""]):
        return Geant4Time(
            remark="not simulated: the checkpoint does not name its particle and detector; give the detector "
            "(detector=, --detector) and showers with a particle (like=, --like)"
        )
    spans = {name: _pair((getattr(pool, name).min(), getattr(pool, name).max())) for name in ("theta", "phi")}
    impact = None if pool.impact is None else [_pair((c.min(), c.max())) for c in pool.impact.T]
    try:
        loaded = detector if isinstance(detector, Detector) else Detector.load(detector or names[0])
        with tempfile.TemporaryDirectory() as folder:
            showers = simulate(
                loaded,
                out=Path(folder) / "geant4.h5",
                n=len(pool),
                particle=particles[0],
                energy=pool.energy.tolist(),
                theta=spans["theta"],
                phi=spans["phi"],
                impact=impact,
                seed=seed,
                workers=1,
                progress=False,
                mesh=checkpoint.mesh_of(names[0]),
                allow_outside=True,
            )
            seconds = np.asarray(showers.extra["geant4_cpu_seconds"], dtype=np.float64)
            physics = showers.provenance["settings"]
    except (MissingDependencyError, SimulationError, DetectorError, ConditionError, MeshError) as error:
        return Geant4Time(remark=f"not simulated: {error}")
    mean = float(pool.energy.mean())
    per_mev = 1e3 * seconds / pool.energy
    return Geant4Time(
        showers=len(seconds),
        ms=float(1e3 * seconds.mean()),
        ms_error=float(per_mev.std(ddof=1) / math.sqrt(len(seconds)) * mean)
        if len(seconds) > 1
        else math.nan,
        mean_energy_mev=mean,
        physics=f"{physics['physics']}, {physics['data']}",
    )
