"""A generator for several detectors, small enough to train in a second, and showers for it."""

import numpy as np
import torch
from torch import nn
from toy_models import LayerGaussian, toy_showers

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import CheckpointError

RECIPE = {
    "model": "joint_models:JointGaussian",
    "training": {"epochs": 50, "batch_size": 64, "learning_rate": 0.05, "ema": 0.9},
}
RESPONSE = {"small": 0.5, "middle": 1.0, "large": 2.0, "new": 3.0, "newer": 4.0}


def mesh_of(detector):
    """The toy mesh with cells of other sizes: ``middle`` has those of the toy showers."""
    factor = RESPONSE[detector]
    return CylinderMesh.regular(n_z=4, n_phi=6, n_r=3, dz=3.4 * factor, dr=4.65 * factor)


def showers_in(detector, n=120, seed=0, mesh=None):
    """Toy showers in a detector, whose response is `RESPONSE` times as large."""
    toy = toy_showers(n, seed=seed)
    conditions = Conditions(toy.conditions.energy, particle="e-", detector=detector)
    energies = toy.energies * np.float32(RESPONSE[detector])
    return Showers(energies, conditions, mesh or mesh_of(detector), {"of": detector})


class JointGaussian(LayerGaussian):
    """One network for up to four detectors, with the mean share of the cells and a bias for each."""

    joint = True

    class Settings(LayerGaussian.Settings):
        slots: int = 4

    def __init__(self, mesh, settings=None):
        super().__init__(mesh, settings)
        slots = self.settings.slots
        self.bias = nn.Parameter(torch.zeros(slots, mesh.n_layers))
        self.register_buffer("share", torch.zeros(slots, *mesh.shape))
        self.register_buffer("cell_mm", torch.zeros(slots))

    def fit(self, showers):
        logs = np.log(showers.conditions.energy)
        self.mean.fill_(logs.mean())
        self.adapt(showers)

    def adapt(self, showers):
        if len(self.detectors) > self.settings.slots:
            raise CheckpointError(f"there is room for {self.settings.slots} detectors only")
        for name, mesh in showers.meshes.items():
            slot, own = self.detectors.index(name), showers.filter(detector=name)
            mean = torch.from_numpy(own.energies.mean(0))
            self.share[slot] = mean / mean.sum((1, 2), keepdim=True)
            self.cell_mm[slot] = float(np.diff(mesh.z_edges).mean())

    def _location(self, conditions):
        return super()._location(conditions) + self.bias[conditions.detector]

    def decode(self, noise, conditions):
        layers = (self._location(conditions) + self.log_sigma.exp() * noise["layers"]).exp()
        return layers[:, :, None, None] * self.share[conditions.detector]
