"""Samplers on Gaussian data, where the denoiser and the map from noise to data are known in closed form."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from caloforge.models.diffusion.processes import PROCESSES, Network, Process
from caloforge.models.diffusion.samplers import SAMPLERS, SamplerSettings, noise_steps, sample

KINDS = ("flow", "trig", "ddpm", "edm")
# order of convergence; below 2 by a logarithm for dpm-solver++, whose steps in log σ stay long at both ends
LEAST_RATIO = {"euler": 1.9, "ddim": 1.9, "midpoint": 3.8, "heun": 3.8, "dpm-solver++": 3.0}
DETERMINISTIC = tuple(LEAST_RATIO)
MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.3, 1.0, 2.0, 0.5], dtype=torch.float64)


def process(kind: str) -> Process:
    return PROCESSES[kind](PROCESSES.settings({"kind": kind}))


class Ideal:
    """The network of a process that knows the Gaussian; counts its calls."""

    def __init__(self, kind: str) -> None:
        self.process = process(kind)
        self.calls = 0

    def __call__(self, scaled: Tensor, level: Tensor) -> Tensor:
        self.calls += 1
        p = self.process
        t = level
        if p.settings.kind == "edm":
            low, high = torch.tensor([p.settings.sigma_min, p.settings.sigma_max]).double().log()
            t = p.time((low + level * (high - low)).exp())
        a, b, (q, weight) = p.signal(t), p.noise(t), p.target(t)
        mean, variance = MEAN.to(scaled), VARIANCE.to(scaled)
        innovation = (scaled / p.input_scale(t) - a * mean) / (a**2 * variance + b**2)
        return q * (mean + a * variance * innovation) + weight * b * innovation

    def exact(self, noise: Tensor) -> Tensor:
        """Solution of the probability-flow equation from the process's first time down to σ = 0."""
        t = self.process.schedule(2)[0]
        a, b = self.process.signal(t), self.process.noise(t)
        return MEAN + (VARIANCE / (a**2 * VARIANCE + b**2)).sqrt() * (b * noise - a * MEAN)


def noise(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settings(kind: str, steps: int, power: float = 1.0) -> SamplerSettings:
    return SAMPLERS.settings({"kind": kind, "steps": steps, "power": power})


def error(ideal: Ideal, kind: str, steps: int, power: float = 1.0) -> float:
    z = noise(64, 4)
    sampled = sample(ideal.process, ideal, z, settings(kind, steps, power))
    return float((sampled - ideal.exact(z)).square().mean().sqrt())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_order_of_convergence(name: str, kind: str) -> None:
    ideal, least = Ideal(name), LEAST_RATIO[kind]
    errors = [error(ideal, kind, steps) for steps in (64, 128, 256)]
    for coarse, fine in pairwise(errors):
        assert least < coarse / fine < (2.1 if least < 2 else 9)
    assert errors[-1] < (0.02 if least < 2 else 5e-4)


@pytest.mark.parametrize("name", KINDS)
def test_power_changes_the_steps_and_not_the_limit(name: str) -> None:
    ideal = Ideal(name)
    errors = {power: error(ideal, "midpoint", 64, power) for power in (0.8, 1.0, 1.5)}
    assert len(set(errors.values())) == 3
    assert max(errors.values()) < 0.05


@pytest.mark.parametrize("name", ["flow", "ddpm", "edm"])
def test_ddim_is_euler_along_a_straight_line(name: str) -> None:
    ideal, z = Ideal(name), noise(8, 4)
    euler, ddim = (sample(ideal.process, ideal, z, settings(kind, 5)) for kind in ("euler", "ddim"))
    assert torch.allclose(euler, ddim, atol=1e-9)


def test_on_the_circle_standard_normal_coordinates_are_done_in_any_number_of_steps() -> None:
    p, z = process("trig"), noise(8, 4)
    for kind in ("euler", "midpoint", "heun"):
        assert torch.allclose(sample(p, lambda x, _: 0 * x, z, settings(kind, 3)), z)


@pytest.mark.parametrize("name", KINDS)
def test_ddim_keeps_data_and_noise_and_changes_their_weights(name: str) -> None:
    ideal, z = Ideal(name), noise(8, 4)
    p = ideal.process
    t = p.schedule(2)
    x = p.noise(t[0]) * z
    x0 = p.denoised(ideal, x, t[0])
    x = p.signal(t[1]) * x0 + p.noise(t[1]) * (x - p.signal(t[0]) * x0) / p.noise(t[0])
    by_hand = p.denoised(ideal, x, t[1])
    assert torch.allclose(sample(p, ideal, z, settings("ddim", 2)), by_hand, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["ddim", "dpm-solver++", "ddpm"])
def test_single_step_is_the_denoised_noise(name: str, kind: str) -> None:
    ideal, z = Ideal(name), noise(8, 4)
    p = ideal.process
    t = p.schedule(1)[0]
    expected = p.denoised(ideal, p.noise(t) * z, t)
    assert torch.allclose(sample(p, ideal, z, settings(kind, 1)), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "calls"),
    [("euler", 6), ("ddim", 6), ("midpoint", 12), ("heun", 11), ("dpm-solver++", 6), ("ddpm", 6)],
)
def test_number_of_network_calls(kind: str, calls: int) -> None:
    ideal = Ideal("flow")
    sample(ideal.process, ideal, noise(2, 4), settings(kind, 6), noise(2, 5, 4, seed=1))
    assert ideal.calls == calls


