"""Is it Geant4? Comparisons with its own reference, energy conservation, sampling fractions, raw deposits.

``python -m caloforge.geant4.validate testem3`` and ``... sampling-fraction par04-siw`` print what
docs/how-to/geant4.md quotes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.detector import Detector
from caloforge.errors import SimulationError
from caloforge.geant4.beam import make_beam
from caloforge.geant4.environment import find_data
from caloforge.runtime.processes import Child, ChildError

__all__ = [
    "TESTEM3",
    "TESTEM3_REFERENCE",
    "Mean",
    "energy_balance",
    "probe",
    "run_testem3",
    "sampling_fraction",
]

TESTEM3 = Detector.from_dict(
    {
        "name": "testem3",
        "description": "Geant4's example TestEm3 (extended, electromagnetic): lead and liquid argon",
        "simplifications": "none",
        "shape": "box",
        "width_mm": 400.0,
        "height_mm": 400.0,
        "world_material": "G4_Galactic",
        "stack": [
            {
                "repeat": 50,
                "layers": [
                    {"material": "G4_Pb", "thickness_mm": 2.3},
                    {"material": "G4_lAr", "thickness_mm": 5.7, "sensitive": True},
                ],
            }
        ],
        "sampling_fraction": 1.0,
        "threshold_mev": 0.0,
        "production_cut_mm": 1.0,
        "mesh": {"kind": "box", "z": "layers", "n_y": 1, "dy_mm": 400.0, "n_x": 1, "dx_mm": 400.0},
        "particles": ["e-"],
        "energy_range_mev": [1000.0, 1000.0],
        "theta_range_rad": [0.0, 0.0],
    }
)

# Geant4 11.4's own output for it: official data, emstandard_opt0, 1 GeV e-, 100 events. Errors where given.
TESTEM3_REFERENCE = {
    "lead": (774.0, 1.5),
    "argon": (215.7, 1.3),
    "gamma": (508.8, None),
    "e-": (870.0, None),
    "e+": (53.9, None),
    "charged steps": (3711.0, None),
    "neutral steps": (3715.0, None),
}


@dataclass(frozen=True)
class Mean:
    """A mean and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> Mean:
        array = np.asarray(values, dtype=np.float64)
        return cls(float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array))))


def probe(
    name: str,
    detector: Detector | str,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    more: dict[str, Any] | None = None,
    **beam: Any,
) -> list[dict[str, Any]]:
    """Run a measurement of `caloforge.geant4.probes` on the showers ``numbers`` in a process of its own.

    ``beam`` is passed to `make_beam`. Raises SimulationError with the end of Geant4's output where it fails.
    """
    described = detector if isinstance(detector, Detector) else Detector.load(detector)
    data = find_data(reduced=True)
    settings = {
        "probe": name,
        "detector": described.to_dict(),
        "mesh": described.mesh.to_dict(),
        "beam": make_beam(described, allow_outside=True, **beam).to_dict(),
        "numbers": [int(number) for number in numbers],
        "seed": seed,
        "official": data.official,
    }
    try:
        with Child("caloforge.geant4.probes", environment=data.environment) as measurement:
            rows: list[dict[str, Any]] = measurement.ask(settings | (more or {}))["rows"]
    except ChildError as error:
        raise SimulationError(f"the measurement {name!r} failed: {error.details}") from None
    return rows


def run_testem3(events: int = 300, seed: int = 0) -> dict[str, Mean]:
    """Mean energies (MeV), secondaries and steps per event of TestEm3; compare with `TESTEM3_REFERENCE`."""
    rows = probe("tallies", TESTEM3, range(events), seed=seed, energy="1GeV")
    columns = {
        "lead": [row["deposits"].get("G4_Pb", 0.0) for row in rows],
        "argon": [row["deposits"].get("G4_lAr", 0.0) for row in rows],
        **{name: [row["tracks"].get(name, 0) for row in rows] for name in ("gamma", "e-", "e+")},
        **{f"{kind} steps": [row["steps"].get(kind, 0) for row in rows] for kind in ("charged", "neutral")},
    }
    return {name: Mean.of(values) for name, values in columns.items()}


def energy_balance(
    detector: Detector | str, events: int, *, seed: int = 0, **beam: Any
) -> NDArray[np.float64]:
    """Per event (N,): deposits in all materials plus what leaves the world, over the available energy.

    One where energy is conserved. The mass of the electrons of positrons that are made and annihilated is
    counted: 2 m c² leave with a positron.
    """
    rows = probe("tallies", detector, range(events), seed=seed, **beam)
    found = [sum(row["deposits"].values()) + row["leaving"] for row in rows]
    ratio: NDArray[np.float64] = np.array(found) / np.array([row["available"] for row in rows])
    return ratio


def sampling_fraction(
    detector: Detector | str, events: int = 200, *, particle: str = "e-", energy: str = "10GeV", seed: int = 0
) -> Mean:
    """Energy in the sensitive layers over the incident energy at normal incidence."""
    rows = probe("visible", detector, range(events), seed=seed, particle=particle, energy=energy)
    return Mean.of([row["fraction"] for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m caloforge.geant4.validate", description=__doc__)
    parser.add_argument("what", choices=["testem3", "sampling-fraction"])
    parser.add_argument("detector", nargs="?", help="name or file, for sampling-fraction")
    parser.add_argument("--events", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.what == "testem3":
        for name, mean in run_testem3(options.events or 300, options.seed).items():
            value, error = TESTEM3_REFERENCE[name]
            reference = f"{value:8.1f}" + (f" ± {error:.1f}" if error else "")
            print(f"{name:14} {mean.value:8.1f} ± {mean.error:.1f}   Geant4's reference {reference}")
        return 0
    if options.detector is None:
        parser.error("sampling-fraction needs the name or file of a detector")
    fraction = sampling_fraction(options.detector, options.events or 200, seed=options.seed)
    print(f"{options.detector}: {fraction.value:.5f} ± {fraction.error:.5f} of E in the sensitive layers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
