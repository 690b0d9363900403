"""What the classifiers of the CaloChallenge see of a shower (arXiv:2410.21611, section on classifiers).

Legend: ``n`` showers, ``V`` voxels, ``Z`` layers, ``L`` lateral layers, ``D`` inputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.errors import RecipeError
from caloforge.evaluation.features import EPSILON, Features, batch_rows

__all__ = [
    "CLASSIFIERS",
    "ClassifierName",
    "allocate",
    "cell_columns",
    "check_names",
    "high_inputs",
    "input_batches",
]

ClassifierName = Literal["low", "low-normed", "high"]
CLASSIFIERS: tuple[ClassifierName, ...] = ("low", "low-normed", "high")

Table = NDArray[np.float32]


def check_names(names: tuple[str, ...]) -> None:
    """Raise RecipeError where a classifier is unknown."""
    for name in names:
        if name not in CLASSIFIERS:
            raise RecipeError(f"unknown classifier {name!r}; expected some of {', '.join(CLASSIFIERS)}")


def cell_columns(name: str, n_voxels: int) -> slice:
    """The columns of a classifier's inputs that are cells; none for ``high``."""
    return slice(0, 0) if name == "high" else slice(1, 1 + n_voxels)


def high_inputs(features: Features, rows: NDArray[np.int64]) -> Table:
    """Inputs of the high-level classifier, (n, D), for the showers in ``rows``.

    log₁₀ E_inc, log₁₀(E_layer + 10⁻⁸), centres and widths in the plane / 100 mm, log₁₀(E_tot + 10⁻⁸),
    sparsity, EC_r / 100 mm, width_r / 100 mm; energies in MeV.
    """
    first, second = features.plane
    columns = [
        np.log10(features.incident_energy[rows])[:, None],
        np.log10(features.e_layer[rows].astype(np.float64) + 1e-8),
        *(features.centre[axis][rows] / 100 for axis in (first, second)),
        *(features.width[axis][rows] / 100 for axis in (first, second)),
        np.log10(features.e_total[rows] + 1e-8)[:, None],
        features.sparsity[rows],
        features.centre["r"][rows] / 100,
        features.width["r"][rows] / 100,
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def input_batches(
    name: str, showers: Showers, features: Features, rows: NDArray[np.int64]
) -> Iterator[Table]:
    """Inputs of one classifier in batches (n, D), for the showers in ``rows``, read as they are needed.

    ``low`` is [log₁₀ E_inc, cell / E_inc]; ``low-normed`` is [log₁₀ E_inc, cell / (E_layer + 10⁻¹⁶),
    log₁₀(E_layer + 10⁻⁸)]; ``high`` is `high_inputs`.
    """
    if name == "high":
        yield high_inputs(features, rows)
        return
    mesh, start = showers.mesh, 0
    for energies, conditions in showers[rows].batches(batch_rows(mesh.n_voxels)):
        cells = energies.reshape(len(energies), mesh.n_voxels)
        columns = [np.log10(conditions.energy).astype(np.float32)[:, None]]
        if name == "low":
            columns.append(cells / conditions.energy.astype(np.float32)[:, None])
        else:
            e_layer = features.e_layer[rows[start : start + len(cells)]].astype(np.float64)
            per_cell = (1 / (e_layer + EPSILON))[:, mesh.voxel_layers]
            columns += [(cells * per_cell).astype(np.float32), np.log10(e_layer + 1e-8).astype(np.float32)]
        start += len(cells)
        yield np.concatenate(columns, axis=1)


def allocate(rows: int, columns: int, memory_limit: int) -> Table:
    """An array (rows, columns) in memory, or in an unnamed temporary file beyond the limit, bytes."""
    if rows * columns * 4 <= memory_limit:
        return np.empty((rows, columns), dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
