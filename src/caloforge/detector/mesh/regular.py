"""Meshes whose layers all have the same cells, so that showers have three axes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector.mesh.base import Floats, Ints, Mesh
from caloforge.errors import MeshError

__all__ = ["RegularMesh"]


class RegularMesh(Mesh):
    """Shared by the meshes with three axes: grouping and neighbours."""

    periodic: ClassVar[tuple[bool, bool, bool]]
    z_edges: tuple[float, ...]

    @property
    def layer_sizes(self) -> Ints:
        n_z, n_b, n_c = self.shape
        return np.full(n_z, n_b * n_c, dtype=np.int64)

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.shape[0]))

    @property
    def layer_depths(self) -> Floats:
        edges = np.array(self.z_edges, dtype=np.float64)
        return np.stack([edges[:-1], edges[1:]], axis=1)

    @abstractmethod
    def coarsened(self, factors: tuple[int, int, int]) -> RegularMesh:
        """The mesh whose cells join ``factors`` cells along each axis; every factor must divide the axis."""

    def _check_factors(self, factors: tuple[int, int, int]) -> None:
        if len(factors) != 3 or any(f < 1 or n % f for n, f in zip(self.shape, factors, strict=True)):
            raise MeshError(f"grouping {factors} does not divide the mesh of shape {self.shape}")

    def coarsen(self, energies: ArrayLike, factors: tuple[int, int, int]) -> NDArray[Any]:
        """Sum energies (N, \\*shape) over groups of cells; the total energy is unchanged."""
        self._check_factors(factors)
        fine = np.asarray(energies)
        (a, b, c), (fa, fb, fc) = self.shape, factors
        split = fine.reshape(len(fine), a // fa, fa, b // fb, fb, c // fc, fc)
        return np.asarray(split.sum(axis=(2, 4, 6)))

    def neighbours(self, axis: int, step: int) -> Ints:
        """Flat voxel ``step`` cells along ``axis`` from each voxel, (V,); −1 beyond an edge (φ has none)."""
        if axis not in (0, 1, 2):
            raise MeshError(f"axis must be 0, 1 or 2, got {axis}")
        grid = np.arange(self.n_voxels).reshape(self.shape)
        moved = np.roll(grid, -step, axis=axis)
        if not self.periodic[axis] and step:
            edge = [slice(None)] * 3
            n = self.shape[axis]
            edge[axis] = slice(max(n - step, 0), None) if step > 0 else slice(None, min(-step, n))
            moved[tuple(edge)] = -1
        return moved.reshape(-1)

    def neighbour_pairs(self) -> dict[str, Ints]:
        pairs = {}
        for axis, name in enumerate(self.axis_names):
            following = self.neighbours(axis, 1)
            if self.shape[axis] == 2:  # a ring of two touches itself on both sides, but is one pair
                following[np.arange(self.n_voxels) > following] = -1
            first = np.flatnonzero((following >= 0) & (following != np.arange(self.n_voxels)))
            pairs[name] = np.stack([first, following[first]])
        return pairs
