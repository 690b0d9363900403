"""A model for every calorimeter: simulated showers, curves of adaptation: docs/foundation.md.

python benchmarks/foundation.py simulate DETECTOR... -n 60 -o data [--most 1000GeV] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
import zlib
from pathlib import Path

import numpy as np

from caloforge.data.conditions import Conditions
from caloforge.detector import Detector
from caloforge.geant4 import simulate

KNEE, LEAST = 5000.0, 1000.0
"""Up to 5 GeV as many showers in each octave; above, as many as cost as much time."""


def energies(n: int, most: float, random: np.random.Generator) -> np.ndarray:
    """n energies, MeV."""
    knee = min(KNEE, most)
    below, above = np.log(knee / LEAST), 1 - knee / most
    u = random.random(n) * (below + above)
    high = knee / np.maximum(1 - (u - below), knee / most)
    return np.where(u < below, LEAST * np.exp(u), high)


def planned(detector: Detector, n: int, most: float, seed: int) -> list[Conditions]:
    """Electrons and photons in turn, of all directions."""
    random = np.random.default_rng([seed, zlib.crc32(detector.name.encode())])
    low, high = detector.theta_range_rad
    energy, theta, phi = energies(n, most, random), random.uniform(low, high, n), random.uniform(0, 6.28, n)
    return [
        Conditions(energy[i : i + 1], theta[i : i + 1], phi[i : i + 1], ("e-", "gamma")[i % 2], detector.name)
        for i in range(n)
    ]


def run_simulate(given: argparse.Namespace) -> None:
    for name in given.detectors:
        detector = Detector.load(name)
        out = given.out / f"{detector.name}.h5"
        if out.exists():
            continue
        begin = time.time()
        events = planned(detector, given.n, given.most, given.seed)
        simulate(detector, out=out, events=events, seed=given.seed, workers=1, resume=True, progress=False)
        total = sum(float(c.energy[0]) for c in events) / 1000
        print(f"{detector.name}: {given.n} showers, {total:.0f} GeV, {time.time() - begin:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("simulate")
    one.add_argument("detectors", nargs="+")
    one.add_argument("-n", type=int, default=60)
    one.add_argument("--most", type=float, default=1e6, help="largest energy, MeV")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("-o", "--out", type=Path, required=True)
    one.set_defaults(run=run_simulate)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
