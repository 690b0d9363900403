"""What every kind of inputs has: a layout of columns, and batches of rows.

Legend: ``n`` showers, ``D`` inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import Mesh
from caloforge.evaluation.features import Features
from caloforge.evaluation.tables import allocate
from caloforge.registry import Registry

__all__ = ["INPUTS", "ClassifierInputs", "Columns", "Layout", "Sample", "Table", "check_names", "fill_table"]

Table = NDArray[np.float32]
Columns = NDArray[np.int64]
Sample = tuple[Showers, Features]


def _none() -> slice:
    return slice(0, 0)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the columns of a classifier's inputs are; column 0 is always log₁₀ E_inc.

    Attributes:
        width: number of columns D.
        features: columns of each feature or layer by name, ``e_layer_3`` or ``cells of layer 3``.
        energies: columns that are log₁₀ of an energy.
        cells: the columns that are cells; empty for ``high``.
        sums: the columns that are sums of cells, see `add_sums`; empty where there are none.
        absolute: cells are divided by E_inc, so that column 0 turns them into MeV again.
        image: channels and axes of the cells for networks on images, ``(1, Z, P, R)`` or ``(Z, P, R)``.
        groups: columns of related features, ``e_layer``; empty where ``features`` are groups already.
        trees: whether boosted trees judge them, not a network.
    """

    width: int
    features: dict[str, Columns]
    energies: Columns
    cells: slice = field(default_factory=_none)
    sums: slice = field(default_factory=_none)
    absolute: bool = False
    image: tuple[int, ...] = ()
    groups: dict[str, Columns] = field(default_factory=dict)
    trees: bool = False


class ClassifierInputs(ABC):
    """What one kind of classifier sees of a shower.

    Attributes:
        of_cells: whether it needs more than features.
    """

    of_cells: ClassVar[bool] = True

    def check(self, mesh: Mesh) -> None:  # noqa: B027
        """Raise MeshError where the inputs do not fit the mesh."""

    @abstractmethod
    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        """The columns for showers with these features, with `add_sums` where a dense network sees cells.

        Raises:
            MeshError: the inputs do not fit the mesh.
        """

    @abstractmethod
    def batches(
        self, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
    ) -> Iterator[Table]:
        """Inputs (n, D) of the showers in ``rows``, read as they are needed."""


INPUTS: Registry[ClassifierInputs] = Registry("classifier", "caloforge.evaluation.classifiers.inputs")
"""Kinds of inputs by the names of the classifiers."""


def check_names(names: Sequence[str], mesh: Mesh) -> None:
    """Raise RecipeError where a classifier is unknown, MeshError where it does not fit the mesh."""
    for name in names:
        INPUTS[name].check(mesh)


def fill_table(
    name: str, chosen: Sequence[tuple[Sample, NDArray[np.int64]]], layout: Layout, memory_limit_gib: float
) -> Table:
    """Inputs of the chosen rows of each sample, one sample after the other, (n, D).

    Beyond the limit the table lies in an unnamed temporary file.
    """
    n = sum(len(rows) for _, rows in chosen)
    table: Table = allocate(n, layout.width, memory_limit_gib * 2**30, np.float32)
    sums = layout.sums.stop > layout.sums.start
    start = 0
    for (showers, features), rows in chosen:
        for batch in INPUTS[name].batches(showers, features, rows, sums=sums):
            table[start : start + len(batch)] = batch
            start += len(batch)
    return table
