"""Sources of background: what particles they send, where, when and how fast.

Legend: ``P`` particles. Lengths mm, energies MeV, times ns. A new source is a table in
`caloforge.detector.pixel` and a function here that samples it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data.particles import pdg_code
from caloforge.detector.pixel import SingleBeam, Source, Span, Synchrotron, TwoPhoton
from caloforge.runtime.streams import generator

__all__ = ["Particles", "particles_of_event"]

Floats = NDArray[np.float64]
ELECTRON_MASS = 0.51099895  # MeV, CODATA 2018


@dataclass(frozen=True)
class Particles:
    """Primaries: PDG codes (P,), kinetic energies (P,), starts (P, 3), directions (P, 3), times (P,)."""

    pdg: NDArray[np.int64]
    energy: Floats
    start: Floats
    direction: Floats
    time: Floats

    def __len__(self) -> int:
        return len(self.pdg)

    @staticmethod
    def concatenate(parts: Sequence[Particles]) -> Particles:
        fields = ("pdg", "energy", "start", "direction", "time")
        return Particles(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def particles_of_event(
    sources: Sequence[Source], rates: Floats, window_us: Span, seed: int, number: int
) -> Particles:
    """The primaries of one event: a Poisson number of each source, at uniform times in the window.

    Args:
        sources: what there is.
        rates: factor of each, (S,).
        window_us: when.
        seed, number: with the source's name, decide everything.
    """
    parts = []
    for source, rate in zip(sources, rates.tolist(), strict=True):
        random = generator(seed, number, f"pixel.source.{source.name}")
        n = int(random.poisson(source.mean * rate))
        times = random.uniform(window_us[0] * 1e3, window_us[1] * 1e3, n)
        parts.append(SAMPLERS[type(source)](source, times, random))
    return Particles.concatenate(parts)


def _power_law(random: np.random.Generator, span: Span, power: float, n: int) -> Floats:
    """Samples (n,) of x^−power between the ends of ``span``."""
    low, high = span
    u = random.random(n)
    if power == 1.0:
        return np.asarray(low * (high / low) ** u)
    k = 1.0 - power
    return np.asarray((low**k + u * (high**k - low**k)) ** (1.0 / k))


def _azimuths(random: np.random.Generator, excess: float, n: int) -> Floats:
    """Azimuths (n,) with the density 1 + a cos φ: that of 1 − cos φ is a fold of the upper half."""
    phi = random.uniform(-np.pi, np.pi, n)
    mirrored = 2.0 * random.random(n) > 1.0 + excess * np.cos(phi)
    return np.where(mirrored, np.pi - phi, phi)


def _two_photon(source: TwoPhoton, times: Floats, random: np.random.Generator) -> Particles:
    n = len(times)
    pt = np.tile(_power_law(random, source.pt_mev, source.power, n), 2)
    phi = random.uniform(-np.pi, np.pi, n)
    middle = source.boost + random.uniform(-source.rapidity, source.rapidity, n)
    apart = np.arctanh(random.uniform(-0.999, 0.999, n))  # half the distance in rapidity: cos θ* is flat
    rapidity = np.concatenate([middle + apart, middle - apart])
    mass = np.hypot(pt, ELECTRON_MASS)
    momentum = np.stack(
        [
            pt * np.cos(both := np.concatenate([phi, phi + np.pi])),
            pt * np.sin(both),
            mass * np.sinh(rapidity),
        ],
        1,
    )
    start = random.normal(size=(n, 3)) * source.spot_mm
    return Particles(
        np.repeat([pdg_code("e-"), pdg_code("e+")], n),
        mass * np.cosh(rapidity) - ELECTRON_MASS,
        np.tile(start, (2, 1)),
        momentum / np.linalg.norm(momentum, axis=1, keepdims=True),
        np.tile(times, 2),
    )


def _single_beam(source: SingleBeam, times: Floats, random: np.random.Generator) -> Particles:
    n = len(times)
    shares = np.array(list(source.share.values()))
    codes = np.array([pdg_code(name) for name in source.share])
    phi = np.deg2rad(source.phi_deg) + _azimuths(random, source.phi_excess, n)
    theta = np.minimum(random.exponential(source.angle_rad, n), np.pi / 2)
    sign = np.where(random.random(n) < source.forward, 1.0, -1.0)
    azimuth = phi + np.clip(random.normal(0.0, source.swirl_rad, n), -1.5, 1.5)
    return Particles(
        codes[random.choice(len(codes), n, p=shares / shares.sum())],
        _power_law(random, source.energy_mev, source.power, n),
        _on_cylinder(source.radius_mm, phi, random.uniform(*source.z_mm, n)),
        np.stack([np.sin(theta) * np.cos(azimuth), np.sin(theta) * np.sin(azimuth), sign * np.cos(theta)], 1),
        times,
    )


def _synchrotron(source: Synchrotron, times: Floats, random: np.random.Generator) -> Particles:
    n = len(times)
    phi = random.uniform(-np.pi, np.pi, n)
    cos, azimuth = random.uniform(-1.0, 1.0, n), phi + random.uniform(-np.pi / 2, np.pi / 2, n)
    sin = np.sqrt(1.0 - cos**2)
    energy = source.least_energy_kev + random.exponential(source.mean_energy_kev, n)
    return Particles(
        np.full(n, pdg_code("gamma")),
        energy * 1e-3,
        _on_cylinder(source.radius_mm, phi, random.uniform(*source.z_mm, n)),
        np.stack([sin * np.cos(azimuth), sin * np.sin(azimuth), cos], 1),
        times,
    )


def _on_cylinder(radius: float, phi: Floats, z: Floats) -> Floats:
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), z], 1)


SAMPLERS: dict[type, Callable[[Any, Floats, np.random.Generator], Particles]] = {
    TwoPhoton: _two_photon,
    SingleBeam: _single_beam,
    Synchrotron: _synchrotron,
}
