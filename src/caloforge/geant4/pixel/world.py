"""Geant4 volumes of a `PixelDetector`; used in worker processes only."""

from __future__ import annotations

import math
from typing import Any

import geant4_pybind as g4

from caloforge.detector.pixel import PixelDetector, Sensor
from caloforge.geant4.world import material_finder

__all__ = ["PixelWorld"]


class PixelWorld:
    """The beam pipe, and modules of which the active area is thinned, in a magnetic field along z.

    Attributes:
        physical: the world volume.
        sensitive: logical volume of the active silicon of every sensor, in order.
    """

    def __init__(self, detector: PixelDetector) -> None:
        self.detector = detector
        self._material = material_finder(detector)
        self._keep: list[Any] = []
        self.sensitive: list[Any] = []
        world = g4.G4Tubs("world", 0, detector.world_radius_mm, detector.world_half_length_mm, 0, 2 * math.pi)
        outer = self._place(world, detector.world_material, None)
        self.physical = self._keep[-1]
        for tube in detector.tubes:
            shell = g4.G4Tubs(
                tube.material,
                tube.inner_radius_mm,
                tube.outer_radius_mm,
                detector.world_half_length_mm,
                0,
                2 * math.pi,
            )
            self._place(shell, tube.material, outer)
        # in vacuum, nothing else ends the way of a particle that circles in the field
        circling = g4.G4UserLimits(1e9, detector.track_mm)
        outer.SetUserLimits(circling)
        limit = g4.G4UserLimits(detector.step_mm)
        self._keep += [circling, limit]
        for sensor in detector.sensors:
            active = self._module(sensor, outer)
            active.SetUserLimits(limit)
            self.sensitive.append(active)

    def _module(self, sensor: Sensor, outer: Any) -> Any:
        """A module with its cavity and, in that, the active silicon, which is returned."""
        layer = self.detector.layers[sensor.layer]
        u, v = float(layer.edges_u[-1]), float(layer.edges_v[-1])
        half, thin = layer.module_w_mm / 2, layer.thickness_um * 1e-3 / 2
        name = f"module {sensor.name}"
        module = self._place(
            g4.G4Box(name, layer.module_u_mm / 2, layer.module_v_mm / 2, half), layer.material, outer, sensor
        )
        x, y, z = (sensor.axes @ (sensor.centre - sensor.module)).tolist()
        cavity = self._place(
            g4.G4Box("cavity", u, v, half), self.detector.world_material, module, (x, y, 0.0)
        )
        return self._place(
            g4.G4Box(f"sensor {sensor.name}", u, v, thin), layer.material, cavity, (0.0, 0.0, z)
        )

    def _place(
        self,
        solid: Any,
        material: str,
        mother: Any,
        where: Sensor | tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Any:
        logical = g4.G4LogicalVolume(solid, self._material(material), solid.GetName())
        rotation = None
        if isinstance(where, Sensor):
            # the passive rotation, from the mother's axes to those of the module
            rotation = g4.G4RotationMatrix()
            rotation.rotateAxes(*(g4.G4ThreeVector(*axis) for axis in where.axes.T.tolist()))
            where = tuple(where.module.tolist())
        position = g4.G4ThreeVector(*where)
        physical = g4.G4PVPlacement(rotation, position, logical, solid.GetName(), mother, False, 0, False)
        self._keep += [solid, logical, rotation, position, physical]
        return logical

    def attach_field(self) -> None:
        """Make the field; to be called where Geant4 constructs its own."""
        field = g4.G4UniformMagField(g4.G4ThreeVector(0, 0, self.detector.field_tesla * g4.tesla))
        manager = g4.G4TransportationManager.GetTransportationManager().GetFieldManager()
        manager.SetDetectorField(field)
        equation = g4.G4Mag_UsualEqRhs(field)
        stepper = g4.G4ExactHelixStepper(equation)
        chords = g4.G4ChordFinder(field, 1e-2, stepper)
        manager.SetChordFinder(chords)
        self._keep += [field, equation, stepper, chords]
