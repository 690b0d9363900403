"""The layer flow's hot paths, each against the obvious alternative in the same run, on one CPU thread.

    python benchmarks/layer_flow.py CHECKPOINT [--showers 500]

1. The spline of the couplings against zuko's (`pip install zuko`), on the same parameters and inputs.
2. Generation with the checkpoint against Geant4 at the same energies: CPU milliseconds a shower, peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from caloforge.checkpoint import Checkpoint
from caloforge.data import open_showers
from caloforge.detector.detector import Detector
from caloforge.geant4 import simulate
from caloforge.models.networks.splines.splines import n_spline_parameters, rational_quadratic

BINS, SCALARS, BOUND = 8, 72 * 128, 5.0


def milliseconds(run: Callable[[], object], repeats: int = 50) -> float:
    """Median of ``repeats`` runs after a warm-up."""
    times = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[5:])[repeats // 2]


def splines() -> dict[str, float]:
    """Both directions of 9216 splines of 8 bins, and the largest difference of the inverses' round trip."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SCALARS, generator=generator)
    parameters = torch.randn(n_spline_parameters(BINS), SCALARS, generator=generator)
    result = {}
    for name, inverse in (("forward", False), ("inverse", True)):
        result[f"ours, {name}"] = milliseconds(
            lambda inverse=inverse: rational_quadratic(x, parameters, bound=BOUND, inverse=inverse)
        )
    try:
        from zuko.transforms import MonotonicRQSTransform
    except ImportError:
        print("zuko is not installed: its column is left out", file=sys.stderr)
        return result
    last = parameters.T.contiguous()
    widths, heights, slopes = last[:, :BINS], last[:, BINS : 2 * BINS], last[:, 2 * BINS :]

    def theirs(inverse: bool) -> object:
        transform = MonotonicRQSTransform(widths, heights, slopes, bound=BOUND)
        if inverse:
            return transform.inv.call_and_ladj(x)
        return transform.call_and_ladj(x)

    for name, inverse in (("forward", False), ("inverse", True)):
        result[f"zuko, {name}"] = milliseconds(lambda inverse=inverse: theirs(inverse))
    return result


def generation(checkpoint: Path, n: int) -> dict[str, float]:
    """ms a shower of Geant4 and of the checkpoint at the same energies, and their ratio."""
    loaded = Checkpoint.load(checkpoint)
    low, high = loaded.valid_range["energy"]
    detector = Detector.load(loaded.valid_range["detector"][0])
    with tempfile.TemporaryDirectory() as folder:
        truth = simulate(
            detector, out=Path(folder) / "g4.h5", n=n, workers=1, seed=5, energy=f"{low:.6g}-{high:.6g}MeV"
        )
        geant4 = float(truth.extra["geant4_cpu_seconds"].mean() * 1e3)
        out = Path(folder) / "flow.h5"
        command = ["generate", checkpoint, "--like", Path(folder) / "g4.h5", "-o", out, "--threads", 1]
        subprocess.run([sys.executable, "-m", "caloforge", *map(str, command)], check=True)
        speed = open_showers(out).provenance["performance"]
    return {
        "showers": n,
        "mean energy, GeV": float(truth.conditions.energy.mean() / 1e3),
        "Geant4, ms": geant4,
        "flow, ms": speed["ms_per_shower"],
        "speed-up": geant4 / speed["ms_per_shower"],
        "flow, peak memory MiB": speed["peak_memory_mib"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--showers", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        result = {"splines, ms": splines()}
    result["generation"] = generation(options.checkpoint, options.showers)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
