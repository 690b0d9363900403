"""Laws of students of few steps, on Gaussian coordinates where the teacher's solution is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caloforge.checkpoint import Checkpoint
from caloforge.data import Conditions, Showers
from caloforge.detector import CylinderMesh
from caloforge.errors import MeshError, RecipeError
from caloforge.models.base import Batch, GeneratorModel
from caloforge.models.diffusion.distillation import (
    ConsistencyStudent,
    DiffusionStudent,
    FlowMapStudent,
    equidistant_times,
)
from caloforge.models.diffusion.model import DiffusionModel
from caloforge.models.diffusion.processes import Process
from caloforge.models.diffusion.samplers import SamplerSettings, sample
from caloforge.models.diffusion.samplers.path import Euler
from caloforge.training import train

PROCESSES = ("flow", "trig", "ddpm", "edm")
STUDENTS = (FlowMapStudent, ConsistencyStudent)
MESH = CylinderMesh.regular(n_z=4, n_phi=4, n_r=3)
SMALL: dict[str, Any] = {
    "backbone": {"kind": "transformer", "patch": [1, 4, 3], "width": 16, "depth": 1, "heads": 2},
    "energies": {"kind": "inductive", "hidden": 8, "depth": 1, "bins": 4},
    "sampler": {"kind": "midpoint", "steps": 8},
    "process": {"kind": "trig"},
    "bf16": False,
}
DETECTORS = ("par04-siw",)
SPREAD = 0.5 + torch.arange(48, dtype=torch.float32).reshape(4, 4, 3) / 32  # standard deviations


def showers(n: int = 64) -> Showers:
    rng = np.random.default_rng(0)
    energy = rng.uniform(1000, 5000, n)
    cells = rng.gamma(0.5, 1.0, (n, *MESH.shape)) * energy[:, None, None, None] / 200
    cells[cells < 1] = 0
    return Showers(cells.astype(np.float32), Conditions(energy, detector="par04-siw"), MESH)


def batch(n: int = 8) -> Batch:
    some = showers(n)
    return Batch.with_energies(some.energies, some.conditions, DETECTORS)


def models(
    student: type[DiffusionStudent], process: str = "trig", steps: int = 4, **changes: Any
) -> tuple[DiffusionModel, DiffusionStudent]:
    settings = SMALL | {"process": {"kind": process}} | changes
    torch.manual_seed(0)
    teacher = DiffusionModel(MESH, settings)
    teacher.detectors = DETECTORS
    teacher.fit(showers())
    for parameter in teacher.backbone.parameters():  # gates and outputs begin at zero
        nn.init.normal_(parameter, std=0.2)
    pupil = student(MESH, settings | {"steps": steps})
    pupil.detectors = DETECTORS
    pupil.use_teacher(teacher.eval().requires_grad_(False))
    return teacher, pupil


def solution(process: Process, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Where x at times t (n,) comes to at times s (n,), for coordinates N(0, SPREAD²)."""

    def spread(time: Tensor) -> Tensor:
        a, b = process.signal(time), process.noise(time)
        return (a[:, None, None, None] ** 2 * SPREAD**2 + b[:, None, None, None] ** 2).sqrt()

    return x * spread(s) / spread(t)


def time_of_level(process: Process, level: Tensor) -> Tensor:
    if process.settings.kind != "edm":
        return level
    low, high = np.log(process.settings.sigma_min), np.log(process.settings.sigma_max)
    return process.time((low + level * (high - low)).exp())


class Exact(nn.Module):
    """In place of a network: F at a time, or the mean one to another time or to the data, in closed form."""

    reads_shares = False

    def __init__(self, process: Process, to_data: bool = False) -> None:
        super().__init__()
        self.process, self.to_data = process, to_data

    def prepare(self, conditions: Tensor, layers: Tensor) -> None: ...

    def forward(self, scaled: Tensor, level: Tensor, prepared: None, shares: None) -> Tensor:
        p = self.process
        t = time_of_level(p, level[:, 0])
        x = scaled / p.input_scale(t)[:, None, None, None]
        a, b = (w[:, None, None, None] for w in (p.signal(t), p.noise(t)))
        if level.shape[1] == 2:
            s = time_of_level(p, level[:, 1])
            z = [
                place / p.path_scale(time)[:, None, None, None]
                for place, time in ((x, t), (solution(p, x, t, s), s))
            ]
            return p.raw_of_slope(
                (z[1] - z[0]) / (p.path_variable(s) - p.path_variable(t))[:, None, None, None], x, t
            )
        if self.to_data:
            end = solution(p, x, t, p.time(torch.zeros_like(t)))
            scale, u = (w[:, None, None, None] for w in (p.path_scale(t), p.path_variable(t).clamp_min(1e-6)))
            return p.raw_of_slope((x / scale - end) / u, x, t)
        x0 = a * SPREAD**2 / (a**2 * SPREAD**2 + b**2) * x
        q, weight = (w[:, None, None, None] for w in p.target(t))
        return q * x0 + weight * (x - a * x0) / b.clamp_min(1e-6)


