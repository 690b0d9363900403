"""Pixel detectors as data files: sensors on ladders around the beam, their cells, read-out and backgrounds.

Lengths are mm or µm, as the names say; energies MeV. A sensor has a frame of its own: u along the ladder's
width (r-φ), v along the beam, w outward; its cells (u, v) are counted from the lower end of each, from the
upper end in v where the sensor is flipped. Sensors are ordered by number: layer, ladder, sensor. See
docs/explanation/pixel.md.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from caloforge.detector.description import FILES, DetectorFile, Table

__all__ = [
    "PixelDetector",
    "PixelLayer",
    "Readout",
    "Sensor",
    "SingleBeam",
    "Source",
    "Synchrotron",
    "Tube",
    "TwoPhoton",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Span = tuple[float, float]


def _ordered(span: Span) -> Span:
    if span[0] > span[1]:
        raise ValueError(f"must be [lowest, highest], got {list(span)}")
    return span


Ordered = Annotated[Span, AfterValidator(_ordered)]
Positive = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
MOST_CELLS = 4096


class Tube(Table):
    """A cylinder shell around the beam, such as a part of the beam pipe; everywhere along it.

    Attributes:
        material: of Geant4's table (``G4_Be``), or one of ``[[materials]]``.
        inner_radius_mm: where it begins.
        outer_radius_mm: where it ends.
    """

    material: str
    inner_radius_mm: float = Field(ge=0)
    outer_radius_mm: float = Field(gt=0)


class Pitch(Table):
    """So many cells of one size.

    Attributes:
        cells: how many.
        um: their size, µm.
    """

    cells: int = Field(ge=1, le=MOST_CELLS)
    um: float = Field(gt=0)


class PlacedSensor(Table):
    """Where a sensor and its module are along the beam.

    Attributes:
        module_z_mm: middle of the module.
        active_z_mm: middle of its active area.
        flip_v: cells are counted from the upper end of v.
    """

    module_z_mm: float
    active_z_mm: float
    flip_v: bool = False


class PixelLayer(Table):
    """Ladders around the beam, each of ``sensors``.

    A ladder's module, a slab of ``material`` that is thinned to the active area, lies at ``radius_mm``,
    shifted tangentially by ``shift_mm`` and turned by its azimuth; its active plane lies ``active_w_mm``
    further out.

    Attributes:
        ladders: how many, evenly around the beam.
        first_phi_deg: azimuth of the first one.
        radius_mm: of the middle of a module.
        shift_mm: of a module along u, which makes a windmill.
        module_u_mm: size of a module along u, r-φ.
        module_v_mm: the same along v, the beam.
        module_w_mm: the same along w, outward.
        material: of a module and its sensor.
        active_w_mm: of the active plane, from the middle of the module, outward.
        thickness_um: of the active plane.
        pitches_u: cells along u, in groups of one size.
        pitches_v: cells along v, in groups of one size.
        sensors: of a ladder, in their order.
    """

    ladders: int = Field(ge=1, le=1000)
    first_phi_deg: float = 0.0
    radius_mm: float = Field(gt=0)
    shift_mm: float = 0.0
    module_u_mm: float = Field(gt=0)
    module_v_mm: float = Field(gt=0)
    module_w_mm: float = Field(gt=0)
    material: str = "G4_Si"
    active_w_mm: float = 0.0
    thickness_um: float = Field(gt=0)
    pitches_u: tuple[Pitch, ...] = Field(min_length=1)
    pitches_v: tuple[Pitch, ...] = Field(min_length=1)
    sensors: tuple[PlacedSensor, ...] = Field(min_length=1)

    @property
    def edges_u(self) -> Floats:
        """Edges of the cells along u, mm from the middle of the sensor."""
        return _edges(self.pitches_u)

    @property
    def edges_v(self) -> Floats:
        """Edges of the cells along v, of a sensor that is not flipped."""
        return _edges(self.pitches_v)

    @model_validator(mode="after")
    def _check(self) -> PixelLayer:
        for axis, edges, size in (
            ("u", self.edges_u, self.module_u_mm),
            ("v", self.edges_v, self.module_v_mm),
        ):
            if edges[-1] - edges[0] > size:
                raise ValueError(
                    f"the cells along {axis} need {edges[-1] - edges[0]:.4g} mm, the module has {size:g}"
                )
        if self.thickness_um * 1e-3 / 2 + abs(self.active_w_mm) > self.module_w_mm / 2 + 1e-9:
            raise ValueError(
                "the active plane lies outside its module: see thickness_um, active_w_mm, module_w_mm"
            )
        return self


def _edges(pitches: tuple[Pitch, ...]) -> Floats:
    sizes = np.concatenate([np.full(pitch.cells, pitch.um * 1e-3) for pitch in pitches])
    edges = np.concatenate([[0.0], np.cumsum(sizes)])
    return np.asarray(edges - edges[-1] / 2)


class Readout(Table):
    """From deposited energy to 8-bit charges.

    Energy becomes electrons, in steps of at most ``segment_um`` and groups of at most ``group_electrons``,
    which diffuse and are shifted along u by the Lorentz force while they drift; noise and a pedestal are
    added, what exceeds ``bits`` is cut off, and what then is below the threshold is suppressed.

    Attributes:
        ev_per_electron: energy that frees an electron.
        electrons_per_adu: charge of one unit of the converter.
        noise_electrons: σ of the noise of a cell.
        pedestal_adu: mean that is added before and taken off after the converter.
        pedestal_spread_adu: how much it differs from cell to cell, σ.
        bits: of the converter.
        threshold_adu: least charge that is kept, above the pedestal.
        noise_hits: share of all cells that noise alone lights.
        diffusion_um: σ along u and v while electrons drift.
        lorentz_um: shift along u while electrons drift.
        segment_um: longest piece of a track that is one deposit.
        group_electrons: most electrons that move together.
        window_us: begin and end of the time in which sources send particles.
    """

    ev_per_electron: float = Field(gt=0)
    electrons_per_adu: float = Field(gt=0)
    noise_electrons: float = Field(ge=0)
    pedestal_adu: float = Field(ge=0)
    pedestal_spread_adu: float = Field(ge=0)
    bits: int = Field(8, ge=1, le=8)
    threshold_adu: int = Field(ge=1)
    noise_hits: float = Field(0.0, ge=0, le=1)
    diffusion_um: float = Field(ge=0)
    lorentz_um: float = 0.0
    segment_um: float = Field(5.0, gt=0)
    group_electrons: float = Field(100.0, gt=0)
    window_us: Ordered

    @property
    def largest_adu(self) -> int:
        return (1 << self.bits) - 1

    @model_validator(mode="after")
    def _check(self) -> Readout:
        if self.threshold_adu > self.largest_adu:
            raise ValueError(
                f"threshold_adu must be at most {self.largest_adu}, the largest of {self.bits} bits"
            )
        return self


class _Source(Table):
    """A source of background.

    Attributes:
        name: lower-case letters, digits and ``_``; ``--rate`` names it.
        mean: mean number of its primaries (pairs) in the window at rate factor 1.
        rate_spread: σ of the logarithm of its own factor, which varies from event to event.
        kind: which source it is.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    mean: float = Field(ge=0)
    rate_spread: float = Field(0.0, ge=0, le=3)


