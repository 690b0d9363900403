"""What a grouping of cells keeps of a shower: correlations between layers after upsampling, against Geant4.

    python benchmarks/grouping.py GEANT4.h5 CHECKPOINT [CHECKPOINT ...] [--showers 1650]

The coarse showers are Geant4's own, so that all differences come from the super-resolution step. Printed are

* ``layers``: correlation of the energies of neighbouring layers;
* ``cells``: correlation of a cell's energy with that of the same cell in the next layer;
* ``shares``: the same for the share of a cell in its layer's block of 4 × 3 cells. What happens inside a
  block is what grouping B (1 × 4 × 3) leaves to each layer by itself; A (5 × 2 × 1) sees five layers at once.

Energies are divided by the incident energy. Correlations are means over layers, or over layers and cells that
are lit in at least a tenth of the showers, with the standard error of the mean from ten parts of the sample.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.checkpoint import Checkpoint
from caloforge.data import Showers, open_showers
from caloforge.generation import generate
from caloforge.models.supercalo.chain import coarse_showers

Array = NDArray[np.float64]
BLOCK = (4, 3)
OCCUPANCY = 0.1


def correlation(a: Array, b: Array) -> Array:
    """Correlation of a (N, ...) with b (N, ...) over the first axis; NaN where one does not vary."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).mean(axis=0) / (a.std(axis=0) * b.std(axis=0)))


def measures(showers: Showers, lit: NDArray[np.bool_]) -> dict[str, float]:
    """Mean correlations of layers, cells and shares with those of the next layer; lit: (Z, P, R)."""
    energies = showers.energies.astype(np.float64) / showers.conditions.energy[:, None, None, None]
    n, n_z, n_phi, n_r = energies.shape
    layers = energies.sum(axis=(2, 3))
    blocks = energies.reshape(n, n_z, n_phi // BLOCK[0], BLOCK[0], n_r // BLOCK[1], BLOCK[1])
    total = blocks.sum(axis=(3, 5), keepdims=True)
    shares = (blocks / np.where(total > 0, total, 1)).reshape(energies.shape)
    both = lit[:-1] & lit[1:]
    seen = lit.any(axis=(1, 2))
    return {
        "layers": float(np.nanmean(correlation(layers[:, :-1], layers[:, 1:])[seen[:-1] & seen[1:]])),
        "cells": float(np.nanmean(correlation(energies[:, :-1], energies[:, 1:])[both])),
        "shares": float(np.nanmean(correlation(shares[:, :-1], shares[:, 1:])[both])),
    }


def with_errors(showers: Showers, lit: NDArray[np.bool_], parts: int = 10) -> dict[str, tuple[float, float]]:
    """`measures` and their standard errors from ``parts`` parts of the sample."""
    values = measures(showers, lit)
    scatter = [measures(showers[i::parts], lit) for i in range(parts)]
    return {
        name: (value, float(np.std([part[name] for part in scatter], ddof=1) / np.sqrt(parts)))
        for name, value in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("geant4", type=Path, help="fine Geant4 showers that the models have not seen")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--showers", type=int, default=1650)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    truth = open_showers(arguments.geant4)[: arguments.showers].load()
    lit = (truth.energies > 0).mean(axis=0) > OCCUPANCY
    rows = {"Geant4": with_errors(truth, lit)}
    for path in arguments.checkpoints:
        checkpoint = Checkpoint.load(path)
        model = checkpoint.model()
        fine = generate(checkpoint, given=coarse_showers(model, truth), seed=arguments.seed, progress=False)
        rows[f"{path.name} {model.grouping.factors}"] = with_errors(fine, lit)
    print(f"{'':32}" + "".join(f"{name:>18}" for name in rows["Geant4"]))
    for name, row in rows.items():
        print(f"{name:32}" + "".join(f"{f'{value:.4f} ± {error:.4f}':>18}" for value, error in row.values()))


if __name__ == "__main__":
    main()
