"""Students of one, two or four network calls that learn from a trained `DiffusionModel`.

A student has the teacher's network, weights, preprocessing and layer energies, and is trained on the shape
alone. Times are equidistant in the angle arctan σ, on which every process has a curve of length about π/2;
a student's steps are halves and quarters of it.

* `FlowMapStudent`: the network is given two times and answers with the mean slope of the teacher's solution
  between them, so that one call goes from one to the other (the flow map of Boffi, Albergo, Vanden-Eijnden,
  arXiv:2406.07507, as average velocity: Geng et al., MeanFlow, arXiv:2505.13447). Targets are exact: the
  teacher's solution is computed from noise to data, and each of its seven quarters, halves and whole is an
  example. The same weights go one, two or four steps, all to the teacher's shower of that noise.
* `ConsistencyStudent`: the network answers with the mean slope to the end of the solution through a noisy
  shower (Song, Dhariwal, Chen, Sutskever, arXiv:2303.01469). Targets are its own answers one step of the
  teacher further. With more steps it adds new noise to its answer and answers again.

Legend: ``n`` showers, mesh (Z, P, R).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from caloforge.data.showers import Showers
from caloforge.detector.mesh import Mesh
from caloforge.errors import RecipeError
from caloforge.models.base import Batch
from caloforge.models.diffusion.model import DiffusionModel
from caloforge.models.diffusion.processes import Network, Process
from caloforge.models.diffusion.processes.times import T, constant
from caloforge.models.diffusion.samplers import SAMPLERS
from caloforge.models.diffusion.samplers.path import PathSampler
from caloforge.models.student import Student
from caloforge.models.trainable import Trainable
from caloforge.runtime.share import places

__all__ = ["ConsistencyStudent", "DiffusionStudent", "FlowMapStudent", "equidistant_times"]

QUARTERS = 4
JUMPS = [(i, i + length) for length in (1, 2, 4) for i in range(0, QUARTERS, length)]
"""First and last quarter of all steps that a student may take."""


def equidistant_times(process: Process, steps: int) -> list[float]:
    """Times, one more than steps, from pure noise to data, equidistant in arctan σ."""
    start = process.schedule(1)[0]
    angle = math.atan2(process.noise(start), process.signal(start))
    return [process.time(math.tan(angle * (1 - i / steps))) for i in range(steps + 1)]


class DiffusionStudent(Student, DiffusionModel):
    """What students of few steps share; its part "shape" is the network."""

    class Settings(DiffusionModel.Settings):
        """Those of the teacher, and how many steps.

        Attributes:
            steps: of the student; can be changed after training.
            sampler: how the teacher's solution is computed.
        """

        steps: Literal[1, 2, 4] = 4

        @model_validator(mode="after")
        def _sampler_of_teacher(self) -> Self:
            if not issubclass(SAMPLERS[self.sampler.kind], PathSampler) or self.sampler.steps % QUARTERS:
                kinds = [name for name in SAMPLERS.names() if issubclass(SAMPLERS[name], PathSampler)]
                raise ValueError(
                    f"a student computes its teacher's solution with sampler.kind {', '.join(kinds[:-1])} or "
                    f"{kinds[-1]} and sampler.steps a multiple of {QUARTERS}; got {self.sampler.kind!r} and "
                    f"{self.sampler.steps}"
                )
            return self

    teacher_class = DiffusionModel
    settings: Settings

    @abstractmethod
    def jumps(self, network: Network, noise: Mapping[str, Tensor], steps: int) -> Tensor:
        """Coordinates (n, Z, P, R) of n noises with so many calls of the network."""

    @abstractmethod
    def distances(self, batch: Batch, teacher: DiffusionModel, generator: torch.Generator) -> Tensor:
        """Squared distance of the network from its target, (n or more, Z, P, R), weighted by cells."""

    def use_teacher(self, teacher: Trainable) -> None:
        if not isinstance(teacher, DiffusionModel) or isinstance(teacher, DiffusionStudent):
            raise RecipeError(
                f"{type(self).__name__} learns from a trained DiffusionModel, got a {type(teacher).__name__}"
            )
        if (self.mesh.kind, self.mesh.shape) != (teacher.mesh.kind, teacher.mesh.shape):
            self.mesh.require_same(teacher.mesh, "the teacher's mesh")
        self.require_same_settings(teacher, set(DiffusionModel.Settings.model_fields) - {"sampler", "bf16"})
        strange = [name for name in self.detectors if name not in teacher.detectors]
        if strange:
            raise RecipeError(
                f"the teacher knows {', '.join(teacher.detectors)}; it cannot teach {', '.join(strange)}"
            )
        self.load_state_dict(self.state_dict() | teacher.state_dict())
        self.detectors, self.mesh, self.meshes = teacher.detectors, teacher.mesh, teacher.meshes
        self._teacher = (teacher,)

    def adapt(self, showers: Showers) -> None:
        raise RecipeError(
            "a student cannot be adapted, since it learns from its teacher; adapt the teacher and train a "
            "student of the result (caloforge train --teacher)"
        )

    def parts(self) -> dict[str, list[nn.Parameter]]:
        return {"shape": list(self.backbone.parameters())}

    def losses(self, batch: Batch, part: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared distance from what the teacher makes of random noise or of noisy showers."""
        teacher = self.teacher().to(batch.energies.device)
        assert isinstance(teacher, DiffusionModel)
        return {"loss": self.distances(batch, teacher, generator).mean()}

    def solve(self, network: Network, noise: Mapping[str, Tensor]) -> Tensor:
        return self.jumps(network, noise, self.settings.steps)

    def _layer_energies(self, batch: Batch) -> Tensor | None:
        """Layer energies (n, Z) of training showers, where the network is given them."""
        return None if self.energy_flow is None else batch.energies.sum(dim=(2, 3))

    def _weighted(self, distances: Tensor, batch: Batch) -> Tensor:
        weights = self.weights(batch)
        return distances if weights is None else weights * distances

    def _solution(self, teacher: DiffusionModel, batch: Batch, x: Tensor, times: Sequence[T]) -> list[Tensor]:
        """Where the teacher leads from x at each of S + 1 falling times."""
        sampler = SAMPLERS[self.settings.sampler.kind](self.settings.sampler)
        assert isinstance(sampler, PathSampler)
        with torch.no_grad():
            network = teacher.network(teacher.prepare(batch, self._layer_energies(batch)))
            return sampler.trajectory(self.process, network, x, times)


