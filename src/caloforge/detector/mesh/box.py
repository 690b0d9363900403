"""The cells of a box, alike in all layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from caloforge.detector.mesh.base import (
    MESHES,
    Floats,
    Frame,
    Ints,
    between,
    bin_of,
    checked_cells,
    checked_edges,
    checked_frame,
)
from caloforge.detector.mesh.regular import RegularMesh

__all__ = ["BoxMesh"]


@MESHES.add("box")
@dataclass(frozen=True, eq=False)
class BoxMesh(RegularMesh):
    """Box: Z layers × Y × X cells."""

    z_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    x_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "box"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, False, False)
    equal_cells: ClassVar[tuple[str, ...]] = ("n_y", "dy_mm", "n_x", "dx_mm")

    def __post_init__(self) -> None:
        for name in ("z_edges", "y_edges", "x_edges"):
            object.__setattr__(self, name, checked_edges(name, getattr(self, name)))
        checked_frame(self.frame)
        checked_cells(math.prod(self.shape))

    @classmethod
    def regular(
        cls, shape: tuple[int, int, int], cell: tuple[float, float, float], frame: Frame = "shower"
    ) -> BoxMesh:
        """Equal cells of ``cell`` = (dz, dy, dx) mm from z = 0, centred in y and x."""
        z = np.arange(shape[0] + 1) * cell[0]
        y, x = ((np.arange(n + 1) - n / 2) * d for n, d in zip(shape[1:], cell[1:], strict=True))
        return cls(tuple(z.tolist()), tuple(y.tolist()), tuple(x.tolist()), frame)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.z_edges) - 1, len(self.y_edges) - 1, len(self.x_edges) - 1

    def centres(self) -> dict[str, Floats]:
        mid = ((np.array(e[1:]) + np.array(e[:-1])) / 2 for e in (self.z_edges, self.y_edges, self.x_edges))
        z, y, x = np.meshgrid(*mid, indexing="ij")
        return {"x": x.ravel(), "y": y.ravel(), "z": z.ravel()}

    def volumes(self) -> Floats:
        dz, dy, dx = (np.diff(e) for e in (self.z_edges, self.y_edges, self.x_edges))
        return (dz[:, None, None] * dy[:, None] * dx).ravel()

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = self._xyz(positions)
        i_z, i_y, i_x = bin_of(z, self.z_edges), bin_of(y, self.y_edges), bin_of(x, self.x_edges)
        n_z, n_y, n_x = self.shape
        inside = (i_z >= 0) & (i_z < n_z) & (i_y >= 0) & (i_y < n_y) & (i_x >= 0) & (i_x < n_x)
        return np.where(inside, (i_z * n_y + i_y) * n_x + i_x, -1)

    def points(self, voxels: Ints, u: Floats) -> Floats:
        edges, bins = (self.z_edges, self.y_edges, self.x_edges), np.unravel_index(voxels, self.shape)
        z, y, x = (between(e, i, u[:, axis]) for axis, (e, i) in enumerate(zip(edges, bins, strict=True)))
        return np.column_stack([x, y, z])

    def coarsened(self, factors: tuple[int, int, int]) -> BoxMesh:
        self._check_factors(factors)
        fz, fy, fx = factors
        return BoxMesh(self.z_edges[::fz], self.y_edges[::fy], self.x_edges[::fx], self.frame)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "frame": self.frame,
            "z_edges": list(self.z_edges),
            "y_edges": list(self.y_edges),
            "x_edges": list(self.x_edges),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> BoxMesh:
        return cls(**fields)

    @classmethod
    def of_equal_cells(cls, z_edges: tuple[float, ...], sizes: Mapping[str, Any], frame: Frame) -> BoxMesh:
        y, x = (
            tuple((i - n / 2) * d for i in range(n + 1))
            for n, d in ((sizes["n_y"], sizes["dy_mm"]), (sizes["n_x"], sizes["dx_mm"]))
        )
        return cls(z_edges, y, x, frame)
