"""GFlash against Geant4: response, resolution, longitudinal and radial profile, lit cells, showers a second.

    python benchmarks/parametrised.py showers.h5 [more.h5 …] [--showers 4000] [--resolution 0.13]

Each file holds electrons, positrons or photons of Geant4 in a detector that comes with caloforge; GFlash
makes as many showers of the same conditions (the last ``--showers``), by energy where there are many.
Deviations are GFlash − Geant4, with the errors of both samples. "depth" is the mean layer of the mesh,
weighted by energy, and "its spread" that from shower to shower; "layer" is the largest deviation of a layer's
mean share, and which; "width" is the mean distance from the axis. The last column is CPU time of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import caloforge
from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.data.particles import pdg_name

EDGES_GEV = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
MANY = 1000
Floats = NDArray[np.float64]


@dataclass
class Moments:
    """What is compared, by shower (N,), and mean shares of layers (Z,)."""

    energy: Floats
    response: Floats
    depth: Floats
    width: Floats
    lit: Floats
    layers: Floats

    @classmethod
    def of(cls, showers: Showers) -> Moments:
        mesh = showers.mesh
        centres = mesh.centres()
        distance = np.hypot(centres["x"], centres["y"])
        rows: list[tuple[Floats, ...]] = []
        for energies, conditions in showers.batches(500):
            cells = energies.reshape(len(energies), -1).astype(np.float64)
            total = np.maximum(cells.sum(axis=1), 1e-9)
            layers = mesh.layer_energies(energies) / total[:, None]
            depth = layers @ np.arange(mesh.n_layers)
            width, lit = cells @ distance / total, (cells > 0).sum(axis=1)
            rows.append((conditions.energy, total / conditions.energy, depth, width, lit, layers))
        return cls(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def between(self, low: float, high: float) -> Moments:
        chosen = (self.energy >= low) & (self.energy < high)
        return Moments(*(column[chosen] for column in vars(self).values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--showers", type=int, default=4000)
    parser.add_argument("--resolution", type=float, help="c of GFlash, in the place of its own")
    options = parser.parse_args()
    print("| | GeV | response | σ/E·√E, % | depth | its spread | layer | width, mm | lit cells | µs |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for file in options.files:
        compare(file, options.showers, options.resolution)


def compare(file: Path, n: int, resolution: float | None) -> None:
    truth = open_showers(file)[-n:]
    name, particle = str(truth.conditions.detector[0]) or "par04-siw", truth.conditions.particle[0]
    checkpoint = Checkpoint.load(f"gflash:{name}").with_settings({"resolution": resolution})
    conditions = truth.conditions
    conditions.detector[:] = name
    started = time.process_time()
    made = caloforge.generate(
        checkpoint, conditions=conditions, seed=1, threads=1, progress=False, allow_extrapolation=True
    )
    cost = (time.process_time() - started) / len(truth) * 1e6
    geant4, gflash = Moments.of(truth), Moments.of(made)
    edges = EDGES_GEV if len(truth) >= MANY else (0.0, math.inf)
    for low, high in itertools.pairwise(edges):
        a, b = (moments.between(low * 1000, high * 1000) for moments in (geant4, gflash))
        angle = f", θ = {np.degrees(conditions.theta[0]):.0f}°"
        scale = np.sqrt(a.energy.mean() / 1000) * 100
        told = f"{low:g}-{high:g}" if high < math.inf else f"{a.energy.mean() / 1000:g}"
        shares = b.layers.mean(axis=0) - a.layers.mean(axis=0)
        row = [
            f"{name}, {pdg_name(particle)}{angle}",
            told,
            difference(a.response, b.response, 3),
            f"{a.response.std() * scale:.1f} → {b.response.std() * scale:.1f}",
            difference(a.depth, b.depth, 2),
            f"{a.depth.std():.2f} → {b.depth.std():.2f}",
            f"{shares[np.abs(shares).argmax()] * 100:+.1f} % ({np.abs(shares).argmax()})",
            difference(a.width, b.width, 2),
            f"{a.lit.mean():.0f} → {b.lit.mean():.0f}",
            f"{cost:.0f}",
        ]
        print(f"| {' | '.join(row)} |", flush=True)


def difference(a: Floats, b: Floats, digits: int) -> str:
    error = math.hypot(a.std(), b.std()) / math.sqrt(len(a))
    return f"{a.mean():.{digits}f} {b.mean() - a.mean():+.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    main()