class FlowMapStudent(DiffusionStudent):
    """From one time to another in a single call: x_s = x_t moved by the mean slope between t and s."""

    levels: ClassVar[int] = 2

    def _towards(self, network: Network, s: T) -> Network:
        """The network as one of a single level, for steps that end at s."""
        return lambda x, level: network(x, torch.cat([level, self.process.levels(s, x)], dim=1))

    def jumps(self, network: Network, noise: Mapping[str, Tensor], steps: int) -> Tensor:
        times = equidistant_times(self.process, steps)
        x = self.process.noise(times[0]) * noise["cells"]
        for t, s in pairwise(times):
            f = self.process.raw(self._towards(network, s), x, t)
            x = self.process.move(x, self.process.slope(f, x, t), t, s)
        return x

    def distances(self, batch: Batch, teacher: DiffusionModel, generator: torch.Generator) -> Tensor:
        process, steps = self.process, self.settings.sampler.steps
        times = equidistant_times(process, steps)
        noise = torch.randn(batch.energies.shape, generator=generator, device=batch.energies.device)
        x = self._solution(teacher, batch, process.noise(times[0]) * noise, times)
        x, times = x[:: steps // QUARTERS], times[:: steps // QUARTERS]
        z = [place / process.path_scale(t) for place, t in zip(x, times, strict=True)]
        u = [process.path_variable(t) for t in times]
        targets = torch.cat(
            [process.raw_of_slope((z[j] - z[i]) / (u[j] - u[i]), x[i], times[i]) for i, j in JUMPS]
        )
        n = noise.shape[0]
        examples = batch[torch.arange(n, device=noise.device).repeat(len(JUMPS))]
        network = self.network(self.prepare(examples, self._layer_energies(examples)))
        starts = torch.cat([x[i] for i, _ in JUMPS])
        t, s = (torch.cat([starts.new_full((n,), times[j[k]]) for j in JUMPS]) for k in (0, 1))
        answers = process.raw(self._towards(network, s), starts, t)
        return self._weighted((answers - targets).square(), examples)


class ConsistencyStudent(DiffusionStudent):
    """From any noisy shower to the end of the teacher's solution through it, in a single call."""

    times: Tensor

    def __init__(
        self, mesh: Mesh, settings: DiffusionStudent.Settings | Mapping[str, object] | None = None
    ) -> None:
        super().__init__(mesh, settings)
        times = equidistant_times(self.process, self.settings.sampler.steps)  # of the teacher
        self.register_buffer("times", torch.tensor(times), persistent=False)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes, more = super().noise_shapes(), self.settings.steps - 1
        return shapes | ({"steps": (more, *self.shape)} if more else {})

    def _end(self, network: Network, x: Tensor, t: T) -> Tensor:
        """Where the network says that the solution through x_t = x ends: along the mean slope to the data."""
        slope = self.process.slope(self.process.raw(network, x, t), x, t)
        return self.process.move(x, slope, t, self.process.time(constant(0.0, t)))

    def jumps(self, network: Network, noise: Mapping[str, Tensor], steps: int) -> Tensor:
        times = equidistant_times(self.process, steps)
        x = self._end(network, self.process.noise(times[0]) * noise["cells"], times[0])
        for i in range(1, steps):
            x = self._end(network, self.process.mix(x, noise["steps"][:, i - 1], times[i]), times[i])
        return x

    def distances(self, batch: Batch, teacher: DiffusionModel, generator: torch.Generator) -> Tensor:
        process, steps, n = self.process, self.settings.sampler.steps, len(batch)
        x0 = self.to_coordinates(batch, generator)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        shuffled = torch.randperm(n, generator=generator, device=x0.device)
        i = shuffled * steps // places(n, "cpu")[1]  # every step of the teacher has its share of the batch
        t, s = self.times[i], self.times[i + 1]
        x = process.mix(x0, noise, t)
        network = self.network(self.prepare(batch, self._layer_energies(batch)))
        with torch.no_grad():
            further = self._solution(teacher, batch, x, [t, s])[1]
            end = self._end(network, further, s)
            scale, u = (w[:, None, None, None] for w in (process.path_scale(t), process.path_variable(t)))
            target = process.raw_of_slope((x / scale - end) / u, x, t)
        return self._weighted((process.raw(network, x, t) - target).square(), batch)
