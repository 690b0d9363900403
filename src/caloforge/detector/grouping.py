"""Grouping of the cells of a fine mesh into those of a coarse one.

A *part* is what a fine and a coarse cell have in common. Where the coarse mesh nests (every coarse cell is
made of whole fine ones) parts are the fine cells. Layers, and rings or columns, always nest; bins in φ need
not: the 16 bins of CaloChallenge data set 2 and the 50 of set 3 have two borders in common, and their parts
are the cells of the common refinement.

The energy of a part follows from the showers in both binnings. Around a ring, the energy between two borders
that are common is the same in both; so is that up to every other coarse border, which fixes how much of the
fine cell that straddles it lies on either side. With several fine rings in a coarse one only their sum is
known on either side, and each of the straddling cells is split in the same proportion.

Legend: ``N`` showers, (Z, B, C) the fine mesh, (Zc, Bc, Cc) the coarse one and V_c its cells, (fz, fb, fc)
parts of a coarse cell along each axis, S = fz·fb·fc *slots*, some of which may be empty. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector.mesh import CylinderMesh, Floats, Ints, RegularMesh, mesh_from_dict
from caloforge.errors import MeshError

__all__ = ["Grouping"]

TOLERANCE = 1e-6
"""Edges that differ by less than this part of the mesh's size are the same edge."""


