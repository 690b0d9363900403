"""Cells with everything that a dense network would have to find out by itself.

Legend: ``n`` showers, ``V`` voxels, ``D`` inputs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import Mesh
from caloforge.evaluation.classifiers.inputs.base import INPUTS, Layout, Table
from caloforge.evaluation.classifiers.inputs.cells import CellInputs
from caloforge.evaluation.features import Features
from caloforge.evaluation.physics.neighbourhoods import NeighbourhoodObservables

__all__ = ["StrongInputs"]

RANKS = 8
"""Brightest cells of each layer."""


class StrongInputs(CellInputs):
    """The inputs of ``low``, the brightest cells of each layer in order of energy, and the neighbourhoods.

    Ranked cells are √(E / E_inc) of the brightest, the second brightest, … cell of a layer, wherever they
    lie. Neighbourhoods are those of `NeighbourhoodObservables`, 0 where a shower has none.
    """

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        mesh = features.mesh
        known = super().layout(features, sums=sums)
        named, end = dict(known.features), known.width
        for number, size in zip(mesh.layer_numbers, mesh.layer_sizes.tolist(), strict=True):
            named[f"brightest cells of layer {number}"] = end + np.arange(min(RANKS, size))
            end += min(RANKS, size)
        for name in NeighbourhoodObservables(mesh).names():
            named[name] = np.array([end])
            end += 1
        return dataclasses.replace(known, width=end, features=named)

    def _further(self, mesh: Mesh) -> Callable[[Table, NDArray[np.float64]], list[Table]]:
        around, layers = NeighbourhoodObservables(mesh), list(itertools.pairwise(mesh.layer_offsets))

        def further(cells: Table, energy: NDArray[np.float64]) -> list[Table]:
            roots = np.sqrt(cells / energy.astype(np.float32)[:, None])
            ranked = [-np.sort(-roots[:, a:b], axis=1)[:, :RANKS] for a, b in layers]
            return [*ranked, around.table(cells)]

        return further


INPUTS.add("strong")(StrongInputs())
