"""What the Grindhammer-Peters parametrisation knows of a detector: one effective medium, and where it is
read.

Means over materials are weighted by mass, as in G. Grindhammer and S. Peters, hep-ex/0001020, with the
critical energy E_c = 2.66 (X0 Z/A)^1.1 MeV, X0 in g/cm², and the Molière radius R_M = X0 · 21.2 MeV/E_c.
Legend: ``J`` sensitive layers, one after the other in depth. Depths are mm along the normal of the layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caloforge.detector.detector import SCALE_ENERGY, Detector, FlatLayer
from caloforge.detector.materials import ATOMIC, radiation_length

__all__ = ["Medium"]

Floats = NDArray[np.float64]

HOMOGENEOUS = 0.05
"""A detector is homogeneous where less than this part of its radiation lengths is not read out."""
SAMPLED, SPREAD, STRAGGLING = 0.9, 1.4, 0.5
"""k, p and b of the sampling resolution, see `Medium.resolution`."""


@dataclass(frozen=True)
class _Material:
    """Density (g/cm³), X0 (g/cm²), mean atomic number, critical energy (2.66 MeV) and ionisation."""

    density: float
    x0: float
    z: float
    critical: float
    ionisation: float

    @classmethod
    def of(cls, density: float, fractions: Mapping[str, float]) -> _Material:
        """That of a density and mass fractions by element."""
        elements = [(part, *ATOMIC[symbol]) for symbol, part in fractions.items()]
        x0 = 1 / sum(part / radiation_length(number, a) for part, number, a in elements)
        z = sum(part * number for part, number, _ in elements)
        a_mean = sum(part * a for part, _, a in elements)
        losses = (part * number / a * (3.94 - 0.2527 * math.log(number)) for part, number, a in elements)
        return cls(density, x0, z, (x0 * z / a_mean) ** 1.1, sum(losses))


Materials = Mapping[str, _Material]


@dataclass(frozen=True)
class _Mixture:
    """Layers as one material: its mass (g/cm²), radiation lengths, and means weighted by mass."""

    mass: float
    lengths: float
    z: float
    critical: float
    ionisation: float

    @classmethod
    def of(cls, materials: Materials, layers: Iterable[FlatLayer]) -> _Mixture:
        mass = lengths = z = critical = ionisation = 0.0
        for layer in layers:
            made_of = materials[layer.material]
            m = made_of.density * (layer.stop - layer.start) / 10
            mass, lengths, z = mass + m, lengths + m / made_of.x0, z + m * made_of.z
            critical += m / made_of.x0 * 2.66 * made_of.critical
            ionisation += m * made_of.ionisation
        return cls(mass, lengths, z / mass, critical / lengths, ionisation)


@dataclass(frozen=True, eq=False)
class Medium:
    """A detector as the parametrisation sees it.

    Attributes:
        sampling: False where it is homogeneous.
        x0_mm, moliere_mm: effective radiation length and Molière radius, mm.
        critical_mev: effective critical energy, MeV.
        z: effective atomic number.
        frequency: sampling frequency, Fs = X0/(d_a + d_p); infinite where it is homogeneous.
        e_hat: ê = 1/(1 + 0.007 (Z_p − Z_a)), which stands for e/mip.
        period: radiation lengths between two sensitive layers.
        active: mass of a sensitive layer, g/cm².
        starts, stops: depths of the sensitive layers, (J,), mm; in a homogeneous one, of all.
        bounds: depths, in X0, between which showers are what a sensitive layer samples, (J + 1,).
        middles: the same in mm, (J + 1,).
        weights: part of what is deposited there that the layer sees, relative to the others, (J,).
    """

    sampling: bool
    x0_mm: float
    moliere_mm: float
    critical_mev: float
    z: float
    frequency: float
    e_hat: float
    period: float
    active: float
    starts: Floats
    stops: Floats
    bounds: Floats
    middles: Floats
    weights: Floats

    @classmethod
    def of(cls, detector: Detector) -> Medium:
        """The medium of a detector.

        Raises:
            DetectorError: the composition of one of its materials is not known.
        """
        layers = detector.layers
        materials = {
            name: _Material.of(*detector.composition(name)) for name in {layer.material for layer in layers}
        }
        whole = _Mixture.of(materials, layers)
        read = [layer for layer in layers if layer.sensitive]
        passive = [layer for layer in layers if not layer.sensitive]
        sampling = bool(passive) and _Mixture.of(materials, passive).lengths > HOMOGENEOUS * whole.lengths
        planes = _planes(read) if sampling else np.array([[0.0, detector.depth_mm]])
        ends = np.array([0.0, *(layer.stop for layer in layers)])
        lengths = np.cumsum([0.0, *(_Mixture.of(materials, [layer]).lengths for layer in layers)])
        between = (planes[:-1, 1] + planes[1:, 0]) / 2
        middles = np.array([0.0, *between, detector.depth_mm])
        active = _Mixture.of(materials, read)
        return cls(
            sampling=sampling,
            x0_mm=detector.depth_mm / whole.lengths,
            moliere_mm=detector.depth_mm / whole.lengths * SCALE_ENERGY / whole.critical,
            critical_mev=whole.critical,
            z=whole.z,
            frequency=len(planes) / whole.lengths if sampling else math.inf,
            e_hat=1 / (1 + 0.007 * (_Mixture.of(materials, passive).z - active.z)) if sampling else 1.0,
            period=whole.lengths / len(planes),
            active=active.mass / len(planes),
            starts=planes[:, 0],
            stops=planes[:, 1],
            bounds=np.interp(middles, ends, lengths),
            middles=middles,
            weights=_seen(layers, materials, middles) if sampling else np.ones(1),
        )

    def resolution(self, cosine: Tensor) -> Tensor:
        """c of the sampling resolution σ/E = c/√(E/GeV) along axes at these cosines to the normal of the
        layers.

        No formula of it belongs to the parametrisation. Here the electrons of a shower cross E/(E_c·s)
        layers, s radiation lengths apart, and what each crossing leaves fluctuates by itself, the more the
        thinner the layer (x g/cm²): c² = k · E_c/GeV · s^p · (1 + b/x). k, p and b were fitted to Geant4's
        showers in six detectors, within about 10 % (docs/explanation/parametrised.md).
        """
        apart, crossed = self.period / cosine, self.active / cosine
        crossings = SAMPLED * self.critical_mev / 1000 * apart**SPREAD
        return (crossings * (1 + STRAGGLING / crossed)).sqrt()


def _planes(read: list[FlatLayer]) -> Floats:
    """Depths (J, 2) of sensitive layers; those that touch are one."""
    planes = [[read[0].start, read[0].stop]]
    for before, layer in itertools.pairwise(read):
        if layer.start - before.stop < 1e-6:
            planes[-1][1] = layer.stop
        else:
            planes.append([layer.start, layer.stop])
    return np.array(planes)


def _seen(layers: Sequence[FlatLayer], materials: Materials, middles: Floats) -> Floats:
    """Ionisation in what is read out by that in all between ``middles``, relative to the whole detector's."""

    def ionisation(layers: Iterable[FlatLayer]) -> Floats:
        total = np.zeros(len(middles) - 1)
        for layer in layers:
            inside = np.minimum(layer.stop, middles[1:]) - np.maximum(layer.start, middles[:-1])
            per_mm = _Mixture.of(materials, [layer]).ionisation / (layer.stop - layer.start)
            total += per_mm * inside.clip(min=0)
        return total

    read, every = ionisation(layer for layer in layers if layer.sensitive), ionisation(layers)
    relative: Floats = read / every / (read.sum() / every.sum())
    return relative