@dataclass(frozen=True)
class Grouping:
    """Two regular meshes over the same volume, and which parts their cells have in common.

    Raises:
        MeshError: the meshes are not of the same kind and extent, or do not nest in an axis other than φ.
    """

    fine: RegularMesh
    coarse: RegularMesh

    def __post_init__(self) -> None:
        fine, coarse = self.fine, self.coarse
        for mesh in (fine, coarse):
            if not isinstance(mesh, RegularMesh):
                raise MeshError(f"only meshes with three axes can be grouped, not a {mesh}")
        if fine.kind != coarse.kind or fine.frame != coarse.frame:
            raise MeshError(
                f"a {fine} in the {fine.frame} frame cannot be grouped into a {coarse} in the {coarse.frame} "
                "frame; both must be of the same kind and in the same frame"
            )
        self.factors  # noqa: B018  raises where an axis does not nest

    @classmethod
    def by_factors(cls, mesh: RegularMesh, factors: tuple[int, int, int]) -> Self:
        """The grouping that joins ``factors`` cells along each axis; each must divide its axis."""
        if not isinstance(mesh, RegularMesh):
            raise MeshError(f"only meshes with three axes can be grouped, not a {mesh}")
        return cls(mesh, mesh.coarsened(factors))

    @classmethod
    def by_shape(cls, mesh: RegularMesh, shape: tuple[int, int, int]) -> Self:
        """The grouping into a coarse mesh of ``shape``, which need not divide that of the mesh in φ."""
        if not isinstance(mesh, CylinderMesh):
            factors = (n // max(m, 1) for n, m in zip(mesh.shape, shape, strict=True))
            return cls.by_factors(mesh, tuple(factors))  # type: ignore[arg-type]
        n_z, n_phi, n_r = shape
        whole = CylinderMesh(mesh.z_edges, 1, mesh.r_edges, mesh.frame)
        if min(shape) < 1 or mesh.shape[0] % n_z or mesh.shape[2] % n_r:
            raise MeshError(f"a coarse mesh of shape {shape} does not nest in z and r in the {mesh}")
        coarse = whole.coarsened((mesh.shape[0] // n_z, 1, mesh.shape[2] // n_r))
        return cls(mesh, CylinderMesh(coarse.z_edges, n_phi, coarse.r_edges, mesh.frame))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`; MeshError where the description is malformed."""
        try:
            fine, coarse = (mesh_from_dict(description[name]) for name in ("fine", "coarse"))
        except (KeyError, TypeError) as error:
            raise MeshError(
                f"a grouping is described by a 'fine' and a 'coarse' mesh, got {description!r}"
            ) from error
        return cls(fine, coarse)  # type: ignore[arg-type]  # checked there

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `from_dict` reads."""
        return {"fine": self.fine.to_dict(), "coarse": self.coarse.to_dict()}

    def __str__(self) -> str:
        return f"grouping of a {self.fine} into a {self.coarse}"

    @cached_property
    def factors(self) -> tuple[int, int, int]:
        """(fz, fb, fc): parts of a coarse cell along each axis; fb is the largest number where it varies."""
        fz = self._nested(0, self.fine.z_edges, self.coarse.z_edges)
        names = ("r_edges", "r_edges") if self._cylinder else ("y_edges", "x_edges")
        fc = self._nested(2, *(getattr(mesh, names[1]) for mesh in (self.fine, self.coarse)))
        if self._cylinder:
            return fz, self.middle_cells.shape[1], fc
        return fz, self._nested(1, *(getattr(mesh, names[0]) for mesh in (self.fine, self.coarse))), fc

    @property
    def _cylinder(self) -> bool:
        return isinstance(self.fine, CylinderMesh)

    def _nested(self, axis: int, fine: tuple[float, ...], coarse: tuple[float, ...]) -> int:
        factor, rest = divmod(len(fine) - 1, len(coarse) - 1)
        if factor and not rest and np.allclose(fine[::factor], coarse, 0, TOLERANCE * (fine[-1] - fine[0])):
            return factor
        raise MeshError(
            f"axis {axis} of the {self.fine} does not nest in the {self.coarse}: edges from {fine[0]:g} to "
            f"{fine[-1]:g} mm ({len(fine) - 1} cells) and from {coarse[0]:g} to {coarse[-1]:g} mm "
            f"({len(coarse) - 1} cells); every so many-th fine edge must be a coarse one"
        )

    @cached_property
    def middle_cells(self) -> Ints:
        """Fine bin in φ (or y) of each part of each coarse bin, (Bc, fb); −1 where there is no such part."""
        n_fine, n_coarse = self.fine.shape[1], self.coarse.shape[1]
        bins = [  # overlaps in units of 1/(n_fine·n_coarse) of a turn, so that all is exact
            np.arange(k * n_fine // n_coarse, -(-(k + 1) * n_fine // n_coarse)) for k in range(n_coarse)
        ]
        cells = np.full((n_coarse, max(map(len, bins))), -1, dtype=np.int64)
        for row, found in zip(cells, bins, strict=True):
            row[: len(found)] = found
        return cells

    @cached_property
    def phases(self) -> Ints:
        """For each coarse bin in φ, which of the different ways of lying over the fine bins it has, (Bc,)."""
        n_fine, n_coarse = self.fine.shape[1], self.coarse.shape[1]
        return np.unique(np.arange(n_coarse) * n_fine % n_coarse, return_inverse=True)[1].astype(np.int64)

    @property
    def nested(self) -> bool:
        """True where every coarse cell is made of whole fine cells."""
        return self.fine.shape[1] % self.coarse.shape[1] == 0

    @property
    def slots(self) -> int:
        """S, the largest number of parts in a coarse cell."""
        return int(np.prod(self.factors))

    @cached_property
    def slot_cells(self) -> Ints:
        """Flat fine cell of each slot of each coarse cell, (V_c, S), in order (z, φ or y, r or x); or −1."""
        cells = np.arange(self.fine.n_voxels).reshape(1, *self.fine.shape)
        return np.where(self.mask, self._spread(cells)[0], -1)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Which slots hold a part, (V_c, S)."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.factors, self.coarse.shape
        exists = np.broadcast_to(
            (self.middle_cells >= 0)[None, :, None, None, :, None], (n_z, n_b, n_c, fz, fb, fc)
        )
        return exists.reshape(self.coarse.n_voxels, self.slots)

    def sum(self, energies: ArrayLike) -> NDArray[Any]:
        """Fine showers (N, Z, B, C) in the coarse cells: (N, Zc, Bc, Cc). Only where the meshes nest.

        Raises:
            MeshError: fine cells straddle coarse borders, so that their sum is not known; see `estimate`.
        """
        if not self.nested:
            raise MeshError(
                f"{self}: fine cells straddle the borders of coarse ones, so that coarse energies do not "
                "follow from fine ones; the same showers have to be scored in both meshes"
            )
        return self._join(self._spread(self._checked(energies, self.fine)))

    def estimate(self, energies: ArrayLike) -> NDArray[Any]:
        """As `sum`, but fine cells that straddle a border are split as their width in φ is."""
        n_fine, n_coarse = self.fine.shape[1], self.coarse.shape[1]
        bins = self.middle_cells
        row = np.arange(n_coarse)[:, None]
        low = np.maximum(bins * n_coarse, row * n_fine)
        width = (np.minimum((bins + 1) * n_coarse, (row + 1) * n_fine) - low) / n_coarse
        (fz, fb, fc), (n_z, n_b, n_c) = self.factors, self.coarse.shape
        weights = np.where(bins >= 0, width, 0)[None, :, None, None, :, None]
        shares = np.broadcast_to(weights, (n_z, n_b, n_c, fz, fb, fc)).reshape(-1, self.slots)
        return self._join(self._spread(self._checked(energies, self.fine)) * shares)

    def _join(self, parts: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(parts.sum(axis=2).reshape(-1, *self.coarse.shape))

    def gather(self, energies: ArrayLike, coarse: ArrayLike | None = None) -> NDArray[Any]:
        """Energies of the parts, (N, V_c, S), of showers (N, Z, B, C); 0 in slots without one.

        Args:
            energies: in the fine cells, MeV.
            coarse: of the same showers in the coarse cells, (N, Zc, Bc, Cc), MeV; needed unless nested.

        The parts of a fine cell always sum to its energy. Those of a coarse cell sum to its energy where both
        binnings hold the same deposits. Where cells under a threshold were cut in both, which takes more from
        the fine ones, what would come out negative, or more than the straddling cell has, is set to that
        limit, so that coarse sums may miss what was cut.
        """
        fine = self._checked(energies, self.fine)
        if self.nested:
            return self._spread(fine)
        if coarse is None:
            raise MeshError(f"{self}: fine cells straddle coarse borders; give the coarse energies as well")
        return self._spread(fine) * self._shares(fine, self._checked(coarse, self.coarse))

    def scatter(self, parts: ArrayLike) -> NDArray[Any]:
        """Undo `gather`: (N, V_c, S) → fine showers (N, Z, B, C); the parts of a fine cell are summed."""
        values = np.asarray(parts)
        fine = np.zeros((len(values), self.fine.n_voxels), dtype=values.dtype)
        flat, cells = values.reshape(len(values), -1), self.slot_cells.ravel()
        exists = cells >= 0
        np.add.at(fine.T, cells[exists], flat[:, exists].T)
        return fine.reshape(-1, *self.fine.shape)

    @staticmethod
    def _checked(energies: ArrayLike, mesh: RegularMesh) -> NDArray[Any]:
        array = np.asarray(energies)
        if array.shape[1:] not in (mesh.shape, (mesh.n_voxels,)):
            raise MeshError(f"energies of shape {array.shape} do not fit (N, *{mesh.shape}) of the {mesh}")
        return array.reshape(-1, *mesh.shape)

    def _spread(self, fine: NDArray[Any]) -> NDArray[Any]:
        """The value of the fine cell of each slot: (N, Z, B, C) → (N, V_c, S)."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.factors, self.coarse.shape
        split = fine[:, :, self.middle_cells.ravel()].reshape(-1, n_z, fz, n_b, fb, n_c, fc)
        return split.transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, self.coarse.n_voxels, self.slots)

    def _shares(self, fine: NDArray[Any], coarse: NDArray[Any]) -> Floats:
        """Which share of its fine cell's energy each part has, (N, V_c, S)."""
        (fz, fb, fc), (n_z, n_b, n_c) = self.factors, self.coarse.shape
        n = len(fine)
        ring = fine.reshape(n, n_z, fz, -1, n_c, fc).sum(axis=(2, 5), dtype=np.float64)  # (N, Zc, B, Cc)
        left = ring.copy()  # energy of each fine bin that no part has yet
        shares = np.zeros((n, n_z, n_b, fb, n_c))
        n_fine = self.fine.shape[1]
        for k, cells in enumerate(self.middle_cells):
            known = np.zeros((n, n_z, n_c))
            last = cells.max()
            straddles = (k + 1) * n_fine % n_b != 0
            for j, cell in enumerate(cells):
                if cell < 0:
                    continue
                part = left[:, :, cell]
                if cell == last and straddles:
                    part = np.clip(coarse[:, :, k] - known, 0, part)
                shares[:, :, k, j] = part / np.where(ring[:, :, cell] > 0, ring[:, :, cell], 1)
                known += part
                left[:, :, cell] = left[:, :, cell] - part
        whole = np.broadcast_to(
            shares.transpose(0, 1, 2, 4, 3)[:, :, :, :, None, :, None], (n, n_z, n_b, n_c, fz, fb, fc)
        )
        return whole.reshape(n, self.coarse.n_voxels, self.slots)
