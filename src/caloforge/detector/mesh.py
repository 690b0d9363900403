"""Read-out meshes: the cells into which the energy of a shower is binned.

Legend: ``Z`` layers, ``P`` φ bins, ``R`` radial bins, ``V`` voxels in all, ``N`` showers or deposits.
Lengths are mm, angles rad. Flattened order is layer (slowest), φ or y, r or x (fastest).
A mesh whose ``frame`` is ``"shower"`` has its origin where the particle enters the detector and its
z axis along the particle; one whose ``frame`` is ``"detector"`` is fixed to the detector's face.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import MeshError

__all__ = ["BoxMesh", "CylinderMesh", "Frame", "Mesh", "RaggedCylinderMesh", "RaggedLayer", "mesh_from_dict"]

Frame = Literal["shower", "detector"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _edges(name: str, values: Sequence[float]) -> tuple[float, ...]:
    edges = tuple(float(v) for v in values)
    if (
        len(edges) < 2
        or not all(np.isfinite(edges))
        or any(b <= a for a, b in itertools.pairwise(edges))
    ):
        raise MeshError(f"{name} must be at least two finite, strictly increasing edges in mm, got {edges}")
    return edges


def _bin(values: Floats, edges: Floats) -> Ints:
    """Bin number of each value, −1 below the first edge and ``len(edges) − 1`` above the last."""
    return np.searchsorted(edges, values, side="right").astype(np.int64) - 1


class Mesh(ABC):
    """Cells of a detector; subclasses say how they are arranged."""

    kind: ClassVar[str]
    frame: Frame

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one shower's energies: (Z, P, R), (Z, Y, X), or (V,) where layers are ragged."""

    @property
    @abstractmethod
    def layer_sizes(self) -> Ints:
        """Voxels in each layer, (Z,)."""

    @property
    @abstractmethod
    def layer_numbers(self) -> tuple[int, ...]:
        """The detector's own numbers of the layers, e.g. (0, 1, 2, 3, 12)."""

    @abstractmethod
    def centres(self) -> dict[str, Floats]:
        """Cell centres by coordinate name, each (V,), mm or rad; always has ``x`` and ``y``."""

    @abstractmethod
    def volumes(self) -> Floats:
        """Cell volumes (V,), mm³ (mm² where the mesh has no extent in depth)."""

    @abstractmethod
    def index(self, positions: ArrayLike) -> Ints:
        """Flat voxel of each position (N, 3) mm = (x, y, z) in the mesh's frame; −1 outside the mesh."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `mesh_from_dict` reads."""

    @property
    def is_regular(self) -> bool:
        """True where every layer has the same cells, so that showers have three axes."""
        return len(self.shape) == 3

    @property
    def n_voxels(self) -> int:
        return int(self.layer_sizes.sum())

    @property
    def n_layers(self) -> int:
        return len(self.layer_sizes)

    @cached_property
    def layer_offsets(self) -> Ints:
        """First flat voxel of each layer and, last, the number of voxels: (Z + 1,)."""
        return np.concatenate([[0], np.cumsum(self.layer_sizes)]).astype(np.int64)

    @cached_property
    def voxel_layers(self) -> Ints:
        """Position (not number) of the layer of each voxel, (V,)."""
        return np.repeat(np.arange(self.n_layers), self.layer_sizes)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that differ where the cells differ."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def layer_energies(self, energies: ArrayLike) -> Floats:
        """Sum of the energies (N, \\*shape) in each layer: (N, Z), float64."""
        flat = np.asarray(energies)
        if flat.ndim < 1 or flat[0:1].size != self.n_voxels:
            raise MeshError(f"energies of shape {flat.shape} do not fit a mesh of shape {self.shape}")
        flat = flat.reshape(len(flat), self.n_voxels)
        return np.add.reduceat(flat, self.layer_offsets[:-1], axis=1, dtype=np.float64)

    def score(self, positions: ArrayLike, energies: ArrayLike) -> Floats:
        """Sum deposits (N,) at positions (N, 3) mm into voxels (V,); what falls outside is dropped."""
        where = self.index(positions)
        inside = where >= 0
        weights = np.asarray(energies, dtype=np.float64)[inside]
        return np.bincount(where[inside], weights=weights, minlength=self.n_voxels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __str__(self) -> str:
        return f"{self.kind} mesh {' × '.join(map(str, self.shape))}"

    def require_same(self, other: Mesh, what: str) -> None:
        """Raise MeshError unless ``other`` has the same cells."""
        if self != other:
            raise MeshError(
                f"{what}: expected the {self} [{self.fingerprint}], got the {other} [{other.fingerprint}]"
            )


class _RegularMesh(Mesh):
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
    def coarsened(self, factors: tuple[int, int, int]) -> Mesh:
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
        """Flat voxel ``step`` cells along ``axis`` from each voxel, (V,); −1 beyond an edge, φ is periodic."""
        grid = np.arange(self.n_voxels).reshape(self.shape)
        moved = np.roll(grid, -step, axis=axis)
        if not self.periodic[axis]:
            edge = [slice(None)] * 3
            n = self.shape[axis]
            edge[axis] = slice(max(n - step, 0), None) if step > 0 else slice(None, min(-step, n))
            if step:
                moved[tuple(edge)] = -1
        return moved.reshape(-1)


@dataclass(frozen=True, eq=False)
class CylinderMesh(_RegularMesh):
    """Cylinder around the shower axis: Z layers × P equal φ bins (from −π) × R radial bins."""

    z_edges: tuple[float, ...]
    n_phi: int
    r_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "cylinder"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, True, False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "z_edges", _edges("z_edges", self.z_edges))
        object.__setattr__(self, "r_edges", _edges("r_edges", self.r_edges))
        if self.n_phi < 1 or self.r_edges[0] < 0:
            raise MeshError(
                f"a cylinder needs n_phi ≥ 1 and r_edges ≥ 0, got {self.n_phi} and {self.r_edges}"
            )

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
        x, y, z = np.asarray(positions, dtype=np.float64).reshape(-1, 3).T
        i_z = _bin(z, np.array(self.z_edges))
        i_r = _bin(np.hypot(x, y), np.array(self.r_edges))
        i_phi = (
            np.floor((np.arctan2(y, x) + np.pi) * (self.n_phi / (2 * np.pi))).astype(np.int64) % self.n_phi
        )
        n_z, n_phi, n_r = self.shape
        inside = (i_z >= 0) & (i_z < n_z) & (i_r >= 0) & (i_r < n_r)
        return np.where(inside, (i_z * n_phi + i_phi) * n_r + i_r, -1)

    def coarsened(self, factors: tuple[int, int, int]) -> CylinderMesh:
        self._check_factors(factors)
        fz, fp, fr = factors
        return CylinderMesh(self.z_edges[::fz], self.n_phi // fp, self.r_edges[::fr], self.frame)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "frame": self.frame, "z_edges": list(self.z_edges),
            "n_phi": self.n_phi, "r_edges": list(self.r_edges),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoxMesh(_RegularMesh):
    """Box: Z layers × Y × X cells."""

    z_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    x_edges: tuple[float, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "box"
    periodic: ClassVar[tuple[bool, bool, bool]] = (False, False, False)

    def __post_init__(self) -> None:
        for name in ("z_edges", "y_edges", "x_edges"):
            object.__setattr__(self, name, _edges(name, getattr(self, name)))

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
        x, y, z = np.asarray(positions, dtype=np.float64).reshape(-1, 3).T
        pairs = ((z, self.z_edges), (y, self.y_edges), (x, self.x_edges))
        i_z, i_y, i_x = (_bin(v, np.array(e)) for v, e in pairs)
        n_z, n_y, n_x = self.shape
        inside = (i_z >= 0) & (i_z < n_z) & (i_y >= 0) & (i_y < n_y) & (i_x >= 0) & (i_x < n_x)
        return np.where(inside, (i_z * n_y + i_y) * n_x + i_x, -1)

    def coarsened(self, factors: tuple[int, int, int]) -> BoxMesh:
        self._check_factors(factors)
        fz, fy, fx = factors
        return BoxMesh(self.z_edges[::fz], self.y_edges[::fy], self.x_edges[::fx], self.frame)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "frame": self.frame, "z_edges": list(self.z_edges),
            "y_edges": list(self.y_edges), "x_edges": list(self.x_edges),
        }  # fmt: skip


@dataclass(frozen=True)
class RaggedLayer:
    """One layer of a ragged mesh: its number in the detector, φ bins, radial edges and, if known, its depth, mm."""

    number: int
    n_phi: int
    r_edges: tuple[float, ...]
    z_edges: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "r_edges", _edges(f"r_edges of layer {self.number}", self.r_edges))
        if self.z_edges is not None:
            object.__setattr__(self, "z_edges", _edges(f"z_edges of layer {self.number}", self.z_edges))
        if self.n_phi < 1:
            raise MeshError(f"layer {self.number} has {self.n_phi} φ bins; at least 1 is needed")

    @property
    def size(self) -> int:
        return self.n_phi * (len(self.r_edges) - 1)