@pytest.mark.parametrize("name", KINDS)
def test_ancestral_sampler_has_the_right_distribution(name: str) -> None:
    """Data are linear in all noises; from what each of them adds, mean and variance follow exactly."""
    ideal = Ideal(name)

    def moments(steps: int) -> tuple[Tensor, Tensor, Tensor]:
        each = torch.eye(steps + 1, dtype=torch.float64)[:, :, None].expand(-1, -1, 4)  # the last has none
        x = sample(ideal.process, ideal, each[:, 0], settings("ddpm", steps), each[:, 1:steps])
        added = x[:steps] - x[steps]
        return x[steps], added.square().sum(dim=0), added[0].square()

    (mean, variance, first), (finer_mean, finer, _) = moments(100), moments(200)
    assert (finer_mean - MEAN).abs().max() < (mean - MEAN).abs().max().clamp_min(0.04)
    assert ((variance - VARIANCE) / (finer - VARIANCE)).sub(2).abs().max() < 0.15
    assert (finer / VARIANCE - 1).abs().max() < 0.1
    assert (first < 0.01 * VARIANCE).all()  # of the first noise almost nothing is left, unlike in the others


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", [*DETERMINISTIC, "ddpm"])
def test_float32_and_any_batch(name: str, kind: str) -> None:
    ideal, z, extra = Ideal(name), noise(6, 4), noise(6, 7, 4, seed=1)
    s = settings(kind, 8)
    double = sample(ideal.process, ideal, z, s, extra)
    single = sample(ideal.process, ideal, z.float(), s, extra.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), double, atol=2e-3 if name == "ddpm" else 1e-4)
    part = sample(ideal.process, ideal, z[2:4], s, extra[2:4])
    assert torch.allclose(part, double[2:4], atol=1e-12)


def test_shapes_of_showers_and_determinism() -> None:
    p = process("flow")

    def network(x: Tensor, level: Tensor) -> Tensor:
        assert level.shape == (len(x), 1)
        return x.tanh() * level[:, :, None, None]

    z = noise(3, 2, 4, 5)
    first = sample(p, network, z, settings("heun", 4))
    assert first.shape == z.shape
    assert torch.equal(first, sample(p, network, z, settings("heun", 4)))


def test_noise_of_steps() -> None:
    assert noise_steps(settings("ddpm", 5)) == 4
    assert noise_steps(settings("heun", 5)) == 0
    network: Network = Ideal("flow")
    with pytest.raises(ValueError, match="noise of 4 steps"):
        sample(process("flow"), network, noise(2, 4), settings("ddpm", 5))


@pytest.mark.parametrize("wrong", [{"kind": "rk4"}, {"steps": 0}, {"step": 3}, {"power": 0.0}])
def test_wrong_settings_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SAMPLERS.settings(wrong)
