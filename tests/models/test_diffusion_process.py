"""Processes: mixing, times, and losses that are least for the network that is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from caloforge.models.diffusion.processes import PROCESSES, Network, Process

KINDS = ("flow", "trig", "ddpm", "edm")
MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.3, 1.0, 2.0, 0.05], dtype=torch.float64)


def process(kind: str, **options: object) -> Process:
    return PROCESSES[kind](PROCESSES.settings({"kind": kind, **options}))


def time_of_level(p: Process, level: Tensor) -> Tensor:
    if p.settings.kind != "edm":
        return level
    low, high = math.log(p.settings.sigma_min), math.log(p.settings.sigma_max)
    return p.time((low + level * (high - low)).exp())


def optimum(p: Process, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0) -> Network:
    """E[F | x] of Gaussian data, times ``scale`` plus ``shift``."""

    def network(scaled: Tensor, level: Tensor) -> Tensor:
        t = time_of_level(p, level)
        a, b, (q, target_noise) = p.signal(t), p.noise(t), p.target(t)
        innovation = (scaled / p.input_scale(t) - a * MEAN) / (a**2 * VARIANCE + b**2)
        data, noise = MEAN + a * VARIANCE * innovation, b * innovation
        return scale * (q * data + target_noise * noise) + shift

    return network


def gaussian(n: int, seed: int = 0) -> Tensor:
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEAN + VARIANCE.sqrt() * z


@pytest.mark.parametrize("kind", KINDS)
def test_time_inverts_sigma(kind: str) -> None:
    p = process(kind)
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    sigma = p.noise(t) / p.signal(t)
    assert (sigma.diff() > 0).all()
    assert torch.allclose(p.time(sigma), t, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_level_is_between_zero_and_one(kind: str) -> None:
    p = process(kind)
    level = p.level(torch.tensor(p.schedule(20)))
    assert 0 <= level.min() < 0.1
    assert 0.98 < level.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_starts_from_almost_pure_noise_and_ends_at_data(kind: str) -> None:
    p = process(kind)
    assert p.noise(p.schedule(7)[0]) >= 80 * (1 - 1e-9) * p.signal(p.schedule(7)[0])
    assert p.noise(0.0) <= 0.00201 * p.signal(0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_a_number_are_those_of_a_tensor(kind: str) -> None:
    p = process(kind)
    functions = (p.signal, p.noise, p.input_scale, p.level, p.path_scale, p.path_variable)
    pairs = (p.target, p.slope_weights)
    for t in torch.tensor([0.01, 0.3, 0.99], dtype=torch.float64):
        u, sigma = p.path_variable(t), p.noise(t) / p.signal(t)
        expected = [*(f(t) for f in functions), *(w for f in pairs for w in f(t))]
        expected += [p.time(sigma), p.time_of_path_variable(u)]
        numbers = [*(f(float(t)) for f in functions), *(w for f in pairs for w in f(float(t)))]
        numbers += [p.time(float(sigma)), p.time_of_path_variable(float(u))]
        assert all(isinstance(number, float) for number in numbers)
        assert numbers == pytest.approx([float(value) for value in expected], rel=1e-12)


def test_cosine_schedule_preserves_variance() -> None:
    p = process("ddpm")
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    assert torch.allclose(p.signal(t) ** 2 + p.noise(t) ** 2, torch.ones_like(t), atol=1e-7)
    x0 = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    for time in (0.1, 0.5, 0.9):
        assert abs(p.mix(x0, noise, time).var() - 1) < 0.01


def test_cosine_schedule_is_that_of_the_paper() -> None:
    p = process("ddpm", steps=100)
    t = torch.arange(101, dtype=torch.float64) / 100
    f = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    assert torch.allclose(p.signal(t[1:]) ** 2, (1 - beta).cumprod(0), atol=1e-12)


def test_edm_has_unit_variances() -> None:
    p = process("edm", sigma_data=0.5)
    x0 = 0.5 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    for t in (0.1, 0.4, 0.9):
        q, weight = p.target(t)
        assert abs((p.input_scale(t) * p.mix(x0, noise, t)).var() - 1) < 0.01
        assert abs((q * x0 + weight * noise).var() - 1) < 0.01


def test_edm_denoiser_is_that_of_the_paper() -> None:
    p, sigma_data = process("edm", sigma_data=0.5), 0.5
    x, sigma = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0.01, 1.0, 50.0])
    f = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    square = (sigma**2 + sigma_data**2)[:, None]
    expected = sigma_data**2 / square * x + sigma[:, None] * sigma_data / square.sqrt() * f
    assert torch.allclose(p.denoised(lambda *_: f, x, p.time(sigma)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_network_sees_scaled_input_and_level(kind: str) -> None:
    p, t = process(kind), torch.tensor([0.2, 0.7])
    x, seen = torch.ones(2, 3, 2), []

    def network(x: Tensor, level: Tensor) -> Tensor:
        seen.extend([x, level])
        return x

    for given in (t, float(t[1])):
        p.denoised(network, x, given)
    assert torch.equal(seen[0][1], p.input_scale(t)[1] * x[1])
    assert torch.equal(seen[1], p.level(t)[:, None])
    assert seen[3].shape == (2, 1)
    assert torch.allclose(seen[3], p.level(t[1]).expand(2, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_of_known_target_is_the_data(kind: str) -> None:
    p, x0 = process(kind), gaussian(64)
    noise = torch.randn(64, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 64, dtype=torch.float64)
    q, weight = (w[:, None] for w in p.target(t))
    estimate = p.denoised(lambda *_: q * x0 + weight * noise, p.mix(x0, noise, t), t)
    assert torch.allclose(estimate, x0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_slope_is_the_derivative_along_the_curve(kind: str) -> None:
    p, x0 = process(kind), gaussian(16)
    noise = torch.randn(16, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    q, weight = (w[:, None] for w in p.target(t))
    f, x, h = q * x0 + weight * noise, p.mix(x0, noise, t), 1e-6
    before, after = (p.time_of_path_variable(p.path_variable(t) + d) for d in (-h, h))
    z = [p.mix(x0, noise, s) / p.path_scale(s)[:, None] for s in (before, after)]
    assert torch.allclose(p.slope(f, x, t), (z[1] - z[0]) / (2 * h), rtol=1e-5, atol=1e-5)
    assert torch.allclose(p.raw_of_slope(p.slope(f, x, t), x, t), f, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_move_with_the_slope_of_straight_curves_is_exact(kind: str) -> None:
    p, x0 = process(kind), gaussian(16)
    noise = torch.randn(16, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.linspace(0.3, 0.9, 16, dtype=torch.float64)
    s = t - 0.2 if kind != "trig" else t - 1e-5
    q, weight = (w[:, None] for w in p.target(t))
    x = p.mix(x0, noise, t)
    moved = p.move(x, p.slope(q * x0 + weight * noise, x, t), t, s)
    assert torch.allclose(moved, p.mix(x0, noise, s), atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_least_for_the_optimal_network(kind: str) -> None:
    p, x0 = process(kind), gaussian(100_000)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    losses = p.loss(optimum(p, scale, shift), x0, torch.Generator().manual_seed(3))
    assert losses.shape == (100_000,)
    losses.mean().backward()
    for gradient in (scale.grad, shift.grad):
        assert gradient is not None
        assert gradient.abs().max() < 0.02
    for worse in (optimum(p, scale=1.1), optimum(p, scale=0.9), optimum(p, shift=0.1)):
        assert p.loss(worse, x0, torch.Generator().manual_seed(3)).mean() > losses.mean() + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_least_loss_is_the_conditional_variance(kind: str) -> None:
    p, n = process(kind), 100_000
    loss = p.loss(optimum(p), gaussian(n), torch.Generator().manual_seed(4)).mean()
    t = p.draw_times(n, torch.Generator().manual_seed(4), "cpu").double()[:, None]
    a, b, (q, weight) = p.signal(t), p.noise(t), p.target(t)
    expected = (q * b - weight * a) ** 2 * VARIANCE / (a**2 * VARIANCE + b**2)
    assert loss == pytest.approx(float(expected.mean()), rel=0.01)


def test_times_have_the_promised_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = process("flow").draw_times(50_000, generator, "cpu").logit()
    assert abs(flow.mean()) < 0.02
    assert flow.std() == pytest.approx(1, abs=0.02)
    edm = process("edm")
    log_sigma = edm.noise(edm.draw_times(50_000, generator, "cpu")).log()
    assert log_sigma.mean() == pytest.approx(-1.2, abs=0.03)
    assert log_sigma.std() == pytest.approx(1.2, abs=0.03)
    ddpm = process("ddpm", steps=10).draw_times(50_000, generator, "cpu") * 10
    counts = ddpm.round().long().bincount(minlength=11)
    assert counts[0] == 0
    assert (counts[1:] - 5000).abs().max() < 400
    uniform = process("flow", times="uniform").draw_times(50_000, generator, "cpu")
    assert torch.histc(uniform, 10, 0, 1).sub(5000).abs().max() < 400
    moved = process("flow", mean=-1.0, std=0.5).draw_times(50_000, generator, "cpu").logit()
    assert moved.mean() == pytest.approx(-1, abs=0.02)
    assert moved.std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "flow", "steps": 10}, "steps is an option of kind 'ddpm'"),
        ({"kind": "ddpm", "rho": 5.0}, "rho is an option of kind 'edm'"),
        ({"kind": "edm", "sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min must be below"),
        ({"kind": "flow", "sgima": 1}, "known are kind, mean"),
    ],
)
def test_wrong_options_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PROCESSES.settings(settings)
