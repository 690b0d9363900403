"""Cells, relative to the incident energy or to their layer's, for dense networks.

Legend: ``n`` showers, ``V`` voxels, ``Z`` layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import Mesh
from caloforge.evaluation.classifiers.inputs.base import INPUTS, ClassifierInputs, Columns, Layout, Table
from caloforge.evaluation.features import EPSILON, Features, batch_rows

__all__ = ["CellInputs", "NormedCellInputs", "add_sums"]


class CellInputs(ClassifierInputs):
    """[log₁₀ E_inc, cell / E_inc]."""

    absolute = True

    def layout(self, features: Features, *, sums: bool = False) -> Layout:
        mesh = features.mesh
        self.check(mesh)
        layers = [np.arange(a, b) for a, b in itertools.pairwise(mesh.layer_offsets + 1)]
        energies = self._energy_columns(mesh)
        named = {"e_inc": np.arange(1)}
        named |= {f"e_layer_{k}": c[None] for k, c in zip(mesh.layer_numbers, energies[1:], strict=False)}
        end = mesh.n_voxels + len(energies)
        summed = slice(end, end)
        if sums:
            owners = np.concatenate(_layers_of_sums(mesh))
            summed = slice(end, end + len(owners))
            both = np.tile(owners, 2)  # energies, then numbers of cells
            layers = [np.r_[c, end + np.flatnonzero(both == i)] for i, c in enumerate(layers)]
            named["cells summed over layers"] = end + np.flatnonzero(both < 0)
            end += 2 * len(owners)
        named |= {f"cells of layer {k}": c for k, c in zip(mesh.layer_numbers, layers, strict=True)}
        return Layout(
            width=end,
            features=named,
            energies=energies,
            cells=slice(1, 1 + mesh.n_voxels),
            sums=summed,
            absolute=self.absolute,
            image=self.image(mesh),
        )

    def batches(
        self, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
    ) -> Iterator[Table]:
        mesh, start, further = showers.mesh, 0, self._further(showers.mesh)
        for energies, conditions in showers[rows].batches(batch_rows(mesh.n_voxels)):
            cells = energies.reshape(len(energies), mesh.n_voxels)
            e_layer = features.e_layer[rows[start : start + len(cells)]].astype(np.float64)
            columns = [
                np.log10(conditions.energy).astype(np.float32)[:, None],
                *self._columns(cells, conditions.energy, e_layer, mesh),
            ]
            if sums:
                columns.append(add_sums(columns[1], mesh))
            columns += further(cells, conditions.energy)
            start += len(cells)
            yield np.concatenate(columns, axis=1)

    def image(self, mesh: Mesh) -> tuple[int, ...]:
        """Channels and axes for networks on images; none for dense ones."""
        return ()

    def _energy_columns(self, mesh: Mesh) -> Columns:
        """Columns that are log₁₀ of an energy."""
        return np.arange(1)

    def _further(self, mesh: Mesh) -> Callable[[Table, NDArray[np.float64]], list[Table]]:
        """What comes last, of cells (n, V) and incident energies (n,) in MeV; nothing here."""
        return lambda cells, energy: []

    def _columns(
        self, cells: Table, energy: NDArray[np.float64], e_layer: NDArray[np.float64], mesh: Mesh
    ) -> list[Table]:
        """Cells (n, V) as inputs, and what else comes after log₁₀ E_inc."""
        return [cells / energy.astype(np.float32)[:, None]]


class NormedCellInputs(CellInputs):
    """[log₁₀ E_inc, cell / (E_layer + 10⁻¹⁶), log₁₀(E_layer + 10⁻⁸)]."""

    absolute = False

    def _energy_columns(self, mesh: Mesh) -> Columns:
        return np.append(0, 1 + mesh.n_voxels + np.arange(mesh.n_layers))

    def _columns(
        self, cells: Table, energy: NDArray[np.float64], e_layer: NDArray[np.float64], mesh: Mesh
    ) -> list[Table]:
        per_cell = (1 / (e_layer + EPSILON))[:, mesh.voxel_layers]
        return [(cells * per_cell).astype(np.float32), np.log10(e_layer + 1e-8).astype(np.float32)]


INPUTS.add("low")(CellInputs())
INPUTS.add("low-normed")(NormedCellInputs())


def _kept_axes() -> list[tuple[int, ...]]:
    """Axes that the sums keep: two of (z, φ, r), one, none."""
    return [kept for size in (2, 1, 0) for kept in itertools.combinations(range(3), size)]


def _layers_of_sums(mesh: Mesh) -> list[Columns]:
    """Position of the layer that each of the `add_sums` belongs to, −1 where it runs over layers."""
    if not mesh.is_regular:
        return [np.arange(mesh.n_layers), np.full(1, -1)]
    owners = []
    for kept in _kept_axes():
        shape = [mesh.shape[axis] for axis in kept]
        layers = np.arange(mesh.n_layers).reshape(-1, *[1] * (len(kept) - 1)) if 0 in kept else np.array(-1)
        owners.append(np.broadcast_to(layers, shape).ravel())
    return owners


def add_sums(cells: Table, mesh: Mesh) -> Table:
    """Sums of cells over axes, and how many of the summed cells are above zero, (n, sums and numbers).

    On regular meshes over each axis, each two and all three; on ragged ones over each layer and over all.
    They tell a dense network nothing new, but it need not find out by itself what belongs together.
    """
    sums = []
    for values in (cells, (cells > 0).astype(np.float32)):
        if mesh.is_regular:
            grid = values.reshape(len(values), *mesh.shape)
            for kept in _kept_axes():
                over = tuple(axis + 1 for axis in range(3) if axis not in kept)
                sums.append(grid.sum(axis=over).reshape(len(grid), -1))
        else:
            layers = np.add.reduceat(values, mesh.layer_offsets[:-1], axis=1)
            sums += [layers, layers.sum(axis=1, keepdims=True)]
    return np.concatenate(sums, axis=1)
