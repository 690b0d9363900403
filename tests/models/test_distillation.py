"""Laws of the distillation of a density flow into a sampling flow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from caloforge.models.flow.distillation import DistillationSettings, distillation_losses
from caloforge.models.networks.autoregressive.flow import AutoregressiveFlow

PUBLISHED = DistillationSettings.model_validate({})
FORCED = DistillationSettings.model_validate({"teacher_forcing": True})


def flow(
    dims: int = 3, direction: str = "density", hidden: int = 16, blocks: int = 2, **more: float
) -> AutoregressiveFlow:
    return AutoregressiveFlow(
        dims, 2, blocks=blocks, direction=direction, hidden=hidden, bins=4, bound=5.0, context_units=8, **more
    )  # type: ignore[arg-type]


def randomise(module: nn.Module, scale: float = 0.2, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def unconditional(module: AutoregressiveFlow, scale: float, seed: int) -> None:
    """Splines that depend on nothing: only the biases of the last layers differ from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in module.masked_splines():
            block.weight.zero_()
            block.bias.copy_(scale * torch.randn(block.bias.shape, generator=generator))


def test_a_student_with_the_teachers_splines_has_no_loss_and_is_its_inverse() -> None:
    """Splines that depend on nothing can be equal in both directions."""
    teacher, student = flow(blocks=3).double(), flow(direction="sampling", hidden=9, blocks=3).double()
    unconditional(teacher, 0.7, seed=1)
    unconditional(student, 0.7, seed=1)
    generator = torch.Generator().manual_seed(2)
    x = 1.5 * torch.randn(50, 3, generator=generator, dtype=torch.float64)
    context = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        losses = distillation_losses(teacher, student, x, context, generator, PUBLISHED)
        forced = distillation_losses(teacher, student, x, context, generator, FORCED)
    assert set(losses) == set(forced) == {"loss", "noise", "data"}
    losses |= {f"forced {name}": value for name, value in forced.items()}
    assert all(float(value) < 1e-14 for value in losses.values())
    z, _ = teacher.to_noise(x, context)
    assert (z - x).abs().mean() > 0.1  # the map is not the identity
    assert torch.allclose(student.sample(z, context), x, atol=1e-6)


@pytest.mark.parametrize("term", ["noise", "data", "between", "splines"])
@pytest.mark.parametrize("forcing", [False, True])
def test_each_term_sees_another_student_and_a_weight_of_zero_hides_it(term: str, forcing: bool) -> None:
    teacher, student = flow(), flow(direction="sampling")
    unconditional(teacher, 0.5, seed=1)
    unconditional(student, 0.5, seed=3)
    x, context = torch.randn(20, 3), torch.zeros(20, 2)

    def loss(**weights: float) -> float:
        every = DistillationSettings.model_validate(weights | {"teacher_forcing": forcing})
        same = torch.Generator().manual_seed(0)
        return float(distillation_losses(teacher, student, x, context, same, every)["loss"].detach())

    assert loss(**{term: 0.0}) < loss() - 1e-4


@pytest.mark.parametrize("settings", [PUBLISHED, FORCED], ids=["published", "forced"])
def test_distillation_makes_the_student_the_teachers_inverse(settings: DistillationSettings) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    teacher, student = flow(2, blocks=1), flow(2, "sampling", hidden=32, blocks=1)
    randomise(teacher, 0.15)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    teacher.requires_grad_(False)
    optimiser = torch.optim.Adam(student.parameters(), 1e-2)
    steps = 250
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    for _ in range(steps):
        z, context = (torch.randn(64, 2, generator=generator) for _ in range(2))
        x = teacher.sample(z, context)
        optimiser.zero_grad()
        distillation_losses(teacher, student, x, context, generator, settings)["loss"].backward()
        optimiser.step()
        schedule.step()
    z, context = (torch.randn(2000, 2, generator=generator) for _ in range(2))
    with torch.no_grad():
        x = teacher.sample(z, context)
        miss = (student.sample(z, context) - x).abs().mean()
        back = (teacher.to_noise(student.sample(z, context), context)[0] - z).abs().mean()
    assert (x - z).abs().mean() > 0.3
    assert miss < 0.03
    assert back < 0.03
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("settings", [PUBLISHED, FORCED], ids=["published", "forced"])
def test_gradients_reach_the_student_and_not_the_teacher(settings: DistillationSettings) -> None:
    teacher, student = flow().requires_grad_(False), flow(direction="sampling", depth=2)
    randomise(teacher)
    randomise(student, seed=1)
    x, context = torch.randn(30, 3), torch.randn(30, 2)
    distillation_losses(teacher, student, x, context, torch.Generator(), settings)["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_end_of_a_step_is_what_the_flows_themselves_make() -> None:
    """The losses' own passes are those of the flows: "data" from sample, "noise" from to_noise."""
    teacher, student = flow(blocks=3), flow(direction="sampling", blocks=3)
    randomise(teacher)
    randomise(student, seed=1)
    x, context = torch.randn(40, 3), torch.randn(40, 2)
    losses = distillation_losses(teacher, student, x, context, torch.Generator().manual_seed(5), PUBLISHED)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        noise = (teacher.to_noise(student.sample(z, context), context)[0] - z).square().mean()
        data = (student.sample(teacher.to_noise(x, context)[0], context) - x).square().mean()
    assert torch.allclose(losses["noise"], noise, rtol=1e-4)
    assert torch.allclose(losses["data"], data, rtol=1e-4)
