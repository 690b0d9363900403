"""Mean profiles of showers in bins of what is known of the particle, in one pass over their file.

Legend: ``n`` showers of a batch, ``V`` voxels, ``Z`` layers, ``B`` rings, ``K`` bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.data.particles import pdg_code
from caloforge.detector import Mesh
from caloforge.evaluation.profiles import radial_edges, ring_places
from caloforge.runtime.streams import uniforms

__all__ = ["Means", "spread_conditions"]

Floats = NDArray[np.float64]
FACTOR, MOST_BINS, THETA_BINS = 1.4, 20, 4
"""Energies of a bin differ by about that factor at least, and by more where"""
FEWEST = 20
"""showers would be fewer in a bin."""
SAME_RAD = 1e-3
"""Angles that differ by less are one direction."""


@dataclass(frozen=True)
class Bins:
    """Particles, and edges in energy, MeV, and θ, rad, of the showers in one detector."""

    particles: tuple[int, ...]
    energy: Floats
    theta: Floats

    @classmethod
    def of(cls, valid: Mapping[str, Any], particles: Sequence[int], showers: int) -> Bins:
        """Bins of a valid range, for so many showers."""
        low, high = map(float, valid["energy"])
        first, last = map(float, valid["theta"])
        slices = THETA_BINS if last - first > SAME_RAD else 1
        most = min(MOST_BINS, showers / (FEWEST * slices * len(particles)))
        n = max(1, int(min(np.log(high / low) / np.log(FACTOR), most)))
        return cls(tuple(particles), np.geomspace(low, high, n + 1), np.linspace(first, last, slices + 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.particles), len(self.energy) - 1, len(self.theta) - 1

    def places(self, conditions: Conditions) -> NDArray[np.int64]:
        """Bin of each shower, (n,); −1 outside. A particle that is not known is any."""
        found = np.stack([
            _place(self.energy, conditions.energy, self.energy[0] * 0.01),
            _place(self.theta, conditions.theta, SAME_RAD),
        ])  # fmt: skip
        code = conditions.particle
        which = np.argmax(code[:, None] == np.array(self.particles), axis=1)
        known = (code == np.array(self.particles)[which]) | ((code == 0) & (len(self.particles) == 1))
        _, energies, thetas = self.shape
        return np.where(
            known & (found >= 0).all(axis=0), (which * energies + found[0]) * thetas + found[1], -1
        )


def _place(edges: Floats, values: Floats, margin: float) -> NDArray[np.int64]:
    """Bin of each value; those at most ``margin`` outside are in the first or last."""
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    inside = (values >= edges[0] - margin) & (values <= edges[-1] + margin)
    return np.where(inside, place, -1)


class Means:
    """Sums over the showers in one detector of what they leave in layers, rings and cells, over E.

    Args:
        mesh: their cells.
        valid: of which energies and directions.
        particles: PDG codes.
        showers: about how many there will be.
    """

    def __init__(self, mesh: Mesh, valid: Mapping[str, Any], particles: Sequence[int], showers: int) -> None:
        self.mesh, self.bins = mesh, Bins.of(valid, particles, showers)
        self.edges, self.ring_places = radial_edges(mesh), ring_places(mesh)
        rows = int(np.prod(self.bins.shape))
        self._n = np.zeros(rows, dtype=np.int64)
        self._layers, self._rings = np.zeros((rows, mesh.n_layers)), np.zeros((rows, len(self.edges) - 1))
        self.cells: Floats = np.zeros(mesh.n_voxels)

    @property
    def n(self) -> int:
        """Showers in all bins."""
        return int(self._n.sum())

    def add(self, showers: Showers) -> None:
        """Take showers, which are read in slices."""
        to_ring = (self.ring_places[:, None] == np.arange(len(self.edges) - 1)).astype(np.float32)  # (V, B)
        for energies, conditions in showers.batches(int(np.clip(2e7 / self.mesh.n_voxels, 1, 1000))):
            place = self.bins.places(conditions)
            inside = place >= 0
            flat = energies.reshape(len(place), -1)[inside]
            share = flat / conditions.energy[inside, None].astype(np.float32)
            np.add.at(self._n, place[inside], 1)
            np.add.at(self._layers, place[inside], self.mesh.layer_energies(share))
            np.add.at(self._rings, place[inside], share @ to_ring)
            self.cells += share.sum(axis=0, dtype=np.float64)

    def rows(self) -> list[dict[str, Any]]:
        """The bins with showers: which, how many, and the mean parts of E in layers (Z,) and rings (B,)."""
        energy, theta = self.bins.energy, self.bins.theta
        return [
            {
                "particle": self.bins.particles[p],
                "energy": [float(energy[e]), float(energy[e + 1])],
                "theta": [float(theta[t]), float(theta[t + 1])],
                "n": int(n),
                "layers": (self._layers[row] / n).tolist(),
                "rings": (self._rings[row] / n).tolist(),
            }
            for row, n in enumerate(self._n)
            if n
            for p, e, t in [np.unravel_index(row, self.bins.shape)]
        ]


def spread_conditions(
    valid: Mapping[str, Any], particles: Sequence[str], detector: str, n: int, seed: int
) -> Conditions:
    """Conditions of n showers over all of a valid range, particles in turn and energies log-uniform."""
    (low, high), numbers = map(float, valid["energy"]), np.arange(n)
    u = uniforms(seed, numbers, "demo", 4)
    spans = [
        valid["theta"],
        valid["phi"],
        *([*zip(*valid["impact"], strict=True)] if valid.get("impact") else []),
    ]
    theta, phi, *impact = (first + (last - first) * u[:, i] for i, (first, last) in enumerate(spans))
    return Conditions(
        low * (high / low) ** ((numbers + 0.5) / n),
        theta,
        phi,
        np.array([pdg_code(name) for name in particles])[numbers % len(particles)],
        detector,
        np.stack(impact, axis=1) if impact else None,
    )
