"""Meshes whose layers all have the same cells, so that showers have three axes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector.mesh_base import (
    Floats,
    Frame,
    Ints,
    Mesh,
    bin_of,
    checked_edges,
    checked_frame,
    phi_bin,
)
from caloforge.errors import MeshError

__all__ = ["BoxMesh", "CylinderMesh", "RegularMesh"]


class RegularMesh(Mesh):
    """Shared by the meshes with three axes: grouping and neighbours."""

    periodic: ClassVar[tuple[bool, bool, bool]]

    @property
    def layer_sizes(self) -> Ints:
        n_z, n_b, n_c = self.shape
        return np.full(n_z, n_b * n_c, dtype=np.int64)

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.shape[0]))

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


@dataclass(frozen=True, eq=False)
class CylinderMesh(RegularMesh):
    """Cylinder around the shower axis: Z layers × P equal φ bins (from −π) × R radial bins."""

    z_edges: tuple[float, ...]
    n_phi: int
    r_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "cylinder"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, True, False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "z_edges", checked_edges("z_edges", self.z_edges))
        object.__setattr__(self, "r_edges", checked_edges("r_edges", self.r_edges))
        checked_frame(self.frame)
        if self.n_phi < 1 or self.n_phi != int(self.n_phi) or self.r_edges[0] < 0:
            raise MeshError(
                f"a cylinder needs a whole n_phi ≥ 1 and r_edges ≥ 0, got {self.n_phi} and {self.r_edges}"
            )
        object.__setattr__(self, "n_phi", int(self.n_phi))

    @classmethod
    def regular(
        cls,
        *,
        n_z: int = 45,
        dz: float = 3.4,
        n_phi: int = 16,
        n_r: int = 9,
        dr: float = 4.65,
        frame: Frame = "shower",
    ) -> CylinderMesh:
        """Equal cells; the defaults are the mesh of CaloChallenge data set 2 and of LEMURS."""
        return cls(
            tuple(float(v) for v in np.arange(n_z + 1) * dz),
            n_phi,
            tuple(float(v) for v in np.arange(n_r + 1) * dr),
            frame,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.z_edges) - 1, self.n_phi, len(self.r_edges) - 1

    def centres(self) -> dict[str, Floats]:
        z_e, r_e = np.array(self.z_edges), np.array(self.r_edges)
        phi_e = np.linspace(-np.pi, np.pi, self.n_phi + 1)
        z, phi, r = np.meshgrid(*((e[1:] + e[:-1]) / 2 for e in (z_e, phi_e, r_e)), indexing="ij")
        z, phi, r = z.ravel(), phi.ravel(), r.ravel()
        return {"x": r * np.cos(phi), "y": r * np.sin(phi), "z": z, "r": r, "phi": phi}

    def volumes(self) -> Floats:
        dz, r = np.diff(self.z_edges), np.array(self.r_edges)
        area = np.pi * np.diff(r**2) / self.n_phi
        return np.broadcast_to(dz[:, None, None] * area, self.shape).ravel()

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = self._xyz(positions)
        i_z, i_r = bin_of(z, self.z_edges), bin_of(np.hypot(x, y), self.r_edges)
        i_phi = phi_bin(x, y, self.n_phi)
        n_z, n_phi, n_r = self.shape
        inside = (i_z >= 0) & (i_z < n_z) & (i_r >= 0) & (i_r < n_r)
        return np.where(inside, (i_z * n_phi + i_phi) * n_r + i_r, -1)

    def coarsened(self, factors: tuple[int, int, int]) -> CylinderMesh:
        self._check_factors(factors)
        fz, fp, fr = factors
        return CylinderMesh(self.z_edges[::fz], self.n_phi // fp, self.r_edges[::fr], self.frame)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "frame": self.frame,
            "z_edges": list(self.z_edges),
            "n_phi": self.n_phi,
            "r_edges": list(self.r_edges),
        }


@dataclass(frozen=True, eq=False)
class BoxMesh(RegularMesh):
    """Box: Z layers × Y × X cells."""

    z_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    x_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "box"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, False, False)

    def __post_init__(self) -> None:
        for name in ("z_edges", "y_edges", "x_edges"):
            object.__setattr__(self, name, checked_edges(name, getattr(self, name)))
        checked_frame(self.frame)

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
