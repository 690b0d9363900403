"""Features, histograms and profiles of two samples: caloforge against the straightforward way, in one run.

    python benchmarks/evaluation.py reference.h5 generated.h5 [--enlarge 20000] [--ways everything]

The files must be in the CaloChallenge's layout. The straightforward way loads a file whole and computes every
feature with NumPy in a loop over the layers, as evaluation scripts in this field usually do; it has neither
floors nor errors. Each way runs in a process of its own, so that its peak memory is its own. Processor time
is given because other programs disturb it less; wall time shows what reading ahead in a thread gains. The run
fails where a separation power disagrees by more than 10⁻⁶. A third row is all of `evaluate` without trained
classifiers. ``--enlarge`` first fills both samples up with showers of the same files, turned around the axis.
Of the peak memory, what is no file is given, too: pages of temporary files are in memory as long as nothing
else wants it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from measure import peak_mib

from caloforge.data import Showers, open_showers, write_showers
from caloforge.detector import CylinderMesh, Mesh, RaggedCylinderMesh
from caloforge.evaluation import evaluate
from caloforge.evaluation.binning import default_threshold, lateral_ranges, log_edges
from caloforge.evaluation.features import compute_features, read_ahead
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms
from caloforge.evaluation.profiles import MeanShower, longitudinal_profile, radial_profile
from caloforge.evaluation.reading import Span

EPSILON = 1e-16
TOLERANCE = 1e-6


def ours(reference: Path, generated: Path) -> dict[str, float]:
    """Batch by batch: the reference twice, since the range of its cells must be known, the other once."""
    first, second = open_showers(reference), open_showers(generated)
    span, means = Span(), (MeanShower(first.mesh), MeanShower(first.mesh))
    before = compute_features(first, visitors=[span, means[0]])
    threshold = default_threshold(first.mesh, span.smallest, span.largest)
    edges = log_edges(threshold, span.largest, 50)
    cells = CellCounts(edges), CellCounts(edges)
    after = compute_features(second, visitors=[cells[1], means[1]])
    for energies, conditions in read_ahead(first):
        cells[0](0, energies, conditions)
    longitudinal_profile(before, after)
    radial_profile(*means)
    histograms = feature_histograms(before, after, threshold_mev=threshold)
    histograms.append(cell_histogram(*cells))
    return {h.name: h.separation.value for h in histograms}


def layers_of(mesh: Mesh) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Number, bins in α, α and r of the cells of each layer, from the definition."""
    if isinstance(mesh, RaggedCylinderMesh):
        layers = [(layer.number, layer.n_phi, layer.r_edges) for layer in mesh.layers]
    elif isinstance(mesh, CylinderMesh):
        layers = [(number, mesh.n_phi, mesh.r_edges) for number in mesh.layer_numbers]
    else:
        raise SystemExit(f"the straightforward way knows cylinders only, not a {mesh}")
    for number, n_alpha, r_edges in layers:
        a, r = np.linspace(-np.pi, np.pi, n_alpha + 1), np.array(r_edges)
        alpha, radius = np.meshgrid((a[1:] + a[:-1]) / 2, (r[1:] + r[:-1]) / 2, indexing="ij")
        yield number, n_alpha, alpha.ravel(), radius.ravel()


def straightforward(reference: Path, generated: Path) -> dict[str, float]:
    """Everything in memory, a loop over layers."""
    samples = []
    levels: np.ndarray | None = None
    edges: dict[str, np.ndarray] = {"e_ratio": np.linspace(0.5, 1.5, 101)}
    for path in (reference, generated):
        showers = open_showers(path)
        mesh, incident = showers.mesh, showers.conditions.energy
        with h5py.File(path) as file:
            cells = file["showers"][:].astype(np.float64)
        columns = {"e_ratio": cells.sum(axis=1) / incident}
        levels = np.unique(incident) if levels is None else levels
        for energy in levels if len(levels) <= 20 else []:
            name = f"e_ratio_at_{energy:g}mev"
            columns[name] = columns["e_ratio"][incident == energy]
            narrow = mesh.n_voxels == 368 and energy >= 4096
            edges[name] = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
        start = 0
        for (layer, n_alpha, alpha, r), span in zip(layers_of(mesh), lateral_ranges(mesh), strict=True):
            part = cells[:, start : start + len(r)]
            start += len(r)
            total = part.sum(axis=1)
            columns[f"e_layer_{layer}"] = total
            columns[f"sparsity_{layer}"] = 1 - (part > 0).sum(axis=1) / part.shape[1]
            edges[f"sparsity_{layer}"] = np.linspace(0, 1, 21)
            for axis, x, low, high, width in (
                ("eta", r * np.cos(alpha), -span.centre, span.centre, span.width),
                ("phi", r * np.sin(alpha), -span.centre, span.centre, span.width),
                ("r", r, 0.0, span.centre_r, span.width_r),
            ):
                if n_alpha == 1 and axis != "r":
                    continue
                mean = (part * x).sum(axis=1) / (total + EPSILON)
                square = (part * x**2).sum(axis=1) / (total + EPSILON)
                columns[f"ec_{axis}_{layer}"] = mean
                columns[f"width_{axis}_{layer}"] = np.sqrt(np.clip(square - mean**2, 0, None))
                edges[f"ec_{axis}_{layer}"] = np.linspace(low, high, 101)
                edges[f"width_{axis}_{layer}"] = np.linspace(0, width, 101)
        columns["cell_energy"] = cells[cells > 0]
        samples.append(columns)
    threshold = default_threshold(mesh, samples[0]["cell_energy"].min(), samples[0]["cell_energy"].max())
    result = {}
    for name, values in samples[0].items():
        if name not in edges:
            largest = values.max() if values.max() > threshold else 10 * threshold
            edges[name] = np.geomspace(threshold, largest, 50 if name == "cell_energy" else 40)
        h1, h2 = (np.histogram(s[name], bins=edges[name])[0].astype(float) for s in samples)
        if not h1.any() or not h2.any():
            result[name] = float(h1.any() != h2.any())
            continue
        h1, h2 = h1 / h1.sum(), h2 / h2.sum()
        result[name] = float(0.5 * ((h1 - h2) ** 2 / (h1 + h2 + EPSILON)).sum())
    return result


