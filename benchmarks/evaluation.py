"""Features and histograms of two samples: caloforge against the straightforward way, in the same run.

    python benchmarks/evaluation.py reference.h5 generated.h5

The straightforward way loads both files whole and computes every feature with NumPy in a loop over the
layers, as evaluation scripts in this field usually do; it has no floors. Each way runs in a process of its
own, so that its peak memory is its own; processor time is given because other programs disturb it less.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from caloforge.data import open_showers
from caloforge.evaluation.binning import lateral_ranges, linear_edges, log_edges
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms

EPSILON = 1e-16


def ours(reference: Path, generated: Path, threshold: float) -> dict[str, float]:
    """One pass over each file in batches; returns the separation powers."""
    first, second = open_showers(reference), open_showers(generated)
    edges = log_edges(threshold, 1e5, 50)
    cells = CellCounts(edges), CellCounts(edges)
    features = [compute_features(s, visitors=[c]) for s, c in zip((first, second), cells, strict=True)]
    histograms = feature_histograms(*features, threshold_mev=threshold)
    histograms.append(cell_histogram(*cells))
    return {h.name: h.separation.value for h in histograms}


def straightforward(reference: Path, generated: Path, threshold: float) -> dict[str, float]:
    """Everything in memory, a loop over layers."""
    samples = []
    for path in (reference, generated):
        showers = open_showers(path)
        mesh, energy = showers.mesh, showers.conditions.energy
        cells = showers.energies.reshape(len(showers), -1).astype(np.float64)
        centres, bounds = mesh.centres(), mesh.layer_offsets
        columns = {"e_ratio": cells.sum(axis=1) / energy, "cell_energy": cells[cells > 0]}
        for i, layer in enumerate(mesh.layer_numbers):
            part = cells[:, bounds[i] : bounds[i + 1]]
            total = part.sum(axis=1)
            columns[f"e_layer_{layer}"] = total.astype(np.float32).astype(float)
            columns[f"sparsity_{layer}"] = 1 - (part > 0).sum(axis=1) / part.shape[1]
            for axis, name in (("x", "eta"), ("y", "phi"), ("r", "r")):
                where = centres[axis][bounds[i] : bounds[i + 1]]
                mean = (part * where).sum(axis=1) / (total + EPSILON)
                square = (part * where**2).sum(axis=1) / (total + EPSILON)
                columns[f"ec_{name}_{layer}"] = mean
                columns[f"width_{name}_{layer}"] = np.sqrt(np.clip(square - mean**2, 0, None))
        samples.append(columns)
    span, result = lateral_ranges(mesh)[0], {}
    for name, values in samples[0].items():
        group = name.rstrip("0123456789").rstrip("_")
        if group == "e_layer":
            edges = log_edges(threshold, float(values.max()), 40)
        elif group == "cell_energy":
            edges = log_edges(threshold, 1e5, 50)
        else:
            low, high, bins = {
                "e_ratio": (0.5, 1.5, 100), "sparsity": (0, 1, 20), "ec_r": (0, span.centre_r, 100),
                "width_r": (0, span.width_r, 100),
            }.get(group, (-span.centre if group[0] == "e" else 0, span.centre, 100))  # fmt: skip
            edges = linear_edges(low, high, bins)
        h1, h2 = (np.histogram(s[name], bins=edges)[0].astype(float) for s in samples)
        h1, h2 = h1 / max(h1.sum(), 1), h2 / max(h2.sum(), 1)
        result[name] = float(0.5 * ((h1 - h2) ** 2 / (h1 + h2 + EPSILON)).sum())
    return result


WAYS = {"ours": ours, "straightforward": straightforward}


def main() -> None:
    """Run both ways in processes of their own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path)
    parser.add_argument("generated", type=Path)
    parser.add_argument("--threshold", type=float, default=0.0151515, help="MeV")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        wall, cpu = time.perf_counter(), time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        separations = WAYS[options.way](options.reference, options.generated, options.threshold)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times | {"peak": peak / 1024, "base": before / 1024, "values": separations}))
        return
    results: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, runs in results.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            runs.append(
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            )
    print(f"{'':16}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}{'above imports':>15}")
    for way, runs in results.items():
        best = min(runs, key=lambda run: run["cpu"])
        above = best["peak"] - best["base"]
        print(f"{way:16}{best['cpu']:8.2f}{best['wall']:8.2f}{best['peak']:10.0f}{above:15.0f}")
    first, second = (results[way][0]["values"] for way in WAYS)
    worst = max(abs(first[name] - second[name]) for name in second if name in first)
    print(f"{len(first)} separation powers; largest disagreement {worst:.1e}")


if __name__ == "__main__":
    main()
