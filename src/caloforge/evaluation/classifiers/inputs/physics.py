"""What physicists would look at: features, sums of rings, the spectrum of the cells, neighbours of lit cells.

Legend: ``n`` showers, ``V`` voxels, ``R`` rings, ``D`` inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import Mesh
from caloforge.evaluation.classifiers.inputs.base import INPUTS, Layout, Table
from caloforge.evaluation.classifiers.inputs.high import HighInputs, high_inputs
from caloforge.evaluation.features import Features, batch_rows
from caloforge.evaluation.packages import needed
from caloforge.evaluation.physics.neighbourhoods import NeighbourhoodObservables
from caloforge.evaluation.profiles import radial_edges, ring_places

__all__ = ["PhysicsInputs"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of the energies of a shower's lit cells."""


class PhysicsInputs(HighInputs):
    """The inputs of ``high`` with energies over E_inc, and what `NeighbourhoodObservables` and rings tell.

    Boosted trees judge them: they ask for no scales and for few showers. What a shower does not have is 0.
    """

    of_cells: ClassVar[bool] = True

    def check(self, mesh: Mesh) -> None:
        needed("sklearn.ensemble", "scikit-learn")

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        known = super().layout(features)
        named, groups = dict(known.features), dict(known.groups)
        rings = range(len(radial_edges(features.mesh)) - 1)
        for group, names in {
            "ring energies": [f"e_ring_{i}" for i in rings],
            "lit cells by ring": [f"lit_ring_{i}" for i in rings],
            "cell energies": [f"cell_quantile_{100 * q:g}" for q in QUANTILES],
            "neighbours": NeighbourhoodObservables(features.mesh).names(),
        }.items():
            columns = len(named) + np.arange(len(names))
            named |= {name: columns[i : i + 1] for i, name in enumerate(names)}
            groups |= {group: columns} if names else {}
        return dataclasses.replace(
            known, width=len(named), features=named, groups=groups, energies=np.arange(1), trees=True
        )

    def batches(
        self, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
    ) -> Iterator[Table]:
        mesh, start, observe = showers.mesh, 0, NeighbourhoodObservables(showers.mesh)
        rings = (ring_places(mesh)[:, None] == np.arange(len(radial_edges(mesh)) - 1)).astype(np.float32)
        energies = super().layout(features).energies[1:]
        for cells, conditions in showers[rows].batches(batch_rows(mesh.n_voxels)):
            flat = cells.reshape(len(cells), mesh.n_voxels)
            known = high_inputs(features, rows[start : start + len(flat)])
            known[:, energies] -= known[:, :1]
            shares = flat / conditions.energy.astype(np.float32)[:, None]
            lit = (flat > 0).astype(np.float32)
            columns = [known, shares @ rings, lit @ rings, _quantiles(shares), observe.table(flat)]
            start += len(flat)
            yield np.concatenate(columns, axis=1)


INPUTS.add("boosted")(PhysicsInputs())


def _quantiles(shares: Table) -> Table:
    """log₁₀ of the quantiles of each shower's lit cells, (n, 6); 0 where nothing is lit."""
    ordered = np.sort(shares, axis=1)
    lit = np.count_nonzero(shares, axis=1)
    place = shares.shape[1] - 1 - np.rint((1 - np.array(QUANTILES)) * np.maximum(lit - 1, 0)[:, None])
    values = np.take_along_axis(ordered, place.astype(np.int64), axis=1)
    return np.log10(np.where(values > 0, values, np.float32(1)))