def everything(reference: Path, generated: Path) -> dict[str, float]:
    """All metrics but trained classifiers."""
    evaluation = evaluate(reference, generated, classifiers="none", progress=False)
    return {name: separation.value for name, separation in evaluation.separation.items()}


class AnonymousMemory:
    """The most memory of this process that is no file, MiB, by a look ten times a second.

    Attributes:
        peak: so far.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> AnonymousMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.1):
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.partition("RssAnon:")[2].split()[0]) / 1024)


WAYS = {"ours": ours, "straightforward": straightforward, "everything": everything}


def enlarged(path: Path, n: int, folder: Path) -> Path:
    """A file with ``n`` showers: those of ``path`` again and again, each time turned by another φ bin."""
    showers = open_showers(path)
    if not isinstance(showers.mesh, CylinderMesh):
        raise SystemExit("--enlarge turns showers around their axis and needs a cylinder mesh")
    rng, parts = np.random.default_rng(0), []
    while sum(map(len, parts)) < n:
        part = showers[rng.permutation(len(showers))[: n - sum(map(len, parts))]].load()
        turned = np.roll(part.energies, len(parts), axis=2)
        parts.append(Showers(turned, part.conditions, part.mesh))
    write_showers(Showers.concatenate(parts), folder / path.name)
    return folder / path.name


def main() -> None:
    """Run both ways in processes of their own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", type=Path)
    parser.add_argument("generated", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--enlarge", type=int, help="showers of each sample")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="by default all")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        wall, cpu = time.perf_counter(), time.process_time()
        before = peak_mib()
        with AnonymousMemory() as anonymous:
            separations = WAYS[options.way](options.reference, options.generated)
        peak = {"peak": peak_mib(), "anonymous": anonymous.peak}
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times | peak | {"base": before, "values": separations}))
        return
    results: dict[str, list[dict]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as scratch:
        files = [options.reference, options.generated]
        if options.enlarge:
            folders = [Path(scratch) / "a", Path(scratch) / "b"]
            for folder in folders:
                folder.mkdir()
            files = [enlarged(*pair) for pair in zip(files, [options.enlarge] * 2, folders, strict=True)]
        for _ in range(options.repeats):
            for way, runs in results.items():
                command = [sys.executable, __file__, *map(str, files), "--way", way]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs.append(json.loads(done.stdout))
    titles = f"{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}{'no files':>10}{'above imports':>15}"
    print(f"{'least of the repeats':22}{titles}")
    for way, runs in results.items():
        cpu, wall = (min(run[key] for run in runs) for key in ("cpu", "wall"))
        peak, own, above = min((run["peak"], run["anonymous"], run["peak"] - run["base"]) for run in runs)
        print(f"{way:22}{cpu:8.2f}{wall:8.2f}{peak:10.0f}{own:10.0f}{above:15.0f}")
    if not {"ours", "straightforward"} <= results.keys():
        return
    first, second = (results[way][0]["values"] for way in ("ours", "straightforward"))
    if first.keys() != second.keys():
        raise SystemExit(f"only one way has {', '.join(first.keys() ^ second.keys())}")
    worst = max(abs(first[name] - second[name]) for name in second)
    print(f"{len(first)} separation powers; largest disagreement {worst:.1e}")
    if worst > TOLERANCE:
        raise SystemExit(f"they must agree within {TOLERANCE:g}")


if __name__ == "__main__":
    main()
