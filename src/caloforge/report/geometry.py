"""How the cells of a mesh lie in space, for drawing.

Legend: ``a`` the first transverse axis of a layer (φ or y), ``b`` the second (r or x), ``V`` voxels.
Lengths are mm, angles rad.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector import BoxMesh, CylinderMesh, Mesh, RaggedBoxMesh, RaggedCylinderMesh
from caloforge.errors import MeshError

__all__ = ["LayerCells", "cell_bounds", "layer_cells", "split_layers", "visible_radius"]

Floats = NDArray[np.float64]
ARC_STEPS = 96
"""Straight pieces into which a full circle is cut when it is drawn."""


@dataclass(frozen=True)
class LayerCells:
    """Edges of the cells of one layer; ``z`` is None where the mesh does not know its depth."""

    number: int
    polar: bool
    a: Floats
    b: Floats
    z: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.a) - 1, len(self.b) - 1

    def outline(self) -> tuple[Floats, Floats, int]:
        """Corners x and y, (A·k + 1, B + 1), and k, the number of slices that make one polar cell round."""
        if not self.polar:
            y, x = np.meshgrid(self.a, self.b, indexing="ij")
            return x, y, 1
        k = max(1, round(ARC_STEPS * float(self.a[1] - self.a[0]) / (2 * np.pi)))
        fine = np.interp(np.arange(self.shape[0] * k + 1) / k, np.arange(len(self.a)), self.a)
        phi, r = np.meshgrid(fine, self.b, indexing="ij")
        return r * np.cos(phi), r * np.sin(phi), k

    def values(self, cells: ArrayLike) -> Floats:
        """The layer's flat cells (A·B,) repeated to fit `outline`: (A·k, B)."""
        k = self.outline()[2]
        return np.repeat(np.asarray(cells, dtype=np.float64).reshape(self.shape), k, axis=0)


@singledispatch
def layer_cells(mesh: Mesh) -> list[LayerCells]:
    """The cells of every layer of a mesh; a new kind of mesh registers its own function here.

    Raises:
        MeshError: no function is registered for this kind.
    """
    raise MeshError(f"a report cannot draw a mesh of kind {mesh.kind!r}")


@layer_cells.register
def _cylinder(mesh: CylinderMesh) -> list[LayerCells]:
    phi, r = _phi_edges(mesh.n_phi), np.array(mesh.r_edges)
    return [LayerCells(i, True, phi, r, z) for i, z in enumerate(itertools.pairwise(mesh.z_edges))]


@layer_cells.register
def _box(mesh: BoxMesh) -> list[LayerCells]:
    y, x = np.array(mesh.y_edges), np.array(mesh.x_edges)
    return [LayerCells(i, False, y, x, z) for i, z in enumerate(itertools.pairwise(mesh.z_edges))]


@layer_cells.register
def _ragged_cylinder(mesh: RaggedCylinderMesh) -> list[LayerCells]:
    return [
        LayerCells(la.number, True, _phi_edges(la.n_phi), np.array(la.r_edges), la.z_edges)
        for la in mesh.layers
    ]


@layer_cells.register
def _ragged_box(mesh: RaggedBoxMesh) -> list[LayerCells]:
    return [
        LayerCells(la.number, False, np.array(la.y_edges), np.array(la.x_edges), la.z_edges)
        for la in mesh.layers
    ]


def _phi_edges(n: int) -> Floats:
    return np.linspace(-np.pi, np.pi, n + 1)


def split_layers(mesh: Mesh, voxels: Floats) -> list[Floats]:
    """Values of all voxels (V,) cut into layers."""
    return [voxels[first:last] for first, last in itertools.pairwise(mesh.layer_offsets)]


def cell_bounds(mesh: Mesh) -> tuple[Floats, bool]:
    """Lower and upper bounds of each cell, (V, 6) = (z₀, z₁, a₀, a₁, b₀, b₁), and whether z is in mm.

    Where some layer's depth is not known, z counts layers instead: layer i lies between i and i + 1.
    """
    layers = layer_cells(mesh)
    known = all(layer.z is not None for layer in layers)
    parts = []
    for i, layer in enumerate(layers):
        n_a, n_b = layer.shape
        z = layer.z if known and layer.z is not None else (float(i), float(i + 1))
        block = np.empty((n_a, n_b, 6))
        block[..., 0], block[..., 1] = z
        block[..., 2], block[..., 3] = layer.a[:-1, None], layer.a[1:, None]
        block[..., 4], block[..., 5] = layer.b[:-1], layer.b[1:]
        parts.append(block.reshape(-1, 6))
    return np.concatenate(parts), known


def visible_radius(layers: list[LayerCells], means: Sequence[ArrayLike], share: float = 0.995) -> float:
    """Half-width, mm, within which ``share`` of the mean energy of all layers lies.

    Outer cells that hold almost nothing (rings up to 2 m) would otherwise squeeze the shower into a dot.
    """
    reach, energy = [], []
    for layer, mean in zip(layers, means, strict=True):
        cells = np.asarray(mean, dtype=np.float64).reshape(layer.shape)
        if layer.polar:
            reach.append(np.broadcast_to(layer.b[1:], layer.shape).ravel())
        else:
            far_a = np.maximum(np.abs(layer.a[:-1]), np.abs(layer.a[1:]))
            far_b = np.maximum(np.abs(layer.b[:-1]), np.abs(layer.b[1:]))
            reach.append(np.maximum(far_a[:, None], far_b).ravel())
        energy.append(cells.ravel())
    radius, weight = np.concatenate(reach), np.concatenate(energy)
    if weight.sum() <= 0:
        return float(radius.max())
    order = np.argsort(radius)
    inside = np.cumsum(weight[order]) / weight.sum()
    half = float(radius[order][min(int(np.searchsorted(inside, share)), len(order) - 1)])
    return float(radius.max()) if half > 0.75 * radius.max() else half
