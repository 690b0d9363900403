"""Geant4 with a model in it against Geant4 alone: energies, resolution, profiles, neighbours, time.

    python benchmarks/fast_simulation.py [--showers 100] [--pairs 100] [--sprays 40] [--photons 50]
                                         [--only single,pairs]

Electrons of 10-50 GeV in par04-siw; pairs 1 to 6 cells apart, of electrons there and of photons in lhcb-ecal;
sprays of particles of a power law in a narrow cone, of electrons alone and with positrons and photons, for
which the model of par04-siw was not trained and which Geant4 therefore keeps; and events of two photons in
lhcb-ecal, and in par04-siw, where Geant4 makes them. Both runs shoot the same
particles. One core is used; times are of processor, of all processes together. The time to start is that of a
run of a single event; what Python takes to import torch is in neither.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import Showers, simulate, simulate_fast
from caloforge.data import Conditions
from caloforge.detector import BoxMesh
from caloforge.fast.simulate import told_of_fast

Floats = NDArray[np.float64]
CELL_MM, FACE_MM = 4.65, 800.0
VALLEY = 0.9
"""Two maxima are seen where the cells between them have less than this of the lower one."""


@dataclass
class Run:
    """Showers, and the seconds of processor and clock that they took."""

    showers: Showers
    processor: float
    clock: float


def measured(make: Callable[..., Showers], **how: Any) -> Run:
    def processor() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(use.ru_utime + use.ru_stime for use in both)

    with tempfile.TemporaryDirectory() as folder:
        began, clock = processor(), time.perf_counter()
        made = make(out=Path(folder) / "a.h5", workers=1, progress=False, **how)
        seconds, elapsed = processor() - began, time.perf_counter() - clock
        kept = Showers(made.energies, made.conditions, made.mesh, made.provenance, made.extra)
    return Run(kept, seconds, elapsed)


def both(detector: str, one: dict[str, Any], **how: Any) -> tuple[Run, Run]:
    """Full and fast; the time to start is that of the run ``one``, of a single event, and is told apart."""
    runs = []
    for name, make in (("full", simulate), ("fast", simulate_fast)):
        start = measured(lambda make=make, **more: make(detector, **more), **one)
        run = measured(lambda make=make, **more: make(detector, **more), **how)
        n, own = len(run.showers), run.processor - start.processor
        print(
            f"{name}: {1e3 * own / (n - 1):.2f} ms an event beside {start.processor:.2f} s to start "
            f"({run.processor:.1f} s of processor, {run.clock:.1f} s in all for {n})"
        )
        runs.append(Run(run.showers, own / (n - 1), run.processor))
    full, fast = runs
    print(
        f"Geant4 takes {full.processor / fast.processor:.0f} times as long; with the start of both "
        f"{full.clock / fast.clock:.1f} times. {told_of_fast(fast.showers)}\n"
    )
    return full, fast


def table(title: str, rows: dict[str, Callable[[Showers], Floats]], full: Run, fast: Run) -> None:
    """Means and spreads of observables (N,)."""
    print(f"| {title} | Geant4 | fast | fast − Geant4 | spread, Geant4 | spread, fast |")
    print("|---|---|---|---|---|---|")
    for name, of in rows.items():
        a, b = of(full.showers), of(fast.showers)
        error = math.hypot(a.std(), b.std()) / math.sqrt(len(a))
        spread = 1 / math.sqrt(2 * len(a))
        print(
            f"| {name} | {a.mean():.4g} | {b.mean():.4g} | {b.mean() - a.mean():+.2g} ± {error:.2g} "
            f"| {a.std():.3g} ± {a.std() * spread:.2g} | {b.std():.3g} ± {b.std() * spread:.2g} |"
        )
    print(flush=True)


def response(showers: Showers) -> Floats:
    return showers.energies.reshape(len(showers), -1).sum(1, dtype=np.float64) / showers.conditions.energy


def weighted(name: Callable[[dict[str, Floats]], Floats]) -> Callable[[Showers], Floats]:
    """Mean of something over the cells of each shower."""

    def mean(showers: Showers) -> Floats:
        cells = showers.energies.reshape(len(showers), -1).astype(np.float64)
        return np.asarray(cells @ name(showers.mesh.centres()) / cells.sum(1))

    return mean


def lit(showers: Showers) -> Floats:
    return np.asarray((showers.energies > 0).reshape(len(showers), -1).sum(1), dtype=np.float64)


USUAL: dict[str, Callable[[Showers], Floats]] = {
    "ΣE/E": response,
    "ΣE/E·√(E/GeV), for the spread": lambda s: response(s) * np.sqrt(s.conditions.energy / 1e3),
    "depth, mm": weighted(lambda c: c["z"]),
    "width, mm": weighted(lambda c: np.hypot(c["x"], c["y"])),
    "lit cells": lit,
}


def profiles(full: Run, fast: Run) -> None:
    """Mean shares of layers and rings, and χ² of each profile."""
    mesh = full.showers.mesh
    for name, axes in (("layers", (2, 3)), ("rings", (1, 2))):
        shares = []
        for run in (full, fast):
            sums = run.showers.energies.sum(axes, dtype=np.float64)
            shares.append(sums / run.showers.conditions.energy[:, None])
        a, b = shares
        error = np.hypot(a.std(0), b.std(0)) / math.sqrt(len(a))
        pull = (b.mean(0) - a.mean(0)) / np.maximum(error, 1e-12)
        worst = int(np.abs(pull).argmax())
        print(
            f"{name} of the {mesh}: mean pull² {np.square(pull).mean():.2f}, largest {pull[worst]:+.1f} in "
            f"number {worst}"
        )
    print(flush=True)


def singles(n: int) -> None:
    beam = {"energy": "10-50GeV", "seed": 1}
    full, fast = both("par04-siw", {**beam, "n": 1}, **beam, n=n)
    table(f"{n} electrons of 10-50 GeV in par04-siw", USUAL, full, fast)
    profiles(full, fast)


def separation(images: Floats, distance: int, first: int) -> tuple[float, float]:
    """Of images (N, cells) along the line of two showers: how many show two maxima, and the mean valley."""
    a, b = images[:, first], images[:, first + distance]
    between = images[:, first + 1 : first + distance]
    if not between.size:
        return 0.0, float("nan")
    valley = between.min(1) / np.minimum(a, b).clip(1e-9)
    return float((valley < VALLEY).mean()), float(valley.mean())


def pairs(n: int, distances: list[int]) -> None:
    fine = BoxMesh.regular((3, 41, 21), (51.0, CELL_MM, CELL_MM))
    rows = []
    for distance in distances:
        energies = np.random.default_rng(distance).uniform(10e3, 30e3, (n, 2))
        angle = distance * CELL_MM / FACE_MM
        electrons = [Conditions(e, phi=[0.0, angle], particle="e-") for e in energies]
        # photons hit corners of four cells, which is where the model knows them
        place = [[0.0, 0.0], [20.0 * distance, 0.0]]
        photons = [Conditions(e, 0.0, 0.0, "gamma", impact=place) for e in energies]
        row = [str(distance)]
        for detector, events, mesh in (("par04-siw", electrons, fine), ("lhcb-ecal", photons, None)):
            for make in (simulate, simulate_fast):
                how = {"events": events, "mesh": mesh, "seed": 2}
                made = measured(lambda make=make, where=detector, **more: make(where, **more), **how).showers
                if detector == "par04-siw":
                    images, first = made.energies[:, :, :, 9:12].sum((1, 3)), 20
                else:  # cells 14 and 15 share what the first one leaves
                    rows_of_cells = made.energies[:, 0, 13:17].sum(1)
                    images, first = rows_of_cells[:, :-1] + rows_of_cells[:, 1:], 14
                seen, valley = separation(images.astype(np.float64), distance, first)
                row += [f"{seen:.2f} ± {math.sqrt(max(seen * (1 - seen), 1 / n) / n):.2f}", f"{valley:.3f}"]
        rows.append(row)
        print(f"| {' | '.join(row)} |", flush=True)
    print("columns: distance in cells; electrons in par04-siw (cells of 4.65 mm): two maxima seen by Geant4,")
    print("mean valley, the same fast; photons in lhcb-ecal (cells of 20 mm): likewise\n", flush=True)


def diphotons(n: int) -> None:
    """Two photons of 10-30 GeV, 9 cells of lhcb-ecal apart; the model of par04-siw does not know them."""
    energies = np.random.default_rng(7).uniform(10e3, 30e3, (n, 2))
    apart = [[-80.0, -40.0], [80.0, 40.0]]  # corners of cells, which is where the model knows them
    events = [Conditions(e, 0.0, 0.0, "gamma", impact=apart) for e in energies]
    full, fast = both("lhcb-ecal", {"seed": 4, "events": events[:1]}, seed=4, events=events)
    first = energies[:, 0] / energies.sum(1)
    rows = {
        "ΣE/E": response,
        "share of the first photon − true": lambda s: weighted(lambda c: (c["x"] < 0) * 1.0)(s) - first,
        "lit cells": lit,
    }
    table(f"{n} pairs of photons of 10-30 GeV in lhcb-ecal", rows, full, fast)
    events = [Conditions(e, phi=[0.0, 0.1], particle="gamma") for e in energies[: n // 5]]
    how = {"seed": 4, "events": events}
    full, fast = (
        measured(lambda m=m, **more: m("par04-siw", **more), **how) for m in (simulate, simulate_fast)
    )
    same = np.array_equal(full.showers.energies, fast.showers.energies)
    print(f"in par04-siw: {told_of_fast(fast.showers)}; files {'are the same' if same else 'DIFFER'}\n")


def spray(random: np.random.Generator, kinds: list[str]) -> Conditions:
    """A dozen particles of 2-20 GeV, falling as E⁻², within 15 mrad in θ and 60 mrad in φ."""
    u = random.random(12)
    energy = 1 / (1 / 2e3 - u * (1 / 2e3 - 1 / 20e3))
    theta, phi = random.normal(0, 0.006, 12).clip(-0.015, 0.015), random.normal(0, 0.02, 12).clip(-0.06, 0.06)
    theta[0] = phi[0] = 0.0
    return Conditions(energy, math.pi / 2 + theta, phi, [kinds[i % len(kinds)] for i in range(12)])


def sprays(n: int) -> None:
    mesh = BoxMesh.regular((15, 41, 21), (10.2, 2 * CELL_MM, 2 * CELL_MM))
    for title, kinds in (("electrons", ["e-"]), ("e-, e+ and photons", ["e-", "gamma", "e-", "e+"])):
        events = [spray(np.random.default_rng(i), kinds) for i in range(n)]
        how = {"mesh": mesh, "seed": 3}
        full, fast = both("par04-siw", {**how, "events": events[:1]}, **how, events=events)
        across = {
            "y of the energy, mm": weighted(lambda c: c["y"]),
            "|y| of the energy, mm": weighted(lambda c: np.abs(c["y"])),
        }
        table(f"{n} sprays of 12 {title}", {**USUAL, **across}, full, fast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, number in (("showers", 100), ("pairs", 100), ("sprays", 40), ("photons", 50)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--distances", default="1,2,3,4,5,6", help="of pairs, in cells")
    parser.add_argument("--only", default="single,pairs,sprays,photons")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    wanted = options.only.split(",")
    if "single" in wanted:
        singles(options.showers)
    if "sprays" in wanted:
        sprays(options.sprays)
    if "photons" in wanted:
        diphotons(options.photons)
    if "pairs" in wanted:
        pairs(options.pairs, [int(d) for d in options.distances.split(",")])


if __name__ == "__main__":
    main()
