"""Detectors as data files: layers, materials, read-out mesh, thresholds and valid range, in one TOML file.

Lengths are mm, energies MeV, angles rad, densities g/cm³. See docs/how-to/detectors.md for every key.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from caloforge.detector.description import FILES, DetectorFile, Material, Table
from caloforge.detector.materials import (
    ATOMIC,
    NIST,
    minimum_ionisation,
    radiation_length,
    radiation_length_mm,
)
from caloforge.detector.mesh import MESHES, Frame, Mesh, mesh_from_dict
from caloforge.errors import DetectorError

__all__ = ["Detector", "FlatLayer", "Layer", "Material", "MeshSettings", "Stack"]

MOST_IN_A_ROW = 1_000_000
SCALE_ENERGY = 21.2052  # MeV, E_s = m_e c² √(4π/α) in Molière's radius, Review of Particle Physics


class Layer(Table):
    """One slab or shell of a stack.

    Attributes:
        material: ``G4_…`` of Geant4's NIST table, or a name of ``[[materials]]``.
        thickness_mm: along the way of a particle at normal incidence.
        sensitive: whether it is read out.
    """

    material: str
    thickness_mm: float = Field(gt=0)
    sensitive: bool = False


class Stack(Table):
    """Layers in the order in which a particle meets them; stacks follow one another.

    Attributes:
        repeat: how many times over.
        layers: each a table as below.
    """

    repeat: int = Field(default=1, ge=1, le=10_000)
    layers: tuple[Layer, ...] = Field(min_length=1)


class MeshSettings(Table):
    """The mesh of a detector file; `Detector.mesh` turns it into cells.

    Regular cells: ``n_z``, ``dz_mm`` and either ``n_phi``, ``n_r``, ``dr_mm`` (cylinder) or ``n_y``,
    ``dy_mm``, ``n_x``, ``dx_mm`` (box). ``z = "layers"`` makes one mesh layer of each sensitive layer of the
    stack, ``z = "sum"`` a single one of the whole depth; both replace ``n_z`` and ``dz_mm``. ``edges`` gives
    a mesh in full, as `Mesh.to_dict` writes it.

    Attributes:
        kind: "cylinder", "box", or a kind of your own.
        frame: "shower": origin where the particle enters, z along it; "detector": fixed to the face.
        z: where the layers of the mesh come from.
        n_z: layers of cells.
        dz_mm: their depth.
        n_phi: cells around the axis.
        n_r: rings.
        dr_mm: their width.
        n_y: cells along y, centred on the axis.
        dy_mm: their size.
        n_x: cells along x, centred on the axis.
        dx_mm: their size.
        edges: the mesh in full, in the place of all others.
    """

    kind: str = "cylinder"
    frame: Frame = "shower"
    z: Literal["regular", "layers", "sum"] = "regular"
    n_z: int = Field(default=0, ge=0, le=MOST_IN_A_ROW)
    dz_mm: float = Field(default=0.0, ge=0)
    n_phi: int = Field(default=0, ge=0, le=MOST_IN_A_ROW)
    n_r: int = Field(default=0, ge=0, le=MOST_IN_A_ROW)
    dr_mm: float = Field(default=0.0, ge=0)
    n_y: int = Field(default=0, ge=0, le=MOST_IN_A_ROW)
    dy_mm: float = Field(default=0.0, ge=0)
    n_x: int = Field(default=0, ge=0, le=MOST_IN_A_ROW)
    dx_mm: float = Field(default=0.0, ge=0)
    edges: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check(self) -> MeshSettings:
        if self.edges is not None:
            return self
        needed = [*MESHES[self.kind].equal_cells, *(["n_z", "dz_mm"] if self.z == "regular" else [])]
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.kind} mesh with z = {self.z!r} needs {', '.join(missing)}")
        return self


class FlatLayer(NamedTuple):
    """A layer of the unrolled stack: depths in mm from the face, or radii less the inner radius."""

    material: str
    start: float
    stop: float
    sensitive: bool


class Detector(DetectorFile):
    """A calorimeter: what Geant4 builds and how it is read out.

    Attributes:
        shape: "cylinder": layers around the beam axis, particles start at the centre; "box": layers along +z
            from z = 0, particles hit the face.
        inner_radius_mm: of a cylinder, where the first layer begins.
        length_mm: of a cylinder, along the beam.
        width_mm: of a box, along x.
        height_mm: of a box, along y.
        world_material: around it, "G4_Galactic" for vacuum.
        stack: ``[[stack]]``, the layers.
        sampling_fraction: deposits in sensitive layers are divided by it.
        threshold_mev: cells with less, before the division, are zero.
        production_cut_mm: Geant4's range cut.
        mesh_settings: ``[mesh]``, the cells of the read-out.
        particles: which it is made for, the first is the default.
        energy_range_mev: lowest and highest energy; others are refused unless the user insists.
        theta_range_rad: lowest and highest θ; normal incidence is π/2 on a cylinder, 0 on a box.
        impact_x_mm: where particles hit the face of a box, uniform, where the user does not say.
        impact_y_mm: the same along y.
    """

    what: ClassVar[str] = "calorimeter"
    folder = FILES

    shape: Literal["cylinder", "box"]
    inner_radius_mm: float | None = Field(default=None, gt=0)
    length_mm: float | None = Field(default=None, gt=0)
    width_mm: float | None = Field(default=None, gt=0)
    height_mm: float | None = Field(default=None, gt=0)
    world_material: str = "G4_AIR"
    stack: tuple[Stack, ...] = Field(min_length=1)
    sampling_fraction: float = Field(gt=0, le=1)
    threshold_mev: float = Field(ge=0)
    production_cut_mm: float = Field(default=0.7, gt=0)
    mesh_settings: MeshSettings = Field(alias="mesh")
    particles: tuple[str, ...] = Field(min_length=1)
    energy_range_mev: tuple[float, float]
    theta_range_rad: tuple[float, float]
    impact_x_mm: tuple[float, float] = (0.0, 0.0)
    impact_y_mm: tuple[float, float] = (0.0, 0.0)

    @model_validator(mode="after")
    def _check(self) -> Detector:
        needed, other = ("inner_radius_mm", "length_mm"), ("width_mm", "height_mm")
        if self.shape == "box":
            needed, other = other, needed
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"a {self.shape} needs {name}")
        for name in other:
            if getattr(self, name) is not None:
                raise ValueError(f"a {self.shape} has no {name}")
        for name in ("energy_range_mev", "theta_range_rad", "impact_x_mm", "impact_y_mm"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [lowest, highest], got [{low}, {high}]")
        if self.energy_range_mev[0] <= 0:
            raise ValueError("energy_range_mev must be positive")
        low, high = (0.0, np.pi) if self.shape == "cylinder" else (0.0, np.pi / 2)
        if not (low <= self.theta_range_rad[0] and self.theta_range_rad[1] <= high):
            raise ValueError(f"theta_range_rad of a {self.shape} must lie in [{low:.4g}, {high:.4g}]")
        self._require_materials((self.world_material, *(layer.material for layer in self.layers)))
        if not any(layer.sensitive for layer in self.layers):
            raise ValueError("no layer is sensitive; set sensitive = true on the layers that are read out")
        return self

    @classmethod
    def name_of(cls, name_or_path: str) -> str:
        """Name of the detector in the TOML file at this path; what is not the path of a file is a name."""
        is_path = name_or_path not in cls.names() and Path(name_or_path).is_file()
        return cls.load(name_or_path).name if is_path else name_or_path

    def _build(self) -> None:
        self.mesh  # noqa: B018  (a mesh that cannot be built is an error of the file)

    @property
    def layers(self) -> tuple[FlatLayer, ...]:
        """Every layer of the stack in order, with its depths."""
        return _unrolled(self.stack)

    @property
    def depth_mm(self) -> float:
        return self.layers[-1].stop

    @property
    def heaviest_sensitive_z(self) -> int:
        """Largest atomic number among the layers that are read out; 92 where a composition is not known."""
        own = {material.name: material.mass_fractions for material in self.materials}
        known = {name: fractions for name, (_, fractions) in NIST.items()} | own
        numbers = [
            ATOMIC[element][0]
            for layer in self.layers
            if layer.sensitive
            for element in known.get(layer.material, {"U": 1.0})
        ]
        return max(numbers)

    @property
    def normal_theta(self) -> float:
        """θ of normal incidence, rad: π/2 for a cylinder around the beam axis, 0 for a box."""
        return float(np.pi / 2) if self.shape == "cylinder" else 0.0

    def _z_edges(self) -> tuple[float, ...]:
        settings = self.mesh_settings
        if settings.z == "regular":
            return tuple(i * settings.dz_mm for i in range(settings.n_z + 1))
        # Deposits are booked at the end of a step, often exactly on a surface, so that an edge must not
        # lie on one: it goes to the middle of what separates two sensitive layers.
        read = [layer for layer in self.layers if layer.sensitive]
        last = self.depth_mm + 0.5 * (read[0].start or read[0].stop)
        first = min(0.0, read[0].start - 0.5)
        if settings.z == "sum":
            return (first, last)
        between = [(a.stop + b.start) / 2 for a, b in itertools.pairwise(read)]
        return (first, *between, last)

    @property
    def mesh(self) -> Mesh:
        """The cells of the read-out."""
        s = self.mesh_settings
        if s.edges is not None:
            return mesh_from_dict(s.edges)
        return MESHES[s.kind].of_equal_cells(self._z_edges(), s.model_dump(), s.frame)

    def composition(self, name: str) -> tuple[float, dict[str, float]]:
        """Density, g/cm³, and mass fractions by element of a material.

        Raises:
            DetectorError: it is one of Geant4's that is not in the table.
        """
        for material in self.materials:
            if material.name == name:
                return material.density_g_cm3, material.mass_fractions
        if name not in NIST:
            raise DetectorError(
                f"{self.name}: the radiation length needs the composition of {name}; "
                f"known are {', '.join(NIST)}; define others in [[materials]]"
            )
        return NIST[name]

    def _element_masses(self) -> tuple[dict[str, float], float]:
        """Mass per area (g/cm²) of every element of the stack, and its depth (cm)."""
        masses: dict[str, float] = {}
        for layer in self.layers:
            density, fractions = self.composition(layer.material)
            for element, fraction in fractions.items():
                masses[element] = (
                    masses.get(element, 0.0) + density * fraction * (layer.stop - layer.start) / 10
                )
        return masses, self.depth_mm / 10

    @property
    def radiation_length_mm(self) -> float:
        """Effective X0 of the stack, mm: 1/X0 = Σ ρ_j/X_j with Dahl's fit (Review of Particle Physics)."""
        masses, depth = self._element_masses()
        return 10 * depth / sum(mass / radiation_length(*ATOMIC[element]) for element, mass in masses.items())

    @property
    def moliere_radius_mm(self) -> float:
        """Effective Molière radius of the stack, mm: 1/R_M = Σ ρ_j E_c,j / (X_j E_s) (same Review)."""
        masses, depth = self._element_masses()
        inverse = sum(
            mass * 610 / (ATOMIC[element][0] + 1.24) / radiation_length(*ATOMIC[element])
            for element, mass in masses.items()
        )
        return 10 * depth * SCALE_ENERGY / inverse

    def in_radiation_lengths(self, layers: Sequence[FlatLayer]) -> float:
        """Thickness of these layers together."""
        return sum((x.stop - x.start) / radiation_length_mm(*self.composition(x.material)) for x in layers)

    @property
    def minimum_ionisation_mev_mm(self) -> float:
        """Mean energy that a minimum ionising particle leaves where it is read out, per mm of the stack."""
        read = [layer for layer in self.layers if layer.sensitive]
        return self._losses(read) / self.depth_mm

    @property
    def estimated_sampling_fraction(self) -> float:
        """Energy of a shower that is read out, of energy losses: to some 30 % what Geant4 gives.

        Most electrons of a shower lose as much as minimum ionising particles; those of little energy, which
        do not leave the absorber, take away up to a fifth.
        """
        fraction = self._losses([x for x in self.layers if x.sensitive]) / self._losses(self.layers)
        return fraction * (0.8 + 0.2 * fraction)

    def _losses(self, layers: Sequence[FlatLayer]) -> float:
        """Energy loss in these layers, MeV."""
        return sum(minimum_ionisation(*self.composition(x.material)) * (x.stop - x.start) for x in layers)


@cache
def _unrolled(stacks: tuple[Stack, ...]) -> tuple[FlatLayer, ...]:
    flat, start = [], 0.0
    for stack in stacks:
        for _ in range(stack.repeat):
            for layer in stack.layers:
                stop = start + layer.thickness_mm
                flat.append(FlatLayer(layer.material, start, stop, layer.sensitive))
                start = stop
    return tuple(flat)