@pytest.mark.parametrize("kind", PROCESSES)
def test_equidistant_times_go_from_noise_to_data(kind: str) -> None:
    process = models(FlowMapStudent, kind)[0].process
    times = equidistant_times(process, 4)
    angle = np.array([math.atan2(process.noise(t), process.signal(t)) for t in times])
    assert times[0] == pytest.approx(process.schedule(1)[0])
    assert process.noise(times[-1]) < 1e-6
    assert np.diff(angle) == pytest.approx(np.diff(angle)[0], abs=1e-6)


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_exact_flow_map_has_no_loss_and_any_number_of_steps_is_the_solution(kind: str) -> None:
    teacher, student = models(FlowMapStudent, kind, sampler={"kind": "midpoint", "steps": 64})
    teacher.backbone, student.backbone = Exact(teacher.process), Exact(teacher.process)  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    assert student.losses(batch(), "shape", generator)["loss"] < 1e-5
    z, process = torch.randn(8, 4, 4, 3, generator=generator), student.process
    t, end = (torch.full((8,), time) for time in (process.schedule(1)[0], process.time(0.0)))
    exact = solution(process, process.noise(t)[:, None, None, None] * z, t, end)
    network = student.network((None, None))
    for steps in (1, 2, 4):
        assert torch.allclose(student.jumps(network, {"cells": z}, steps), exact, atol=0.02)


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_exact_consistency_function_has_no_loss(kind: str) -> None:
    teacher, student = models(ConsistencyStudent, kind, sampler={"kind": "midpoint", "steps": 64})
    assert isinstance(student, ConsistencyStudent)
    teacher.backbone = Exact(teacher.process)  # type: ignore[assignment]
    losses = []
    for to_data in (True, False):
        student.backbone = Exact(teacher.process, to_data)  # type: ignore[assignment]
        losses.append(student.losses(batch(64), "shape", torch.Generator().manual_seed(0))["loss"])
    assert losses[0] < 0.2 * losses[1]


def test_consistency_steps_add_noise_to_the_answer() -> None:
    teacher, student = models(ConsistencyStudent, steps=2)
    student.backbone = Exact(teacher.process, to_data=True)  # type: ignore[assignment]
    noise = student.noise(20_000, torch.Generator().manual_seed(0))
    assert set(student.noise_shapes()) == {"layers", "cells", "steps"}
    x = student.jumps(student.network((None, None)), noise, 2)
    assert (x.std(dim=0) / SPREAD - 1).abs().max() < 0.03
    assert torch.corrcoef(torch.stack([x[:, 0, 0, 0], noise["steps"][:, 0, 0, 0, 0]]))[0, 1] > 0.1


