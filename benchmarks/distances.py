"""FPD, KPD and precision/recall/density/coverage: caloforge against jetnet and prdc, in the same run.

    pip install jetnet==0.2.5 prdc==0.2
    python benchmarks/distances.py reference.h5 generated.h5 [--showers 20000] [--metrics fpd,kpd,prdc]

Both ways see the same showers and, for FPD and KPD, draw the same ones (seed 42), without floors. Each runs
in a process of its own; the peak is what it takes above its inputs. Processor time is given because other
programs disturb it less. Where more showers are wanted than a file has, they are drawn again, turned in φ and
their cells shaken by 20 %. jetnet's package for the earth mover's distance does not load beside NumPy 2 and
is not needed here, so an empty module stands in for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
from measure import peak_mib

from caloforge.data import Showers, open_showers
from caloforge.evaluation.distances import feature_matrix, fpd, kpd, memorisation, prdc
from caloforge.evaluation.features import compute_features

SEED = 42
WAYS = {"fpd": ("ours", "jetnet"), "kpd": ("ours", "jetnet"), "prdc": ("ours", "prdc"), "floors": ("ours",)}


def read(path: Path, n: int | None, seed: int) -> Showers:
    """The showers of a file in memory, n of them, some more than once if there are fewer."""
    showers = open_showers(path).load()
    if n is None or n <= len(showers):
        return showers[:n].load()
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(showers), n)
    cells = np.empty((n, *showers.mesh.shape), dtype=np.float32)
    for i, row in enumerate(rows):
        turned = np.roll(showers.energies[row], rng.integers(showers.mesh.shape[1]), axis=1)
        cells[i] = turned * np.exp(0.2 * rng.standard_normal(turned.shape, dtype=np.float32))
    return Showers(cells, showers.conditions[rows], showers.mesh)


def measure(metric: str, way: str, samples: list[Showers]) -> dict[str, float]:
    """Compute a metric in one of the ways; time and memory of nothing but that."""
    if metric in ("fpd", "kpd") or metric == "floors":
        matrices = [feature_matrix(compute_features(s)) for s in samples]
    if way == "jetnet":
        sys.modules["wasserstein"] = types.ModuleType("wasserstein")
        from jetnet.evaluation import gen_metrics as jetnet
    elif way == "prdc":
        from prdc import compute_prdc
    import torch  # noqa: F401  also what imports take is no part of it

    wall, cpu = time.perf_counter(), time.process_time()
    before = peak_mib()
    values: dict[str, float]
    if metric == "floors":
        distances = {"fpd": fpd(*matrices), "kpd": kpd(*matrices)}
        values = {f"{name} floor": estimate.floor for name, estimate in distances.items()}
        half = len(samples[0]) // 2
        first, second = samples[0][:half], samples[0][half:]
        values["memorisation, nearer"] = memorisation(samples[1], first, second).nearer.value
    elif metric == "prdc" and way == "ours":
        values = {name: estimate.value for name, estimate in prdc(*samples).items()}
    elif metric == "prdc":
        logs = [np.log10(np.where(s.energies > 0, s.energies, 0.1)).reshape(len(s), -1) for s in samples]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = {name: float(v) for name, v in compute_prdc(*logs, nearest_k=5).items()}
    elif way == "ours":
        estimate = {"fpd": fpd, "kpd": kpd}[metric](*matrices, seed=SEED, floor=False)
        values = {metric: estimate.value, f"{metric} error": estimate.error}
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if metric == "fpd":
                value, error = jetnet.fpd(*matrices, min_samples=10_000, max_samples=50_000, seed=SEED)
            else:
                value, error = jetnet.kpd(*matrices, batch_size=10_000, seed=SEED)
        values = {metric: float(value), f"{metric} error": float(error)}
    peak = peak_mib()
    times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {**times, "peak": peak - before, **values}


def main() -> None:
    """Run every way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path)
    parser.add_argument("generated", type=Path)
    parser.add_argument("--showers", type=int, help="of each sample")
    parser.add_argument("--metrics", default=",".join(WAYS))
    parser.add_argument("--ours", action="store_true", help="leave out the others")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        files = (options.reference, options.generated)
        samples = [read(path, options.showers, i) for i, path in enumerate(files)]
        print(json.dumps(measure(options.metrics, options.way, samples)))
        return
    print(f"{'':16}{'CPU s':>9}{'wall s':>9}{'MiB':>8}  values")
    for metric in options.metrics.split(","):
        for way in WAYS[metric][: 1 if options.ours else None]:
            command = [sys.executable, __file__, str(options.reference), str(options.generated)]
            command += ["--metrics", metric, "--way", way]
            command += [] if options.showers is None else ["--showers", str(options.showers)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            cpu, wall, peak = (result.pop(key) for key in ("cpu", "wall", "peak"))
            values = ", ".join(f"{name} {value:.6g}" for name, value in result.items())
            print(f"{metric + ' ' + way:16}{cpu:9.1f}{wall:9.1f}{peak:8.0f}  {values}", flush=True)


if __name__ == "__main__":
    main()
