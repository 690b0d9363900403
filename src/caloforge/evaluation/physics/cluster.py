"""Observables of a shower seen as a cluster of cells across its depth, as in LHCb's study of its calorimeter.

Chekalina et al., "Generative Models for Fast Calorimeter Simulation: the LHCb case" (arXiv:1812.01319).

Legend: ``N`` showers, ``n`` of them in a batch, ``V`` voxels, ``C`` cells of the cluster, ``B`` rings or
thresholds. Lengths are mm, angles rad.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.detector import BoxMesh, CylinderMesh, Mesh, RaggedCylinderMesh
from caloforge.detector.mesh import RegularMesh
from caloforge.evaluation.features import FeatureMaker
from caloforge.evaluation.physics.shapes import depth_at_share, layer_depths

__all__ = ["CONTAINED", "ClusterObservables", "depth_of_maximum"]

Floats = NDArray[np.float64]

CONTAINED = 0.9
"""Share of the energy within the containment radius."""
MOST_RINGS = 200
STEEPEST = 0.05
"""Smallest cos θ at which a trajectory is projected onto planes behind the face; below, θ is unknown."""
NORMAL = 1e-9
"""Largest sin θ of normal incidence."""
SQUARES = (1, 3, 5, 9)
"""Sides, in cells, of squares around the cell that a trajectory points at."""
BLOCKS, BLOCK = 5, 100
"""Showers that `depth_of_maximum` reads: so many blocks, spread over the file, of so many in a row."""


class ClusterObservables:
    """Collects cluster observables of every shower; a visitor of `compute_features`.

    The cells are summed over the depth (layers that do not divide the azimuth are left out). Around the
    **projected trajectory**, the point where the particle's straight line crosses the depth of the shower
    maximum, and along the **direction** in which the particle leans:

    * ``asymmetry_longitudinal``, ``asymmetry_transverse``: (E₊ − E₋) / (E₊ + E₋), of the energies in cells
      whose centres lie ahead of and behind the point, left and right of the line of flight; a cell exactly
      on the border counts for neither in the difference.
    * ``cluster_width_longitudinal``, ``…_transverse``: standard deviation of the energy around its own
      centre, along and across the direction, mm.
    * ``centroid_shift_longitudinal``, ``…_transverse``: centre of energy minus projected trajectory, mm.
    * ``containment_radius``: radius around the projected trajectory that holds 90 % of the energy (of all
      layers), mm; between the edges of rings by a straight line.
    * ``square_1``, ``square_3``, …: energy in the cell that the projected trajectory points at, or in so many
      by so many around it, over the incident energy; of boxes that are fixed to the detector, and NaN where
      it points beside them.

    Where the mesh follows the particle the trajectory is its axis. Its direction is the mesh's x axis on
    cylinders (whose azimuth counts from the plane of the particle and the beam) and (cos φ, sin φ) on boxes.
    Where the mesh is fixed to the detector the trajectory is impact + depth · tan θ · (cos φ, sin φ), with
    the impact point at the origin where it is not known. At normal incidence there is no direction, and the
    mesh's x axis serves for it; so it does for θ beyond 87°, which cannot hit a face and is what files
    without θ have.

    Args:
        mesh: of the showers.
        depth_mm: of the shower maximum, behind the face; `depth_of_maximum` estimates it. Only meshes that
            are fixed to the detector ask for it.
    """

    def __init__(self, mesh: Mesh, depth_mm: float = 0.0) -> None:
        self.mesh, self.depth_mm = mesh, depth_mm
        self._follows = mesh.frame == "shower"
        self._is_cylinder = isinstance(mesh, CylinderMesh | RaggedCylinderMesh)
        self._parts: list[dict[str, Floats]] = []
        centres = mesh.centres()
        x, y = centres["x"], centres["y"]
        lateral = FeatureMaker(mesh).lateral
        if isinstance(mesh, RegularMesh):  # all layers are alike: one of them tells the places of all
            cells = np.arange(mesh.layer_sizes[0])
            self._chosen = np.full(len(cells), len(lateral) > 0)
        else:
            cells = np.arange(mesh.n_voxels)
            self._chosen = np.isin(mesh.voxel_layers, lateral)
        self._all = x[cells], y[cells]
        self._x, self._y = x[cells][self._chosen], y[cells][self._chosen]
        self._moments = np.stack(
            [np.ones_like(self._x), self._x, self._y, self._x**2, self._x * self._y, self._y**2], axis=1
        )
        extent = max(float(np.abs(x).max()), float(np.abs(y).max()), 1e-9)
        self._on_border = 1e-9 * extent
        if self._follows and self._is_cylinder:
            self._edges, self._rings = _cylinder_rings(mesh)
        else:
            self._edges = _box_rings(*self._all)
            self._rings = self._ring_of(np.hypot(*self._all))[:, None] == np.arange(len(self._edges) - 1)
        self._rings = self._rings.astype(np.float64)

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        self._parts.append(self.of(energies, conditions))

    def of(self, energies: NDArray[np.float32], conditions: Conditions) -> dict[str, Floats]:
        """The observables of showers (n, V) by name, each (n,)."""
        n = len(energies)
        if isinstance(self.mesh, RegularMesh):
            cells = energies.reshape(n, self.mesh.n_layers, -1).sum(axis=1, dtype=np.float64)
        else:
            cells = energies.astype(np.float64)
        point, direction = (_common(values) for values in self._trajectory(conditions))
        observables = self._plane(cells[:, self._chosen], point, direction) if len(self._x) else {}
        bounds = np.stack([self._edges[:-1], self._edges[1:]], axis=1)
        observables["containment_radius"] = depth_at_share(self._in_rings(cells, point), bounds, CONTAINED)
        if isinstance(self.mesh, BoxMesh) and not self._follows:
            observables |= _in_squares(self.mesh, cells, point, conditions.energy)
        return observables

    def columns(self) -> dict[str, Floats]:
        """The observables by name, each (N,); NaN for showers without energy in the cells concerned."""
        if not self._parts:
            return {}
        return {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}

    def _trajectory(self, conditions: Conditions) -> tuple[Floats, Floats]:
        """Projected trajectory and direction, each (n, 2), or (1, 2) where the mesh tells."""
        origin, x_axis = np.zeros((1, 2)), np.array([[1.0, 0.0]])
        if self._follows and self._is_cylinder:
            return origin, x_axis
        azimuth = np.stack([np.cos(conditions.phi), np.sin(conditions.phi)], axis=1)
        if self._follows:
            leans = np.abs(np.sin(conditions.theta))[:, None] > NORMAL
            return origin, np.where(leans, azimuth, x_axis)
        slope = _slope(conditions)
        leans = (slope**2).sum(axis=1)[:, None] > 0
        return _impact(conditions) + self.depth_mm * slope, np.where(leans, azimuth, x_axis)

    def _plane(self, cells: Floats, point: Floats, direction: Floats) -> dict[str, Floats]:
        """Asymmetries, widths and shifts from the cells (n, C)."""
        sums = cells @ self._moments
        total = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
        x, y, xx, xy, yy = (sums[:, 1:] / total[:, None]).T
        along, across = direction, np.stack([-direction[:, 1], direction[:, 0]], axis=1)
        result = {}
        for name, axis in (("longitudinal", along), ("transverse", across)):
            u, v = axis.T
            # (n or 1, C)
            side = (self._x - point[:, :1]) * u[:, None] + (self._y - point[:, 1:]) * v[:, None]
            side = np.where(np.abs(side) > self._on_border, np.sign(side), 0.0)
            difference = cells @ side[0] if len(side) == 1 else np.einsum("nc,nc->n", cells, side)
            variance = u**2 * (xx - x**2) + 2 * u * v * (xy - x * y) + v**2 * (yy - y**2)
            result[f"asymmetry_{name}"] = difference / total
            result[f"cluster_width_{name}"] = np.sqrt(np.maximum(variance, 0.0))
            result[f"centroid_shift_{name}"] = (x - point[:, 0]) * u + (y - point[:, 1]) * v
        return result

    def _in_rings(self, cells: Floats, point: Floats) -> Floats:
        """Energy in each ring around the projected trajectory, (n, B)."""
        if self._follows:
            return np.asarray(cells @ self._rings)
        x, y = self._all
        ring = self._ring_of(np.hypot(x - point[:, :1], y - point[:, 1:]))
        n, bins = len(cells), len(self._edges) - 1
        slots = (np.arange(n)[:, None] * bins + ring).ravel()
        summed = np.bincount(slots, weights=cells.ravel(), minlength=n * bins)
        return np.asarray(summed.reshape(n, bins), dtype=np.float64)

    def _ring_of(self, radius: Floats) -> NDArray[np.int64]:
        """Ring of each radius; the last one holds everything beyond."""
        step = self._edges[1]
        return np.asarray(np.minimum((radius / step).astype(np.int64), len(self._edges) - 2))


def _in_squares(mesh: BoxMesh, cells: Floats, point: Floats, incident: Floats) -> dict[str, Floats]:
    """Shares (n,) of the incident energy in squares around a point (n, 2) or (1, 2), of cells (n, C)."""
    sums = np.pad(cells.reshape(-1, *mesh.shape[1:]).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    axes = [
        (np.searchsorted(edges, place, side="right") - 1, len(edges) - 1)
        for edges, place in zip((mesh.y_edges, mesh.x_edges), (point[:, 1], point[:, 0]), strict=True)
    ]
    hits = (sums[:, -1, -1] > 0) & np.logical_and(*((at >= 0) & (at < n) for at, n in axes))
    shower, found = np.arange(len(cells)), {}
    for side in (side for side in SQUARES if side <= min(mesh.shape[1:])):
        (y0, y1), (x0, x1) = (
            (np.clip(at - side // 2, 0, n), np.clip(at - side // 2 + side, 0, n)) for at, n in axes
        )
        inside = sums[shower, y1, x1] - sums[shower, y0, x1] - sums[shower, y1, x0] + sums[shower, y0, x0]
        found[f"square_{side}"] = np.where(hits, inside / incident, np.nan)
    return found


def depth_of_maximum(showers: Showers) -> float:
    """Depth of the shower maximum behind the face, mm, from 500 showers; 0 where nothing asks for it.

    Only meshes that are fixed to the detector ask for it. With several layers of known depth it is where the
    mean profile is largest. In an image it is the depth at which the straight lines of inclined particles
    come nearest to the centres of energy c, Σ s·(c − impact) / Σ s·s with s = tan θ (cos φ, sin φ): the mean
    depth of the energy, which lies somewhat behind the maximum.
    """
    mesh = showers.mesh
    depths, unit = layer_depths(mesh)
    if mesh.frame == "shower" or not len(showers):
        return 0.0
    starts = np.unique(np.linspace(0, max(len(showers) - BLOCK, 0), BLOCKS).astype(np.int64))
    cells = np.concatenate([showers.read(i, i + BLOCK).reshape(-1, mesh.n_voxels) for i in starts])
    if mesh.n_layers > 1:
        density = mesh.layer_energies(cells).sum(axis=0) / (depths[:, 1] - depths[:, 0])
        return float(depths[int(np.argmax(density))].mean()) if unit == "mm" else 0.0
    conditions = Conditions.concatenate([showers.conditions[int(i) : int(i) + BLOCK] for i in starts])
    centres = mesh.centres()
    sums = cells.astype(np.float64) @ np.stack([np.ones(mesh.n_voxels), centres["x"], centres["y"]], axis=1)
    lit = sums[:, 0] > 0
    shift = sums[lit, 1:] / sums[lit, :1] - (_impact(conditions) + np.zeros((len(cells), 2)))[lit]
    slope = _slope(conditions)[lit]
    leaning = float((slope**2).sum())
    return max(float((slope * shift).sum()) / leaning, 0.0) if leaning > 0 else 0.0


def _impact(conditions: Conditions) -> Floats:
    """Impact points, (n, 2), or the origin, (1, 2), where they are not known."""
    return np.zeros((1, 2)) if conditions.impact is None else conditions.impact


def _slope(conditions: Conditions) -> Floats:
    """Way across per depth, tan θ (cos φ, sin φ), (n, 2); none at normal incidence and beyond 87°."""
    enters = (np.cos(conditions.theta) >= STEEPEST) & (np.abs(conditions.theta) > NORMAL)
    tangent = np.where(enters, np.tan(conditions.theta), 0.0)
    return np.stack([tangent * np.cos(conditions.phi), tangent * np.sin(conditions.phi)], axis=1)


def _common(rows: Floats) -> Floats:
    """One row where all are the same, so that one set of signs serves all showers."""
    return rows[:1] if len(rows) and (rows == rows[0]).all() else rows


def _cylinder_rings(mesh: Mesh) -> tuple[Floats, Floats]:
    """Edges of rings, (B + 1,), all that occur in any layer, and the share of each cell in them, (C, B)."""
    if isinstance(mesh, CylinderMesh):
        layers = [(mesh.n_phi, mesh.r_edges)]  # all layers are alike
    else:
        assert isinstance(mesh, RaggedCylinderMesh)
        layers = [(layer.n_phi, layer.r_edges) for layer in mesh.layers]
    edges = np.unique(np.concatenate([(0.0,), *(r for _, r in layers)]))
    low, high = (
        np.concatenate([np.tile(np.array(r)[part], n_phi) for n_phi, r in layers])
        for part in (slice(None, -1), slice(1, None))
    )
    overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    return edges, np.maximum(overlap, 0.0) / (high - low)[:, None]


def _box_rings(x: Floats, y: Floats) -> Floats:
    """Edges of rings as wide as the smaller side of a cell and out to the mesh's diagonal, (B + 1,)."""
    pitches = [np.median(np.diff(np.unique(v.round(6)))) for v in (x, y) if np.ptp(v) > 1e-6]
    farthest = 2 * max(float(np.hypot(x, y).max()), 0.5)
    step = max(float(min(pitches, default=farthest)), farthest / MOST_RINGS)
    return np.asarray(step * np.arange(int(np.ceil(farthest / step)) + 1), dtype=np.float64)
