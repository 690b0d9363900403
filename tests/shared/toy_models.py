"""Small real models and showers for tests: layer energies are log-normal given the incident energy."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch, ConditionTensors, GeneratorModel

MESH = CylinderMesh.regular(n_z=4, n_phi=6, n_r=3)
RECIPE = {
    "model": "toy_models:LayerGaussian",
    "training": {"epochs": 6, "batch_size": 32, "learning_rate": 0.02, "ema": 0.9},
}


def toy_showers(n: int = 300, seed: int = 1) -> Showers:
    """Showers on MESH with energies that follow the model, and about a third of the cells empty."""
    random = np.random.default_rng(seed)
    energy = np.exp(random.uniform(np.log(1e3), np.log(5e4), n))
    layers = np.exp(random.normal(np.log([0.1, 0.4, 0.3, 0.1]), 0.2, (n, 4))) * energy[:, None]
    cells = random.exponential(size=(n, 4, 18)) * (random.random((n, 4, 18)) > 0.3)
    cells /= cells.sum(2, keepdims=True)
    energies = (cells * layers[..., None]).reshape(n, *MESH.shape)
    return Showers(energies, Conditions(energy, particle="e-", detector="toy"), MESH, {"action": "toy"})


class LayerGaussian(GeneratorModel):
    """log(layer energy) ~ N(network(log E), σ); a layer's energy is shared out as it is on average."""

    class Settings(GeneratorModel.Settings):
        width: int = Field(8, ge=1)
        dropout: float = Field(0.0, ge=0, le=1)

    settings: Settings

    def __init__(self, mesh, settings=None):
        super().__init__(mesh, settings)
        width = self.settings.width
        self.network = nn.Sequential(
            nn.Linear(1, width), nn.SiLU(), nn.Dropout(self.settings.dropout), nn.Linear(width, mesh.n_layers)
        )
        self.log_sigma = nn.Parameter(torch.zeros(mesh.n_layers))
        self.register_buffer("share", torch.zeros(mesh.shape))
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, showers: Showers) -> None:
        total, logs, n = np.zeros(self.mesh.shape), 0.0, 0
        for energies, conditions in showers.batches(100):
            total += energies.sum(0, dtype=np.float64)
            logs += np.log(conditions.energy).sum()
            n += len(conditions)
        layers = total.sum((1, 2), keepdims=True)
        self.share.copy_(torch.from_numpy(total / layers))
        self.mean.fill_(logs / n)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"layers": (self.mesh.n_layers,)}

    def _location(self, conditions: ConditionTensors) -> Tensor:
        x = (conditions.energy.log() - self.mean)[:, None]
        return self.network(x) + x + self.mean

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        layers = batch.energies.sum((2, 3))
        jitter = 0.01 * torch.randn(layers.shape, generator=generator, device=layers.device)
        z = (layers.clamp_min(1e-3).log() + jitter - self._location(batch)) / self.log_sigma.exp()
        loss = (0.5 * z**2 + self.log_sigma).sum(1).mean()
        return {"loss": loss, "sigma": self.log_sigma.exp().mean()}

    def decode(self, noise: Mapping[str, Tensor], conditions: ConditionTensors) -> Tensor:
        layers = (self._location(conditions) + self.log_sigma.exp() * noise["layers"]).exp()
        return layers[:, :, None, None] * self.share


class TwoParts(LayerGaussian):
    """The same with the location and the width trained as separate parts."""

    def parts(self):
        return {"location": list(self.network.parameters()), "width": [self.log_sigma]}

    def losses(self, batch, part, generator):
        if part == "location":
            layers = batch.energies.sum((2, 3)).clamp_min(1e-3).log()
            return {"loss": ((layers - self._location(batch)) ** 2).mean()}
        return super().losses(batch, part, generator)


class BreaksDown(LayerGaussian):
    """Its loss is NaN from a given fraction of the training on."""

    class Settings(LayerGaussian.Settings):
        at: float = 0.5

    def losses(self, batch, part, generator):
        losses = super().losses(batch, part, generator)
        if self.training and self.progress >= self.settings.at:
            losses["loss"] = losses["loss"] * float("nan")
        return losses


