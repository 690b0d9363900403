"""The volume of a user's Geant4 world that is a calorimeter, and where the detector file's lies in it.

Legend: the detector's frame is that of its file: a box has its face at z = 0 and goes along +z, a cylinder
lies around z. A volume's frame is its own in Geant4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import geant4_pybind as g4
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector.detector import Detector
from caloforge.errors import SimulationError
from caloforge.geant4.acceptance import Vector

__all__ = ["Envelope", "Frame"]

Floats = NDArray[np.float64]
TOLERANCE_MM = 1.0
"""So near to the face of the detector file is on it."""
DEFAULT_REGION = "DefaultRegionForTheWorld"


class Frame(NamedTuple):
    """Turns positions of the world into those of the detector: x ↦ Q x + q."""

    turn: Floats
    move: Floats

    def position(self, x: Any) -> Vector:
        """A position of Geant4's."""
        return _vector(self.turn @ _array(x) + self.move)

    def direction(self, d: Any) -> Vector:
        """A direction of Geant4's."""
        return _vector(self.turn @ _array(d))

    def in_world(self, positions: Floats) -> Floats:
        """Positions (K, 3) of the detector, in the world."""
        return np.asarray((positions - self.move) @ self.turn)


class Envelope:
    """A logical volume, or the root volumes of a region, in the world that Geant4 has been given.

    Args:
        name: of the volume or region.
        detector: the calorimeter that it is.
        rotation, translation: of the detector's frame in the volume's, (3, 3) and (3,) mm. By default they
            are parallel, and the middle of the face is that of the volume's, along z; for a cylinder the
            middle of the volume.

    Attributes:
        regions: those of the world outside of it.
        sides: distances from the middle of the face to the ends of the volume, across a box, along a
            cylinder.

    Raises:
        SimulationError: there is no such volume, or the detector does not fit into it.
    """

    def __init__(
        self,
        name: str,
        detector: Detector,
        rotation: ArrayLike | None = None,
        translation: ArrayLike | None = None,
    ) -> None:
        self.name, self.detector = name, detector
        self.turn = np.eye(3) if rotation is None else np.asarray(rotation, dtype=np.float64)
        if self.turn.shape != (3, 3) or not np.allclose(self.turn @ self.turn.T, np.eye(3), atol=1e-9):
            raise SimulationError(f"rotation must be a rotation of (3, 3) numbers, got {rotation!r}")
        self._region = g4.G4RegionStore.GetInstance().GetRegion(name, False)
        self._volume = g4.G4LogicalVolumeStore.GetInstance().GetVolume(name, False)
        if self._region is None and self._volume is None:
            raise SimulationError(f"Geant4's world has neither a region nor a logical volume {name!r}")
        self.regions: list[Any] = []
        found = list(self._walk())
        if not found:
            raise SimulationError(f"no volume of {name!r} is in Geant4's world")
        self._moves = {
            volume.GetInstanceID(): self._place(volume.GetSolid(), translation) for volume in found
        }
        self.sides = tuple(np.min([self._extent(volume) for volume in found], axis=0).tolist())

    def enters(self, step: Any) -> Frame | None:
        """The detector's frame where a step has entered the volume from outside; None elsewhere."""
        after = step.GetPostStepPoint()
        if after.GetStepStatus() != g4.fGeomBoundary or self._level(step.GetPreStepPoint()) is not None:
            return None
        level = self._level(after)
        if level is None:
            return None
        history = after.GetTouchable().GetHistory()
        local, volume = history.GetTransform(level), history.GetVolume(level).GetLogicalVolume()
        turn = np.stack([_array(local.TransformAxis(g4.G4ThreeVector(*axis))) for axis in np.eye(3)], axis=1)
        move = _array(local.TransformPoint(g4.G4ThreeVector()))
        return Frame(self.turn.T @ turn, self.turn.T @ (move - self._moves[volume.GetInstanceID()]))

    def at_face(self, position: Vector) -> bool:
        """Whether a position of the detector's frame is on the face."""
        if self.detector.shape == "box":
            return abs(position[2]) <= TOLERANCE_MM
        assert self.detector.inner_radius_mm is not None
        return abs(float(np.hypot(*position[:2])) - self.detector.inner_radius_mm) <= TOLERANCE_MM

    def _is_it(self, volume: Any) -> bool:
        if self._region is not None:
            return bool(volume.IsRootRegion()) and volume.GetRegion().GetName() == self.name
        return bool(volume.GetInstanceID() == self._volume.GetInstanceID())

    def _level(self, point: Any) -> int | None:
        """The level of the volume among those that a point is in, the world being 0."""
        touchable = point.GetTouchable()
        if touchable is None:
            return None
        deepest = touchable.GetHistoryDepth()
        for depth in range(deepest + 1):
            placed = touchable.GetVolume(depth)
            if placed is not None and self._is_it(placed.GetLogicalVolume()):
                return int(deepest - depth)
        return None

    def _walk(self) -> Iterator[Any]:
        """Volumes that are it, from the world downwards; notes the regions of all others."""
        manager = g4.G4TransportationManager.GetTransportationManager()
        world = manager.GetNavigatorForTracking().GetWorldVolume()
        if world is None:
            raise SimulationError("Geant4 has no world yet: attach in ConstructSDandField(), or later")
        self.regions.append(g4.G4RegionStore.GetInstance().GetRegion(DEFAULT_REGION, False))
        todo, seen = [world.GetLogicalVolume()], set()
        while todo:
            volume = todo.pop()
            if volume.GetInstanceID() in seen:
                continue
            seen.add(volume.GetInstanceID())
            if self._is_it(volume):
                yield volume
                continue
            if volume.IsRootRegion() and volume.GetRegion().GetName() != DEFAULT_REGION:
                self.regions.append(volume.GetRegion())
            todo += [volume.GetDaughter(i).GetLogicalVolume() for i in range(volume.GetNoDaughters())]

    def _place(self, solid: Any, translation: ArrayLike | None) -> Floats:
        """Where the origin of the detector's frame is in the volume's."""
        if translation is not None:
            return np.asarray(translation, dtype=np.float64).reshape(3)
        low, high = g4.G4ThreeVector(), g4.G4ThreeVector()
        solid.BoundingLimits(low, high)
        middle = (_array(low) + _array(high)) / 2
        if self.detector.shape == "cylinder":
            return middle
        backwards = -self.turn[:, 2]
        return np.asarray(middle + backwards * solid.DistanceToOut(_geant4(middle), _geant4(backwards)))

    def _extent(self, volume: Any) -> list[float]:
        """`sides` of one volume, after a look at whether the detector is where the volume is."""
        detector, solid, move = self.detector, volume.GetSolid(), self._moves[volume.GetInstanceID()]

        def place(*x: float) -> Any:
            return _geant4(self.turn @ np.array(x) + move)

        def reach(start: Any, axis: int) -> float:
            ends = (sign * self.turn[:, axis] for sign in (1.0, -1.0))
            return float(min(solid.DistanceToOut(start, _geant4(end)) for end in ends))

        first, rays, across = 0.0, [(0.0, 0.0, 1.0)], [0, 1]
        if detector.shape == "cylinder":
            assert detector.inner_radius_mm is not None
            first, across = detector.inner_radius_mm, [2]
            rays = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0)]
        for ray in rays:
            depths = (first - TOLERANCE_MM, first + TOLERANCE_MM, first + detector.depth_mm - TOLERANCE_MM)
            inside = [solid.Inside(place(*(depth * x for x in ray))) == g4.kInside for depth in depths]
            if inside != [False, True, True]:
                raise SimulationError(
                    f"{detector.name} does not lie in the volume {volume.GetName()!r}, which must begin at "
                    f"its face and hold its {detector.depth_mm:g} mm; rotation and translation say where its "
                    "detector file's frame is in that of the volume"
                )
        start = place(*((first + TOLERANCE_MM) * x for x in rays[0]))
        return [reach(start, axis) for axis in across]


def _array(vector: Any) -> Floats:
    return np.array([vector.x, vector.y, vector.z])


def _vector(array: Floats) -> Vector:
    return float(array[0]), float(array[1]), float(array[2])


def _geant4(array: Floats) -> Any:
    return g4.G4ThreeVector(*map(float, array))
