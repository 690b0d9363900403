"""What every mesh can do, and the small checks that meshes share."""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import MeshError
from caloforge.registry import Registry

__all__ = [
    "MESHES",
    "Floats",
    "Frame",
    "Ints",
    "Mesh",
    "between",
    "bin_of",
    "checked_cells",
    "checked_edges",
    "checked_frame",
    "checked_whole",
    "phi_bin",
]

MOST_TOLD = 3
"""Differences of two meshes that a message names."""
MOST_CELLS = 20_000_000
"""Cells of a mesh: more than any detector module has, and a shower in them takes 80 MB."""

Frame = Literal["shower", "detector"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def checked_edges(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """The edges as floats; MeshError unless they are at least two, finite and strictly increasing."""
    edges = tuple(float(v) for v in values)
    if len(edges) < 2:
        raise MeshError(f"{name} must be at least two edges in mm, got {edges}")
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        if not (np.isfinite(a) and np.isfinite(b) and b > a):
            raise MeshError(
                f"{name} must be finite and strictly increasing, in mm, "
                f"but edges {i} and {i + 1} are {a:g} and {b:g}"
            )
    return edges


def checked_whole(name: str, value: float, least: int) -> int:
    """The number as int; MeshError unless it is whole and not below the least."""
    if not (np.isfinite(value) and value == int(value) >= least):
        raise MeshError(f"{name} must be a whole number ≥ {least}, got {value!r}")
    return int(value)


def checked_cells(cells: int) -> None:
    """MeshError where there are more cells than can be worked with."""
    if cells > MOST_CELLS:
        raise MeshError(f"a mesh of {cells:,} cells is too large; at most {MOST_CELLS:,} are possible")


def checked_frame(frame: str) -> Frame:
    """The frame; MeshError unless it is one of the two known."""
    if frame not in get_args(Frame):
        raise MeshError(f"frame must be 'shower' or 'detector', got {frame!r}")
    return frame  # type: ignore[return-value]


def bin_of(values: Floats, edges: Sequence[float]) -> Ints:
    """Bin of each value, bins [a, b); −1 below the first edge and ``len(edges) − 1`` from the last on."""
    return np.searchsorted(np.array(edges), values, side="right").astype(np.int64) - 1


def between(edges: Sequence[float], bins: Ints, u: Floats) -> Floats:
    """Positions in the bins, as far along each as ``u`` in (0, 1) says."""
    e = np.array(edges)
    return np.asarray(e[bins] + u * (e[bins + 1] - e[bins]))


def phi_bin(x: Floats, y: Floats, n_phi: int) -> Ints:
    """Bin of the azimuth of (x, y) among ``n_phi`` equal bins from −π; periodic, so that φ = π is bin 0."""
    turn = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    return np.floor(turn * n_phi).astype(np.int64) % n_phi


class Mesh(ABC):
    """Cells of a detector; subclasses say how they are arranged.

    Attributes:
        kind: name of the subclass in `MESHES`.
        frame: what the cells are fixed to.
        periodic: which axes of `shape` close on themselves, such as φ.
        equal_cells: keys of a detector file that say how many equal cells there are and how large, in
            addition to those of the layers; none where such a file has to give the mesh in full.
    """

    kind: ClassVar[str]
    frame: Frame
    periodic: ClassVar[tuple[bool, ...]] = (False,)
    equal_cells: ClassVar[tuple[str, ...]] = ()

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
        """Flat voxel of each position (N, 3) mm = (x, y, z) in the mesh's frame; −1 outside the mesh.

        Cells are half-open, [low, high). Raises MeshError where a position is NaN.
        """

    def points(self, voxels: Ints, u: Floats) -> Floats:
        """Positions (N, 3) mm in the voxels (N,), by numbers u in (0, 1), (N, 3).

        They say how far along z, and φ and r or y and x; around the axis r goes with the square.

        Raises:
            MeshError: the mesh cannot tell.
        """
        raise MeshError(f"a {self} does not tell where in its cells energy may lie")

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `mesh_from_dict` reads."""

    @classmethod
    @abstractmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Mesh:
        """The mesh that `to_dict` describes with its ``fields`` beside ``kind``.

        Raises:
            TypeError, KeyError, ValueError: they are malformed; `mesh_from_dict` makes a MeshError of it.
        """

    @property
    def layer_depths(self) -> Floats:
        """Front and back of each layer, (Z, 2), mm; NaN where the mesh does not know them."""
        return np.full((self.n_layers, 2), np.nan)

    def neighbour_pairs(self) -> dict[str, Ints]:
        """Pairs of voxels that touch along each axis, (2, K) by ``z``, ``phi`` or ``y``, ``r`` or ``x``.

        Each pair comes once, the one in front, inside or at the smaller angle first. A mesh that knows of no
        neighbours has none, and showers on it no neighbourhoods.
        """
        return {}

    @property
    def axis_names(self) -> tuple[str, str, str]:
        """Names of the axes along which cells touch, in the order of `shape`."""
        return ("z", "phi", "r") if "phi" in self.centres() else ("z", "y", "x")

    @classmethod
    def of_equal_cells(cls, z_edges: tuple[float, ...], sizes: Mapping[str, Any], frame: Frame) -> Mesh:
        """The mesh of layers between ``z_edges``, mm, with equal cells; ``sizes`` holds `equal_cells`."""
        raise MeshError(f"a mesh of kind {cls.kind!r} must be given in full, by mesh.edges")

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
        """Sum of the energies (N, \\*shape) or (N, V) in each layer: (N, Z), float64."""
        flat = np.asarray(energies)
        if flat.shape[1:] not in (self.shape, (self.n_voxels,)):
            raise MeshError(f"energies of shape {flat.shape} do not fit a mesh of shape {self.shape}")
        flat = flat.reshape(len(flat), self.n_voxels)
        return np.add.reduceat(flat, self.layer_offsets[:-1], axis=1, dtype=np.float64)

    def score(self, positions: ArrayLike, energies: ArrayLike) -> Floats:
        """Sum deposits (N,) at positions (N, 3) mm into voxels (V,); what falls outside is dropped."""
        where = self.index(positions)
        weights = np.asarray(energies, dtype=np.float64)
        if weights.shape != where.shape:
            raise MeshError(f"{len(where)} positions but energies of shape {weights.shape}")
        inside = where >= 0
        summed = np.bincount(where[inside], weights=weights[inside], minlength=self.n_voxels)
        return np.asarray(summed, dtype=np.float64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __str__(self) -> str:
        return f"{self.kind} mesh {' × '.join(map(str, self.shape))}"

    def require_same(self, other: Mesh, what: str) -> None:
        """Raise MeshError unless ``other`` has the same cells; it says in what they differ."""
        if self != other:
            apart = list(_differences(self.to_dict(), other.to_dict()))
            more = f" and {len(apart) - MOST_TOLD} more" if len(apart) > MOST_TOLD else ""
            raise MeshError(
                f"{what}: expected the {self}, got the {other}; expected and found differ in "
                f"{'; '.join(apart[:MOST_TOLD])}{more}"
            )

    @staticmethod
    def _xyz(positions: ArrayLike) -> tuple[Floats, Floats, Floats]:
        array = np.asarray(positions, dtype=np.float64)
        if array.shape == (3,):
            array = array[None]
        if array.ndim != 2 or array.shape[1] != 3:
            raise MeshError(f"positions must have shape (N, 3) = (x, y, z) in mm, got {array.shape}")
        if np.isnan(array).any():
            raise MeshError(f"position {int(np.argwhere(np.isnan(array))[0, 0])} is NaN")
        return array[:, 0], array[:, 1], array[:, 2]


def _differences(ours: Any, theirs: Any, name: str = "") -> Iterator[str]:
    """``z_edges (46 numbers, 0 to 153, and 46 numbers, 0 to 148)`` of each part of two descriptions."""
    if ours == theirs:
        return
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from _differences(ours.get(key), theirs.get(key), f"{name}.{key}" if name else key)
    elif (several := _same_length(ours, theirs)) and (_ends(ours) == _ends(theirs) or not _ends(ours)):
        i = next(i for i in range(several) if ours[i] != theirs[i])
        yield from _differences(ours[i], theirs[i], f"{name}[{i}]")
    else:
        yield f"{name} ({_told(ours)} and {_told(theirs)})"


def _same_length(ours: Any, theirs: Any) -> int:
    lists = isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)
    return len(ours) if lists else 0


def _ends(value: Any) -> tuple[float, float] | None:
    """First and last of a list of numbers."""
    numbers = isinstance(value, list) and value and all(isinstance(x, int | float) for x in value)
    return (value[0], value[-1]) if numbers else None


def _told(value: Any) -> str:
    """A part of a description in a few words."""
    if (ends := _ends(value)) is not None:
        return f"{len(value)} numbers, {ends[0]:g} to {ends[1]:g}"
    if isinstance(value, list):
        return f"{len(value)} of them"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


MESHES: Registry[type[Mesh]] = Registry("mesh kind", "caloforge.detector.mesh", error=MeshError)
"""Kinds of mesh by the ``kind`` of their descriptions."""