class BreaksWeights(BreaksDown):
    """Its gradient is NaN from a given fraction of the training on, and its loss is not."""

    def losses(self, batch, part, generator):
        losses = super(BreaksDown, self).losses(batch, part, generator)
        if self.training and self.progress >= self.settings.at:
            losses["loss"] = losses["loss"] + (0 * self.log_sigma).sum().sqrt()
        return losses


class LogsNaN(LayerGaussian):
    """What it logs beside its loss is no number."""

    def losses(self, batch, part, generator):
        return super().losses(batch, part, generator) | {"odd": torch.tensor(float("nan"))}


class Adversarial(LayerGaussian):
    """A Wasserstein GAN with gradient penalty on the layer energies: critic and generator are two parts."""

    def __init__(self, mesh, settings=None):
        super().__init__(mesh, settings)
        self.critic = nn.Sequential(nn.Linear(mesh.n_layers + 1, 16), nn.SiLU(), nn.Linear(16, 1))

    def parts(self):
        return {
            "critic": [*self.critic.parameters()],
            "generator": [*self.network.parameters(), self.log_sigma],
        }

    def _score(self, layers: Tensor, batch: Batch) -> Tensor:
        x = batch.energy.log()[:, None]
        return self.critic(torch.cat([layers.clamp_min(1e-3).log() - x, x - self.mean], 1))

    def losses(self, batch, part, generator):
        real = batch.energies.sum((2, 3))
        noise = self.noise(len(batch), generator)
        fake = self.decode(noise, batch).sum((2, 3))
        if part == "generator":
            return {"loss": -self._score(fake, batch).mean()}
        gap = self._score(fake.detach(), batch).mean() - self._score(real, batch).mean()
        with torch.enable_grad():  # validation runs without gradients
            mix = torch.rand(len(batch), 1, generator=generator, device=real.device)
            between = (mix * real + (1 - mix) * fake.detach()).log().requires_grad_()
            slope = torch.autograd.grad(self._score(between.exp(), batch).sum(), between, create_graph=True)[
                0
            ]
        return {"loss": gap + 10 * ((slope.norm(dim=1) - 1) ** 2).mean(), "gap": gap}


class Student(LayerGaussian):
    """Learns its location from a teacher, and after training what its mean response is."""

    def __init__(self, mesh, settings=None):
        super().__init__(mesh, settings)
        self.teacher = ()
        self.register_buffer("response", torch.zeros(()))

    def use_teacher(self, teacher: GeneratorModel) -> None:
        if not isinstance(teacher, LayerGaussian):
            raise RecipeError("a LayerGaussian is needed")
        self.teacher = (teacher,)

    def losses(self, batch, part, generator):
        (teacher,) = self.teacher
        distance = self._location(batch) - teacher._location(batch)
        return {"loss": distance.square().mean() + (self.log_sigma - teacher.log_sigma).square().mean()}

    def calibrate(self, showers: Showers, generator: torch.Generator) -> None:
        conditions = ConditionTensors.of(showers.conditions[:64])
        made = self.decode(self.noise(64, generator), conditions)
        self.response.copy_((made.sum((1, 2, 3)) / conditions.energy).mean())


class Doubles(LayerGaussian):
    """Its loss is the mean distance of the showers from half of what is given of them."""

    def losses(self, batch, part, generator):
        distance = (batch.energies.sum((1, 2, 3)) - batch.given.sum((1, 2, 3)) / 2).abs().mean()
        return {"loss": self.log_sigma.square().mean(), "distance": distance}


class Elsewhere(LayerGaussian):
    """The same, but in another process than ``TOY_PARENT`` something happens after some blocks."""

    blocks = 0

    def decode(self, noise, conditions):
        made = super().decode(noise, conditions)
        if str(os.getpid()) != os.environ["TOY_PARENT"]:
            self.blocks += 1
            self.happens(made)
        return made

    def happens(self, made):
        raise NotImplementedError


class Killed(Elsewhere):
    def happens(self, made):
        if self.blocks == 3:
            os.kill(os.getpid(), signal.SIGKILL)


class Moody(Elsewhere):
    def happens(self, made):
        made[0, 0, 0, 0] += 1.0


class Shy(Elsewhere):
    def happens(self, made):
        raise RuntimeError("not here")


class Broken(Elsewhere):
    def happens(self, made):
        if self.blocks == 3:
            made[:, 0, 0, 0] = float("nan")
