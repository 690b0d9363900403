"""Which particles a model may take over at the face of a calorimeter, and what it is told of them.

Plain numbers, since Geant4 asks for single particles. Lengths are mm, energies MeV, angles rad.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from caloforge.data.conditions import Conditions
from caloforge.data.particles import pdg_code
from caloforge.data.quantities import Range
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import BoxMesh, Mesh
from caloforge.errors import SimulationError

__all__ = ["ELECTROMAGNETIC", "REASONS", "Acceptance", "Incident"]

ELECTROMAGNETIC = (11, -11, 22)
REASONS = ("energy", "angle", "particle", "place")
"""Why a particle is left to Geant4."""
MARGIN = 0.01
"""Energies this much, relatively, outside the range of a model are still inside, as in generation."""
MARGIN_RAD = 0.02
"""Angles by so much outside are, too: scattering in front turns particles, and cos 0.02 = 0.9998."""
CONTAINED = 3.5
"""Molière radii between a shower and the end of the calorimeter: 99 % of its energy is within."""

Vector = tuple[float, float, float]


class Incident(NamedTuple):
    """A particle that a model takes over.

    Attributes:
        track: its number in the event.
        particle: PDG code.
        energy: kinetic energy at the face.
        position, direction: there, in the detector's coordinates.
        theta, phi: the angles that the model is told.
        shift: how far the cells of the model move along x and y, where they are fixed to the detector.
    """

    track: int
    particle: int
    energy: float
    position: Vector
    direction: Vector
    theta: float
    phi: float
    shift: tuple[float, float]

    @property
    def impact(self) -> tuple[float, float]:
        """The impact point that the model is told."""
        return self.position[0] - self.shift[0], self.position[1] - self.shift[1]

    @staticmethod
    def conditions(incidents: Sequence[Incident], detector: str, impact: bool) -> Conditions:
        """What a model is told of particles in a detector, with their impact points or without."""
        return Conditions(
            [x.energy for x in incidents],
            [x.theta for x in incidents],
            [x.phi for x in incidents],
            [x.particle for x in incidents],
            detector,
            [x.impact for x in incidents] if impact else None,
        )


@dataclass(frozen=True)
class Acceptance:
    """The conditions of a model in a detector.

    Attributes:
        above: kinetic energy from which particles are taken over; below they are nobody's fallback.
        particles: PDG codes.
        energy, theta, phi: ranges.
        impact: ranges of x and y, or None for a model that does not know the impact point.
        fixed: True for cells that are fixed to the detector.
        pitch: distances after which these repeat along x and y, or None.
        sides: distances from the middle of the face up to which showers are contained, along x and y of a
            box, along z of a cylinder.
        cylinder: True for a detector that is the same at all φ.
    """

    above: float
    particles: tuple[int, ...]
    energy: Range
    theta: Range
    phi: Range
    impact: tuple[Range, Range] | None
    fixed: bool
    pitch: tuple[float, float] | None
    sides: tuple[float, ...]
    cylinder: bool

    @classmethod
    def of(
        cls,
        detector: Detector,
        mesh: Mesh,
        valid: Mapping[str, Any],
        above: float | None = None,
        ends: Sequence[float] = (),
    ) -> Acceptance:
        """That of a model that makes showers of ``detector`` on ``mesh`` in the range ``valid``.

        Args:
            detector, mesh: where and on which cells.
            valid: range of the model, as `Conditions.ranges` gives it.
            above: kinetic energy, the lowest of the model by default.
            ends: distances from the middle of the face to those of a calorimeter that is smaller than the
                detector's.

        Raises:
            SimulationError: the model does not know enough to be used.
        """
        impact = valid.get("impact")
        fixed = mesh.frame == "detector"
        if fixed and impact is None:
            raise SimulationError(
                "the cells of this model are fixed to the detector, and it knows no impact points: it cannot "
                "be told where a particle enters"
            )
        far = CONTAINED * detector.moliere_radius_mm
        sizes = (
            [detector.length_mm] if detector.shape == "cylinder" else [detector.width_mm, detector.height_mm]
        )
        sides = [size / 2 for size in sizes if size is not None]
        low, high = valid["energy"]
        return cls(
            above=low * (1 - MARGIN) if above is None else above,
            particles=tuple(pdg_code(name) for name in valid["particle"]),
            energy=(low, high),
            theta=_pair(valid["theta"]),
            phi=_pair(valid["phi"]),
            impact=None if impact is None else (_pair([p[0] for p in impact]), _pair([p[1] for p in impact])),
            fixed=fixed,
            pitch=_pitch(mesh) if fixed else None,
            sides=tuple(min(both) - far for both in zip(sides, ends or sides, strict=True)),
            cylinder=detector.shape == "cylinder",
        )

    def take(
        self, track: int, particle: int, energy: float, position: Vector, direction: Vector
    ) -> Incident | str:
        """What the model is told of a particle at the face, or why it is left to Geant4, one of `REASONS`."""
        if particle not in self.particles:
            return "particle"
        if not self.energy[0] * (1 - MARGIN) <= energy <= self.energy[1] * (1 + MARGIN):
            return "energy"
        along = position[2:] if self.cylinder else position[:2]
        if any(abs(x) > side for x, side in zip(along, self.sides, strict=True)):
            return "place"
        theta, phi = math.acos(max(-1.0, min(1.0, direction[2]))), math.atan2(direction[1], direction[0])
        if not _within(theta, self.theta):
            return "angle"
        if self.cylinder:
            across = direction[0] * position[1] - direction[1] * position[0]
            if abs(across) > MARGIN_RAD * math.hypot(position[0], position[1]):
                return "angle"  # not along a radius, as all particles of the training came
        elif theta <= MARGIN_RAD and not self.fixed:
            phi = 0.0  # along the normal it says nothing but how the cells are turned
        else:
            turns = [phi + turn for turn in (0.0, 2 * math.pi, -2 * math.pi) if _within(phi + turn, self.phi)]
            if not turns and theta > MARGIN_RAD:
                return "angle"
            phi = (turns or [phi])[0]
        shift = self._shift(position)
        if shift is None:
            return "place"
        return Incident(
            track,
            particle,
            energy,
            position,
            direction,
            _clip(theta, self.theta),
            _clip(phi, self.phi),
            shift,
        )

    def _shift(self, position: Vector) -> tuple[float, float] | None:
        """How far the cells are moved, so that the model knows the impact point; None where it does not."""
        if self.impact is None:
            return 0.0, 0.0
        shift = [0.0, 0.0]
        for axis, (low, high) in enumerate(self.impact):
            if self.pitch is not None:
                shift[axis] = self.pitch[axis] * round((position[axis] - (low + high) / 2) / self.pitch[axis])
            if not low <= position[axis] - shift[axis] <= high:
                return None
        return shift[0], shift[1]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description that `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Acceptance:
        return cls(**{name: _tuples(value) for name, value in description.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _pair(values: Any) -> Range:
    low, high = values
    return float(low), float(high)


def _within(angle: float, limits: Range) -> bool:
    return limits[0] - MARGIN_RAD <= angle <= limits[1] + MARGIN_RAD


def _clip(value: float, limits: Range) -> float:
    return min(max(value, limits[0]), limits[1])


def _pitch(mesh: Mesh) -> tuple[float, float] | None:
    """Distances in x and y after which the cells are the same again; None where they are not."""
    if not isinstance(mesh, BoxMesh):
        return None
    steps = [[b - a for a, b in pairwise(e)] for e in (mesh.x_edges, mesh.y_edges)]
    if any(max(step) - min(step) > 1e-6 * max(step) for step in steps):
        return None
    return steps[0][0], steps[1][0]