class TwoPhoton(_Source):
    """e+e− pairs of two-photon processes from the interaction point.

    The two are back to back in φ, and apart in rapidity as for a flat cos θ* of the pair.

    Attributes:
        pt_mev: least and largest transverse momentum.
        power: k in dN/dp_T ∝ p_T^−k.
        rapidity: the pair's is flat up to ± this around ``boost``.
        boost: mean rapidity of the pairs, along z.
        spot_mm: σ of the interaction point along x, y and z.
    """

    kind: Literal["two-photon"]
    pt_mev: Positive
    power: float = Field(3.0, gt=1)
    rapidity: float = Field(gt=0)
    boost: float = 0.0
    spot_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


class SingleBeam(_Source):
    """Secondaries of beam particles that are lost far away: they leave a cylinder at grazing angles.

    Attributes:
        share: how many of them are ``e-``, ``e+`` and ``gamma``; any scale.
        energy_mev: least and largest kinetic energy.
        power: k in dN/dE ∝ E^−k.
        angle_rad: mean angle to the beam, exponentially distributed.
        swirl_rad: σ of the azimuth of the direction around the radial one.
        forward: share that flies along +z.
        phi_excess: a in 1 + a cos(φ − ``phi_deg``), the density of the azimuths where they start.
        phi_deg: azimuth where most of them start.
        radius_mm: of the cylinder that they leave.
        z_mm: its ends along the beam.
    """

    kind: Literal["single-beam"]
    share: dict[Literal["e-", "e+", "gamma"], float] = Field(min_length=1)
    energy_mev: Positive
    power: float = Field(gt=0)
    angle_rad: float = Field(gt=0)
    swirl_rad: float = Field(0.5, ge=0)
    forward: float = Field(0.5, ge=0, le=1)
    phi_excess: float = Field(0.0, ge=0, le=1)
    phi_deg: float = 0.0
    radius_mm: float = Field(gt=0)
    z_mm: Ordered


