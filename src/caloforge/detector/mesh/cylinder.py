"""The cells of a cylinder around the shower axis, alike in all layers."""

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
    checked_whole,
    phi_bin,
)
from caloforge.detector.mesh.regular import RegularMesh
from caloforge.errors import MeshError

__all__ = ["CylinderMesh"]


@MESHES.add("cylinder")
@dataclass(frozen=True, eq=False)
class CylinderMesh(RegularMesh):
    """Cylinder around the shower axis: Z layers × P equal φ bins (from −π) × R radial bins."""

    z_edges: tuple[float, ...]
    n_phi: int
    r_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "cylinder"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, True, False)
    equal_cells: ClassVar[tuple[str, ...]] = ("n_phi", "n_r", "dr_mm")

    def __post_init__(self) -> None:
        object.__setattr__(self, "z_edges", checked_edges("z_edges", self.z_edges))
        object.__setattr__(self, "r_edges", checked_edges("r_edges", self.r_edges))
        checked_frame(self.frame)
        object.__setattr__(self, "n_phi", checked_whole("n_phi", self.n_phi, 1))
        if self.r_edges[0] < 0:
            raise MeshError(f"r_edges must not be negative, got {self.r_edges[0]:g}")
        checked_cells(math.prod(self.shape))

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

    def points(self, voxels: Ints, u: Floats) -> Floats:
        i_z, i_phi, i_r = np.unravel_index(voxels, self.shape)
        # about as the energy of showers lies around their axis
        along = np.where((i_r == 0) & (self.r_edges[0] == 0), u[:, 2] ** 2, u[:, 2])
        r, phi = between(self.r_edges, i_r, along), (i_phi + u[:, 1]) / self.n_phi * 2 * np.pi - np.pi
        return np.column_stack([r * np.cos(phi), r * np.sin(phi), between(self.z_edges, i_z, u[:, 0])])

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

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> CylinderMesh:
        return cls(**fields)

    @classmethod
    def of_equal_cells(
        cls, z_edges: tuple[float, ...], sizes: Mapping[str, Any], frame: Frame
    ) -> CylinderMesh:
        r_edges = tuple(i * sizes["dr_mm"] for i in range(sizes["n_r"] + 1))
        return cls(z_edges, sizes["n_phi"], r_edges, frame)
