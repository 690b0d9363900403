"""What scoring costs Geant4, and what a second worker brings.

Run on a quiet machine: ``python benchmarks/geant4_scoring.py --json runs/geant4_scoring.json`` (two minutes
on two cores). Process CPU time is compared, of the same showers with the same random numbers, in alternating
processes; what other programs do to the caches and to the second thread of a core still shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from caloforge.detector.detector import Detector
from caloforge.geant4 import simulate
from caloforge.geant4.validate import probe


def measure_scoring(detector: str, energy: str, showers: int, rounds: int) -> dict[str, Any]:
    """CPU time per GeV (ms) without and with scoring: smallest of each, and the median ratio of rounds."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for scoring in (False, True):
            rows = probe(
                "timing", detector, range(showers), energy=energy, more={"scoring": scoring, "repetitions": 3}
            )
            times[scoring].append(min(1e6 * row["seconds"] / row["energy"] for row in rows))
    ratios = [b / a for a, b in zip(times[False], times[True], strict=True)]
    return {
        "ms_per_gev_none": min(times[False]),
        "ms_per_gev_scoring": min(times[True]),
        "ratio": min(times[True]) / min(times[False]),
        "median_ratio": statistics.median(ratios),
        "rounds": [times[False], times[True]],
    }


def measure_workers(detector: str, energy: str, showers: int) -> dict[str, Any]:
    """Showers per second with one and with two workers, the time to start Geant4 not counted."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:

        def wall(n: int, workers: int) -> float:
            start = time.perf_counter()
            out = Path(folder) / f"{n}-{workers}.h5"
            simulate(detector, out=out, n=n, energy=energy, workers=workers, progress=False, overwrite=True)
            return time.perf_counter() - start

        for workers in (1, 2):
            start_up = wall(workers, workers)
            result[f"start_seconds_{workers}"] = start_up
            result[f"showers_per_second_{workers}"] = (showers - workers) / (
                wall(showers, workers) - start_up
            )
    result["ratio"] = result["showers_per_second_2"] / result["showers_per_second_1"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="par04-siw")
    parser.add_argument("--energy", default="10GeV")
    parser.add_argument("--showers", type=int, default=20, help="showers of a repetition")
    parser.add_argument("--rounds", type=int, default=5, help="alternations of without and with scoring")
    parser.add_argument("--worker-showers", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    name = Detector.load(options.detector).name
    scoring = measure_scoring(options.detector, options.energy, options.showers, options.rounds)
    workers = measure_workers(options.detector, options.energy, options.worker_showers)
    table = Table(title=f"{name}, electrons of {options.energy}")
    for column in ("quantity", "value", "aim"):
        table.add_column(column)
    table.add_row("no scoring", f"{scoring['ms_per_gev_none']:.2f} ms CPU per GeV", "")
    table.add_row("scoring on the mesh", f"{scoring['ms_per_gev_scoring']:.2f} ms CPU per GeV", "")
    table.add_row(
        "ratio", f"{scoring['ratio']:.3f} (median of rounds {scoring['median_ratio']:.3f})", "< 1.15"
    )
    for n in (1, 2):
        table.add_row(f"{n} worker{'s'[: n - 1]}", f"{workers[f'showers_per_second_{n}']:.2f} showers/s", "")
    table.add_row("throughput ratio", f"{workers['ratio']:.3f}", "> 1.9")
    Console().print(table)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"scoring": scoring, "workers": workers}, indent=1))


if __name__ == "__main__":
    main()