class Synchrotron(_Source):
    """Photons of synchrotron radiation that leave the beam pipe: exponential in energy.

    Attributes:
        mean_energy_kev: mean above the least energy.
        least_energy_kev: where the spectrum begins.
        radius_mm: of the cylinder that they leave.
        z_mm: its ends along the beam.
    """

    kind: Literal["synchrotron"]
    mean_energy_kev: float = Field(gt=0)
    least_energy_kev: float = Field(gt=0)
    radius_mm: float = Field(gt=0)
    z_mm: Ordered


Source = Annotated[TwoPhoton | SingleBeam | Synchrotron, Field(discriminator="kind")]


class Sensor(NamedTuple):
    """One sensor: its number, name, the middle of its active area and the rows u, v, w of its axes, mm."""

    number: int
    name: str
    layer: int
    ladder: int
    module: Floats
    centre: Floats
    axes: Floats
    flip_v: bool


class PixelDetector(DetectorFile):
    """Sensors of small cells around the beam pipe: what Geant4 builds, how it is read out, what hits it.

    Attributes:
        kind: "pixel" tells it from a calorimeter.
        field_tesla: the solenoid's, along z.
        world_material: between the parts.
        world_radius_mm: where the world ends.
        world_half_length_mm: the same along the beam.
        production_cut_mm: Geant4's range cut.
        step_mm: longest step of Geant4 in a sensor.
        track_mm: longest track.
        tubes: ``[[tubes]]``, such as the beam pipe, from the inside out.
        layers: ``[[layers]]`` of ladders.
        readout: ``[readout]``, from energy to charges.
        sources: ``[[sources]]`` of background.
    """

    what: ClassVar[str] = "pixel detector"
    folder = FILES / "pixel"

    kind: Literal["pixel"]
    field_tesla: float
    world_material: str = "G4_Galactic"
    world_radius_mm: float = Field(gt=0)
    world_half_length_mm: float = Field(gt=0)
    production_cut_mm: float = Field(gt=0)
    step_mm: float = Field(gt=0)
    track_mm: float = Field(gt=0)
    tubes: tuple[Tube, ...] = ()
    layers: tuple[PixelLayer, ...] = Field(min_length=1)
    readout: Readout
    sources: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> PixelDetector:
        self._require_materials(
            (
                self.world_material,
                *(tube.material for tube in self.tubes),
                *(layer.material for layer in self.layers),
            )
        )
        self._require_room()
        radius = 0.0
        for tube in self.tubes:
            if not radius <= tube.inner_radius_mm < tube.outer_radius_mm:
                raise ValueError("tubes must follow one another from the inside out")
            radius = tube.outer_radius_mm
        for layer in self.layers:
            if (len(layer.edges_u), len(layer.edges_v)) != self._edges_of_first:
                raise ValueError("all sensors must have as many cells along u and v")
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("the names of the sources must differ")
        return self

    def _require_room(self) -> None:
        """Raise ValueError where modules or starting points lie in the beam pipe or outside the world."""
        pipe = max((tube.outer_radius_mm for tube in self.tubes), default=0.0)
        for i, layer in enumerate(self.layers):
            inner, outer = (layer.radius_mm + sign * layer.module_w_mm / 2 for sign in (-1, 1))
            side = layer.module_u_mm / 2 + abs(layer.shift_mm)
            z = max(abs(sensor.module_z_mm) for sensor in layer.sensors) + layer.module_v_mm / 2
            if (
                inner <= pipe
                or math.hypot(outer, side) >= self.world_radius_mm
                or z >= self.world_half_length_mm
            ):
                raise ValueError(
                    f"the modules of layer {i + 1} do not lie between the beam pipe and world_*_mm"
                )
            for sensor in layer.sensors:
                if abs(sensor.active_z_mm - sensor.module_z_mm) + layer.edges_v[-1] > layer.module_v_mm / 2:
                    raise ValueError(f"the active area of a sensor of layer {i + 1} lies outside its module")
        for source in self.sources:
            if not isinstance(source, TwoPhoton) and (
                source.radius_mm >= self.world_radius_mm
                or max(map(abs, source.z_mm)) >= self.world_half_length_mm
            ):
                raise ValueError(f"{source.name} starts outside the world, see radius_mm and z_mm")

    @property
    def _edges_of_first(self) -> tuple[int, int]:
        return len(self.layers[0].edges_u), len(self.layers[0].edges_v)

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """Every sensor, ordered by layer, ladder and number; its name is "layer.ladder.sensor"."""
        return _sensors(self.layers)

    @property
    def sensor_layers(self) -> Ints:
        """Layer of each sensor, from 0."""
        return np.array([sensor.layer for sensor in self.sensors])

    @property
    def sensor_kinds(self) -> Ints:
        """Kind of each sensor, from 0: those of a layer at one place of their ladders are alike but for φ."""
        kinds: list[int] = []
        offset = 0
        for layer in self.layers:
            places = range(offset, offset + len(layer.sensors))
            kinds += layer.ladders * [*places]
            offset = places.stop
        return np.array(kinds)

    def decisive(self) -> dict[str, Any]:
        """`to_dict` without the description: where it is equal, events are of one detector."""
        return {key: value for key, value in self.to_dict().items() if key != "description"}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sensors and their cells along u and v."""
        n_u, n_v = self._edges_of_first
        return len(self.sensors), n_u - 1, n_v - 1

    def cells_at(self, sensor: Ints, position: Floats) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Cells u and v of positions (G, 2), mm from the middle of sensors (G,), and which are on one."""
        _, n_u, n_v = self.shape
        flipped = np.array([frame.flip_v for frame in self.sensors])[sensor]
        layers = self.sensor_layers[sensor]
        along_v = np.where(flipped, -position[:, 1], position[:, 1])
        u, v = np.empty(len(sensor), dtype=np.int64), np.empty(len(sensor), dtype=np.int64)
        for i, layer in enumerate(self.layers):
            here = layers == i
            u[here] = np.searchsorted(layer.edges_u, position[here, 0], side="right") - 1
            v[here] = np.searchsorted(layer.edges_v, along_v[here], side="right") - 1
        return u, v, (u >= 0) & (u < n_u) & (v >= 0) & (v < n_v)


@cache
def _sensors(layers: tuple[PixelLayer, ...]) -> tuple[Sensor, ...]:
    sensors: list[Sensor] = []
    for layer_number, layer in enumerate(layers):
        for ladder in range(layer.ladders):
            phi = math.radians(layer.first_phi_deg) + 2 * math.pi * ladder / layer.ladders
            w, u = (
                np.array([math.cos(phi), math.sin(phi), 0.0]),
                np.array([-math.sin(phi), math.cos(phi), 0.0]),
            )
            along = np.array([0.0, 0.0, 1.0])
            axes = np.array([u, along, w])
            for i, sensor in enumerate(layer.sensors):
                middle = w * layer.radius_mm + u * layer.shift_mm
                sensors.append(
                    Sensor(
                        len(sensors),
                        f"{layer_number + 1}.{ladder + 1}.{i + 1}",
                        layer_number,
                        ladder,
                        middle + along * sensor.module_z_mm,
                        middle + w * layer.active_w_mm + along * sensor.active_z_mm,
                        axes,
                        sensor.flip_v,
                    )
                )
    return tuple(sensors)
