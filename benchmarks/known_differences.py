"""What the evaluation says of samples whose true difference is known.

    python benchmarks/known_differences.py showers.h5 [--which low,high] [--only shift,cut] [-o folder]

A file of Geant4 showers is split into halves. One is the reference, the other is distorted in a known way and
judged. A good evaluation says "not told apart" of the first row and names the culprit in the others.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from caloforge.data import Showers, open_showers
from caloforge.evaluation import Evaluation
from caloforge.report import evaluate

Cells = NDArray[np.float32]
LAYER, CELLS = 12, ((12, 3, 1), (12, 3, 3))


def nothing(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """An independent sample of the same Geant4."""
    return cells


def shift(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """One layer has 1 % more energy."""
    cells[:, LAYER] *= np.float32(1.01)
    return cells


def swap(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """Two cells of one layer have traded places."""
    first, second = CELLS
    cells[:, *first], cells[:, *second] = cells[:, *second].copy(), cells[:, *first].copy()
    return cells


def cut(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """The threshold is 10 % higher."""
    cells[cells < 1.1 * cells[cells > 0].min()] = 0
    return cells


def exchange(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """The rear half comes from another shower of nearly the same energy: every mean is right."""
    order, middle = np.argsort(energy), cells.shape[1] // 4
    pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
    cells[pairs, middle:] = cells[pairs[:, ::-1], middle:]
    return cells


def energetic(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """Showers in the upper quarter of the energies have a response 2 % too low."""
    cells[energy > np.quantile(energy, 0.75)] *= np.float32(0.98)
    return cells


def turn(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """Every layer is turned about the axis by itself: only what its cells say of the next layer's is lost."""
    rng = np.random.default_rng(0)
    steps = rng.integers(cells.shape[2], size=(*cells.shape[:2], 1, 1))
    return np.take_along_axis(cells, (np.arange(cells.shape[2])[:, None] + steps) % cells.shape[2], axis=2)


def scatter(cells: Cells, energy: NDArray[np.float64]) -> Cells:
    """The cells of each ring of each layer in another order: sums and spectra stay, no neighbourhood does."""
    return np.random.default_rng(0).permuted(cells, axis=2)


DISTORTIONS: dict[str, Callable[[Cells, NDArray[np.float64]], Cells]] = {
    f.__name__: f for f in (nothing, shift, swap, cut, exchange, energetic, turn, scatter)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers", type=Path)
    parser.add_argument("--which", default="low,high", help="classifiers")
    parser.add_argument("--only", default=",".join((*DISTORTIONS, "memorised")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="folder for metrics.json of each")
    options = parser.parse_args()
    names = tuple(filter(None, options.which.split(",")))

    showers = open_showers(options.showers).load()
    reference, other = showers.split(0.5, seed=options.seed)
    rows = []
    for name in filter(None, options.only.split(",")):
        settings = {"which": names, "seed": options.seed, "progress": False, "overwrite": True}
        if not names:
            settings["classifiers"] = "none"
        if options.out:
            settings["out"] = options.out / name
        begin = time.perf_counter()
        if name == "memorised":  # a generator that returns its training showers, judged on others
            half = other[: len(other) // 2], other[len(other) // 2 :]
            rows.append((name, evaluate(reference, half[0], training=half[0], **settings)))
        else:
            cells = DISTORTIONS[name](other.energies.copy(), other.conditions.energy)
            generated = Showers(cells, other.conditions, other.mesh)
            rows.append((name, evaluate(reference, generated, **settings)))
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)

    table = Table(title=f"{len(reference)} against {len(other)} showers", show_lines=True)
    for title in ("distortion", "verdict", "gives it away", "AUC", "FPD", "largest separation", "places"):
        table.add_column(title)
    for name, result in rows:
        table.add_row(name, *_row(result))
    Console(width=190).print(table)


def _row(result: Evaluation) -> tuple[str, ...]:
    verdict = result.verdict
    assert verdict is not None
    aucs = [
        f"{r.name} {r.auc:.3f} ± {math.hypot(r.auc_std, r.auc_noise):.3f}"
        for r in result.classifiers.values()
    ]
    fpd = result.distances.get("fpd")
    worst = max(
        result.histograms,
        key=lambda h: (h.separation.value - h.separation.floor) / max(h.separation.floor_std, 1e-12),
    )
    s = worst.separation
    places = result.localisation.shifts[:3] if result.localisation else []
    return (
        verdict.headline,
        verdict.giveaway,
        "\n".join(aucs),
        ""
        if fpd is None
        else f"{1e3 * fpd.value:.1f} (by chance {1e3 * fpd.floor:.1f} ± {1e3 * fpd.floor_error:.1f})",
        f"{worst.name} {s.value:.4f} (by chance {s.floor:.4f} ± {s.floor_std:.4f})",
        "\n".join(f"{p.name}: {p.relative:+.1%} ± {p.error:.1%}" for p in places),
    )


if __name__ == "__main__":
    main()
