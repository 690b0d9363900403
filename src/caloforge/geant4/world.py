"""Geant4 volumes of a `Detector`; used in worker processes only.

Placed side by side in one mother, the layers make Geant4 ask each of them for its distance at every step.
Here they form a binary tree of volumes, halves of halves, and a pair of layers is one volume of the first
material with the second placed in it: the surfaces where materials meet are the same, one gets there sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import geant4_pybind as g4

from caloforge.detector.description import DetectorFile
from caloforge.detector.detector import Detector, FlatLayer
from caloforge.detector.materials import ATOMIC
from caloforge.errors import SimulationError

__all__ = ["ENTRY_MM", "World", "build_world", "material_finder"]

ENTRY_MM = 10.0  # a box is approached through this much of the world's material
MARGIN_MM = 100.0


@dataclass
class World:
    """The volumes of a detector.

    Attributes:
        physical: the world volume.
        entry: logical volume that the primary crosses before it enters the detector.
        sensitive: logical volumes that are read out.
        volumes: every logical volume of the detector with its material's name, for bookkeeping.
        keep: everything that Python must not free.
    """

    physical: Any = None
    entry: Any = None
    sensitive: list[Any] = field(default_factory=list)
    volumes: list[tuple[Any, str]] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)


def material_finder(detector: DetectorFile) -> Callable[[str], Any]:
    """What gives Geant4's material of a name: the detector file's own, or one of the NIST table."""
    nist = g4.G4NistManager.Instance()
    own = {material.name: material for material in detector.materials}

    @cache
    def find(name: str) -> Any:
        if name not in own:
            material = nist.FindOrBuildMaterial(name)
            if material is None:
                raise SimulationError(f"{detector.name}: Geant4 knows no material {name!r}")
            return material
        density, fractions = own[name].density_g_cm3, own[name].mass_fractions
        material = g4.G4Material(name, density * g4.g / g4.cm3, len(fractions))
        for element, fraction in fractions.items():
            material.AddElement(nist.FindOrBuildElement(ATOMIC[element][0]), fraction)
        return material

    return find


class _Builder:
    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.world = World()
        self.material = material_finder(detector)

    def place(self, solid: Any, material: str, mother: Any, z: float = 0.0) -> Any:
        logical = g4.G4LogicalVolume(solid, self.material(material), material)
        position = g4.G4ThreeVector(0, 0, z)
        physical = g4.G4PVPlacement(None, position, logical, material, mother, False, 0)
        self.world.keep += [solid, logical, physical, position]
        self.world.volumes.append((logical, material))
        if mother is None:
            self.world.physical = physical
        return logical

    def slab(
        self, start: float, stop: float, material: str, mother: Any, mother_middle: float
    ) -> tuple[Any, float]:
        """A part of the detector from depth ``start`` to ``stop``; returns it and the z of its middle."""
        d = self.detector
        if d.shape == "cylinder":
            assert d.inner_radius_mm is not None
            assert d.length_mm is not None
            r = d.inner_radius_mm
            tube = g4.G4Tubs(material, r + start, r + stop, d.length_mm / 2, 0.0, 2 * math.pi)
            return self.place(tube, material, mother), 0.0
        assert d.width_mm is not None
        assert d.height_mm is not None
        box = g4.G4Box(material, d.width_mm / 2, d.height_mm / 2, (stop - start) / 2)
        middle = (start + stop) / 2
        return self.place(box, material, mother, middle - mother_middle), middle

    def fill(self, layers: Sequence[FlatLayer], mother: Any, mother_middle: float) -> None:
        """Put layers into ``mother``, as halves of halves."""
        first = layers[0]
        others = [la for la in layers if (la.material, la.sensitive) != (first.material, first.sensitive)]
        volume, middle = self.slab(first.start, layers[-1].stop, first.material, mother, mother_middle)
        if len(others) <= 1:
            if first.sensitive:
                self.world.sensitive.append(volume)
            for layer in others:
                inner, _ = self.slab(layer.start, layer.stop, layer.material, volume, middle)
                if layer.sensitive:
                    self.world.sensitive.append(inner)
            return
        half = len(layers) // 2
        half += half % 2 if len(layers) > 2 else 0  # keep absorber and sensitive layer together
        self.fill(layers[:half], volume, middle)
        self.fill(layers[half:], volume, middle)

    def build(self) -> World:
        d = self.detector
        if d.shape == "cylinder":
            assert d.inner_radius_mm is not None
            assert d.length_mm is not None
            side = d.inner_radius_mm + d.depth_mm + MARGIN_MM
            solid = g4.G4Box("world", side, side, d.length_mm / 2 + MARGIN_MM)
            world = self.place(solid, d.world_material, None)
            bore = g4.G4Tubs("entry", 0.0, d.inner_radius_mm, d.length_mm / 2, 0.0, 2 * math.pi)
            self.world.entry = self.place(bore, d.world_material, world)
        else:
            assert d.width_mm is not None
            assert d.height_mm is not None
            x, y = d.width_mm / 2, d.height_mm / 2
            solid = g4.G4Box("world", x + MARGIN_MM, y + MARGIN_MM, d.depth_mm + MARGIN_MM)
            world = self.place(solid, d.world_material, None)
            front = g4.G4Box("entry", x + MARGIN_MM / 2, y + MARGIN_MM / 2, ENTRY_MM / 2)
            self.world.entry = self.place(front, d.world_material, world, -ENTRY_MM / 2)
        self.fill(d.layers, world, 0.0)
        return self.world


def build_world(detector: Detector) -> World:
    """Build the volumes of ``detector``: concentric around z, or along +z with the face at z = 0."""
    return _Builder(detector).build()
