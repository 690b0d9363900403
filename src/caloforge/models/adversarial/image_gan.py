"""GANs of images, as of LHCb's electromagnetic calorimeter.

Chekalina et al., "Generative Models for Fast Calorimeter Simulation: the LHCb case" (arXiv:1812.01319): a
dense layer and transposed convolutions, cropped to 30 × 30 cells, a critic that mirrors them, and a regressor
of the particle's momentum and impact point whose features guide the generator.

Legend: ``n`` showers, ``Z`` layers of (Y, X) cells, ``K`` numbers of context. Energies are MeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.adversarial.images import ImageGenerator, ImageTrunk
from caloforge.models.adversarial.model import AdversarialModel, AdversarialSettings
from caloforge.models.adversarial.regressor import ImageRegressor
from caloforge.models.base import Batch, ConditionTensors
from caloforge.models.conditions.trajectory import Trajectory
from caloforge.models.networks.spectral import dense
from caloforge.models.student import Student
from caloforge.models.trainable import Trainable

__all__ = ["GuidedImageGAN", "ImageGAN", "feature_distance"]


class ImageCritic(nn.Module):
    """Features of an image, and a score of them, (n, C, Y, X) and (n, K) → (n,)."""

    def __init__(self, trunk: ImageTrunk, hidden: int, spectral: bool) -> None:
        super().__init__()
        self.trunk = trunk
        self.last = dense(spectral)(hidden, 1, bias=False)

    def forward(self, images: Tensor, context: Tensor) -> Tensor:
        score: Tensor = self.last(self.trunk(images, context))[:, 0]
        return score


class ImageGAN(AdversarialModel):
    """A convolutional GAN on a regular mesh, whose layers are the channels of an image."""

    class Settings(AdversarialSettings):
        """Sizes of the networks.

        Attributes:
            cell_noise: the last layers of the generator see noise of each cell, for what scatters there.
            trajectory: networks see where cells lie to the line of the particle, see `Trajectory`.
            summary: the critic sees energies and shares of lit cells of the layers.
            width, levels: of `ImageGenerator`.
            critic_width, critic_levels, critic_hidden: of the critic's `ImageTrunk`.
        """

        cell_noise: bool = True
        trajectory: bool = True
        summary: bool = True
        width: int = Field(16, ge=1)
        levels: int = Field(3, ge=1, le=8)
        critic_width: int = Field(16, ge=1)
        critic_levels: int = Field(3, ge=1, le=8)
        critic_hidden: int = Field(128, ge=1)

    mesh_kinds: ClassVar[tuple[str, ...]] = ("cylinder", "box")
    example: ClassVar[Mapping[str, Any]] = {
        "latent": 4,
        "width": 4,
        "levels": 1,
        "critic_width": 4,
        "critic_levels": 1,
        "critic_hidden": 8,
    }
    settings: Settings

    def __init__(self, mesh: Mesh, settings: Settings | Mapping[str, object] | None = None) -> None:
        super().__init__(mesh, settings)
        s, (n_layers, rows, columns) = self.settings, mesh.shape
        context = self._begin()
        self.trajectory = Trajectory(mesh) if s.trajectory and s.conditional else None
        maps = 0 if self.trajectory is None else Trajectory.maps
        periodic = mesh.periodic[1]
        generator = ImageGenerator(
            s.latent,
            context,
            maps,
            n_layers if s.cell_noise else 0,
            n_layers,
            (rows, columns),
            periodic=periodic,
            width=s.width,
            levels=s.levels,
        )
        trunk = ImageTrunk(
            n_layers + maps,
            (rows, columns),
            context + (self.summary_size if s.summary else 0),
            periodic=periodic,
            width=s.critic_width,
            levels=s.critic_levels,
            hidden=s.critic_hidden,
            spectral=s.spectral,
        )
        self._build(generator, ImageCritic(trunk, s.critic_hidden, s.spectral))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        cells = {"cells": self.mesh.shape} if self.settings.cell_noise else {}
        return super().noise_shapes() | cells

    def begin_fit(self) -> None:
        if self.trajectory is not None:
            self.trajectory.begin_fit()

    def fit_batch(self, batch: Batch) -> None:
        if self.trajectory is not None:
            self.trajectory.fit_batch(batch)

    def end_fit(self) -> None:
        if self.trajectory is not None:
            self.trajectory.end_fit()

    def _maps(self, conditions: ConditionTensors) -> Tensor:
        """What networks see of where cells lie, (n, M, Y, X)."""
        if self.trajectory is None:
            return conditions.energy.new_zeros(conditions.energy.shape[0], 0, *self.mesh.shape[1:])
        maps: Tensor = self.trajectory(conditions)
        return maps

    def proposed(
        self, noise: Mapping[str, Tensor], context: Tensor, conditions: ConditionTensors
    ) -> tuple[Tensor, Tensor | None]:
        maps = self._maps(conditions)
        cells = noise["cells"] if self.settings.cell_noise else maps[:, :0]
        images = self.generator(noise["latent"], context, maps, cells)
        return self.cells.inverse(F.softplus(images.flatten(1))), None

    def score(self, seen: Tensor, context: Tensor, conditions: ConditionTensors) -> Tensor:
        images = torch.cat([seen.view(-1, *self.mesh.shape), self._maps(conditions)], dim=1)
        if self.settings.summary:
            context = torch.cat([context, self.summary(seen)], dim=1)
        scores: Tensor = self.critic(images, context)
        return scores


class GuidedImageGAN(Student, ImageGAN):
    """An `ImageGAN` whose generator is guided by the features of a trained `ImageRegressor`.

    The further loss is ‖f(x̃) − f(x)‖ − ‖f(x̃) − f(x̃′)‖ of the features f of a generated shower, a real one
    and another generated one at the same conditions, without gradients of the last: those are the gradients
    of the energy score, which is least where generated features are distributed as the real ones are. A plain
    distance would be least for showers without fluctuations.
    """

    class Settings(ImageGAN.Settings):
        """Those of an `ImageGAN`.

        Attributes:
            guidance: weight of the regressor's features.
        """

        guidance: float = Field(1.0, gt=0)

    teacher_class = ImageRegressor
    settings: Settings

    def use_teacher(self, teacher: Trainable) -> None:
        if not isinstance(teacher, ImageRegressor):
            raise RecipeError(
                f"{type(self).__name__} is guided by a trained ImageRegressor, got a {type(teacher).__name__}"
            )
        self.mesh.require_same(teacher.mesh, "the regressor's mesh")
        self._teacher = (teacher,)

    def fit(self, showers: Showers) -> None:
        teacher = self.teacher()
        assert isinstance(teacher, ImageRegressor)
        ImageGAN.fit(self, showers)
        teacher.require_conditions(self.incident)

    def guidance(self, energies: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        teacher = self.teacher().to(energies)
        assert isinstance(teacher, ImageRegressor)
        with torch.no_grad():
            other = self.generated(self.noise(len(batch), generator), batch, generator)
            of_real, of_other = teacher.features(batch.energies.flatten(1)), teacher.features(other)
        features = teacher.features(energies)
        near, apart = (feature_distance(features, of) for of in (of_real, of_other))
        return {"features": self.settings.guidance * (near - apart)}


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of features (n, H), in units of √H, differentiable at 0."""
    return ((a - b).square().mean(dim=1) + 1e-8).sqrt().mean()
