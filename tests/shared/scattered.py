"""A small generator for every kind of mesh, whose showers tell all that is known of the particle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import Mesh
from caloforge.errors import MeshError
from caloforge.models.base import GeneratorModel


class Scattered(GeneratorModel):
    """Each cell has its part of E, log-normal; small ones are empty. θ, φ and others change all cells."""

    joint = True

    def noise_shapes(self):
        return {"all": (), "cells": (self.mesh.n_voxels,)}

    def losses(self, batch, part, generator):
        raise NotImplementedError

    def decode(self, noise, conditions):
        response = 0.5 + 0.1 * conditions.theta + 0.01 * conditions.phi + 0.1 * conditions.detector
        response = response + 0.2 * (conditions.particle == 22)
        if conditions.impact is not None:
            response = response + 0.01 * conditions.impact[:, 0] + 0.02 * conditions.impact[:, 1]
        response = response * (1 + 0.05 * noise["all"])
        part = torch.exp(1.5 * noise["cells"] - 0.02 * torch.arange(self.mesh.n_voxels))
        part = torch.where(part > 0.3, part, torch.zeros_like(part)) / self.mesh.n_voxels
        return ((conditions.energy * response)[:, None] * part).reshape(-1, *self.mesh.shape)


class Refines(Scattered):
    """It has to be given showers."""

    @property
    def given_mesh(self):
        return self.mesh

    def decode(self, noise, conditions):
        if conditions.given is None:
            raise MeshError("no showers were given")
        return conditions.given


def scattered(
    mesh: Mesh,
    folder: Path,
    *,
    detectors: tuple[str, ...] = ("toy",),
    several: bool = False,
    cls: type[Scattered] = Scattered,
) -> Path:
    """A checkpoint of it; ``several`` for two particles, a range of directions and impact points."""
    model = cls(mesh)
    model.know(detectors, dict.fromkeys(detectors, mesh))
    n = 12
    turn = np.linspace(0, 1, n) if several else np.zeros(n)
    impact = np.stack([4 * turn - 2, 6 * turn - 3], axis=1) if several else None
    particle = np.where(np.arange(n) % 2, 22, 11) if several else "e-"
    names = np.array(detectors)[np.arange(n) // 2 % len(detectors)]
    conditions = Conditions(np.geomspace(1e3, 5e4, n), turn, turn - 0.5 * several, particle, names, impact)
    ranges = {name: conditions[names == name].ranges() for name in detectors} if len(detectors) > 1 else {}
    made = Checkpoint.from_model(model, f"scattered:{cls.__name__}", conditions.ranges(), valid_ranges=ranges)
    return made.save(folder)


def scattered_truth(mesh: Mesh, n: int = 40) -> Showers:
    """Showers of electrons, of known means."""
    random = np.random.default_rng(3)
    energy = np.geomspace(500, 6e4, n)
    energies = energy[:, None] * random.random((n, mesh.n_voxels)) / mesh.n_voxels
    conditions = Conditions(energy, 0.0, 0.0, "e-", "toy")
    return Showers(energies.astype(np.float32).reshape(n, *mesh.shape), conditions, mesh)
