"""Matrices of features: what FPD and KPD are computed from.

Legend: ``N`` showers, ``D`` features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.classifiers.inputs.high import high_inputs
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Estimate

__all__ = ["check_matrix", "dealt_again", "draw", "feature_matrix", "pool_matrices", "with_floor"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_RESIDUE = 1e-6


def feature_matrix(features: Features) -> Floats:
    """The CaloChallenge's high-level features without the incident energy, (N, D).

    log₁₀(E_layer + 10⁻⁸), centres and widths in the plane / 100 mm, log₁₀(E_tot + 10⁻⁸), sparsity,
    EC_r / 100 mm, width_r / 100 mm; energies in MeV. What is below 10⁻⁶ (0.1 µm) is 0: the width of a layer
    that was hit once is a rounding error, which would become the unit of its feature where the reference has
    nothing else.
    """
    rows = np.arange(len(features))
    matrix = high_inputs(features, rows)[:, 1:].astype(np.float64)
    matrix[np.abs(matrix) < _RESIDUE] = 0.0
    return matrix


def check_matrix(values: NDArray[np.floating], name: str, columns: int | None = None) -> Floats:
    """The values as float64, (N, D).

    Raises:
        DataError: not a matrix, fewer than two rows, another number of columns, or NaN or infinite values.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < 2 or matrix.shape[1] == 0:
        raise DataError(
            f"{name}: features must be a matrix (showers, features) of at least 2 showers, got {matrix.shape}"
        )
    if columns is not None and matrix.shape[1] != columns:
        raise DataError(f"{name}: {matrix.shape[1]} features, but the reference has {columns}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(f"{name}: feature {column} of shower {row} is {matrix[row, column]}")
    return matrix


def pool_matrices(*matrices: NDArray[np.floating]) -> tuple[Floats, list[Rows]]:
    """All matrices in one, each feature divided by its largest absolute value in the first, and their rows.

    The first is the reference. A feature that is 0 throughout the reference is left as it is.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """
    names = ("reference", "generated", "second reference")
    checked = [
        check_matrix(m, name, np.shape(matrices[0])[-1]) for m, name in zip(matrices, names, strict=False)
    ]
    pool = np.concatenate(checked)
    largest = np.abs(checked[0]).max(axis=0)
    largest[largest == 0] = 1.0
    pool /= largest
    return pool, np.split(np.arange(len(pool)), np.cumsum([len(m) for m in checked])[:-1])


def dealt_again(first: Rows, second: Rows, seed: int, times: int) -> Iterator[tuple[Rows, Rows]]:
    """Both samples pooled and dealt out again at random in the same sizes."""
    both = np.concatenate([first, second])
    for i in range(times):
        dealt = np.random.default_rng((seed, i, 1)).permutation(both)
        yield dealt[: len(first)], dealt[len(first) :]


def draw(rng: np.random.Generator, rows: Rows, size: int, total: int) -> Rows:
    """How often each of ``total`` rows is among ``size`` drawn from ``rows`` with replacement, (total,)."""
    return np.bincount(rows[rng.choice(len(rows), size=size)], minlength=total)


def with_floor(
    value: tuple[float, float], levels: Floats, second: tuple[float, float] | None, showers: tuple[int, int]
) -> Estimate:
    """A metric beside its floor.

    Args:
        value: the metric and its error.
        levels: the metric between samples that were dealt again, whose scatter is that of other showers of
            one origin.
        second: the metric between two references and its error, which is then the floor. Value and floor
            both scatter as the levels do, hence √2.
        showers: of both samples.
    """
    scatter = float(np.std(levels, ddof=1))
    if second is None:
        floor, error, origin = float(np.mean(levels)), scatter, "permutation"
    else:
        floor, origin = second[0], "second reference"
        error = math.hypot(second[1], math.sqrt(2) * scatter)
    return Estimate(
        value=value[0], error=value[1], floor=floor, floor_error=error, floor_from=origin, showers=showers
    )
