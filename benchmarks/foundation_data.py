"""Showers of electrons and photons of all energies and directions: docs/how-to/foundation.md.

    python benchmarks/foundation_data.py DETECTOR... -n 50 -o data [--least MEV] [--most MEV] \\
        [--across 0.2] [--seed 1]

Many of few GeV and few of many, a share of them exactly across the layers. A file that is there is kept. One
thread.
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

KNEE = 5000.0
"""Up to 5 GeV as many showers in each octave; above, as many as cost as much time."""


def energies(n: int, least: float, most: float, random: np.random.Generator) -> np.ndarray:
    """n energies, MeV."""
    knee = min(max(KNEE, least), most)
    below, above = np.log(knee / least), 1 - knee / most
    u = random.random(n) * (below + above)
    high = knee / np.maximum(1 - (u - below), knee / most)
    return np.where(u < below, least * np.exp(u), high)


def planned(detector: Detector, given: argparse.Namespace) -> list[Conditions]:
    """Electrons and photons in turn, of all directions, and of one."""
    n, random = given.n, np.random.default_rng([given.seed, zlib.crc32(detector.name.encode())])
    low, high = detector.theta_range_rad
    energy, theta = energies(n, given.least, given.most, random), random.uniform(low, high, n)
    phi = random.uniform(0, 6.28, n)
    theta = np.where(random.random(n) < given.across, detector.normal_theta, theta)
    return [
        Conditions(energy[i : i + 1], theta[i : i + 1], phi[i : i + 1], ("e-", "gamma")[i % 2], detector.name)
        for i in range(n)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detectors", nargs="+")
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--least", type=float, default=1e3, help="least energy, MeV")
    parser.add_argument("--most", type=float, default=1e6, help="largest energy, MeV")
    parser.add_argument(
        "--across", type=float, default=0.0, help="share of showers exactly across the layers"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    for name in given.detectors:
        detector = Detector.load(name)
        out = given.out / f"{detector.name}.h5"
        if out.exists():
            continue
        begin = time.time()
        events = planned(detector, given)
        simulate(detector, out=out, events=events, seed=given.seed, workers=1, resume=True, progress=False)
        total = sum(float(c.energy[0]) for c in events) / 1000
        print(f"{detector.name}: {given.n} showers, {total:.0f} GeV, {time.time() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
