"""Matrices of features: what FPD and KPD are computed from.

Legend: ``N`` showers, ``D`` features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import DataError
from caloforge.evaluation.classifiers.inputs.high import high_inputs
from caloforge.evaluation.features import Features
from caloforge.evaluation.results import Estimate
from caloforge.evaluation.tables import MEMORY_LIMIT, allocate, row_blocks

__all__ = ["Pool", "check_matrix", "dealt_again", "draw", "feature_matrix", "taken", "with_floor"]

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]

_RESIDUE = 1e-6


def feature_matrix(features: Features, memory_limit: int = MEMORY_LIMIT) -> Matrix:
    """The CaloChallenge's high-level features without the incident energy, (N, D), in single precision.

    log₁₀(E_layer + 10⁻⁸), centres and widths in the plane / 100 mm, log₁₀(E_tot + 10⁻⁸), sparsity,
    EC_r / 100 mm, width_r / 100 mm; energies in MeV. What is below 10⁻⁶ (0.1 µm) is 0: the width of a layer
    that was hit once is a rounding error, which would become the unit of its feature where the reference has
    nothing else. A matrix of more bytes than ``memory_limit`` lies in an unnamed temporary file.
    """
    width = high_inputs(features, np.arange(0)).shape[1] - 1
    matrix: Matrix = allocate(len(features), width, memory_limit, np.float32)
    for rows in row_blocks(len(features)):
        block = high_inputs(features, np.arange(rows.start, rows.stop))[:, 1:]
        block[np.abs(block.astype(np.float64)) < _RESIDUE] = 0.0
        matrix[rows] = block
    return matrix


def taken(matrix: NDArray[Any], rows: Rows, memory_limit: int = MEMORY_LIMIT) -> NDArray[Any]:
    """Some rows of a matrix; beyond the limit, bytes, they lie in an unnamed temporary file."""
    found = allocate(len(rows), matrix.shape[1], memory_limit, matrix.dtype)
    for block in row_blocks(len(rows)):
        found[block] = matrix[rows[block]]
    return np.asarray(found)


def check_matrix(values: ArrayLike, name: str, columns: int | None = None) -> NDArray[Any]:
    """The values, (N, D).

    Raises:
        DataError: not a matrix, fewer than two rows, another number of columns, or NaN or infinite values.
    """
    matrix = np.asarray(values)
    if matrix.ndim != 2 or len(matrix) < 2 or matrix.shape[1] == 0:
        raise DataError(
            f"{name}: features must be a matrix (showers, features) of at least 2 showers, got {matrix.shape}"
        )
    if columns is not None and matrix.shape[1] != columns:
        raise DataError(f"{name}: {matrix.shape[1]} features, but the reference has {columns}")
    for rows in row_blocks(len(matrix)):
        block = matrix[rows]
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise DataError(f"{name}: feature {column} of shower {rows.start + row} is {block[row, column]}")
    return matrix


class Pool:
    """Several matrices as one, each feature divided by its largest absolute value in the first.

    The first is the reference. A feature that is 0 throughout the reference is left as it is. Nothing is
    copied: rows are brought into these units when they are taken.

    Attributes:
        rows: those of each matrix, one array each.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """

    def __init__(self, *matrices: NDArray[np.floating]) -> None:
        names = ("reference", "generated", "second reference")
        columns = np.shape(matrices[0])[-1] if np.ndim(matrices[0]) else None
        self._parts = [check_matrix(m, name, columns) for m, name in zip(matrices, names, strict=False)]
        first = self._parts[0]
        self._largest: Floats = np.max(
            [np.abs(first[rows]).max(axis=0) for rows in row_blocks(len(first))], axis=0
        ).astype(np.float64)
        self._largest[self._largest == 0] = 1.0
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.rows = np.split(np.arange(len(self)), self._ends[:-1])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, rows: Rows) -> Floats:
        """These rows, (len(rows), D)."""
        owner = np.searchsorted(self._ends, rows, side="right")
        found = np.empty((len(rows), len(self._largest)))
        for i, part in enumerate(self._parts):
            here = owner == i
            found[here] = part[rows[here] - (self._ends[i] - len(part))]
        found /= self._largest
        return found

    def centred(self, memory_limit: int = MEMORY_LIMIT) -> Matrix:
        """All rows less their mean, in single precision; beyond the limit, bytes, in a temporary file."""
        blocks = [np.arange(rows.start, rows.stop) for rows in row_blocks(len(self))]
        mean = sum(self.take(rows).sum(axis=0) for rows in blocks) / len(self)
        found: Matrix = allocate(len(self), len(self._largest), memory_limit, np.float32)
        for rows in blocks:
            found[rows[0] : rows[-1] + 1] = self.take(rows) - mean
        return found


def dealt_again(first: Rows, second: Rows, seed: int, times: int) -> Iterator[tuple[Rows, Rows]]:
    """Both samples pooled and dealt out again at random in the same sizes."""
    both = np.concatenate([first, second])
    for i in range(times):
        dealt = np.random.default_rng((seed, i, 1)).permutation(both)
        yield dealt[: len(first)], dealt[len(first) :]


def draw(rng: np.random.Generator, rows: Rows, size: int) -> Rows:
    """So many of the rows, drawn with replacement, (size,)."""
    return np.asarray(rows[rng.choice(len(rows), size=size)])


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