@pytest.mark.parametrize("kind", PROCESSES)
def test_an_untrained_flow_map_is_the_teacher_with_as_many_steps_of_euler(kind: str) -> None:
    teacher, student = models(FlowMapStudent, kind)
    noise = teacher.noise(8, torch.Generator().manual_seed(1))
    layers = teacher.sampled_layer_energies(noise, batch())
    network = teacher.network(teacher.prepare(batch(), layers))
    student_network = student.network(student.prepare(batch(), layers))
    times = equidistant_times(teacher.process, 4)
    start = teacher.process.noise(times[0]) * noise["cells"]
    euler = Euler(SamplerSettings()).trajectory(teacher.process, network, start, times)[-1]
    assert torch.allclose(student.jumps(student_network, noise, 4), euler, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", STUDENTS)
def test_layer_energies_are_the_teachers_and_close(cls: type[DiffusionStudent]) -> None:
    teacher, student = models(cls)
    noise = student.noise(8, torch.Generator().manual_seed(1))
    made = student.decode(noise, batch())
    layers = teacher.sampled_layer_energies(noise, batch())
    assert layers is not None
    assert torch.allclose(made.sum(dim=(2, 3)), layers, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("sampler", ["euler", "midpoint", "heun"])
@pytest.mark.parametrize("cls", STUDENTS)
def test_gradients_reach_the_network_and_nothing_else(cls: type[DiffusionStudent], sampler: str) -> None:
    teacher, student = models(cls, sampler={"kind": sampler, "steps": 8})
    for parameter in student.backbone.parameters():
        nn.init.normal_(parameter, std=0.2)
    assert set(student.parts()) == {"shape"}
    student.losses(batch(), "shape", torch.Generator().manual_seed(0))["loss"].backward()
    for name, parameter in student.backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert student.energy_flow is not None
    assert all(p.grad is None for p in (*student.energy_flow.parameters(), *teacher.parameters()))


@pytest.mark.parametrize("cls", STUDENTS)
def test_a_student_learns_from_a_checkpoint_and_steps_can_be_changed(
    cls: type[DiffusionStudent], tmp_path: Path
) -> None:
    training = {
        "steps": 10,
        "batch_size": 8,
        "precision": "float32",
        "learning_rate": 3e-3,
        "ema": 0,
        "validation_fraction": 0,
    }
    recipe = {"model": "diffusion.model:DiffusionModel", "settings": SMALL, "training": training}
    train(recipe, showers(), out=tmp_path / "teacher", progress=False)
    recipe["model"] = f"diffusion.distillation:{cls.__name__}"
    checkpoint = train(
        recipe, showers(), out=tmp_path / "student", teacher=tmp_path / "teacher", progress=False
    )
    student = checkpoint.model()
    noise = student.noise(4, torch.Generator().manual_seed(0))
    again = Checkpoint.load(tmp_path / "student")
    assert torch.equal(again.model().decode(noise, batch(4)), student.decode(noise, batch(4)))
    single = again.with_settings({"steps": 1}).model()
    assert not torch.equal(single.decode(noise, batch(4)), student.decode(noise, batch(4)))


def test_learning_the_flow_map_comes_nearer_to_the_teacher() -> None:
    """Few steps of a teacher whose solution is curved: learning moves them towards it."""
    teacher, student = models(FlowMapStudent)
    student.train()
    optimiser = torch.optim.Adam(student.backbone.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    held_out = teacher.noise(64, torch.Generator().manual_seed(9))
    some = batch(64)

    def distances() -> list[float]:
        with torch.no_grad():
            layers = teacher.sampled_layer_energies(held_out, some)
            s = SamplerSettings(kind="midpoint", steps=8)
            x = sample(teacher.process, teacher.network(teacher.prepare(some, layers)), held_out["cells"], s)
            network = student.network(student.prepare(some, layers))
            return [float((student.jumps(network, held_out, k) - x).square().mean()) for k in (1, 2, 4)]

    before = distances()
    for _ in range(60):
        optimiser.zero_grad()
        student.losses(batch(16), "shape", generator)["loss"].backward()
        optimiser.step()
    after = distances()
    assert all(b < 0.7 * a for a, b in zip(before, after, strict=True))


def test_a_student_is_not_adapted_but_its_teacher() -> None:
    with pytest.raises(RecipeError, match="adapt the teacher"):
        FlowMapStudent(MESH, SMALL).adapt(showers())


def test_wrong_teachers_are_refused() -> None:
    teacher, student = models(FlowMapStudent)
    other = FlowMapStudent(MESH, SMALL | {"process": {"kind": "flow"}})
    with pytest.raises(RecipeError, match=r"settings.process of a student must be that of its teacher"):
        other.use_teacher(teacher)
    with pytest.raises(RecipeError, match="learns from a trained DiffusionModel, got a FlowMapStudent"):
        other.use_teacher(student)
    alone: GeneratorModel = FlowMapStudent(MESH, SMALL)
    with pytest.raises(RecipeError, match="--teacher"):
        alone.fit(showers())
    wider = CylinderMesh.regular(n_z=4, n_phi=4, n_r=6)
    settings = SMALL | {"backbone": SMALL["backbone"] | {"patch": [1, 4, 6]}}
    with pytest.raises(MeshError, match="the teacher's mesh"):
        FlowMapStudent(wider, settings).use_teacher(teacher)
    student.detectors = ("another",)
    with pytest.raises(RecipeError, match="cannot teach another"):
        student.use_teacher(teacher)


def test_a_student_of_one_detector_takes_over_what_the_teacher_knows_of_all() -> None:
    teacher, _ = models(FlowMapStudent)
    teacher.detectors = (*DETECTORS, "odd-ecal")
    larger = CylinderMesh.regular(n_z=4, n_phi=4, n_r=3, dz=5.05, dr=6.0)
    teacher.meshes = dict(zip(teacher.detectors, (MESH, larger), strict=True))
    student = FlowMapStudent(larger, SMALL)
    student.detectors, student.meshes = ("odd-ecal",), {"odd-ecal": larger}
    student.use_teacher(teacher)
    assert (student.detectors, student.mesh, student.meshes) == (teacher.detectors, MESH, teacher.meshes)


@pytest.mark.parametrize("sampler", [{"kind": "ddpm", "steps": 8}, {"kind": "midpoint", "steps": 6}])
def test_samplers_that_do_not_meet_the_students_times_are_refused(sampler: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a multiple of 4"):
        FlowMapStudent(MESH, SMALL | {"sampler": sampler})