@dataclass(frozen=True, eq=False)
class RaggedCylinderMesh(Mesh):
    """Cylinder whose layers have different φ and radial bins, as in CaloChallenge data set 1."""

    layers: tuple[RaggedLayer, ...]
    frame: Frame = "shower"
    kind: ClassVar[str] = "ragged-cylinder"

    def __post_init__(self) -> None:
        numbers = [layer.number for layer in self.layers]
        if not numbers or sorted(set(numbers)) != numbers:
            raise MeshError(f"layer numbers must be increasing and there must be at least one, got {numbers}")

    @property
    def shape(self) -> tuple[int]:
        return (self.n_voxels,)

    @property
    def layer_sizes(self) -> Ints:
        return np.array([layer.size for layer in self.layers], dtype=np.int64)

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        return tuple(layer.number for layer in self.layers)

    def centres(self) -> dict[str, Floats]:
        r_parts, phi_parts = [], []
        for layer in self.layers:
            r_e, phi_e = np.array(layer.r_edges), np.linspace(-np.pi, np.pi, layer.n_phi + 1)
            phi, r = np.meshgrid((phi_e[1:] + phi_e[:-1]) / 2, (r_e[1:] + r_e[:-1]) / 2, indexing="ij")
            r_parts.append(r.ravel())
            phi_parts.append(phi.ravel())
        r, phi = np.concatenate(r_parts), np.concatenate(phi_parts)
        depth = [np.nan if la.z_edges is None else sum(la.z_edges) / 2 for la in self.layers]
        z = np.repeat(depth, self.layer_sizes)
        return {"x": r * np.cos(phi), "y": r * np.sin(phi), "z": z, "r": r, "phi": phi}

    def volumes(self) -> Floats:
        parts = []
        for layer in self.layers:
            area = np.pi * np.diff(np.array(layer.r_edges) ** 2) / layer.n_phi
            depth = 1.0 if layer.z_edges is None else layer.z_edges[1] - layer.z_edges[0]
            parts.append(np.tile(area * depth, layer.n_phi))
        return np.concatenate(parts)

    def index(self, positions: ArrayLike) -> Ints:
        x, y, z = np.asarray(positions, dtype=np.float64).reshape(-1, 3).T
        r, turn = np.hypot(x, y), (np.arctan2(y, x) + np.pi) / (2 * np.pi)
        result = np.full(len(r), -1, dtype=np.int64)
        for layer, offset in zip(self.layers, self.layer_offsets, strict=False):
            if layer.z_edges is None:
                raise MeshError(
                    f"layer {layer.number} has no z_edges, so deposits cannot be scored on this mesh"
                )
            i_r = _bin(r, np.array(layer.r_edges))
            i_phi = np.floor(turn * layer.n_phi).astype(np.int64) % layer.n_phi
            n_r = len(layer.r_edges) - 1
            here = (z >= layer.z_edges[0]) & (z < layer.z_edges[1]) & (i_r >= 0) & (i_r < n_r)
            result = np.where(here, offset + i_phi * n_r + i_r, result)
        return result

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {"number": la.number, "n_phi": la.n_phi, "r_edges": list(la.r_edges)}
            | ({} if la.z_edges is None else {"z_edges": list(la.z_edges)})
            for la in self.layers
        ]
        return {"kind": self.kind, "frame": self.frame, "layers": layers}


def mesh_from_dict(description: dict[str, Any]) -> Mesh:
    """Rebuild a mesh from `Mesh.to_dict`; raises MeshError where the description is malformed."""
    fields = dict(description)
    kind = fields.pop("kind", None)
    try:
        if kind == "cylinder":
            return CylinderMesh(**fields)
        if kind == "box":
            return BoxMesh(**fields)
        if kind == "ragged-cylinder":
            layers = tuple(RaggedLayer(**layer) for layer in fields.pop("layers"))
            return RaggedCylinderMesh(layers, **fields)
    except (TypeError, KeyError, ValueError) as error:
        raise MeshError(f"malformed {kind} mesh description: {error}") from error
    raise MeshError(f"unknown mesh kind {kind!r}; expected 'cylinder', 'box' or 'ragged-cylinder'")
