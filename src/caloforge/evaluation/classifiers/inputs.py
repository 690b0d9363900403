"""What the classifiers see of a shower: those of the CaloChallenge (arXiv:2410.21611) and images.

Legend: ``n`` showers, ``V`` voxels, ``Z`` layers, ``L`` lateral layers, ``D`` inputs.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.detector import Mesh
from caloforge.errors import MeshError, RecipeError
from caloforge.evaluation.features import EPSILON, Features, batch_rows

__all__ = [
    "CLASSIFIERS",
    "Columns",
    "Layout",
    "Sample",
    "Table",
    "add_sums",
    "allocate",
    "check_names",
    "fill_table",
    "high_inputs",
    "input_batches",
    "layout_of",
]

CLASSIFIERS = ("low", "low-normed", "high", "resnet", "c2st")
ON_IMAGES = ("resnet", "c2st")

Table = NDArray[np.float32]
Columns = NDArray[np.int64]
Sample = tuple[Showers, Features]


def check_names(names: Sequence[str], mesh: Mesh | None = None) -> None:
    """Raise RecipeError where a classifier is unknown, MeshError where it does not fit the mesh."""
    for name in names:
        if name not in CLASSIFIERS:
            raise RecipeError(f"unknown classifier {name!r}; expected some of {', '.join(CLASSIFIERS)}")
        if name in ON_IMAGES and mesh is not None and not mesh.is_regular:
            fitting = ", ".join(c for c in CLASSIFIERS if c not in ON_IMAGES)
            raise MeshError(
                f"the classifier {name!r} needs layers that all have the same cells (CylinderMesh, BoxMesh), "
                f"which the {mesh} has not; these classifiers fit it: {fitting}"
            )


@dataclass(frozen=True, eq=False)
class Layout:
    """What the columns of a classifier's inputs are; column 0 is always log₁₀ E_inc.

    Attributes:
        width: number of columns D.
        cells: the columns that are cells; empty for ``high``.
        sums: the columns that are sums of cells, see `add_sums`; empty where there are none.
        absolute: cells are divided by E_inc, so that column 0 turns them into MeV again.
        image: channels and axes of the cells for networks on images, ``(1, Z, P, R)`` or ``(Z, P, R)``.
        features: columns of each feature or layer by name, ``e_layer_3`` or ``cells of layer 3``.
        groups: columns of related features, ``e_layer``; empty where ``features`` are groups already.
        energies: columns that are log₁₀ of an energy.
    """

    width: int
    cells: slice
    sums: slice
    absolute: bool
    image: tuple[int, ...]
    features: dict[str, Columns]
    groups: dict[str, Columns]
    energies: Columns


def layout_of(name: str, features: Features, *, sums: bool = False) -> Layout:
    """The columns of a classifier's inputs, with `add_sums` where a dense network sees cells.

    Raises as `check_names`.
    """
    mesh = features.mesh
    check_names((name,), mesh)
    if name == "high":
        return _high_layout(features)
    end, offsets = 1 + mesh.n_voxels, mesh.layer_offsets + 1
    layers = [np.arange(a, b) for a, b in itertools.pairwise(offsets)]
    named: dict[str, Columns] = {"e_inc": np.arange(1)}
    energies = np.arange(1)
    if name == "low-normed":
        energies = np.r_[0, end : end + mesh.n_layers]
        named |= {f"e_layer_{k}": energies[i + 1 : i + 2] for i, k in enumerate(mesh.layer_numbers)}
        end += mesh.n_layers
    summed = slice(end, end)
    if sums and name not in ON_IMAGES:
        owners = np.concatenate(_layers_of_sums(mesh))
        summed = slice(end, end + len(owners))
        both = np.tile(owners, 2)  # energies, then numbers of cells
        layers = [np.r_[c, end + np.flatnonzero(both == i)] for i, c in enumerate(layers)]
        named["cells summed over layers"] = end + np.flatnonzero(both < 0)
        end += 2 * len(owners)
    named |= {f"cells of layer {k}": c for k, c in zip(mesh.layer_numbers, layers, strict=True)}
    shape = {"resnet": (1, *mesh.shape), "c2st": mesh.shape}
    return Layout(
        width=end,
        cells=slice(1, 1 + mesh.n_voxels),
        sums=summed,
        absolute=name != "low-normed",
        image=shape.get(name, ()),
        features=named,
        groups={},
        energies=energies,
    )


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


def _high_layout(features: Features) -> Layout:
    first, second = features.plane
    order = (
        "e_layer",
        f"ec_{first}",
        f"ec_{second}",
        f"width_{first}",
        f"width_{second}",
        "e_total",
        "sparsity",
        "ec_r",
        "width_r",
    )
    singles, groups, start = {"e_inc": np.arange(1)}, {"e_inc": np.arange(1)}, 1
    for group in order:
        numbers = (None,) if group == "e_total" else features.layers_of(group)
        groups[group] = np.arange(start, start + len(numbers))
        for number in numbers:
            singles[group if number is None else f"{group}_{number}"] = np.arange(start, start + 1)
            start += 1
    return Layout(
        width=start,
        cells=slice(0, 0),
        sums=slice(0, 0),
        absolute=False,
        image=(),
        features=singles,
        groups=groups,
        energies=np.concatenate([groups[g] for g in ("e_inc", "e_layer", "e_total")]),
    )


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
    name: str, showers: Showers, features: Features, rows: NDArray[np.int64], *, sums: bool = False
) -> Iterator[Table]:
    """Inputs of one classifier in batches (n, D), for the showers in ``rows``, read as they are needed.

    ``low``, ``resnet`` and ``c2st`` are [log₁₀ E_inc, cell / E_inc]; ``low-normed`` is [log₁₀ E_inc,
    cell / (E_layer + 10⁻¹⁶), log₁₀(E_layer + 10⁻⁸)]; ``high`` is `high_inputs`.
    """
    if name == "high":
        yield high_inputs(features, rows)
        return
    mesh, start = showers.mesh, 0
    for energies, conditions in showers[rows].batches(batch_rows(mesh.n_voxels)):
        cells = energies.reshape(len(energies), mesh.n_voxels)
        columns = [np.log10(conditions.energy).astype(np.float32)[:, None]]
        if name == "low-normed":
            e_layer = features.e_layer[rows[start : start + len(cells)]].astype(np.float64)
            per_cell = (1 / (e_layer + EPSILON))[:, mesh.voxel_layers]
            columns += [(cells * per_cell).astype(np.float32), np.log10(e_layer + 1e-8).astype(np.float32)]
        else:
            columns.append(cells / conditions.energy.astype(np.float32)[:, None])
        if sums:
            columns.append(add_sums(columns[1], mesh))
        start += len(cells)
        yield np.concatenate(columns, axis=1)


def fill_table(
    name: str, chosen: Sequence[tuple[Sample, NDArray[np.int64]]], layout: Layout, memory_limit_gib: float
) -> Table:
    """Inputs of the chosen rows of each sample, one sample after the other, (n, D)."""
    table = allocate(sum(len(rows) for _, rows in chosen), layout.width, int(memory_limit_gib * 2**30))
    sums = layout.sums.stop > layout.sums.start
    start = 0
    for (showers, features), rows in chosen:
        for batch in input_batches(name, showers, features, rows, sums=sums):
            table[start : start + len(batch)] = batch
            start += len(batch)
    return table


def allocate(rows: int, columns: int, memory_limit: int) -> Table:
    """An array (rows, columns) in memory, or in an unnamed temporary file beyond the limit, bytes."""
    if rows * columns * 4 <= memory_limit:
        return np.empty((rows, columns), dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns))
