"""GFlash: showers of electrons, positrons and photons from a detector's description alone.

The parametrisation of G. Grindhammer and S. Peters (hep-ex/0001020). A shower draws the depth T of its
maximum and the shape α of its longitudinal profile, a photon its point of conversion before that; the energy
of each layer fluctuates by the sampling resolution; then spots of equal energy are spread by the radial
profile. All steps are closed integrals over cells, see `caloforge.models.parametrised.hits` and `.lateral`.

Legend: ``n`` showers, ``Z`` layers of the mesh, ``S`` slices of a layer, ``J`` sensitive layers. Depths ``t``
are radiation lengths along the shower axis.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import Tensor

from caloforge.data.conditions import Conditions
from caloforge.data.particles import PDG_CODES, pdg_name
from caloforge.data.showers import Showers
from caloforge.detector.detector import Detector
from caloforge.detector.mesh import Mesh
from caloforge.detector.mesh.base import Floats
from caloforge.errors import ConditionError, DetectorError, MeshError
from caloforge.models.base import ConditionTensors
from caloforge.models.coordinates import energy_range
from caloforge.models.parametrised.base import ParametrisedModel
from caloforge.models.parametrised.formulas import Formulas
from caloforge.models.parametrised.hits import gamma_numbers
from caloforge.models.parametrised.lateral import Profile, cells_of
from caloforge.models.parametrised.medium import Medium

__all__ = ["PARTICLES", "GFlash"]

PARTICLES = ("e-", "e+", "gamma")
CODES = tuple(PDG_CODES[name] for name in PARTICLES)
CONVERSION = 9 / 7
"""Mean free path of photons before they convert, X0."""
SLICE = 1.0
"""Layers are cut into slices no thicker than this, X0, each with its own radial profile."""
CALIBRATED_GEV = 10.0
"""Energy of the electrons by which detector files give their sampling fraction."""
GRAZING = 0.05
"""Cosine of the largest angle between the shower axis and the normal of the layers."""
BLUR = 0.14
"""Radius of the core at the maximum, in Molière radii: over it a tilted axis sees layers blurred."""


def _described(given: Any) -> Any:
    if isinstance(given, str | os.PathLike):
        return Detector.load(given)
    return Detector.from_dict(dict(given)) if isinstance(given, Mapping) else given


DetectorChoice = Annotated[Detector, BeforeValidator(_described), PlainSerializer(Detector.to_dict)]
"""Type of a settings field that holds a detector, given by name, path or description."""


class GFlash(ParametrisedModel):
    """The full Grindhammer-Peters parametrisation, homogeneous and sampling."""

    class Settings(ParametrisedModel.Settings):
        """The detector.

        Attributes:
            detector: its description, name or file. Cells need not be its own.
            resolution: c of the sampling resolution σ/E = c/√(E/GeV) at normal incidence; by default that of
                `Medium.resolution`.
        """

        detector: DetectorChoice
        resolution: float | None = Field(None, gt=0, lt=2)

    example: ClassVar[Mapping[str, Any]] = {"detector": "par04-siw"}
    settings: Settings
    starts: Tensor
    thickness: Tensor
    bounds: Tensor
    middles: Tensor
    weights: Tensor
    depth: Tensor

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(mesh, settings)
        detector = self.settings.detector
        if self.settings.threshold_mev is None:
            self.threshold.fill_(detector.threshold_mev / detector.sampling_fraction or LEAST_MEV)
        self.medium = medium = Medium.of(detector)
        self.formulas = Formulas(medium.z, medium.e_hat if medium.sampling else None)
        self.cells = cells_of(mesh)
        depths = _depths(mesh)
        slices = max(1, math.ceil((depths[:, 1] - depths[:, 0]).max() / medium.x0_mm / SLICE - 1e-6))
        edges = np.linspace(depths[:, 0], depths[:, 1], slices + 1, axis=1)
        planes = {
            "starts": medium.starts,
            "thickness": medium.stops - medium.starts,
            "bounds": medium.bounds,
            "middles": medium.middles,
            "weights": medium.weights,
            "depth": edges,
        }
        for name, values in planes.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)
        self.weights /= self._calibration()

    def _calibration(self) -> float:
        """What sensitive layers see of the average shower by which the sampling fraction was measured."""
        log_y = torch.tensor(CALIBRATED_GEV * 1000 / self.medium.critical_mev).log()
        t, alpha = self.formulas.average(log_y, torch.tensor(self.medium.frequency))
        seen = torch.special.gammainc(alpha, (alpha - 1) / t * self.bounds).diff()
        return float((seen * self.weights).sum() / seen.sum())

    def fit(self, showers: Showers) -> None:
        """Take the threshold of showers; nothing else is learnt of them."""
        if self.settings.threshold_mev is None:
            self.threshold.fill_(energy_range(showers)[0])

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        layers = {"layers": (2, self.mesh.n_layers)} if self.medium.sampling else {}
        return {"profile": (3,), **layers, "cells": (self.mesh.n_voxels,)}

    def valid(self, energy: Tensor, theta: Tensor) -> Tensor:
        """True where the formulas hold, for kinetic energies, MeV, and polar angles, rad."""
        cosine = self._cosine(theta)
        log_y, frequency = self._incident(energy, cosine.clamp_min(GRAZING))
        return self.formulas.valid(log_y, frequency) & (cosine >= GRAZING)

    def lowest_energy(self, theta: float | None = None) -> float:
        """Least kinetic energy, MeV, at which the formulas hold, at normal incidence or another polar angle.

        Raises:
            DetectorError: there is none.
        """
        energies = torch.logspace(0, 9, 1801)
        angle = self.settings.detector.normal_theta if theta is None else theta
        good = self.valid(energies, torch.full_like(energies, angle))
        if not good.any():
            raise DetectorError(
                f"{self.settings.detector.name}: the Grindhammer-Peters parametrisation holds at no energy; "
                f"showers are sampled {self.medium.frequency:.3g} times a radiation length, and it needs more"
            )
        return float(energies[good][0])

    def require_possible(self, conditions: Conditions) -> None:
        name = self.settings.detector.name
        strange = np.flatnonzero(~np.isin(conditions.particle, (0, *CODES)))
        if len(strange):
            raise ConditionError(
                f"particle of shower {strange[0]} is {pdg_name(conditions.particle[strange[0]])!r}; the "
                f"parametrisation is for {', '.join(PARTICLES)}. Simulate others with Geant4 (caloforge "
                "simulate --particle NAME) and train a model on them"
            )
        energy, theta = (torch.from_numpy(x).float() for x in (conditions.energy, conditions.theta))
        wrong = np.flatnonzero(~self.valid(energy, theta).numpy())
        if len(wrong):
            k = wrong[0]
            lowest = self.lowest_energy()
            raise ConditionError(
                f"shower {k} of {energy[k]:.6g} MeV at θ = {theta[k]:.4g} in {name} is beyond the "
                f"parametrisation: the logarithms of its formulas fail for E/E_c = "
                f"{energy[k] / self.medium.critical_mev:.3g} and this angle. At normal incidence it holds "
                f"from {lowest:.3g} MeV on; use Geant4 below (caloforge simulate)"
            )

    def _cosine(self, theta: Tensor) -> Tensor:
        """Cosine of the angle between the shower axis and the normal of the layers."""
        return theta.sin() if self.settings.detector.shape == "cylinder" else theta.cos()

    def _resolution(self, cosine: Tensor) -> Tensor:
        """c of the sampling resolution, (n,)."""
        given = self.settings.resolution
        return self.medium.resolution(cosine) if given is None else given * cosine.rsqrt()

    def _incident(self, energy: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
        """ln y, and the sampling frequency along the shower axis."""
        return (energy / self.medium.critical_mev).log(), self.medium.frequency * cosine

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        energy, cosine = conditions.energy, self._cosine(conditions.theta).clamp_min(GRAZING)  # (n,)
        log_y, frequency = self._incident(energy, cosine)
        first, second, third = noise["profile"].unbind(1)
        t, alpha = self.formulas.moments(log_y, frequency).draw(first, second)
        free = -CONVERSION * torch.special.log_ndtr(third)
        start = torch.where(conditions.particle == PDG_CODES["gamma"], free, 0.0)
        edges, seen = self._edges(cosine, start)
        deposited = _integral(edges, t, alpha)
        layer = deposited.sum(2)  # (n, Z)
        tau = (edges[..., 1:] + edges[..., :-1]) / 2 / t[:, None, None]  # (n, Z, S)
        log_e = (energy / 1000).log()[:, None, None]
        core, tail, part = self.formulas.radial(tau, log_e, frequency[:, None, None])
        unit = self.medium.moliere_mm
        share = deposited / layer.clamp_min(1e-30)[..., None]
        cells = self.cells(Profile(core * unit, tail * unit, part), share, self._axis(conditions))
        resolution = self._resolution(cosine)
        spots = self.formulas.spots(energy / 1000, resolution)
        hits = _integral(edges, *self.formulas.spot_profile(t, alpha)).sum(2) * spots[:, None]
        inside = self.layers.sum(cells)
        energies = (deposited * seen).sum(2) * energy[:, None]
        if self.medium.sampling:
            unit_mev = 1000 * resolution.square()[:, None]
            drawn = gamma_numbers(noise["layers"], (energies / unit_mev).clamp_min(1e-6))
            energies = drawn * unit_mev
        return self.in_hits(noise["cells"], energies * inside, hits, cells, conditions)

    def _edges(self, cosine: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Depths of the edges of all slices after the start of the shower, (n, Z, S + 1), and how much of
        what is deposited in a slice is seen, (n, Z, S).

        What a sensitive layer samples is all between the middles of what separates it from its neighbours; a
        mesh layer gets that of the sensitive layers in it. Along a tilted axis those are blurred by the
        core's radius.
        """
        tilted = self.mesh.frame == "shower"
        c = cosine[:, None, None]
        depth = self.depth * c if tilted else self.depth.expand(len(cosine), -1, -1)  # along the normal, mm
        last = len(self.starts) - 1
        plane = (torch.searchsorted(self.starts, depth.contiguous(), right=True) - 1).clamp(0, last)
        passed = ((depth - self.starts[plane]) / self.thickness[plane]).clamp(0, 1)
        read = self.bounds[plane].lerp(self.bounds[plane + 1], passed)
        section = (torch.searchsorted(self.middles, depth.contiguous(), right=True) - 1).clamp(0, last)
        through = (depth - self.middles[section]) / (self.middles[section + 1] - self.middles[section])
        even = self.bounds[section].lerp(self.bounds[section + 1], through.clamp(0, 1))
        if tilted and self.medium.sampling:
            tangent = (1 - c * c).clamp_min(0).sqrt() / c
            wave = 2 * math.pi * BLUR * self.medium.moliere_mm / (self.medium.period * self.medium.x0_mm)
            read = even.lerp(read, (-wave * tangent).exp())
        seen = self.weights[(section[..., 1:] + section[..., :-1]) // 2]
        return (read / c - start[:, None, None]).clamp_min(0), seen

    def _axis(self, conditions: ConditionTensors) -> Tensor | None:
        """Where the shower axis passes the middles of the slices, (2, n, Z, S), mm; None for the origin."""
        if self.mesh.frame == "shower":
            return None
        middle = (self.depth[:, 1:] + self.depth[:, :-1]) / 2  # (Z, S)
        slope = conditions.theta.clamp(max=math.acos(GRAZING)).tan()
        along = torch.stack([slope * conditions.phi.cos(), slope * conditions.phi.sin()])
        axis = along[:, :, None, None] * middle
        return axis if conditions.impact is None else axis + conditions.impact.T[:, :, None, None]


LEAST_MEV = 1e-6
"""Threshold of cells where a detector has none."""


def _integral(edges: Tensor, t: Tensor, alpha: Tensor) -> Tensor:
    """Part of a profile (n,) in each slice between ``edges`` (n, Z, S + 1): (n, Z, S)."""
    t, alpha = t[:, None, None], alpha[:, None, None]
    below: Tensor = torch.special.gammainc(alpha.expand_as(edges), (alpha - 1) / t * edges)
    return below.diff(dim=-1)


def _depths(mesh: Mesh) -> Floats:
    """Front and back of each layer, (Z, 2), mm; MeshError where one is not known."""
    depths = mesh.layer_depths
    unknown = np.flatnonzero(np.isnan(depths).any(axis=1))
    if len(unknown):
        raise MeshError(
            f"layer {mesh.layer_numbers[unknown[0]]} of the {mesh} has no depth (z_edges), which a "
            "parametrised shower needs"
        )
    return depths
